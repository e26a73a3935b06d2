//! The channels of one app's dispatching session on a shared connection: opened, declared and
//! closed together. Any error ends the session; the next one starts from the state in RabbitMQ and
//! Redis.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::{Channel, Connection, ConnectionStatus};
use tokio::time::{Interval, MissedTickBehavior};

use super::Dispatcher;
use super::loop_reports::LoopReports;
use crate::metrics::Gauges;
use crate::session_error::SessionError;

/// Interval of the leader's periodic work.
pub(super) const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a session may outlive its connection: its consumers end at once with the true reason,
/// unless a call on the connection does not return.
const LOST_GRACE: Duration = Duration::from_secs(5);

/// Timeout of closing a session's channels. The broker closes those of a lost connection by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// The channels of a session, one of them for declarations, and its gauges.
pub(super) struct Session {
    pub(super) connection: SharedConnection,
    pub(super) channel: Channel,
    pub(super) reports: Arc<LoopReports>,
    pub(super) gauges: Gauges,
}

impl Session {
    /// Opens a session and declares the app's queues.
    pub(super) async fn open(dispatcher: &Dispatcher) -> Result<Self, SessionError> {
        let Dispatcher { shared, app, .. } = dispatcher;
        // Jobs held by the previous session are back in their queues.
        dispatcher.lane_progress.reset();
        let connection = SharedConnection::new(shared.connections.get().await?);
        let channel = connection.create_channel().await?;
        shared.topology.declare_app(&channel, app).await?;
        let reports = Arc::default();
        dispatcher.pending.register(app, &reports);
        Ok(Self {
            connection,
            channel,
            reports,
            gauges: dispatcher.metrics.lead(),
        })
    }

    /// Returns once the connection has been lost for [`LOST_GRACE`].
    pub(super) async fn stuck(&self) -> SessionError {
        lost_for(LOST_GRACE, || !self.connection.status().connected()).await;
        SessionError::Stuck
    }

    /// Closes the session's channels, so that its unacknowledged messages return to their queues
    /// before the next session begins.
    pub(super) async fn close(self) {
        let channels: Vec<Channel> = self.connection.channels().drain(..).collect();
        let open = channels.iter().filter(|open| open.status().connected());
        let closing = async {
            for channel in open {
                if let Err(error) = channel.close(200, "done".into()).await {
                    tracing::debug!(%error, "a channel was not closed in order");
                }
            }
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            tracing::warn!("the channels of a session were not closed in time");
        }
    }
}

/// A session's own channels on a shared connection.
pub(super) struct SharedConnection {
    connection: Arc<Connection>,
    channels: Mutex<Vec<Channel>>,
}

impl SharedConnection {
    fn new(connection: Arc<Connection>) -> Self {
        Self {
            connection,
            channels: Mutex::default(),
        }
    }

    /// Opens a channel that closes with the session.
    ///
    /// # Errors
    /// The connection is broken.
    pub(super) async fn create_channel(&self) -> lapin::Result<Channel> {
        let channel = self.connection.create_channel().await?;
        let mut channels = self.channels();
        channels.retain(|channel| channel.status().connected());
        channels.push(channel.clone());
        Ok(channel)
    }

    pub(super) fn status(&self) -> &ConnectionStatus {
        self.connection.status()
    }

    fn channels(&self) -> std::sync::MutexGuard<'_, Vec<Channel>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until `is_lost` has held for `grace`, checked every second.
async fn lost_for(grace: Duration, is_lost: impl Fn() -> bool) {
    let mut check = ticks(TICK_INTERVAL);
    let mut since = None;
    loop {
        let now = check.tick().await;
        match is_lost() {
            true if now - *since.get_or_insert(now) >= grace => return,
            true => {}
            false => since = None,
        }
    }
}

/// Returns an interval that does not catch up after a delay.
pub(super) fn ticks(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_counts_as_lost_after_the_grace_only() {
        let grace = Duration::from_secs(5);
        let (begun, lost) = (Instant::now(), Cell::new(false));
        let flickers = async {
            for is_lost in [true, false, true] {
                lost.set(is_lost);
                tokio::time::sleep(grace - TICK_INTERVAL).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = lost_for(grace, || lost.get()) => {}
            () = flickers => {}
        }
        let after = begun.elapsed();
        assert!(after >= grace * 3 - TICK_INTERVAL * 2, "{after:?}");
    }
}
