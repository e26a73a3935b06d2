//! Runs a started job and stores its end.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_process::retry::until_success;
use warmq_store::RunnerReport;
use warmq_types::attempt::Lease;
use warmq_types::attempt::Outcome;
use warmq_types::fault::FaultKind;
use warmq_types::job::Timings;
use warmq_types::message::JobMessage;
use warmq_types::retry_tier::RetryTier;

use super::finish::EndedAttempt;
use super::retry::RetryReason;
use super::settle::{ack, nack};
use crate::artifacts::{self, StoreError};
use crate::cancellations::CancellationListener;
use crate::consumer::{self, JobDelivery, Source};
use crate::context::WorkerContext;
use crate::engine::thread::Done;
use crate::engine::{Ended, Failure};
use crate::fault::Fault;
use crate::incarnation::Incarnation;
use crate::lease::{LeaseKeeper, StartedAttempt};
use crate::progress::ProgressReporter;
use crate::runner::{AfterDelivery, IncarnationEnd, Runner, wait_until};
use crate::stored_input;

/// Grace for an engine to stop after the drain timeout.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Timeout for publishing a fault, which is best effort.
const PUBLISH_FAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// State that changes while a job runs.
struct RunState {
    /// The job's message, until it is acknowledged.
    message: Option<JobDelivery>,
    /// Whether the connection to RabbitMQ is open.
    connected: bool,
    /// The job's `run_timeout`, once it has elapsed.
    timed_out: Option<Duration>,
    /// Cancelled once the job is no longer this attempt's.
    lost: CancellationToken,
    /// Stops the engine: cancelled with `lost`, after `run_timeout`, and after the drain timeout.
    cancel: CancellationToken,
}

/// Why a run ended.
enum RunEnd {
    /// A result, or an error of the job.
    Outcome(Outcome),
    /// Stopped on request.
    Stopped,
    /// A fault of the runner.
    Fault(Fault),
}

/// A run that ended, and the runner's models after it.
struct FinishedRun {
    end: RunEnd,
    timings: Timings,
    model: Option<String>,
    report: RunnerReport,
}

impl Runner {
    /// Runs a job. `lease` is `None` while Redis is unreachable.
    pub(super) async fn run_job(
        &mut self,
        incarnation: &mut Incarnation,
        delivery: JobDelivery,
        job: JobMessage,
        lease: Option<Lease>,
        cancellation: CancellationListener,
    ) -> AfterDelivery {
        let context = self.context.clone();
        let spec = &job.job;
        let hint = spec.hint.as_ref().map_or("", |hint| hint.as_str());
        tracing::info!(
            runner = %self.id, job.id = %spec.id, job.hint = hint, attempt = lease.map(|lease| lease.attempt), from = ?delivery.source,
            "job started"
        );
        let lost = CancellationToken::new();
        let started = StartedAttempt {
            runner: self.id.clone(),
            epoch: incarnation.epoch,
            job: spec.clone(),
            since: Instant::now(),
        };
        let keeper = LeaseKeeper::start(&context, &started, lease, lost.clone());
        let progress =
            ProgressReporter::start(context.store.clone(), spec, keeper.lease(), lost.clone());
        let mut state = RunState {
            message: Some(delivery),
            connected: true,
            timed_out: None,
            cancel: lost.child_token(),
            lost,
        };
        let done = self
            .run_engine(
                incarnation,
                &job,
                started.since,
                &progress,
                &mut state,
                cancellation,
            )
            .await;
        let key = attempt_key(*keeper.lease().borrow(), &started);
        let run = self.finish_run(&job, &key, done, &progress).await;
        drop(progress);
        self.settle_run(incarnation, job, started, keeper, run, state)
            .await
    }

    /// Stores the end of a run, or requeues the job, and settles its message.
    async fn settle_run(
        &mut self,
        incarnation: &Incarnation,
        job: JobMessage,
        started: StartedAttempt,
        keeper: LeaseKeeper,
        run: FinishedRun,
        state: RunState,
    ) -> AfterDelivery {
        let context = self.context.clone();
        let is_ours = !state.lost.is_cancelled();
        let mut attempt = EndedAttempt {
            started,
            lease: *keeper.lease().borrow(),
            outcome: Outcome::Cancelled,
            timings: run.timings,
            model: run.model,
        };
        // Diagnosed while the job's lease is still renewed.
        let fault = match &run.end {
            RunEnd::Fault(fault) if !is_drain_over(&context, fault) => {
                self.diagnose(incarnation, fault).await
            }
            RunEnd::Fault(_) | RunEnd::Outcome(_) | RunEnd::Stopped => None,
        };
        let (mut counts, mut message) = (is_ours, state.message);
        match (run.end, state.timed_out) {
            (RunEnd::Outcome(outcome), _) => attempt.outcome = outcome,
            _ if !is_ours => {}
            (end, timed_out) => match retry_reason(&context, end, timed_out, fault.is_none()) {
                Some(reason) => {
                    (counts, message) =
                        self.retry_or_fail(&mut attempt, reason, job, message).await;
                }
                None => {
                    drop(keeper);
                    context
                        .requeue_uncounted(&job, attempt.lease, message)
                        .await;
                    return after_run(fault, state.connected);
                }
            },
        }
        self.report = run.report;
        let changed = self.engine.description.models != incarnation.models;
        let idle = state.connected && fault.is_none() && !changed && !context.stop.is_cancelled();
        self.store_result(attempt, counts, idle, message).await;
        drop(keeper);
        match after_run(fault, state.connected) {
            AfterDelivery::Idle if changed => AfterDelivery::End(IncarnationEnd::ModelsChanged),
            next => next,
        }
    }

    /// Fetches the job's files and runs it, and meanwhile handles cancellation, timeouts and the
    /// connection. Fails if the engine crashed or hangs.
    async fn run_engine(
        &self,
        incarnation: &mut Incarnation,
        job: &JobMessage,
        since: Instant,
        progress: &ProgressReporter,
        state: &mut RunState,
        mut cancellation: CancellationListener,
    ) -> Result<Done, Fault> {
        let context = &self.context;
        let spec = &job.job;
        let (cancel, lost) = (state.cancel.clone(), state.lost.clone());
        let run_timeout = spec.run_timeout_ms.map(Duration::from_millis);
        let run_until = run_timeout.and_then(|timeout| since.checked_add(timeout));
        let ack_deadline = since + context.intervals.unacknowledged;
        let mut run = pin!(async {
            let fields = &self.engine.description.files;
            let prepared = async {
                let job = stored_input::load(&context.artifacts, spec, &cancel).await?;
                let files = context.file_fetcher.get(&job, fields, progress, &cancel);
                let files = files.await?;
                Ok((job, files))
            };
            match prepared.await {
                Ok((job, files)) => {
                    let (progress, cancel) = (progress.sender(), cancel.clone());
                    self.engine.run(job, files, progress, cancel).await
                }
                Err(failure) => Ok(Done::not_run(failure, self.report.clone())),
            }
        });
        let mut hangs = pin!(hangs(context, &cancel, progress));
        loop {
            tokio::select! {
                biased;
                done = &mut run => return done.map_err(|crashed| {
                    tracing::error!(job.id = %spec.id, reason = crashed.reason, "the engine crashed while it ran a job");
                    Fault::new(FaultKind::Engine, "the engine crashed").because(crashed.reason)
                }),
                () = &mut hangs => {
                    tracing::error!(runner = %self.id, job.id = %spec.id, "the engine does not stop and reports no progress");
                    return Err(Fault::new(FaultKind::Hang, "the engine no longer responds"));
                }
                () = context.give_up.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
                () = wait_until(run_until), if !cancel.is_cancelled() => {
                    state.timed_out = run_timeout;
                    cancel.cancel();
                }
                () = cancellation.cancelled(), if !lost.is_cancelled() => lost.cancel(),
                own = incarnation.consumers.next_own(), if state.connected => match own {
                    // The claim lapsed before its job arrived.
                    Ok(late) => late.nack().await,
                    // The run continues: its result counts even if its message is redelivered.
                    Err(_) => state.connected = false,
                },
                () = tokio::time::sleep_until(ack_deadline), if state.connected && state.message.is_some() => {
                    if let Some(delivery) = state.message.take() {
                        context.delay_then_ack(job, RetryTier::M10, delivery).await;
                    }
                }
            }
        }
    }

    /// Maps the engine's result to the run's end and stores its files. `key` is the attempt's part
    /// of their object keys.
    async fn finish_run(
        &mut self,
        job: &JobMessage,
        key: &str,
        done: Result<Done, Fault>,
        progress: &ProgressReporter,
    ) -> FinishedRun {
        let (ended, report) = match done {
            Ok(Done { ended, report }) => (ended, report),
            // A crashed engine holds no models; one that hangs ends with its process.
            Err(fault) => (Ended::failed(fault.into()), RunnerReport::default()),
        };
        let end = match ended.result {
            Ok(produced) => {
                if !produced.files.is_empty() {
                    progress.storing();
                }
                let context = &self.context;
                let stored = artifacts::store_files(&context.artifacts, &job.job, key, produced);
                let drained = after_drain(context);
                tokio::select! {
                    biased;
                    stored = stored => match stored {
                        Ok(output) => RunEnd::Outcome(Outcome::Succeeded(output)),
                        Err(error) => RunEnd::Fault(self.not_stored(error)),
                    },
                    () = drained => RunEnd::Stopped,
                }
            }
            Err(Failure::Job(error)) => RunEnd::Outcome(Outcome::Failed(error)),
            Err(Failure::Runner(fault)) => RunEnd::Fault(fault),
            Err(Failure::Cancelled) => RunEnd::Stopped,
        };
        FinishedRun {
            end,
            timings: ended.timings,
            model: ended.model,
            report,
        }
    }

    /// Returns the fault for files that could not be stored, and enlarges the next probes to their
    /// size.
    fn not_stored(&mut self, error: StoreError) -> Fault {
        match &error {
            StoreError::Refused { bytes, .. } => {
                self.probe_bytes = self.probe_bytes.max(*bytes);
                Fault::new(FaultKind::Storage, "a file could not be stored").because(error)
            }
            StoreError::NoField(_) => {
                Fault::new(FaultKind::Engine, "the engine's output is incomplete").because(error)
            }
        }
    }

    /// Logs and publishes the fault, then runs the self-test. Returns the fault that remains, if
    /// any.
    async fn diagnose(&mut self, incarnation: &Incarnation, fault: &Fault) -> Option<Fault> {
        tracing::warn!(runner = %self.id, %fault, "attempt failed: runner fault");
        let (store, app) = (&self.context.store, &self.context.config.app);
        let published = store
            .faults()
            .publish(app, &self.id, incarnation.epoch, fault.kind);
        if !matches!(
            tokio::time::timeout(PUBLISH_FAULT_TIMEOUT, published).await,
            Ok(Ok(()))
        ) {
            tracing::debug!(runner = %self.id, "a fault could not be published");
        }
        match fault.is_unrecoverable() {
            true => Some(fault.clone()),
            false => self.self_test().await.err(),
        }
    }

    /// Stores the attempt's end and settles the message. `counts`: the end is the job's.
    async fn store_result(
        &mut self,
        attempt: EndedAttempt,
        counts: bool,
        idle: bool,
        message: Option<JobDelivery>,
    ) {
        let context = self.context.clone();
        let job = attempt.started.job.clone();
        let stored = until_success("storing a result", &context.give_up, || {
            attempt.store(&context, counts, &self.recorded_hints, &self.report, idle)
        });
        let stored = self.redis_grace.limit(stored).await;
        match stored {
            Some(Some(accepted)) => {
                self.recorded_hints.clone_from(&self.report.hints);
                attempt.log(accepted);
                let state = accepted.then(|| attempt.outcome.state());
                context.settle(&job, state, message).await;
            }
            Some(None) => {
                tracing::error!(job.id = %job.id, "stopping while redis is unreachable: another runner will run the job again");
                nack(message).await;
            }
            None if counts => context.defer_result_then_ack(attempt, message).await,
            // The end is recorded, or another runner has the job.
            None => ack(message).await,
        }
    }
}

/// Returns why a run without an outcome needs another attempt, `None` if it was stopped by the
/// drain timeout. `healthy`: the runner passed its self-test.
fn retry_reason(
    context: &WorkerContext,
    end: RunEnd,
    timed_out: Option<Duration>,
    healthy: bool,
) -> Option<RetryReason> {
    match (end, timed_out) {
        (RunEnd::Stopped, Some(timeout)) => Some(RetryReason::TimedOut(timeout)),
        (RunEnd::Fault(fault), Some(timeout)) if fault.kind == FaultKind::Hang => {
            Some(RetryReason::TimedOut(timeout))
        }
        (RunEnd::Fault(fault), _) if !is_drain_over(context, &fault) => {
            Some(RetryReason::Fault { fault, healthy })
        }
        (RunEnd::Stopped | RunEnd::Fault(_) | RunEnd::Outcome(_), _) => None,
    }
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

/// Returns whether the engine only failed to stop within the drain timeout, which is not a fault.
fn is_drain_over(context: &WorkerContext, fault: &Fault) -> bool {
    fault.kind == FaultKind::Hang && context.give_up.is_cancelled()
}

/// Returns the attempt's part of its object keys, unique per attempt.
fn attempt_key(lease: Option<Lease>, started: &StartedAttempt) -> String {
    match lease {
        Some(lease) => lease.fence.0.to_string(),
        None => format!("{}-{}", started.runner, started.epoch),
    }
}

fn after_run(fault: Option<Fault>, connected: bool) -> AfterDelivery {
    match fault {
        Some(fault) => AfterDelivery::End(IncarnationEnd::from_fault(fault)),
        None if connected => AfterDelivery::Idle,
        None => AfterDelivery::End(IncarnationEnd::ConsumerLost(
            consumer::ConsumeError::QueueDeleted(Source::Own),
        )),
    }
}
