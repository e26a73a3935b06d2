//! The failure table of ARCHITECTURE.md, row by row: something dies or hangs, and every accepted job ends all the same, with
//! one result. Rows that are promises of their own stand in files of their own beside this folder.
//!
//! | file | what dies in it |
//! | --- | --- |
//! | `submitters` | who submits, before it is told |
//! | `dispatchers` | the router that dispatches; all of them |
//! | `runners` | a worker, at each point of a job's way through it; its queue |
//! | `stops` | nothing: a worker or a router is asked to stop |
//! | `rolling_restart` | nothing: everything is replaced under load |

mod dispatchers;
mod rolling_restart;
mod runners;
mod stops;
mod submitters;

use std::time::Duration;

use warmq_cluster::eventually;
use warmq_common::ids::JobId;
use warmq_common::state::JobState;
use warmq_tests::Stage;
use warmq_tests::stage::SOON;

/// A runner's lease (15 s), the retry tier that parks its job (5 s or 30 s), and some air.
const AFTER_A_CRASH: Duration = Duration::from_secs(60);

/// A worker that is busy for 2 s with model `m`, and jobs for `m` that the dispatcher holds meanwhile.
async fn held_jobs(stage: &Stage) -> Vec<JobId> {
    stage.succeeded(stage.submit("m", 1).await).await;
    let busy = stage.submit("m", 2_000).await;
    stage.reached(busy, JobState::Running).await;
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(stage.submit("m", 10).await);
    }
    for id in &jobs {
        eventually("the dispatcher holds it", SOON, async || {
            stage.job(*id).await.hold
        })
        .await
        .unwrap();
    }
    jobs
}
