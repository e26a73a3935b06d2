//! What the leader of an app does beside dispatching, whatever the policy: it removes lost runners and shows numbers every
//! second, and now and then looks for jobs whose message is lost and for queues that nobody will read again.

use std::time::Duration;

use tokio::time::Instant;
use warmq_common::amqp::{Message, Topology};
use warmq_common::ids::{Epoch, JobId, RunnerId};
use warmq_common::job::Priority;
use warmq_common::message::{JobMessage, Versioned};
use warmq_common::store::Depths;

use super::Dispatcher;
use super::session::Session;
use crate::broken::Broken;

/// How often lost messages and left queues are looked for.
const ROUND: Duration = Duration::from_secs(5);

/// Jobs looked at in one round.
const JOBS: isize = 1000;

/// How long an end may be stored and not announced, before the leader announces it: others are about to.
const UNTOLD: Duration = Duration::from_secs(10);

/// How long after a runner's end its queue is deleted, in units of the time after which messages are missed.
const GRAVE: u32 = 2;

/// How long a new session waits before it removes lapsed runners: after an outage of Redis all have lapsed, and each is
/// heard of within a heartbeat (5 s).
const GRACE: Duration = Duration::from_secs(6);

/// When what is due.
pub(super) struct Upkeep {
    next_round: Instant,
    first_reaping: Instant,
}

impl Upkeep {
    pub(super) fn new() -> Self {
        Self {
            next_round: Instant::now() + ROUND,
            first_reaping: Instant::now() + GRACE,
        }
    }

    /// To be called every second. `held`: how many jobs the session holds; `holds`: whether it holds this one.
    pub(super) async fn look(
        &mut self,
        dispatcher: &Dispatcher,
        session: &Session,
        held: usize,
        holds: impl Fn(JobId) -> bool,
    ) -> Result<(), Broken> {
        if Instant::now() >= self.first_reaping {
            dispatcher.reap().await?;
        }
        dispatcher.show(session, held).await?;
        if Instant::now() >= self.next_round {
            self.next_round = Instant::now() + ROUND;
            let endings = &dispatcher.shared.endings;
            endings.announce_untold(&dispatcher.app, UNTOLD).await?;
            dispatcher.reconcile(session, holds).await?;
            dispatcher.clear_away(session).await?;
        }
        Ok(())
    }
}

impl Dispatcher {
    /// Removes the runners that were not heard of for a whole lease.
    async fn reap(&self) -> Result<(), Broken> {
        for runner in self.shared.store.reap(&self.app).await? {
            tracing::warn!(app = %self.app, %runner, "lost a runner: nothing heard for a whole lease");
        }
        Ok(())
    }

    /// Ends the jobs that have not started in time, and names them: the session drops those that it holds.
    pub(super) async fn expire(&self) -> Result<Vec<JobId>, Broken> {
        Ok(self.shared.endings.expire(&self.app).await?)
    }

    /// Publishes jobs again whose message must be lost: nothing was heard of them for long, and no queue can hold them. One
    /// message too many does no harm, since a job that runs or has ended is not started.
    async fn reconcile(
        &self,
        session: &Session,
        holds: impl Fn(JobId) -> bool,
    ) -> Result<(), Broken> {
        let Self { shared, app, .. } = self;
        let quiet = shared.reconcile_after;
        let suspects = shared.store.suspects(app, quiet, JOBS).await?;
        if suspects.iter().all(|job| holds(*job)) {
            return Ok(());
        }
        let depth = async |queue: String| Topology::depth(&session.channel, &queue).await;
        let topology = &shared.topology;
        // Redis was away: some may have ended meanwhile.
        if depth(topology.late_queue()).await? > 0 {
            return Ok(());
        }
        let depths = Depths {
            backlog_empty: depth(topology.backlog_queue(app, Priority::Normal)).await? == 0
                && depth(topology.backlog_queue(app, Priority::Low)).await? == 0,
            shared_empty: depth(topology.shared_queue(app)).await? == 0,
        };
        for id in suspects.into_iter().filter(|job| !holds(*job)) {
            if shared.store.reconcile(app, id, quiet, depths).await? {
                self.publish_again(id).await?;
            }
        }
        Ok(())
    }

    async fn publish_again(&self, id: JobId) -> Result<(), Broken> {
        let Self { shared, app, .. } = self;
        let Some(record) = shared.store.job_of(app, id).await? else {
            return Ok(());
        };
        tracing::warn!(job.id = %id, state = %record.state, "nothing was heard of a job for long; published it again");
        let key = shared.topology.lane_key(app, record.spec.priority);
        // Encoding has no way to fail: string keys, no I/O.
        let body = JobMessage::new(record.spec).encode().unwrap_or_default();
        let message = Message {
            message_id: Some(id.to_string()),
            ..Message::new(body)
        }
        .returned();
        let exchange = shared.topology.dispatch_exchange();
        Ok(shared.publisher.publish(&exchange, &key, &message).await?)
    }

    /// Deletes the queues of runners that ended long ago.
    async fn clear_away(&self, session: &Session) -> Result<(), Broken> {
        let Self { shared, app, .. } = self;
        let ago = shared.reconcile_after * GRAVE;
        for (runner, epoch) in shared.store.ended_incarnations(app, ago).await? {
            if self.delete_queue(session, &runner, epoch).await? {
                let done = shared.store.forget_incarnation(app, &runner, epoch);
                done.await?;
            }
        }
        Ok(())
    }

    /// False: somebody reads it, or a job is in it.
    async fn delete_queue(
        &self,
        session: &Session,
        runner: &RunnerId,
        epoch: Epoch,
    ) -> Result<bool, Broken> {
        // The broker closes the channel if it refuses.
        let channel = session.connection.create_channel().await?;
        let deleted = (self.shared.topology)
            .delete_runner(&channel, runner, epoch)
            .await;
        match deleted {
            Ok(()) => {
                channel.close(200, "done".into()).await?;
                Ok(true)
            }
            Err(error) if session.connection.status().connected() => {
                tracing::debug!(%runner, %error, "the queue of a runner that ended is still in use");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}
