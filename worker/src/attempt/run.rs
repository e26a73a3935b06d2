//! Runs a job that is ours, and stores its end.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_common::amqp::RetryTier;
use warmq_common::ids::Fence;
use warmq_common::job::{JobError, JobSpec, Timings};
use warmq_common::retry::{self, until_success};
use warmq_common::store::{Finish, GivenBack, Lease, Outcome, Ran, RunnerReport};

use super::hands::give_back;
use crate::cancellations::Watch;
use crate::consumer::{self, Source, Taken};
use crate::engine::Failure;
use crate::engine::thread::{Crashed, Done};
use crate::incarnation::Incarnation;
use crate::lease::{Begun, LeaseKeeper};
use crate::report::{self, ProgressReporter};
use crate::runner::{End, Next, Runner, at};
use crate::shared::Shared;

/// The fence of a job that is no longer ours: no attempt has it, so nothing is stored but what the runner holds.
const NOT_OURS: Fence = Fence(0);

impl Runner {
    /// Runs a job. `lease`: none if Redis is away.
    pub(super) async fn run_job(
        &mut self,
        incarnation: &mut Incarnation,
        taken: Taken,
        job: JobSpec,
        lease: Option<Lease>,
        mut watch: Watch,
    ) -> Next {
        let shared = self.shared.clone();
        let hint = job.hint.as_ref().map_or("", |hint| hint.as_str());
        tracing::info!(
            runner = %self.id, job.id = %job.id, job.hint = hint, attempt = lease.map(|lease| lease.attempt), from = ?taken.source,
            "a job begins"
        );

        // Cancelled once the job is no longer ours; the engine's token also when the time to drain is over.
        let lost = CancellationToken::new();
        let cancel = lost.child_token();
        let begun = Begun {
            runner: self.id.clone(),
            epoch: incarnation.epoch,
            job: job.clone(),
            since: Instant::now(),
        };
        let keeper = LeaseKeeper::start(&shared, &begun, lease, lost.clone());
        let progress =
            ProgressReporter::start(shared.store.clone(), &job, keeper.lease(), lost.clone());

        let run_timeout = job.run_timeout_ms.map(Duration::from_millis);
        let run_until = run_timeout.and_then(|timeout| begun.since.checked_add(timeout));
        let mut timed_out = None;
        let mut message = Some(taken);
        let mut connected = true;
        let done = {
            let mut run = pin!(
                self.engine
                    .run(job.clone(), progress.sender(), cancel.clone())
            );
            let too_long = begun.since + shared.pace.unacknowledged;
            loop {
                tokio::select! {
                    biased;
                    done = &mut run => break done,
                    () = shared.give_up.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
                    () = at(run_until), if !cancel.is_cancelled() => {
                        timed_out = run_timeout;
                        cancel.cancel();
                    }
                    () = watch.cancelled(), if !lost.is_cancelled() => lost.cancel(),
                    own = incarnation.consumers.next_own(), if connected => match own {
                        // A claim that had lapsed when its job came.
                        Ok(late) => late.give_back().await,
                        // The job goes on: its result counts, whatever becomes of its message.
                        Err(_) => connected = false,
                    },
                    () = tokio::time::sleep_until(too_long), if connected && message.is_some() => {
                        if let Some(taken) = message.take() {
                            shared.park_then_ack(&job, RetryTier::M10, None, taken).await;
                        }
                    }
                }
            }
        };

        let crashed = done.is_err();
        let (mut outcome, timings, report) = conclude(&shared, &job, done, &progress).await;
        drop(progress);
        // Without lease no end can be stored, so it is asked for until Redis is back.
        let known = *keeper.lease().borrow();
        let lease = match known {
            None if !lost.is_cancelled() => {
                let recorded = until_success("recording a job's start", &shared.give_up, || {
                    begun.record(&shared)
                });
                match recorded.await {
                    Some(lease) => lease,
                    None => {
                        stopped_without_redis(&job);
                        give_back(message).await;
                        return Next::Idle;
                    }
                }
            }
            known => known,
        };
        if outcome == Outcome::Cancelled && !lost.is_cancelled() && timed_out.is_none() {
            drop(keeper);
            shared.hand_back(&job, lease, message).await;
            return Next::Idle;
        }
        if let (Outcome::Cancelled, Some(timeout), Some(lease)) = (&outcome, timed_out, lease) {
            match retry::before_next(lease.attempt, job.max_attempts) {
                Some(delay) => {
                    let tier = RetryTier::at_least(delay);
                    message = self.try_later(&job, lease, tier, message).await;
                }
                None => {
                    outcome = Outcome::Failed(JobError::timeout(format!(
                        "the attempt took longer than the {} s that the app's run_timeout allows",
                        timeout.as_secs_f64()
                    )));
                }
            }
        }

        let finish = Finish {
            app: &job.app,
            job: job.id,
            runner: &self.id,
            epoch: incarnation.epoch,
            fence: lease.map_or(NOT_OURS, |lease| lease.fence),
            outcome: &outcome,
            timings,
            reported: &self.report.hints,
            report: &report,
            ran: (job.hint.clone())
                .filter(|_| matches!(outcome, Outcome::Succeeded(_)))
                .map(|hint| Ran { hint, timings }),
            idle: connected && !crashed && !shared.stop.is_cancelled(),
        };
        let finished = until_success("storing a result", &shared.give_up, || {
            shared.store.finish(&finish)
        });
        let finished = finished.await;
        drop(keeper);
        match finished {
            Some(accepted) => {
                self.report = report;
                log_end(self, &job, &outcome, timings, accepted);
                let state = accepted.then(|| outcome.state());
                shared.settle(&job, state, message).await;
            }
            None => {
                stopped_without_redis(&job);
                give_back(message).await;
            }
        }
        if crashed {
            self.rebuild_engine().await;
        }
        if connected {
            Next::Idle
        } else {
            Next::End(End::Lost(consumer::Lost::Ended(Source::Own)))
        }
    }

    /// An attempt took too long: the job is queued again, and comes back after the tier's time. Returns the message if it
    /// is not acknowledged.
    async fn try_later(
        &self,
        job: &JobSpec,
        lease: Lease,
        tier: RetryTier,
        message: Option<Taken>,
    ) -> Option<Taken> {
        let shared = &self.shared;
        let requeued = until_success("giving a job back", &shared.give_up, || {
            (shared.store).requeue(&job.app, job.id, lease.fence, GivenBack::Counted)
        });
        if requeued.await != Some(true) {
            return message;
        }
        tracing::warn!(
            runner = %self.id, job.id = %job.id, attempt = lease.attempt, retry_in_ms = tier.delay().as_millis() as u64,
            "an attempt took too long; the job will be tried again"
        );
        // Without a message, a copy of it is parked already.
        if let Some(taken) = message {
            let runner = Some(self.id.clone());
            shared.park_then_ack(job, tier, runner, taken).await;
        }
        None
    }
}

/// Turns what the engine said into the job's end, with its files stored.
async fn conclude(
    shared: &Shared,
    job: &JobSpec,
    done: Result<Done, Crashed>,
    progress: &ProgressReporter,
) -> (Outcome, Timings, RunnerReport) {
    let Done { ended, report } = match done {
        Ok(done) => done,
        Err(crashed) => {
            tracing::error!(job.id = %job.id, reason = crashed.reason, "the engine crashed under a job");
            let error = JobError::internal("runner_server_error", crashed.to_string());
            let nothing = (Timings::default(), RunnerReport::default());
            return (Outcome::Failed(error), nothing.0, nothing.1);
        }
    };
    let outcome = match ended.result {
        Ok(produced) => {
            if !produced.files.is_empty() {
                progress.storing();
            }
            match report::store_files(&shared.artifacts, job, produced).await {
                Ok(output) => Outcome::Succeeded(output),
                Err(error) => Outcome::Failed(error),
            }
        }
        Err(Failure::Job(error)) => Outcome::Failed(error),
        Err(Failure::Cancelled) => Outcome::Cancelled,
    };
    (outcome, ended.timings, report)
}

fn stopped_without_redis(job: &JobSpec) {
    tracing::error!(job.id = %job.id, "stopping without Redis; the job will run again elsewhere");
}

fn log_end(runner: &Runner, job: &JobSpec, outcome: &Outcome, timings: Timings, accepted: bool) {
    let Timings {
        warm,
        load_ms,
        run_ms,
    } = timings;
    let hint = job.hint.as_ref().map_or("", |hint| hint.as_str());
    let (runner, id) = (&runner.id, job.id);
    match outcome {
        Outcome::Cancelled if !accepted => tracing::info!(
            %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms,
            "a job was stopped: it was cancelled, or is no longer this runner's"
        ),
        _ if !accepted => tracing::warn!(
            %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms,
            "a job's result was dropped: the job is no longer this runner's"
        ),
        Outcome::Failed(error) if error.status >= 500 => tracing::warn!(
            %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms, error = error.message,
            "a job failed by this runner's fault"
        ),
        Outcome::Failed(error) => tracing::info!(
            %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms, error = error.message,
            "a job failed by its own fault"
        ),
        Outcome::Succeeded(_) | Outcome::Cancelled => tracing::info!(
            %runner, job.id = %id, job.hint = hint, warm, load_ms, run_ms,
            "a job {}", outcome.state()
        ),
    }
}
