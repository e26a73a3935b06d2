//! Runs a started job on the engine and stores its files.

use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use warmq_store::RunnerReport;
use warmq_types::attempt::{Lease, Outcome};
use warmq_types::fault::FaultKind;
use warmq_types::job::{JobError, JobSpec, Timings};
use warmq_types::retry_tier::RetryTier;

use super::Attempt;
use super::trace::AttemptTrace;
use crate::consumer::Consumers;
use crate::context::WorkerContext;
use crate::engine::thread::{Done, EngineThread};
use crate::engine::{Failure, Produced};
use crate::fault::Fault;
use crate::input_files;
use crate::lease::StartedAttempt;
use crate::output_files::{self, StoreError};
use crate::progress::ProgressReporter;
use crate::runner::{Runner, wait_until};
use crate::stored_input;
use crate::timeline::Stage;

/// Grace for an engine to stop after the drain timeout.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// A run that ended, and the runner's models after it.
pub(super) struct FinishedRun {
    pub(super) end: RunEnd,
    pub(super) timings: Timings,
    pub(super) model: Option<String>,
    pub(super) report: RunnerReport,
    /// The job's `run_timeout`, if it elapsed.
    pub(super) timed_out: Option<Duration>,
    /// Whether the connection to RabbitMQ is open.
    pub(super) connected: bool,
}

/// Why a run ended.
pub(super) enum RunEnd {
    /// A result, or an error of the job.
    Outcome(Outcome),
    /// Stopped on request.
    Stopped,
    /// Something that the input names is unavailable for now; the job's error if it stays so.
    Unavailable(JobError),
    /// A fault of the runner.
    Fault(Fault),
}

/// What the engine returned, and what happened meanwhile.
struct EngineRun {
    done: Done,
    timed_out: Option<Duration>,
    connected: bool,
}

/// Runs the job and stores its files.
pub(super) async fn run(
    attempt: &mut Attempt<'_>,
    runner: &mut Runner,
    consumers: &mut Consumers,
) -> FinishedRun {
    let context = attempt.context;
    let progress = ProgressReporter::start(
        context.store.clone(),
        &attempt.job.job,
        attempt.keeper.lease(),
        attempt.lost.clone(),
        attempt.trace.timeline(),
    );
    let run = run_engine(attempt, &runner.engine, consumers, &progress).await;
    let Done { ended, report } = run.done;
    let end = match ended.result {
        Ok(produced) => {
            if !produced.files.is_empty() {
                progress.storing();
            }
            store_files(attempt, produced, &mut runner.probe_bytes).await
        }
        Err(Failure::Job(error)) => RunEnd::Outcome(Outcome::Failed(error)),
        // The engine only did not stop within the drain timeout.
        Err(Failure::Runner(fault))
            if fault.kind == FaultKind::Hang && context.give_up.is_cancelled() =>
        {
            RunEnd::Stopped
        }
        Err(Failure::Unavailable(error)) => RunEnd::Unavailable(error),
        Err(Failure::Runner(fault)) => RunEnd::Fault(fault),
        Err(Failure::Cancelled) => RunEnd::Stopped,
    };
    attempt.trace.run_ended(ended.timings);
    progress.end().await;
    FinishedRun {
        end,
        timings: ended.timings,
        model: ended.model,
        report,
        timed_out: run.timed_out,
        connected: run.connected,
    }
}

/// Runs the job on the engine, and meanwhile handles cancellation, timeouts and the connection.
async fn run_engine(
    attempt: &mut Attempt<'_>,
    engine: &EngineThread,
    consumers: &mut Consumers,
    progress: &ProgressReporter,
) -> EngineRun {
    let Attempt {
        context,
        job,
        started,
        settlement,
        cancellation,
        lost,
        trace,
        ..
    } = attempt;
    let (spec, since) = (&job.job, started.since);
    let run_timeout = spec.run_timeout_ms.map(Duration::from_millis);
    let run_until = run_timeout.and_then(|timeout| since.checked_add(timeout));
    let ack_deadline = since + context.intervals.unacknowledged;
    // Stops the engine: cancelled with `lost`, after `run_timeout`, and after the drain timeout.
    let cancel = lost.child_token();
    let mut run = pin!(fetch_then_run(
        context, engine, spec, progress, &cancel, trace
    ));
    let mut hangs = pin!(hangs(context, &cancel, progress));
    let (mut timed_out, mut connected) = (None, true);
    let done = loop {
        tokio::select! {
            biased;
            done = &mut run => break done,
            () = &mut hangs => {
                tracing::error!(
                    runner = %started.runner, job.id = %spec.id,
                    "the engine does not stop and reports no progress"
                );
                break Err(Fault::new(FaultKind::Hang, "the engine no longer responds"));
            }
            () = context.give_up.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
            () = wait_until(run_until), if !cancel.is_cancelled() => {
                timed_out = run_timeout;
                cancel.cancel();
            }
            () = cancellation.cancelled(), if !lost.is_cancelled() => lost.cancel(),
            own = consumers.next_own(), if connected => match own {
                // The claim lapsed before its job arrived.
                Ok(late) => late.nack().await,
                // The run continues: its result counts even if its message is redelivered.
                Err(_) => connected = false,
            },
            () = sleep_until(ack_deadline), if connected && !settlement.is_settled() => {
                settlement.delay(job, RetryTier::M10).await;
            }
        }
    };
    EngineRun {
        // A crashed engine holds no models; one that hangs ends with its process.
        done: done.unwrap_or_else(|fault| Done::not_run(fault.into(), RunnerReport::default())),
        timed_out,
        connected,
    }
}

/// Fetches the job's input and, unless the engine rejects it, its files; then runs it. Fails if the
/// engine crashes.
async fn fetch_then_run(
    context: &WorkerContext,
    engine: &EngineThread,
    spec: &JobSpec,
    progress: &ProgressReporter,
    cancel: &CancellationToken,
    trace: &AttemptTrace,
) -> Result<Done, Fault> {
    let fetched = async {
        let mut job = stored_input::load(&context.storage, spec, cancel).await?;
        if engine.description.inlines_files {
            context.file_fetcher.inline(&mut job, cancel).await?;
        }
        let fields = &engine.description.files;
        if input_files::need_io(&job, fields) {
            engine.check_input(job.clone()).await?;
        }
        let files = context.file_fetcher.get(&job, fields, progress, cancel);
        let files = files.await?;
        Ok((job, files))
    };
    let (job, files) = match fetched.await {
        Ok(fetched) => fetched,
        Err(failure) => return Ok(Done::not_run(failure, engine.report.clone())),
    };
    trace.timeline().begin(Stage::Begin);
    let run = engine.run(
        trace.continued(job),
        files,
        progress.reports(),
        cancel.clone(),
    );
    run.await.map_err(|crashed| {
        let reason = crashed.reason;
        tracing::error!(job.id = %spec.id, reason, "the engine crashed while it ran a job");
        Fault::new(FaultKind::Engine, "the engine crashed").because(reason)
    })
}

/// Stores the job's files. After a refusal, probes of the storage grow to the file's size.
async fn store_files(attempt: &Attempt<'_>, produced: Produced, probe_bytes: &mut usize) -> RunEnd {
    let (context, job) = (attempt.context, &attempt.job.job);
    let key = attempt_key(*attempt.keeper.lease().borrow(), &attempt.started);
    let stored = tokio::select! {
        biased;
        stored = output_files::store_files(&context.storage, job, &key, produced) => stored,
        () = after_drain(context) => return RunEnd::Stopped,
    };
    let error = match stored {
        Ok(output) => return RunEnd::Outcome(Outcome::Succeeded(output)),
        Err(error) => error,
    };
    let fault = match &error {
        StoreError::Refused { bytes, .. } => {
            *probe_bytes = (*probe_bytes).max(*bytes);
            Fault::new(FaultKind::Storage, "a file could not be stored")
        }
        StoreError::NoField(_) => {
            Fault::new(FaultKind::Engine, "the engine's output is incomplete")
        }
    };
    RunEnd::Fault(fault.because(error))
}

/// Waits until a cancelled engine has reported no progress for `hang_grace`, or until the drain
/// timeout has elapsed.
async fn hangs(context: &WorkerContext, cancel: &CancellationToken, progress: &ProgressReporter) {
    let silent = async {
        let mut reports = progress.watch();
        cancel.cancelled().await;
        let grace = context.config.hang_grace;
        while let Ok(Ok(())) = tokio::time::timeout(grace, reports.changed()).await {}
    };
    tokio::select! {
        () = silent => {}
        () = after_drain(context) => {}
    }
}

/// Waits until shortly after the drain timeout.
async fn after_drain(context: &WorkerContext) {
    context.give_up.cancelled().await;
    tokio::time::sleep(DRAIN_GRACE).await;
}

/// Returns the attempt's part of its object keys, unique per attempt.
fn attempt_key(lease: Option<Lease>, started: &StartedAttempt) -> String {
    match lease {
        Some(lease) => lease.fence.0.to_string(),
        None => format!("{}-{}", started.runner, started.epoch),
    }
}
