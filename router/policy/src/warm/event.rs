//! Input ([`Event`]) and output ([`Command`]) of the policy. Plain data: models, runners and jobs
//! are numbers that the caller assigns.

use warmq_types::job::Priority;
use warmq_types::tier::Tier;

/// A hint as a dense number, counted up from 0 by the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Model(pub u32);

/// A runner as a dense number, counted up from 0 by the caller, who may reuse the number of a lost
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Runner(pub u32);

/// An owner of jobs as a dense number, counted up from 0 by the caller. Owners share the runners'
/// time. A caller without owners uses the default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Owner(pub u32);

/// What an owner may use; without these, weight 1 and no limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OwnerTerms {
    /// The owner.
    pub owner: Owner,
    /// Its share of the runners' time relative to other owners', greater than 0.
    pub weight: f64,
    /// Maximum number of its jobs on runners at a time, at least 1.
    pub max_running: Option<usize>,
}

/// An avoid list: the latest [`Avoid::MAX`] of the given runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Avoid([Option<Runner>; Avoid::MAX]);

impl Avoid {
    const MAX: usize = 4;

    /// The empty list.
    pub const NONE: Self = Self([None; Self::MAX]);

    /// Returns whether the list is empty.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Returns the runners in the list.
    pub fn iter(self) -> impl Iterator<Item = Runner> {
        let Self(runners) = self;
        (0..Self::MAX)
            .filter(move |index| !runners[..*index].contains(&runners[*index]))
            .filter_map(move |index| runners[index])
    }

    /// Returns whether the list contains this runner.
    pub fn contains(self, runner: Runner) -> bool {
        self.0.contains(&Some(runner))
    }
}

impl FromIterator<Runner> for Avoid {
    fn from_iter<T: IntoIterator<Item = Runner>>(runners: T) -> Self {
        let mut avoid = Self::NONE;
        for (index, runner) in runners.into_iter().enumerate() {
            avoid.0[index % Self::MAX] = Some(runner);
        }
        avoid
    }
}

/// A job's number, unique among the jobs that the policy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Job(pub u64);

/// An arriving job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// Number of the job.
    pub job: Job,
    /// Required model; `None` for a job without hint, to which all runners are equal.
    pub model: Option<Model>,
    /// Lane of the job.
    pub priority: Priority,
    /// Its owner.
    pub owner: Owner,
    /// Time of acceptance, s: the order of jobs where nothing else decides. Earlier than now for a
    /// redelivered job.
    pub since_s: f64,
    /// Bound on its hold, s from now; infinite without one. Once it passed, the job is the next one
    /// for any runner.
    pub max_warm_wait_s: f64,
    /// The job was sent before and came back, since its runner was lost: it is not held for warmth
    /// again.
    pub returned: bool,
    /// Runners on which an attempt failed: any other one is better, warm or cold. Until the job's
    /// patience is over, they take it only if no other live runner can load its model.
    pub avoid: Avoid,
}

/// Observation of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunObservation {
    /// Model of the run.
    pub model: Model,
    /// Run time without loading, s.
    pub run_s: f64,
    /// Load time, s; `None` if the run was warm.
    pub load_s: Option<f64>,
    /// Whether the load moved the model from RAM instead of reading its files.
    pub from_ram: bool,
}

/// The models that a runner has in memory, and the room for them by its own estimate.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Memory {
    /// Models on the device, least recently used first.
    pub cache: Vec<Model>,
    /// Number of models that the device can hold.
    pub slots: usize,
    /// Models in RAM, least recently used first; none of them is on the device.
    pub ram: Vec<Model>,
    /// Number of models that RAM can hold; 0 if evicted models are dropped.
    pub ram_slots: usize,
}

/// Report of a free runner.
#[derive(Debug, Clone, PartialEq)]
pub struct Freed {
    /// The runner.
    pub runner: Runner,
    /// Its models.
    pub memory: Memory,
    /// The finished run; `None` after a join or a failed run.
    pub ran: Option<RunObservation>,
}

/// A runner that was busy when first seen, with a job of an earlier leader.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The runner.
    pub runner: Runner,
    /// Its models when it was last free.
    pub memory: Memory,
    /// Owner of its job, if known: the job counts towards its limit.
    pub owner: Option<Owner>,
}

/// An input of the policy.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A runner joined with this catalog. Precedes its `Freed` or `Found`.
    Joined {
        /// The runner.
        runner: Runner,
        /// Models that it can load; `None` for any model.
        catalog: Option<Vec<Model>>,
    },
    /// An owner's terms are these from now on.
    Terms(OwnerTerms),
    /// A job must be placed.
    Arrived(Arrival),
    /// A runner joined, or finished its job, and is idle.
    Freed(Freed),
    /// A runner is present and busy.
    Found(Found),
    /// An idle runner took a job from the shared queue.
    Taken {
        /// The runner.
        runner: Runner,
    },
    /// A runner is gone, with its cache. Its jobs arrive again, `returned`.
    Lost {
        /// The runner.
        runner: Runner,
    },
    /// The claim was refused: the job is placed again, the runner counts as busy.
    Refused {
        /// The runner.
        runner: Runner,
    },
    /// The claim proved unnecessary: the job ended, or another runner has it. The runner is idle as
    /// before.
    ClaimVoid {
        /// The runner.
        runner: Runner,
    },
    /// A held job was cancelled.
    Cancelled {
        /// The job.
        job: Job,
    },
    /// A deadline passed; due at [`Warm::next_deadline_s`](super::Warm::next_deadline_s).
    Due,
}

/// The fleet at a decision, with respect to the job's model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetView {
    /// Number of runners that are idle or busy.
    pub live: usize,
    /// Number of idle runners.
    pub idle: usize,
    /// n(m): number of runners that hold the job's model or are loading it; 0 for a job without
    /// hint.
    pub holders: usize,
    /// Number of runners that have the job's model in RAM.
    pub ram_holders: usize,
    /// Whether a live runner can load the job's model.
    pub served: bool,
}

/// An output of the policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command {
    /// Claim the runner and publish the job to its queue.
    Send(SendCommand),
    /// Hold the job for a runner that will soon be free and holds its model.
    Hold(HoldCommand),
}

/// A job with its runner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SendCommand {
    /// The job.
    pub job: Job,
    /// An idle runner, which counts as busy from now on.
    pub runner: Runner,
    /// Where it has the job's model; the device for a job without hint.
    pub tier: Tier,
    /// The rule that chose it.
    pub why: Why,
    /// The fleet at the decision.
    pub fleet_view: FleetView,
}

/// A job without a runner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HoldCommand {
    /// The job.
    pub job: Job,
    /// When the job becomes eligible for any idle runner, s.
    pub until_s: f64,
    /// Whether `until_s` is the job's own bound: from then on it also precedes the jobs that a busy
    /// runner is warm for.
    pub bounded: bool,
    /// W(m), s: predicted wait for a runner that holds its model; infinite without holders.
    pub wait_s: f64,
    /// Whether the job waits for a runner that is not on its avoid list.
    pub for_another: bool,
    /// Whether as many jobs of its owner run as may.
    pub at_limit: bool,
    /// Whether the idle runner for it is kept a moment for the owner that used it last.
    pub is_kept: bool,
    /// The fleet at the decision.
    pub fleet_view: FleetView,
}

/// The rule that chose a runner for a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// A runner with its model was idle on arrival.
    WarmAndIdle,
    /// It was held, and a runner with its model came free.
    LateBinding,
    /// No runner has its model on the device, nor in RAM unless it is this one.
    NoHolder,
    /// Every holder is so busy that another copy is worth its load.
    Replicated {
        /// Predicted wait for a warm runner, s.
        wait_s: f64,
        /// The bar that the wait exceeds, s.
        bar_s: f64,
    },
    /// Its patience was over, and a runner was idle.
    PatienceOver,
    /// Its own bound on holding passed, and no held job was due before it.
    BoundPassed,
    /// The oldest held job, past age D.
    Overdue,
    /// It carries no hint and was held until a runner came free.
    NoHint,
    /// It arrived without a hint; this idle runner has the lowest eviction cost.
    NoHintAndIdle,
    /// An attempt failed on another runner.
    AnotherRunner,
    /// Its owner is behind its share, and the runner is warm only for owners that are not.
    BehindShare {
        /// How far it is behind the owner that the runner is warm for, in runners' seconds.
        behind_s: f64,
    },
}
