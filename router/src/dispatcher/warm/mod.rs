//! Policy `warm`: holds jobs unacknowledged until the policy chooses a runner.
//!
//! ```text
//! job, cancellation, ──┐
//! runner event, ───────┼─ one at a time ─> policy_driver: policy ─> command_executor ─> placed
//! deadline, tick ──────┘
//! ```
//!
//! | module | content |
//! | --- | --- |
//! | `policy_driver` | translates inputs into the policy's events |
//! | `command_executor` | executes the policy's commands: claims and holds |
//! | `statistics` | saves the policy's statistics |
//! | `runner_tracker` | runners: turns their events in Redis into the policy's events |
//! | `hints` | numbers of hints |
//! | `owners` | numbers of owners, their weights and limits |
//! | `waiting_jobs` | the jobs without a runner, with their deliveries |
//! | `clock` | seconds, by Redis' clock |
//! | `decision_log` | decisions and holds as the job's record describes them |
//!
//! All state here is disposable: the next session reads runners and statistics from Redis,
//! and the broker redelivers the held jobs.

mod clock;
mod command_executor;
mod decision_log;
mod hints;
mod owners;
mod policy_driver;
mod runner_tracker;
mod statistics;
mod waiting_jobs;

use tokio_util::sync::CancellationToken;

use super::Dispatcher;
use super::dispatch_loop::{DispatchLoop, LaneSubscriptions};
use super::session::Session;
use crate::session_error::SessionError;
use policy_driver::PolicyDriver;

/// Dispatches until `stop`.
pub(super) async fn run(
    dispatcher: &Dispatcher,
    session: &Session,
    stop: &CancellationToken,
) -> Result<(), SessionError> {
    // Order matters: subscribe before the first comparison, so that no event is missed; consume
    // after it, so that all runners are tracked.
    let dispatching = DispatchLoop {
        dispatcher,
        session,
        subscriptions: Some(LaneSubscriptions::open(dispatcher).await?),
    };
    let mut driver = PolicyDriver::open(dispatcher).await?;
    dispatching.run(&mut driver, stop).await?;
    driver.save_statistics().await
}
