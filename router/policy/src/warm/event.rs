//! What the policy is told ([`Event`]) and what it answers ([`Command`]). Escaped data: models, runners and jobs are
//! numbers that the caller gives out.

use warmq_types::job::Priority;

/// A hint, as a small dense number: the caller counts them up from 0 and keeps the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Model(pub u32);

/// A runner, as a small dense number: the caller counts them up from 0, and may give a lost one's number to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Runner(pub u32);

/// Runners to leave out where there is another: the latest [`Avoid::MAX`] that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Avoid([Option<Runner>; Avoid::MAX]);

impl Avoid {
    const MAX: usize = 4;

    /// No runner.
    pub const NONE: Self = Self([None; Self::MAX]);

    /// Whether it names no runner.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// Returns the runners that it names.
    pub fn iter(self) -> impl Iterator<Item = Runner> {
        let Self(runners) = self;
        (0..Self::MAX)
            .filter(move |index| !runners[..*index].contains(&runners[*index]))
            .filter_map(move |index| runners[index])
    }

    /// Whether it names this runner.
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

/// A job; the caller never uses a number for two jobs that the policy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Job(pub u64);

/// A job as it comes to the policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    /// Its number.
    pub job: Job,
    /// What it needs; `None` for a job without hint, to which all runners are equal.
    pub model: Option<Model>,
    /// Its lane.
    pub priority: Priority,
    /// When it was accepted, s: jobs are served in this order where nothing else decides. Earlier than now for a job that
    /// comes again.
    pub since_s: f64,
    /// Bound on its hold, s from now; infinite without one. Once it has passed, the job is the next one for any runner.
    pub max_warm_wait_s: f64,
    /// It was sent before and came back (its runner was lost): it is not held for warmth again.
    pub returned: bool,
    /// Runners on which an attempt failed: any other one is better, warm or cold. Until the job's patience is over, they
    /// take it only if no other live runner can load its model.
    pub avoid: Avoid,
}

/// What a run told about its model, s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunObservation {
    /// What ran.
    pub model: Model,
    /// How long the run took, without loading, s.
    pub run_s: f64,
    /// How long loading took before it, s; `None` if it was warm.
    pub load_s: Option<f64>,
}

/// What a runner says of itself when it is free.
#[derive(Debug, Clone, PartialEq)]
pub struct Freed {
    /// Which runner.
    pub runner: Runner,
    /// The models that it holds, least recently used first.
    pub cache: Vec<Model>,
    /// How many models it can hold, as far as it knows.
    pub slots: usize,
    /// The run that it finished; `None` when it joined, or the run failed.
    pub ran: Option<RunObservation>,
}

/// A runner that was busy when it was first heard of: whoever led before sent it something.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Which runner.
    pub runner: Runner,
    /// The models that it held when it was last free, least recently used first.
    pub cache: Vec<Model>,
    /// How many models it can hold, as far as it knows.
    pub slots: usize,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A runner joined that can load these models, or any model. Comes before it is freed or found.
    Joined {
        /// Which runner.
        runner: Runner,
        /// What it can load; `None` for any model.
        catalog: Option<Vec<Model>>,
    },
    /// A job wants a place.
    Arrived(Arrival),
    /// A runner joined, or finished what it did: it takes a job now.
    Freed(Freed),
    /// A runner is there, and busy.
    Found(Found),
    /// A runner that was idle took a job from elsewhere (the shared queue).
    Taken {
        /// Which runner.
        runner: Runner,
    },
    /// A runner is gone, and what it held. Its jobs arrive again, `returned`.
    Lost {
        /// Which runner.
        runner: Runner,
    },
    /// Somebody else has the runner that a job was sent to: the job is decided again, the runner counts as busy.
    Refused {
        /// Which runner.
        runner: Runner,
    },
    /// The job that a runner was sent needs none any more: it ended meanwhile, or somebody else runs it. The runner is idle,
    /// as it was.
    ClaimVoid {
        /// Which runner.
        runner: Runner,
    },
    /// A held job is not wanted any more.
    Cancelled {
        /// Which job.
        job: Job,
    },
    /// Time has passed; sent once the clock reaches [`Warm::next_deadline_s`](super::Warm::next_deadline_s).
    Due,
}

/// What a decision about a job saw of the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FleetView {
    /// Idle runners.
    pub idle: usize,
    /// n(m): runners that hold the job's model or are loading it; 0 for a job without hint.
    pub holders: usize,
    /// A live runner can load the job's model.
    pub served: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Command {
    /// Claim the runner and put the job into its own queue.
    Send {
        /// The job.
        job: Job,
        /// An idle runner; from now on it counts as busy.
        runner: Runner,
        /// It holds the job's model.
        warm: bool,
        /// Which rule chose.
        why: Why,
        /// The fleet as the decision saw it.
        fleet_view: FleetView,
    },
    /// Keep the job for a runner that will soon be free and holds its model.
    Hold {
        /// The job.
        job: Job,
        /// When it becomes eligible for any idle runner, s.
        until_s: f64,
        /// `until_s` is the job's own bound: from then on it also precedes the jobs that a busy runner is warm for.
        bounded: bool,
        /// W(m), s: how long a runner with its model would take to come free; infinite if nobody holds it.
        wait_s: f64,
        /// The job waits for a runner on which no attempt failed.
        for_another: bool,
        /// The fleet as the decision saw it.
        fleet_view: FleetView,
    },
}

/// The rule that chose a runner for a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// It arrived while a runner with its model was idle.
    WarmAndIdle,
    /// It was held, and a runner with its model came free.
    LateBinding,
    /// No runner holds its model.
    NoHolder,
    /// Every holder is so busy that another copy is worth its load.
    Replicated {
        /// Predicted wait for a warm runner, s.
        wait_s: f64,
        /// What the wait was compared with, s.
        bar_s: f64,
    },
    /// It was held as long as the policy's patience allows, and a runner was idle.
    PatienceOver,
    /// Its own bound on holding has passed, and no held job was due before it.
    BoundPassed,
    /// The oldest held job, and so old that order wins over warmth.
    Overdue,
    /// It carries no hint and was held until a runner came free.
    NoHint,
    /// It arrived without a hint while runners were idle; this one costs the others least.
    NoHintAndIdle,
    /// Its last attempt came to nothing under another runner.
    AnotherRunner,
}
