//! What a runner does with a delivery: start the job, run it, store its end, and only then acknowledge.
//!
//! Every way through ends in one of two: the job is in safe hands (its end is stored and announced, a confirmed copy is
//! elsewhere, or somebody else runs it) and the message is acknowledged; or the message goes back.

use std::pin::pin;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_common::amqp::{DeadLetter, RetryTier};
use warmq_common::job::{JobError, JobSpec, Timings};
use warmq_common::message::{JobMessage, Versioned};
use warmq_common::retry::{self, until_known, until_success};
use warmq_common::state::JobState;
use warmq_common::store::{Finish, Lease, Outcome, Ran, RunnerReport, Start, Unavailable};

use crate::cancellations::Watch;
use crate::consumer::{Source, Taken};
use crate::engine::Failure;
use crate::engine::thread::{Crashed, Done};
use crate::incarnation::Incarnation;
use crate::lease::LeaseKeeper;
use crate::report::{self, ProgressReporter};
use crate::runner::{End, Next, Runner, at};
use crate::shared::Shared;

impl Runner {
    /// Deals with one delivery.
    pub(crate) async fn attend(&mut self, incarnation: &mut Incarnation, taken: Taken) -> Next {
        let job = match self.read(&taken) {
            Ok(job) => job,
            Err(reason) => {
                self.shared.bury(taken, &reason).await;
                return Next::Idle;
            }
        };
        // Before the job starts: a cancellation right after that is heard as well.
        let watch = self.shared.cancellations.watch(job.id);
        loop {
            let Shared {
                store,
                config,
                pace,
                stop,
                ..
            } = &self.shared;
            let claimed = taken.source == Source::Own;
            // Its answer is waited for: a job that was started and is not run would wait for its lease to lapse.
            let start = until_known("starting a job", stop, || {
                let lease_ms = pace.lease_ms();
                store.start(
                    &config.app,
                    job.id,
                    &self.id,
                    incarnation.epoch,
                    lease_ms,
                    claimed,
                )
            });
            match start.await {
                Some(Start::Started(lease)) => {
                    return self.run_job(incarnation, taken, job, lease, watch).await;
                }
                Some(Start::Claimed) => {
                    taken.give_back().await;
                    return Next::Expect;
                }
                Some(Start::Stale) => {
                    taken.give_back().await;
                    return Next::End(End::Unregistered);
                }
                Some(Start::Unavailable(Unavailable::Missing)) => {
                    tracing::warn!(job.id = %job.id, "Redis has no record of a job; recording it again");
                    let created =
                        until_success("recording a job again", stop, || store.create(&job));
                    if created.await.is_none() {
                        taken.give_back().await;
                        return Next::Idle;
                    }
                }
                Some(Start::Unavailable(Unavailable::Terminal(state))) => {
                    // Whoever ended it may have died before saying so.
                    self.shared
                        .announce_then_ack(&job, state, Some(taken))
                        .await;
                    return Next::Idle;
                }
                Some(Start::Unavailable(Unavailable::Leased { remaining_ms })) => {
                    let tier = RetryTier::at_most(Duration::from_millis(remaining_ms));
                    self.shared.park_then_ack(&job, tier, taken).await;
                    return Next::Idle;
                }
                Some(Start::Unavailable(Unavailable::Lost)) => {
                    let lost = until_success("noting a lost runner", stop, || {
                        store.lose(&config.app, job.id)
                    });
                    let delay = lost.await.flatten().map_or(Duration::ZERO, |attempt| {
                        retry::after_loss(attempt, job.max_attempts)
                    });
                    if !delay.is_zero() {
                        let tier = RetryTier::at_least(delay);
                        self.shared.park_then_ack(&job, tier, taken).await;
                        return Next::Idle;
                    }
                }
                // To quarantine a job is the dispatcher's business.
                Some(Start::Unavailable(Unavailable::Spent)) => {
                    let exchange = self.shared.topology.dispatch_exchange();
                    self.shared.copy_then_ack(&job, &exchange, taken).await;
                    return Next::Idle;
                }
                None => {
                    taken.give_back().await;
                    return Next::Idle;
                }
            }
        }
    }

    /// The job in a message, or why there is none.
    fn read(&self, taken: &Taken) -> Result<JobSpec, String> {
        let job = JobMessage::decode(taken.body())
            .map_err(|error| error.to_string())?
            .job;
        let app = &self.shared.config.app;
        if job.app == *app {
            Ok(job)
        } else {
            Err(format!("a job of {} in a queue of {app}", job.app))
        }
    }

    /// Runs a job that is ours.
    async fn run_job(
        &mut self,
        incarnation: &mut Incarnation,
        taken: Taken,
        job: JobSpec,
        lease: Lease,
        mut watch: Watch,
    ) -> Next {
        let shared = self.shared.clone();
        let hint = job.hint.as_ref().map_or("", |hint| hint.as_str());
        tracing::info!(
            runner = %self.id, job.id = %job.id, job.hint = hint, attempt = lease.attempt, from = ?taken.source,
            "a job begins"
        );

        // Cancelled once the job is no longer ours; the engine's token also when the time to drain is over.
        let lost = CancellationToken::new();
        let cancel = lost.child_token();
        let keeper = LeaseKeeper::start(
            &shared,
            &self.id,
            incarnation.epoch,
            job.id,
            lease.fence,
            lost.clone(),
        );
        let progress = ProgressReporter::start(
            shared.store.clone(),
            job.app.clone(),
            job.id,
            lease.fence,
            lost.clone(),
        );

        let run_timeout = job.run_timeout_ms.map(Duration::from_millis);
        let run_until = run_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut timed_out = false;
        let mut message = Some(taken);
        let mut connected = true;
        let done = {
            let mut run = pin!(
                self.engine
                    .run(job.clone(), progress.sender(), cancel.clone())
            );
            let too_long = Instant::now() + shared.pace.unacknowledged;
            loop {
                tokio::select! {
                    biased;
                    done = &mut run => break done,
                    () = shared.give_up.cancelled(), if !cancel.is_cancelled() => cancel.cancel(),
                    () = at(run_until), if !cancel.is_cancelled() => {
                        timed_out = true;
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
                            shared.park_then_ack(&job, RetryTier::M10, taken).await;
                        }
                    }
                }
            }
        };

        let crashed = done.is_err();
        let (mut outcome, timings, report) = conclude(&shared, &job, done, &progress).await;
        drop(progress);
        if outcome == Outcome::Cancelled
            && timed_out
            && let Some(timeout) = run_timeout
        {
            outcome = Outcome::Failed(JobError::timeout(format!(
                "the attempt took longer than the {} s that the app's run_timeout allows",
                timeout.as_secs_f64()
            )));
        }
        if outcome == Outcome::Cancelled && !lost.is_cancelled() {
            drop(keeper);
            shared.hand_back(&job, lease, message).await;
            return Next::Idle;
        }

        let finish = Finish {
            app: &job.app,
            job: job.id,
            runner: &self.id,
            epoch: incarnation.epoch,
            fence: lease.fence,
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
                tracing::error!(job.id = %job.id, "stopping without Redis; the job will run again elsewhere");
                give_back(message).await;
            }
        }
        if crashed {
            self.rebuild_engine().await;
        }
        if connected {
            Next::Idle
        } else {
            Next::End(End::Lost(crate::consumer::Lost::Ended(Source::Own)))
        }
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

impl Shared {
    /// After the end of an attempt: says what became of the job and acknowledges. `state`: what this attempt made of it;
    /// `None` when its result was refused.
    async fn settle(&self, job: &JobSpec, state: Option<JobState>, message: Option<Taken>) {
        if let Some(state) = state {
            return self.announce_then_ack(job, state, message).await;
        }
        match self.store.job_of(&job.app, job.id).await {
            // Perhaps our own result, taken by a call whose answer was lost.
            Ok(Some(record)) if record.state.is_terminal() => {
                self.announce_then_ack(job, record.state, message).await;
            }
            // Somebody else has it, with a message of its own.
            Ok(Some(_)) => ack(message).await,
            // Redis lost it; this message may be all that is left of it.
            Ok(None) | Err(_) => give_back(message).await,
        }
    }

    async fn announce_then_ack(&self, job: &JobSpec, state: JobState, message: Option<Taken>) {
        let announced = until_success("announcing a job's end", &self.give_up, || {
            report::announce(self, job, state)
        });
        match announced.await {
            Some(()) => ack(message).await,
            None => give_back(message).await,
        }
    }

    /// Puts a copy of the job away for the tier's time, then acknowledges.
    async fn park_then_ack(&self, job: &JobSpec, tier: RetryTier, taken: Taken) {
        let exchange = self.topology.retry_exchange(tier);
        self.copy_then_ack(job, &exchange, taken).await;
    }

    /// Puts a copy of the job into an exchange that leads back to the dispatcher, then acknowledges.
    async fn copy_then_ack(&self, job: &JobSpec, exchange: &str, taken: Taken) {
        let key = self.topology.lane_key(&job.app, job.priority);
        let copy = report::message(job.id, &JobMessage::new(job.clone())).returned();
        let copied = until_success("sending a job back", &self.stop, || {
            self.publisher.publish(exchange, &key, &copy)
        });
        match copied.await {
            Some(()) => taken.ack().await,
            None => taken.give_back().await,
        }
    }

    /// Puts what is no job of ours into the app's dead-letter queue, with the reason.
    async fn bury(&self, taken: Taken, reason: &str) {
        tracing::warn!(
            reason,
            "a message can not be read; it goes to the dead-letter queue"
        );
        let queue = self.topology.dead_queue(&self.config.app);
        let letter = DeadLetter::new(taken.body().to_vec(), reason).message();
        let buried = until_success("writing a dead letter", &self.stop, || {
            self.publisher.publish("", &queue, &letter)
        });
        match buried.await {
            Some(()) => taken.ack().await,
            None => taken.give_back().await,
        }
    }

    /// The worker stops before the job's end: the job is queued again at once, and this attempt does not count.
    async fn hand_back(&self, job: &JobSpec, lease: Lease, message: Option<Taken>) {
        let handed = async {
            let ours = self.store.requeue(&job.app, job.id, lease.fence).await;
            if !ours.map_err(|error| error.to_string())? {
                return Err("it is no longer this runner's".to_owned());
            }
            let copy = report::message(job.id, &JobMessage::new(job.clone())).returned();
            let key = self.topology.lane_key(&job.app, job.priority);
            self.publisher
                .publish(&self.topology.dispatch_exchange(), &key, &copy)
                .await
                .map_err(|error| error.to_string())
        };
        match handed.await {
            Ok(()) => {
                tracing::info!(job.id = %job.id, "stopping: the job was given back unfinished");
                ack(message).await;
            }
            Err(reason) => {
                tracing::warn!(job.id = %job.id, reason, "stopping: the job's message goes back");
                give_back(message).await;
            }
        }
    }
}

async fn ack(message: Option<Taken>) {
    if let Some(taken) = message {
        taken.ack().await;
    }
}

async fn give_back(message: Option<Taken>) {
    if let Some(taken) = message {
        taken.give_back().await;
    }
}
