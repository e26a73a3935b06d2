//! One scenario per rule. S = 2 s and L = 10 s, the priors, so D = 60 s, theta · L = 20 s
//! and R = 100 s.
//!
//! | module | rules |
//! | --- | --- |
//! | `holds` | which jobs wait for a runner with their model, and which cause another copy |
//! | `order` | the job that a free runner takes |
//! | `failed_attempts` | the runners that a job avoids |
//! | `shares` | owners |
//! | `catalogs` | the runners that can load a model |
//! | `tiers` | models in RAM |

mod catalogs;
mod failed_attempts;
mod holds;
mod order;
mod shares;
mod tiers;

use super::*;

const FOREVER_S: f64 = f64::INFINITY;

struct Scenario {
    policy: Warm,
}

impl Scenario {
    fn new() -> Self {
        Self::with(Constants::default())
    }

    fn with(constants: Constants) -> Self {
        Self {
            policy: Warm::new(constants),
        }
    }

    /// Reports a free runner with these models, as many slots, and at least one slot.
    fn free(&mut self, now_s: f64, runner: u32, cache: &[u32]) -> Vec<Command> {
        self.free_with_slots(now_s, runner, cache, cache.len().max(1))
    }

    fn free_with_slots(
        &mut self,
        now_s: f64,
        runner: u32,
        cache: &[u32],
        slots: usize,
    ) -> Vec<Command> {
        self.free_with(now_s, runner, memory(cache, slots, &[], 0))
    }

    fn free_with(&mut self, now_s: f64, runner: u32, memory: Memory) -> Vec<Command> {
        let freed = Freed {
            runner: Runner(runner),
            memory,
            ran: None,
        };
        self.policy.on(now_s, Event::Freed(freed), 0)
    }

    fn joined(&mut self, now_s: f64, runner: u32, catalog: &[u32]) {
        let catalog = Some(catalog.iter().copied().map(Model).collect());
        let runner = Runner(runner);
        self.policy.on(now_s, Event::Joined { runner, catalog }, 0);
    }

    fn lost(&mut self, now_s: f64, runner: u32) -> Vec<Command> {
        let runner = Runner(runner);
        self.policy.on(now_s, Event::Lost { runner }, 0)
    }

    fn arrive(
        &mut self,
        now_s: f64,
        job: u64,
        model: u32,
        change: fn(&mut Arrival),
    ) -> Vec<Command> {
        let mut arrival = Arrival {
            job: Job(job),
            model: Some(Model(model)),
            priority: Priority::Normal,
            owner: Owner::default(),
            since_s: now_s,
            max_warm_wait_s: FOREVER_S,
            returned: false,
            avoid: Avoid::NONE,
        };
        change(&mut arrival);
        self.policy.on(now_s, Event::Arrived(arrival), 0)
    }

    fn job(&mut self, now_s: f64, job: u64, model: u32) -> Vec<Command> {
        self.arrive(now_s, job, model, |_| {})
    }

    fn due(&mut self, now_s: f64) -> Vec<Command> {
        self.policy.on(now_s, Event::Due, 0)
    }
}

fn memory(cache: &[u32], slots: usize, ram: &[u32], ram_slots: usize) -> Memory {
    Memory {
        cache: cache.iter().copied().map(Model).collect(),
        slots,
        ram: ram.iter().copied().map(Model).collect(),
        ram_slots,
    }
}

/// Returns the sends: job, runner, rule.
fn sent(commands: &[Command]) -> Vec<(u64, u32, Why)> {
    let send = |command: &Command| match command {
        Command::Send(send) => Some((send.job.0, send.runner.0, send.why)),
        Command::Hold(_) => None,
    };
    commands.iter().filter_map(send).collect()
}

/// Returns the holds: job, deadline, predicted wait, s.
fn held(commands: &[Command]) -> Vec<(u64, f64, f64)> {
    let hold = |command: &Command| match command {
        Command::Hold(hold) => Some((hold.job.0, hold.until_s, hold.wait_s)),
        Command::Send(_) => None,
    };
    commands.iter().filter_map(hold).collect()
}

/// Runner 0 holds model 0 and runs job 0 for 2 s; runner 1 is idle with the last copy of model 1.
fn a_busy_holder_and_another_idle_runner() -> Scenario {
    let mut scenario = Scenario::new();
    scenario.free(0.0, 0, &[0]);
    scenario.free(0.0, 1, &[1]);
    assert_eq!(sent(&scenario.job(0.0, 0, 0)), [(0, 0, Why::WarmAndIdle)]);
    scenario
}
