//! The loop of a session: passes one input at a time to the placer, and sends the placed jobs.

use std::future::{pending, ready};

use futures::TryStreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_policy::work::HeldWork;
use warmq_store::{JobIds, RunnerEvent, RunnerEvents};
use warmq_types::ids::JobId;

use super::Dispatcher;
use super::lanes::{JobDelivery, LaneLimits, LaneOutput, Lanes};
use super::sending::{Destination, PlacedJob, RunnerGone};
use super::session::{Session, TICK_INTERVAL, ticks};
use crate::session_error::SessionError;

/// Decisions that are carried out at once although further inputs are ready.
const MAX_PENDING: usize = 64;

/// Decides where each job goes.
pub(super) trait Placer {
    const LIMITS: LaneLimits;

    /// Handles a delivered job.
    async fn arrived(&mut self, delivered: JobDelivery) -> Result<(), SessionError>;

    /// Returns the jobs that were placed and must be sent.
    fn placed(&mut self) -> &mut Vec<PlacedJob>;

    /// Handles a send whose runner's queue is gone.
    async fn runner_gone(&mut self, gone: RunnerGone) -> Result<(), SessionError> {
        self.arrived(gone.delivered).await
    }

    /// Handles an event of a runner.
    async fn runner_event(&mut self, _: RunnerEvent) -> Result<(), SessionError> {
        Ok(())
    }

    /// Handles the cancellation of a job that it may hold.
    async fn cancelled(&mut self, _: JobId) -> Result<(), SessionError> {
        Ok(())
    }

    /// Returns when [`Placer::due`] must be called.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Handles a passed deadline.
    async fn due(&mut self) -> Result<(), SessionError> {
        Ok(())
    }

    /// Runs every second.
    async fn tick(&mut self) -> Result<(), SessionError> {
        Ok(())
    }

    /// Returns the number of decisions that [`Placer::execute`] must carry out.
    fn pending(&self) -> usize {
        0
    }

    /// Carries out the decisions so far. Called once no further input is ready, so that the
    /// decisions on a burst share their round trips.
    async fn execute(&mut self) -> Result<(), SessionError> {
        Ok(())
    }

    /// Returns the work in the jobs that it holds.
    fn held_work(&self) -> HeldWork;

    /// Returns whether it holds the job.
    fn holds(&self, _: JobId) -> bool {
        false
    }
}

/// What Redis publishes about an app.
pub(super) struct LaneSubscriptions {
    runner_events: RunnerEvents,
    cancellations: JobIds,
}

enum Published {
    Runner(RunnerEvent),
    Cancelled(JobId),
}

impl LaneSubscriptions {
    pub(super) async fn open(dispatcher: &Dispatcher) -> Result<Self, SessionError> {
        let Dispatcher { shared, app, .. } = dispatcher;
        Ok(Self {
            runner_events: shared.store.runner_feed().events(app).await?,
            cancellations: shared.store.cancellation().subscribe(app).await?,
        })
    }

    /// Waits for the next message. Cancel-safe.
    async fn next(&mut self) -> Result<Published, SessionError> {
        let published = tokio::select! {
            biased;
            event = self.runner_events.next() => event.map(Published::Runner),
            job = self.cancellations.next() => job.map(Published::Cancelled),
        };
        published.ok_or(SessionError::SubscriptionEnded)
    }
}

/// A session with its inputs.
pub(super) struct DispatchLoop<'a> {
    pub(super) dispatcher: &'a Dispatcher,
    pub(super) session: &'a Session,
    /// `None` while Redis is unreachable.
    pub(super) subscriptions: Option<LaneSubscriptions>,
}

impl DispatchLoop<'_> {
    /// Dispatches until `stop`.
    pub(super) async fn run<P: Placer>(
        self,
        placer: &mut P,
        stop: &CancellationToken,
    ) -> Result<(), SessionError> {
        let Self {
            dispatcher,
            session,
            mut subscriptions,
        } = self;
        let (sender, reports) = (dispatcher.sender(), &session.reports);
        let mut lanes = Lanes::consume(dispatcher, session, P::LIMITS).await?;
        let mut sends = FuturesUnordered::new();
        let mut tick = ticks(TICK_INTERVAL);
        loop {
            let (deadline, unconfirmed) = (placer.next_deadline(), sends.len());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = ready(()), if placer.pending() >= MAX_PENDING => placer.execute().await?,
                sent = sends.try_next(), if unconfirmed > 0 => {
                    if let Some(gone) = sent?.flatten() {
                        placer.runner_gone(gone).await?;
                        reports.wake();
                    }
                }
                published = next_of(subscriptions.as_mut()) => match published? {
                    Published::Runner(event) => {
                        dispatcher.metrics.runner_event(&event);
                        placer.runner_event(event).await?;
                        reports.wake();
                    }
                    Published::Cancelled(job) => match lanes.take_low(job) {
                        Some(delivered) => placer.placed().push(PlacedJob {
                            delivered,
                            to: Destination::Discard,
                        }),
                        None => placer.cancelled(job).await?,
                    },
                },
                _ = tick.tick() => {
                    let low = lanes.low_waiting();
                    let mut work = placer.held_work();
                    low.iter().for_each(|_| work.add_job());
                    reports.report_held(work, |job| low.contains(&job) || placer.holds(job));
                    placer.tick().await?;
                    // Redis lists them.
                    if subscriptions.is_some() {
                        lanes.delete_ended_overflows().await?;
                    }
                }
                () = until(deadline) => {
                    placer.due().await?;
                    reports.wake();
                }
                input = lanes.next(unconfirmed) => match lanes.read(input).await? {
                    Some(LaneOutput::Arrived(delivered)) => {
                        placer.arrived(delivered).await?;
                        reports.wake();
                    }
                    Some(LaneOutput::Moved(job)) => placer.placed().push(job),
                    None => {}
                },
                // No input is ready.
                () = ready(()), if placer.pending() > 0 => placer.execute().await?,
            }
            sends.extend(placer.placed().drain(..).map(|job| sender.send(job)));
        }
        // Complete the sends in progress; held jobs return to their lanes with the channels.
        while sends.try_next().await?.is_some() {}
        Ok(())
    }
}

async fn next_of(subscriptions: Option<&mut LaneSubscriptions>) -> Result<Published, SessionError> {
    match subscriptions {
        Some(subscriptions) => subscriptions.next().await,
        None => pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}
