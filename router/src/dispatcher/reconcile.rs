//! Republishes jobs with lost messages, publishes the outbox, and deletes the queues of ended
//! runners: every 5 s while the app is active. Independent of the placement.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use warmq_broker::{Message, Publisher, Topology};
use warmq_store::{QueueDepths, QueuedCursor, Store};
use warmq_types::ids::{AppId, Epoch, JobId, RunnerId};
use warmq_types::job::Priority;
use warmq_types::message::{JobMessage, Versioned};

use super::Dispatcher;
use super::lane_progress::LaneProgress;
use super::maintenance::{IDLE_INTERVAL, JOB_BATCH, MAX_CONCURRENT_JOBS};
use super::session::Session;
use crate::finalizer::Finalizer;
use crate::session_error::SessionError;

const RECONCILE_INTERVAL: Duration = Duration::from_secs(5);

/// Republished jobs in memory at once, each with its input.
const MAX_CONCURRENT_REPUBLISHES: usize = 4;

/// Age at which the leader announces a stored end: until then its own component is expected to.
const OUTBOX_GRACE: Duration = Duration::from_secs(10);

/// Delay before an ended runner's queue is deleted, in units of `reconcile_after`.
const QUEUE_DELETION_GRACE: u32 = 2;

/// Runs until a server fails.
pub(super) async fn run(dispatcher: &Dispatcher, session: &Session) -> Result<(), SessionError> {
    let shared = &dispatcher.shared;
    let reconciler = Reconciler {
        app: &dispatcher.app,
        store: &shared.store,
        topology: &shared.topology,
        publisher: &shared.publisher,
        finalizer: &shared.finalizer,
        reconcile_after: shared.reconcile_after,
        lane_progress: &dispatcher.lane_progress,
        session,
    };
    reconciler.run().await
}

#[derive(Clone, Copy)]
struct Reconciler<'a> {
    app: &'a AppId,
    store: &'a Store,
    topology: &'a Topology,
    publisher: &'a Publisher,
    finalizer: &'a Finalizer,
    reconcile_after: Duration,
    lane_progress: &'a LaneProgress,
    session: &'a Session,
}

impl Reconciler<'_> {
    async fn run(self) -> Result<(), SessionError> {
        let mut activity = self.session.reports.activity();
        let quiet = IDLE_INTERVAL.min(self.reconcile_after);
        let mut cursor = QueuedCursor::default();
        loop {
            tokio::time::sleep(RECONCILE_INTERVAL).await;
            // Without activity, only queues of ended runners remain to be deleted.
            let rest = quiet.saturating_sub(RECONCILE_INTERVAL);
            let _ = tokio::time::timeout(rest, activity.changed()).await;
            activity.mark_unchanged();
            (self.finalizer)
                .drain_outbox(self.app, OUTBOX_GRACE)
                .await?;
            self.reconcile(&mut cursor).await?;
            self.delete_ended_queues().await?;
        }
    }

    /// Republishes jobs whose messages are lost: no activity for `reconcile_after`, and no queue
    /// can contain them. A duplicate is harmless, since a running or ended job is not started.
    async fn reconcile(self, cursor: &mut QueuedCursor) -> Result<(), SessionError> {
        let quiet = self.reconcile_after;
        let silent = (self.store.maintenance())
            .possibly_lost(self.app, quiet, JOB_BATCH, cursor)
            .await?;
        if silent.is_empty() {
            return Ok(());
        }
        let silent = self.session.reports.not_held(silent).await;
        let deferred = self.topology.deferred_results_queue();
        // Deferred results wait to be stored: some of these jobs may have ended.
        if silent.is_empty() || self.depth(&deferred).await? > 0 {
            return Ok(());
        }
        let depths = self.depths().await?;
        let lost = stream::iter(silent).map(|id| self.is_lost(id, &depths));
        let lost: Vec<Option<JobId>> = lost
            .buffer_unordered(MAX_CONCURRENT_JOBS)
            .try_collect()
            .await?;
        let lost = stream::iter(lost.into_iter().flatten()).map(Ok);
        lost.try_for_each_concurrent(MAX_CONCURRENT_REPUBLISHES, |id| self.republish(id))
            .await
    }

    /// Returns the job if its message must be republished.
    async fn is_lost(self, id: JobId, depths: &QueueDepths) -> Result<Option<JobId>, SessionError> {
        let is_lost = (self.store.maintenance())
            .reconcile(self.app, id, self.reconcile_after, depths)
            .await;
        match is_lost {
            Err(error) if error.is_damage() => {
                tracing::error!(
                    job.id = %id, %error,
                    "a job's message may be lost, and its record cannot be used"
                );
                Ok(None)
            }
            is_lost => Ok(is_lost?.then_some(id)),
        }
    }

    /// Returns which messages the queues can still contain.
    async fn depths(self) -> Result<QueueDepths, SessionError> {
        // Read before the depths: a message published in between does not count as passed.
        let now_ms = self.store.now_ms().await?;
        let shared_queue = self.topology.shared_queue(self.app);
        Ok(QueueDepths {
            normal_passed_ms: self.passed_ms(Priority::Normal, now_ms).await?,
            low_passed_ms: self.passed_ms(Priority::Low, now_ms).await?,
            shared_empty: self.lane_progress.shared_is_quiet(self.reconcile_after)
                && self.depth(&shared_queue).await? == 0,
            // One that is empty ends within seconds.
            overflows: self.lane_progress.overflows(),
        })
    }

    /// Returns the time, Unix ms, before which all messages of a lane have passed: `now_ms` if it
    /// is empty.
    async fn passed_ms(self, lane: Priority, now_ms: u64) -> Result<u64, SessionError> {
        let queue = self.topology.lane_queue(self.app, lane);
        Ok(match self.depth(&queue).await? {
            0 => now_ms,
            _ => self.lane_progress.until_ms(lane),
        })
    }

    async fn depth(self, queue: &str) -> lapin::Result<u32> {
        Topology::depth(&self.session.channel, queue).await
    }

    async fn republish(self, id: JobId) -> Result<(), SessionError> {
        let Self { app, store, .. } = self;
        let record = match store.jobs().job_of(app, id).await {
            Err(error) if error.is_damage() => {
                tracing::error!(
                    job.id = %id, %error,
                    "a job's message is lost, and its record cannot be read"
                );
                return Ok(());
            }
            record => record?,
        };
        let Some(record) = record else {
            return Ok(());
        };
        tracing::warn!(
            job.id = %id, state = %record.state,
            "republished a job that showed no activity for `reconcile_after`"
        );
        let key = self.topology.lane_key(app, record.spec.priority);
        let job =
            JobMessage::new(record.spec).with(store.attempts().failure_history(app, id).await?);
        // Encoding cannot fail: string keys, no I/O.
        let body = job.encode().unwrap_or_default();
        let message = Message {
            message_id: Some(id.to_string()),
            ..Message::new(body)
        }
        .returned();
        let exchange = self.topology.dispatch_exchange();
        Ok(self.publisher.publish(&exchange, &key, &message).await?)
    }

    /// Deletes the queues of runners that ended long ago.
    async fn delete_ended_queues(self) -> Result<(), SessionError> {
        let incarnations = self.store.maintenance();
        let ago = self.reconcile_after * QUEUE_DELETION_GRACE;
        for (runner, epoch) in incarnations.ended_incarnations(self.app, ago).await? {
            if self.delete_queue(&runner, epoch).await? {
                incarnations
                    .forget_incarnation(self.app, &runner, epoch)
                    .await?;
            }
        }
        Ok(())
    }

    /// Returns false if the queue has a consumer or a message.
    async fn delete_queue(self, runner: &RunnerId, epoch: Epoch) -> Result<bool, SessionError> {
        let connection = &self.session.connection;
        // The broker closes the channel of a refused deletion.
        let channel = connection.create_channel().await?;
        match self.topology.delete_runner(&channel, runner, epoch).await {
            Ok(()) => {
                channel.close(200, "done".into()).await?;
                Ok(true)
            }
            Err(error) if connection.status().connected() => {
                tracing::debug!(
                    %runner, %error,
                    "the queue of a runner that ended is still in use"
                );
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}
