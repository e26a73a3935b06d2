//! Policy `warm`: the router's own state machine, fed with the events of the simulated fleet.

use std::collections::{HashMap, VecDeque};

use warmq_policy::warm::{
    Arrival, Avoid, Command, Constants, Event, Freed, Job as JobNumber, Memory, Model, Owner,
    RunObservation, Runner, Warm,
};
use warmq_types::job::Priority;
use warmq_types::tier::Tier;

use super::Scheme;
use crate::args::Options;
use crate::simulator::{Job, Report, SchemeContext};

/// An event that the policy received, sufficient for a replay.
#[derive(Debug, Clone)]
pub struct PolicyEvent {
    /// Time, s.
    pub now_s: f64,
    /// The event.
    pub event: Event,
    /// The random bits of the call.
    pub coin: u64,
}

/// The policy, with its events if recorded.
pub struct WarmScheme {
    policy: Warm,
    slots: usize,
    /// Slots in RAM; 0 if the policy ignores that tier.
    ram_slots: usize,
    record: Option<Vec<PolicyEvent>>,
    windows: Option<Windows>,
}

/// The jobs of each owner, of which the policy receives some at a time, as from a dispatcher.
struct Windows {
    max_held: usize,
    /// Owners of the jobs that the policy holds.
    held: HashMap<usize, u32>,
    owners: HashMap<u32, Waiting>,
}

/// The jobs of an owner.
#[derive(Default)]
struct Waiting {
    held: usize,
    later: VecDeque<Job>,
}

impl Windows {
    /// Adds a job. Returns it if the policy receives it now.
    fn arrived(&mut self, job: Job) -> Option<Job> {
        let waiting = self.owners.entry(job.owner).or_default();
        if waiting.held >= self.max_held || !waiting.later.is_empty() {
            waiting.later.push_back(job);
            return None;
        }
        waiting.held += 1;
        self.held.insert(job.id, job.owner);
        Some(job)
    }

    /// Removes a job that the policy has sent. Returns the one that it receives instead.
    fn sent(&mut self, job: usize) -> Option<Job> {
        let owner = self.held.remove(&job)?;
        let waiting = self.owners.get_mut(&owner)?;
        waiting.held -= 1;
        let next = waiting.later.pop_front()?;
        waiting.held += 1;
        self.held.insert(next.id, owner);
        Some(next)
    }
}

impl WarmScheme {
    /// Creates a policy with these constants, for the runners of the options.
    pub fn new(constants: &Constants, options: &Options) -> Self {
        Self {
            policy: Warm::new(*constants),
            slots: options.slots as usize,
            ram_slots: match options.ignore_tiers {
                true => 0,
                false => options.ram_slots as usize,
            },
            record: None,
            windows: None,
        }
    }

    /// Passes at most `max_held` jobs of an owner to the policy at a time.
    pub fn with_windows(mut self, max_held: usize) -> Self {
        self.windows = Some(Windows {
            max_held,
            held: HashMap::new(),
            owners: HashMap::new(),
        });
        self
    }

    /// Starts recording.
    pub fn recording(mut self) -> Self {
        self.record = Some(Vec::new());
        self
    }

    /// Returns the recorded events, in order.
    pub fn into_record(self) -> Vec<PolicyEvent> {
        self.record.unwrap_or_default()
    }

    fn feed(&mut self, event: Event, context: &mut SchemeContext<'_>) {
        let coin = context.coin();
        if let Some(record) = &mut self.record {
            record.push(PolicyEvent {
                now_s: context.now_s,
                event: event.clone(),
                coin,
            });
        }
        for command in self.policy.on(context.now_s, event, coin) {
            if let Command::Send(send) = command {
                let job = send.job.0 as usize;
                context.send(job, send.runner.0 as usize);
                let next = self.windows.as_mut().and_then(|windows| windows.sent(job));
                if let Some(next) = next {
                    self.arrived(&next, context);
                }
            }
        }
    }

    fn arrived(&mut self, job: &Job, context: &mut SchemeContext<'_>) {
        let arrival = Arrival {
            job: JobNumber(job.id as u64),
            model: Some(Model(job.model)),
            priority: Priority::Normal,
            owner: Owner(job.owner),
            since_s: job.since_s,
            max_warm_wait_s: f64::INFINITY,
            returned: job.returned,
            avoid: Avoid::NONE,
        };
        self.feed(Event::Arrived(arrival), context);
    }
}

impl Scheme for WarmScheme {
    fn on_arrival(&mut self, job: &Job, context: &mut SchemeContext<'_>) {
        let now = match &mut self.windows {
            Some(windows) => windows.arrived(*job),
            None => Some(*job),
        };
        if let Some(job) = now {
            self.arrived(&job, context);
        }
    }

    fn on_report(&mut self, runner: usize, report: &Report, context: &mut SchemeContext<'_>) {
        let number = Runner(runner as u32);
        let event = match report {
            Report::Freed { cache, ram, ran } => Event::Freed(Freed {
                runner: number,
                memory: Memory {
                    cache: cache.iter().copied().map(Model).collect(),
                    slots: self.slots,
                    ram: (ram.iter().filter(|_| self.ram_slots > 0))
                        .copied()
                        .map(Model)
                        .collect(),
                    ram_slots: self.ram_slots,
                },
                ran: ran.map(|ran| RunObservation {
                    model: Model(ran.model),
                    run_s: ran.run_s,
                    load_s: ran.load_s,
                    from_ram: self.ram_slots > 0 && ran.tier == Tier::Ram,
                }),
            }),
            // Dispatchers are informed of a load when its job has ended.
            Report::Loaded => return,
            Report::Lost => Event::Lost { runner: number },
        };
        self.feed(event, context);
    }

    /// Behaves like a dispatcher whose message was returned because the runner's queue is gone.
    fn on_refusal(&mut self, job: &Job, runner: usize, context: &mut SchemeContext<'_>) {
        let runner = Runner(runner as u32);
        self.feed(Event::Lost { runner }, context);
        let returned = Job {
            returned: true,
            ..*job
        };
        self.on_arrival(&returned, context);
    }

    fn on_due(&mut self, context: &mut SchemeContext<'_>) {
        self.feed(Event::Due, context);
    }

    fn next_due_s(&self) -> Option<f64> {
        self.policy.next_deadline_s()
    }

    fn learns_by_reports(&self) -> bool {
        true
    }
}
