//! Policy `warm`: the router's own state machine, told what happens in the simulated fleet.

use warmq_policy::warm::{
    Arrival, Avoid, Command, Constants, Event, Freed, Job as JobNumber, Model, RunObservation,
    Runner, Warm,
};
use warmq_types::job::Priority;

use super::Scheme;
use crate::simulator::{Job, Orders, Report};

/// What the policy was told: enough to tell it again.
#[derive(Debug, Clone)]
pub struct Heard {
    /// When, s.
    pub now_s: f64,
    /// What.
    pub event: Event,
    /// The random bits with it.
    pub coin: u64,
}

/// The policy, with what it heard so far if that is recorded.
pub struct WarmScheme {
    policy: Warm,
    slots: usize,
    record: Option<Vec<Heard>>,
}

impl WarmScheme {
    /// A policy with these constants, for runners that hold `slots` models each.
    pub fn new(constants: &Constants, slots: usize) -> Self {
        Self {
            policy: Warm::new(*constants),
            slots,
            record: None,
        }
    }

    /// Records from now on.
    pub fn recording(mut self) -> Self {
        self.record = Some(Vec::new());
        self
    }

    /// What was recorded, in order.
    pub fn into_record(self) -> Vec<Heard> {
        self.record.unwrap_or_default()
    }

    fn tell(&mut self, event: Event, orders: &mut Orders<'_>) {
        let coin = orders.coin();
        if let Some(record) = &mut self.record {
            record.push(Heard {
                now_s: orders.now_s,
                event: event.clone(),
                coin,
            });
        }
        for command in self.policy.on(orders.now_s, event, coin) {
            match command {
                Command::Send { job, runner, .. } => {
                    orders.send(job.0 as usize, runner.0 as usize);
                }
                Command::Hold { .. } => {}
            }
        }
    }
}

impl Scheme for WarmScheme {
    fn arrived(&mut self, job: &Job, orders: &mut Orders<'_>) {
        let arrival = Arrival {
            job: JobNumber(job.id as u64),
            model: Some(Model(job.model)),
            priority: Priority::Normal,
            since_s: job.since_s,
            max_warm_wait_s: f64::INFINITY,
            returned: job.returned,
            avoid: Avoid::NONE,
        };
        self.tell(Event::Arrived(arrival), orders);
    }

    fn reported(&mut self, runner: usize, report: &Report, orders: &mut Orders<'_>) {
        let number = Runner(runner as u32);
        let event = match report {
            Report::Freed { cache, ran } => Event::Freed(Freed {
                runner: number,
                cache: cache.iter().copied().map(Model).collect(),
                slots: self.slots,
                ran: ran.map(|ran| RunObservation {
                    model: Model(ran.model),
                    run_s: ran.run_s,
                    load_s: ran.load_s,
                }),
            }),
            // Dispatchers hear of a load when its job has ended.
            Report::Loaded => return,
            Report::Lost => Event::Lost { runner: number },
        };
        self.tell(event, orders);
    }

    /// As a dispatcher whose send finds the runner's queue gone.
    fn refused(&mut self, job: &Job, runner: usize, orders: &mut Orders<'_>) {
        let runner = Runner(runner as u32);
        self.tell(Event::Lost { runner }, orders);
        let returned = Job {
            returned: true,
            ..*job
        };
        self.arrived(&returned, orders);
    }

    fn due(&mut self, orders: &mut Orders<'_>) {
        self.tell(Event::Due, orders);
    }

    fn next_due_s(&self) -> Option<f64> {
        self.policy.next_deadline_s()
    }

    fn learns_by_reports(&self) -> bool {
        true
    }
}
