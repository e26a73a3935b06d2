//! Every exchange and queue: names, arguments, declarations. No other file declares any.
//!
//! | name (after `<namespace>.`) | kind | purpose |
//! | --- | --- | --- |
//! | `jobs` | topic exchange | AMQP submissions, routing key = app |
//! | `submissions` | queue | all of these, for routers that accept submissions |
//! | `dispatch` | direct exchange | key = `<app>` or `<app>.low` |
//! | `jobs.<app>`, `jobs.<app>.low` | queues | the lanes; their consumer is the app's dispatcher |
//! | `overflow.<app>.<lane>[.<key>]` | queue | jobs of one owner that exceed its share of a lane |
//! | `shared.<app>` | queue | jobs for any runner of the app |
//! | `runner.<id>.<epoch>` | queue | one claimed job; returns to `dispatch` if not accepted |
//! | `retry.<tier>` | fanout exchange, queue | returns messages to `dispatch` after the delay |
//! | `dead.<app>` | queue | dead letters, with the reason |
//! | `unroutable` | fanout exchange, queue | messages of `dispatch` for an app without queues |
//! | `deferred_results` | queue | results from outages of Redis; a router stores them |
//! | `jobs.events` | topic exchange | key `<state>.<app>`, then `.reply`, `.webhook`, `.flow` |
//! | `events.reply` | queue | ended jobs, for AMQP submitters with `reply_to` |
//! | `events.webhook` | queue | ended jobs with a webhook |
//! | `events.flow` | queue | accepted flows, and ended steps |
//!
//! The three durable queues of events keep one for a day without a consumer. A repeated webhook
//! delivery returns from a retry tier through `dispatch` by the key `webhook`.

mod arguments;
mod error;
mod names;

use std::ops::Deref;
use std::time::Duration;

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind, Queue};
use warmq_types::ids::{AppId, Epoch, Namespace, RunnerId};
use warmq_types::job::Priority;
use warmq_types::owner_lane::OwnerLane;
use warmq_types::queue_type::QueueType;
use warmq_types::retry_tier::RetryTier;
use warmq_types::state::JobState;

use arguments::{Arguments, millis};
use names::{FLOW, Names, REPLY, WEBHOOK};

pub use error::DeclareError;

/// Minimum time without a consumer after which a runner's queue expires (and at least ten accept
/// timeouts).
const RUNNER_QUEUE_EXPIRY: Duration = Duration::from_secs(30 * 60);

/// The exchanges and queues of one namespace: their names, and declarations.
#[derive(Debug, Clone)]
pub struct Topology {
    names: Names,
    queue_type: QueueType,
}

impl Deref for Topology {
    type Target = Names;

    fn deref(&self) -> &Names {
        &self.names
    }
}

impl Topology {
    /// Returns the topology of `namespace`.
    pub fn new(namespace: Namespace, queue_type: QueueType) -> Self {
        Self {
            names: Names::new(namespace),
            queue_type,
        }
    }

    /// Declares the exchanges and queues that every process relies on.
    ///
    /// # Errors
    /// The connection broke, or a queue exists with other arguments.
    pub async fn declare_base(&self, channel: &Channel) -> lapin::Result<()> {
        let unroutable = self.unroutable_queue();
        self.exchange(channel, &unroutable, ExchangeKind::Fanout, Arguments::new())
            .await?;
        self.queue(channel, &unroutable, Arguments::durable(self.queue_type))
            .await?;
        self.bind(channel, &unroutable, &unroutable, "").await?;

        let dispatch = self.dispatch_exchange();
        let alternate = Arguments::new().text("alternate-exchange", &unroutable);
        self.exchange(channel, &dispatch, ExchangeKind::Direct, alternate)
            .await?;

        let jobs = self.jobs_exchange();
        let submissions = self.submissions_queue();
        self.exchange(channel, &jobs, ExchangeKind::Topic, Arguments::new())
            .await?;
        self.queue(channel, &submissions, Arguments::durable(self.queue_type))
            .await?;
        self.bind(channel, &submissions, &jobs, "#").await?;
        self.queue(
            channel,
            &self.dead_submissions_queue(),
            Arguments::durable(self.queue_type),
        )
        .await?;
        self.queue(
            channel,
            &self.deferred_results_queue(),
            Arguments::durable(self.queue_type),
        )
        .await?;

        let events = self.events_exchange();
        let reply = self.reply_events_queue();
        self.exchange(channel, &events, ExchangeKind::Topic, Arguments::new())
            .await?;
        self.queue(channel, &reply, Arguments::of_events(self.queue_type))
            .await?;
        let wants_reply = format!("*.{REPLY}.#");
        self.bind_terminal_events(channel, &reply, &wants_reply)
            .await?;
        let webhook = self.webhook_events_queue();
        self.queue(channel, &webhook, Arguments::of_events(self.queue_type))
            .await?;
        let wants_webhook = format!("*.#.{WEBHOOK}");
        self.bind_terminal_events(channel, &webhook, &wants_webhook)
            .await?;
        self.bind(channel, &webhook, &dispatch, WEBHOOK).await?;
        let flow = self.flow_events_queue();
        self.queue(channel, &flow, Arguments::of_events(self.queue_type))
            .await?;
        let of_flows = format!("*.#.{FLOW}");
        self.bind_terminal_events(channel, &flow, &of_flows).await?;
        let begins = format!("{}.{of_flows}", JobState::Queued);
        self.bind(channel, &flow, &events, &begins).await?;

        for tier in RetryTier::ALL {
            let name = self.retry_exchange(tier);
            let arguments = Arguments::dead_lettering(self.queue_type)
                .int("x-message-ttl", millis(tier.delay()))
                .text("x-dead-letter-exchange", &dispatch);
            // A fanout of its own: through the default exchange the routing key would be this
            // queue's name, and the app would be unknown.
            self.exchange(channel, &name, ExchangeKind::Fanout, Arguments::new())
                .await?;
            self.queue(channel, &name, arguments).await?;
            self.bind(channel, &name, &name, "").await?;
        }
        Ok(())
    }

    /// Declares an app's queues.
    ///
    /// # Errors
    /// The connection broke, or a queue exists with other arguments.
    pub async fn declare_app(&self, channel: &Channel, app: &AppId) -> lapin::Result<()> {
        for lane in [Priority::Normal, Priority::Low] {
            let queue = self.lane_queue(app, lane);
            let arguments = Arguments::durable(self.queue_type).flag("x-single-active-consumer");
            self.queue(channel, &queue, arguments).await?;
            let key = self.lane_key(app, lane);
            self.bind(channel, &queue, &self.dispatch_exchange(), &key)
                .await?;
        }
        self.queue(
            channel,
            &self.shared_queue(app),
            Arguments::durable(self.queue_type),
        )
        .await?;
        self.queue(
            channel,
            &self.dead_queue(app),
            Arguments::durable(self.queue_type),
        )
        .await
    }

    /// Declares an overflow queue. Its consumer is the leader, as that of a lane.
    ///
    /// # Errors
    /// The connection broke, or the queue exists with other arguments.
    pub async fn declare_overflow(
        &self,
        channel: &Channel,
        app: &AppId,
        jobs: &OwnerLane,
    ) -> lapin::Result<()> {
        let queue = self.overflow_queue(app, jobs);
        let arguments = Arguments::durable(self.queue_type).flag("x-single-active-consumer");
        self.queue(channel, &queue, arguments).await
    }

    /// Declares the queue of one incarnation of a runner. A job that is not accepted within
    /// `accept_timeout` returns to the dispatcher.
    pub async fn declare_runner(
        &self,
        channel: &Channel,
        app: &AppId,
        runner: &RunnerId,
        epoch: Epoch,
        accept_timeout: Duration,
    ) -> lapin::Result<()> {
        let expiry = RUNNER_QUEUE_EXPIRY.max(accept_timeout * 10);
        // Low jobs return to the normal lane too: one was dispatched, so no normal job needed its
        // runner then.
        let arguments = Arguments::of(QueueType::Classic)
            .int("x-message-ttl", millis(accept_timeout))
            .int("x-expires", millis(expiry))
            .text("x-dead-letter-exchange", &self.dispatch_exchange())
            .text("x-dead-letter-routing-key", app.as_str());
        self.queue(channel, &self.runner_queue(runner, epoch), arguments)
            .await
    }

    /// Deletes the queue of a runner that leaves, if it is empty.
    ///
    /// # Errors
    /// The connection broke, or the queue contains a job (which expires and returns to the
    /// dispatcher).
    pub async fn delete_runner(
        &self,
        channel: &Channel,
        runner: &RunnerId,
        epoch: Epoch,
    ) -> lapin::Result<()> {
        let options = QueueDeleteOptions {
            if_empty: true,
            if_unused: true,
            ..QueueDeleteOptions::default()
        };
        let name = self.runner_queue(runner, epoch);
        channel.queue_delete(name.into(), options).await.map(drop)
    }

    /// Deletes an app's queues that have no consumer and no message. Quorum queues remain: RabbitMQ
    /// does not delete those conditionally.
    pub async fn delete_app(&self, connection: &Connection, app: &AppId) -> lapin::Result<()> {
        if self.queue_type == QueueType::Quorum {
            return Ok(());
        }
        let options = QueueDeleteOptions {
            if_empty: true,
            if_unused: true,
            ..QueueDeleteOptions::default()
        };
        for name in [
            self.lane_queue(app, Priority::Normal),
            self.lane_queue(app, Priority::Low),
            self.shared_queue(app),
            self.dead_queue(app),
        ] {
            // A refusal closes the channel.
            let channel = connection.create_channel().await?;
            match channel.queue_delete(name.into(), options).await {
                Ok(_) => channel.close(200, "done".into()).await?,
                Err(error) if connection.status().connected() => {
                    tracing::debug!(%app, %error, "kept a queue of an unused app: it is in use");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Deletes an overflow queue whose consumer was cancelled. Returns false if it has a message or
    /// a consumer.
    ///
    /// # Errors
    /// As false, with classic queues (which closes the channel), or the connection broke.
    pub async fn delete_overflow(
        &self,
        channel: &Channel,
        app: &AppId,
        jobs: &OwnerLane,
    ) -> lapin::Result<bool> {
        let name = self.overflow_queue(app, jobs);
        // RabbitMQ does not delete quorum queues conditionally. Only the leader publishes to this
        // one, so it remains empty between the two calls.
        let is_conditional = self.queue_type == QueueType::Classic;
        if !is_conditional {
            let found = Self::passive(channel, &name).await?;
            if found.message_count() > 0 || found.consumer_count() > 0 {
                return Ok(false);
            }
        }
        let options = QueueDeleteOptions {
            if_empty: is_conditional,
            if_unused: is_conditional,
            ..QueueDeleteOptions::default()
        };
        channel.queue_delete(name.into(), options).await?;
        Ok(true)
    }

    /// Returns the number of ready messages in an existing queue.
    ///
    /// # Errors
    /// The queue does not exist (which closes the channel), or the connection broke.
    pub async fn depth(channel: &Channel, queue: &str) -> lapin::Result<u32> {
        Ok(Self::passive(channel, queue).await?.message_count())
    }

    /// Looks up an existing queue.
    async fn passive(channel: &Channel, queue: &str) -> lapin::Result<Queue> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
    }

    async fn exchange(
        &self,
        channel: &Channel,
        name: &str,
        kind: ExchangeKind,
        arguments: Arguments,
    ) -> lapin::Result<()> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(name.into(), kind, options, arguments.into_table())
            .await
    }

    async fn queue(
        &self,
        channel: &Channel,
        name: &str,
        arguments: Arguments,
    ) -> lapin::Result<()> {
        channel
            .queue_declare(
                name.into(),
                QueueDeclareOptions::durable(),
                arguments.into_table(),
            )
            .await
            .map(drop)
    }

    /// Binds a queue to the end of every job whose event key continues like `rest` after the state.
    async fn bind_terminal_events(
        &self,
        channel: &Channel,
        queue: &str,
        rest: &str,
    ) -> lapin::Result<()> {
        let events = self.events_exchange();
        for state in JobState::ALL
            .into_iter()
            .filter(|state| state.is_terminal())
        {
            self.bind(channel, queue, &events, &format!("{state}.{rest}"))
                .await?;
        }
        Ok(())
    }

    async fn bind(
        &self,
        channel: &Channel,
        queue: &str,
        exchange: &str,
        key: &str,
    ) -> lapin::Result<()> {
        channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
    }
}
