//! Records that tests write to Redis themselves.

use warmq_store::{Registration, RunnerReport};
use warmq_types::ids::{AppId, Epoch, RunnerId};
use warmq_types::job::{Decision, Target};

/// Returns the registration of an empty runner in incarnation 1 that no worker hosts.
pub fn registration(app: &AppId, runner: &RunnerId) -> Registration {
    Registration {
        app: app.clone(),
        runner: runner.clone(),
        epoch: Epoch(1),
        host: "elsewhere".to_owned(),
        pid: 1,
        instance: String::new(),
        engine: "timed".to_owned(),
        device: "cpu".to_owned(),
        memory_budget_bytes: 1,
        ram_budget_bytes: 0,
        models: Vec::new(),
        report: RunnerReport::default(),
    }
}

/// Returns the decision to send a job to a runner, as a dispatcher records it.
pub fn decision(runner: &RunnerId) -> Decision {
    Decision {
        policy: "test".to_owned(),
        target: Target::Runner {
            runner: runner.clone(),
        },
        warm: false,
        tier: None,
        warm_candidates: Vec::new(),
        blank_candidates: Vec::new(),
        idle_runners: 1,
        holders: None,
        predicted_wait_ms: None,
        held_ms: 0,
        refused_claims: 0,
        reason: "chosen by a test".to_owned(),
    }
}
