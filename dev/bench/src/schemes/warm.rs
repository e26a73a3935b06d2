//! Policy `warm`: the router's own state machine, fed with the events of the simulated fleet.

use warmq_policy::warm::{
    Arrival, Avoid, Command, Constants, Event, Freed, Job as JobNumber, Memory, Model,
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
        }
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
                context.send(send.job.0 as usize, send.runner.0 as usize);
            }
        }
    }
}

impl Scheme for WarmScheme {
    fn on_arrival(&mut self, job: &Job, context: &mut SchemeContext<'_>) {
        let arrival = Arrival {
            job: JobNumber(job.id as u64),
            model: Some(Model(job.model)),
            priority: Priority::Normal,
            since_s: job.since_s,
            max_warm_wait_s: f64::INFINITY,
            returned: job.returned,
            avoid: Avoid::NONE,
        };
        self.feed(Event::Arrived(arrival), context);
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
