//! One connection's worth of dispatching. Whatever breaks ends the session; the next one starts from what RabbitMQ and Redis
//! know.

use std::time::Duration;

use lapin::{Channel, Connection};
use tokio::time::{Interval, MissedTickBehavior};
use warmq_common::amqp;

use super::Dispatcher;
use super::upkeep::Upkeep;
use crate::broken::Broken;
use crate::metrics::Gauges;

/// How often the leader looks after what no event tells.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// A connection, a channel for declarations, and the gauges that show what goes on.
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) channel: Channel,
    pub(super) upkeep: Upkeep,
    gauges: Gauges,
}

impl Dispatcher {
    /// A connection with everything declared on it.
    pub(super) async fn session(&self) -> Result<Session, Broken> {
        let Self {
            shared,
            app,
            passed,
            ..
        } = self;
        // What the session before held is in the queues again.
        passed.reset();
        let name = format!("warmq-router dispatch {app}");
        let connection = amqp::connect(&shared.amqp_url, &name).await?;
        let channel = connection.create_channel().await?;
        shared.topology.declare_base(&channel).await?;
        shared.topology.declare_app(&channel, app).await?;
        Ok(Session {
            connection,
            channel,
            upkeep: Upkeep::default(),
            gauges: self.metrics.lead(),
        })
    }

    /// Lets the gauges show what there is now.
    pub(super) async fn show(&self, session: &Session) -> Result<(), Broken> {
        let counts = self.shared.store.counts(&self.app).await?;
        session.gauges.show(session.upkeep.held(), counts);
        Ok(())
    }
}

/// Ticks that do not catch up after a delay.
pub(super) fn ticks(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
