//! Runs a job that is ours, and stores its end.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_common::amqp::RetryTier;
use warmq_common::job::{JobError, JobSpec, Timings};
use warmq_common::retry::until_success;
use warmq_common::store::{GivenBack, Lease, Outcome, RunnerReport};

use super::end::{Attempt, too_long};
use super::hands::{ack, give_back};
use crate::cancellations::Watch;
use crate::consumer::{self, Source, Taken};
use crate::engine::Failure;
use crate::engine::thread::{Crashed, Done};
use crate::incarnation::Incarnation;
use crate::lease::{Begun, LeaseKeeper};
use crate::report::{self, ProgressReporter};
use crate::runner::{End, Next, Runner, at};
use crate::shared::Shared;
use crate::stored_input;

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
            let mut run = pin!(async {
                let fields = &self.engine.description.files;
                let prepared = async {
                    let whole = stored_input::load(&shared.artifacts, &job, &cancel).await?;
                    let files = shared
                        .places
                        .get(&whole, fields, &progress, &cancel)
                        .await?;
                    Ok((whole, files))
                };
                match prepared.await {
                    Ok((whole, files)) => {
                        let (progress, cancel) = (progress.sender(), cancel.clone());
                        self.engine.run(whole, files, progress, cancel).await
                    }
                    Err(failure) => Ok(Done::not_run(failure, self.report.clone())),
                }
            });
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
        let is_runners_fault = matches!(
            done.as_ref().map(|done| &done.ended.result),
            Ok(Err(Failure::Runner(_)))
        );
        let (outcome, timings, report) = conclude(&shared, &job, done, &progress).await;
        drop(progress);
        let has_lease = keeper.lease();
        let mut attempt = Attempt {
            begun,
            lease: *has_lease.borrow(),
            outcome,
            timings,
        };
        let mut is_ours = !lost.is_cancelled();
        if attempt.outcome == Outcome::Cancelled && is_ours && timed_out.is_none() {
            drop(keeper);
            shared.hand_back(&job, attempt.lease, message).await;
            return Next::Idle;
        }
        if let (Outcome::Cancelled, true, Some(timeout)) = (&attempt.outcome, is_ours, timed_out) {
            match attempt.delay_before_next() {
                Some(delay) => {
                    let reason = "it took too long";
                    message = self.try_later(&attempt, reason, delay, message).await;
                    is_ours = false;
                }
                None => attempt.outcome = Outcome::Failed(too_long(timeout)),
            }
        }
        if is_runners_fault
            && is_ours
            && let Some(delay) = attempt.delay_before_next()
        {
            let reason = "this runner can not do it";
            message = self.try_later(&attempt, reason, delay, message).await;
            is_ours = false;
        }

        let idle = connected && !crashed && !shared.stop.is_cancelled();
        let stored = until_success("storing a result", &shared.give_up, || {
            attempt.store(&shared, is_ours, &self.known, &report, idle)
        });
        let stored = self.patience.with(stored).await;
        drop(keeper);
        self.report = report;
        match stored {
            Some(Some(accepted)) => {
                self.known.clone_from(&self.report.hints);
                attempt.log(accepted);
                let state = accepted.then(|| attempt.outcome.state());
                shared.settle(&job, state, message).await;
            }
            Some(None) => {
                tracing::error!(job.id = %job.id, "stopping without Redis; the job will run again elsewhere");
                give_back(message).await;
            }
            None if is_ours => shared.send_end_then_ack(attempt, message).await,
            // Its end is known, or somebody else has it.
            None => ack(message).await,
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

    /// An attempt came to nothing: the job is queued again, and comes back after the delay. Returns the message if it is not
    /// acknowledged.
    async fn try_later(
        &self,
        attempt: &Attempt,
        reason: &str,
        delay: Duration,
        message: Option<Taken>,
    ) -> Option<Taken> {
        let (shared, job, tier) = (&self.shared, &attempt.begun.job, RetryTier::at_least(delay));
        if let Some(Lease { fence, .. }) = attempt.lease {
            let requeued = until_success("giving a job back", &shared.give_up, || {
                (shared.store).requeue(&job.app, job.id, fence, GivenBack::Counted)
            });
            if requeued.await != Some(true) {
                return message;
            }
        }
        tracing::warn!(
            runner = %self.id, job.id = %job.id, reason, retry_in_ms = tier.delay().as_millis() as u64,
            "an attempt came to nothing; the job will be tried again"
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
        Err(Failure::Job(error) | Failure::Runner(error)) => Outcome::Failed(error),
        Err(Failure::Cancelled) => Outcome::Cancelled,
    };
    (outcome, ended.timings, report)
}
