//! Handles one delivery: starts the job, runs it, stores its end, then acknowledges the message.
//!
//! | module | what it does |
//! | --- | --- |
//! | this one | runs the steps in order |
//! | `start` | starts the job, or settles its message if it cannot be started |
//! | `run` | runs the job on the engine and stores its files |
//! | `retry` | decides what follows the run: its end, or another attempt |
//! | `finish` | stores the end of an attempt |
//! | `trace` | the spans of an attempt |
//! | `settle` | announces or republishes the job, then acknowledges its message |
//!
//! Every path ends in one of two ways: the job's end is announced, a confirmed copy is queued, or
//! another runner has the job, and the message is acknowledged; or the message is returned to its
//! queue.

mod finish;
mod retry;
mod run;
mod settle;
mod start;
mod trace;

use tokio_util::sync::CancellationToken;
use warmq_types::attempt::Outcome;
use warmq_types::message::JobMessage;
use warmq_types::state::JobState;

use self::finish::EndedAttempt;
use self::retry::FollowUp;
use self::run::{FinishedRun, RunEnd};
use self::settle::Settlement;
use self::trace::AttemptTrace;
use crate::cancellations::CancellationListener;
use crate::consumer::{ConsumeError, JobDelivery, Source};
use crate::context::WorkerContext;
use crate::fault::Fault;
use crate::incarnation::Incarnation;
use crate::lease::{LeaseKeeper, StartedAttempt};
use crate::runner::{AfterDelivery, IncarnationEnd, Runner};
use crate::self_test;

/// Outcome of an attempt that another one follows, in the metrics.
const REQUEUED: &str = "requeued";

/// An attempt from its start until its message is settled.
struct Attempt<'a> {
    context: &'a WorkerContext,
    job: JobMessage,
    started: StartedAttempt,
    settlement: Settlement<'a>,
    cancellation: CancellationListener,
    keeper: LeaseKeeper,
    /// Cancelled once the job is no longer this attempt's.
    lost: CancellationToken,
    trace: AttemptTrace,
}

/// Handles one delivery.
pub(crate) async fn handle_delivery(
    runner: &mut Runner,
    incarnation: &mut Incarnation,
    delivery: JobDelivery,
) -> AfterDelivery {
    let context = runner.context.clone();
    let mut attempt = match start::start(runner, &context, incarnation.epoch, delivery).await {
        Ok(attempt) => attempt,
        Err(next) => return next,
    };
    let _busy = runner.metrics.busy();
    let run = run::run(&mut attempt, runner, &mut incarnation.consumers).await;
    end(attempt, run, runner, incarnation).await
}

/// Stores the end of a run, or requeues the job, and settles its message.
async fn end(
    attempt: Attempt<'_>,
    run: FinishedRun,
    runner: &mut Runner,
    incarnation: &Incarnation,
) -> AfterDelivery {
    let Attempt {
        context,
        job,
        started,
        mut settlement,
        keeper,
        lost,
        trace,
        ..
    } = attempt;
    let is_ours = !lost.is_cancelled();
    let mut ended = EndedAttempt {
        started,
        lease: *keeper.lease().borrow(),
        outcome: Outcome::Cancelled,
        timings: run.timings,
        model: run.model,
    };
    // Diagnosed while the job's lease is still renewed.
    let fault = match &run.end {
        RunEnd::Fault(fault) => self_test::diagnose(runner, incarnation.epoch, fault).await,
        RunEnd::Outcome(_) | RunEnd::Unavailable(_) | RunEnd::Stopped => None,
    };
    let is_healthy = fault.is_none();
    let mut counts = is_ours;
    match FollowUp::of(run.end, run.timed_out, is_ours, is_healthy) {
        FollowUp::Store(outcome) => ended.outcome = outcome,
        FollowUp::Retry(reason) => match retry::next_attempt(context, &ended, reason, job).await {
            Ok(requeue) => {
                counts = false;
                settlement.requeue_later(&ended, &requeue).await;
            }
            Err(error) => ended.outcome = Outcome::Failed(error),
        },
        FollowUp::RequeueUncounted => {
            drop(keeper);
            settlement.requeue_uncounted(&job, ended.lease).await;
            runner.metrics.ended(REQUEUED, ended.timings);
            trace.end(REQUEUED, None);
            return after_run(fault, run.connected);
        }
    }
    let outcome = match (is_ours, counts) {
        // Its result is dropped, whatever it is.
        (false, _) => JobState::Cancelled.as_str(),
        (true, true) => ended.outcome.state().as_str(),
        (true, false) => REQUEUED,
    };
    runner.metrics.ended(outcome, ended.timings);
    runner.engine.report = run.report;
    let changed = runner.engine.description != incarnation.description;
    let idle = run.connected && is_healthy && !changed && !context.stop.is_cancelled();
    let stored = finish::store(runner, &ended, counts, idle).await;
    let failure = match &ended.outcome {
        Outcome::Failed(error) => Some(error.message.clone()),
        Outcome::Succeeded(_) | Outcome::Cancelled => None,
    };
    settlement.ended(ended, stored, counts).await;
    trace.end(outcome, failure);
    drop(keeper);
    match after_run(fault, run.connected) {
        AfterDelivery::Idle if changed => AfterDelivery::End(IncarnationEnd::DescriptionChanged),
        next => next,
    }
}

fn after_run(fault: Option<Fault>, connected: bool) -> AfterDelivery {
    match fault {
        Some(fault) => AfterDelivery::End(IncarnationEnd::from_fault(fault)),
        None if connected => AfterDelivery::Idle,
        None => AfterDelivery::End(IncarnationEnd::ConsumerLost(ConsumeError::QueueDeleted(
            Source::Own,
        ))),
    }
}
