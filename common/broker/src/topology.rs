//! Every exchange and queue: names, arguments, declarations. No other file declares any.
//!
//! | name (after `<namespace>.`) | kind | purpose |
//! | --- | --- | --- |
//! | `jobs` | topic exchange | AMQP submissions, routing key = app |
//! | `submissions` | queue | all of these, for routers that accept submissions |
//! | `dispatch` | direct exchange | key = `<app>` or `<app>.low` |
//! | `jobs.<app>`, `jobs.<app>.low` | queues | the lanes; their consumer is the app's dispatcher |
//! | `shared.<app>` | queue | jobs for any runner of the app |
//! | `runner.<id>.<epoch>` | queue | one claimed job; returns to `dispatch` if not accepted |
//! | `retry.<tier>` | fanout exchange, queue | returns messages to `dispatch` after the delay |
//! | `dead.<app>` | queue | dead letters, with the reason |
//! | `unroutable` | fanout exchange, queue | messages of `dispatch` for an app without queues |
//! | `deferred_results` | queue | results from outages of Redis; a router stores them |
//! | `jobs.events` | topic exchange | events, key = `<state>.<app>`, `.webhook` or `.flow` |
//! | `events.reply` | queue | ended jobs, for AMQP submitters with `reply_to` |
//! | `events.webhook` | queue | ended jobs with a webhook |
//! | `events.flow` | queue | accepted flows, and ended steps |
//! | `events.api.<random>` | transient queue | ended jobs, for clients that wait at one router |
//!
//! The three durable queues of events keep one for a day without a consumer. A repeated webhook
//! delivery returns from a retry tier through `dispatch` by the key `webhook`.

use std::time::Duration;

use lapin::options::{
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, Connection, ExchangeKind};
use uuid::Uuid;
use warmq_types::ids::{AppId, Epoch, Namespace, RunnerId};
use warmq_types::job::{JobSpec, Priority};
use warmq_types::queue_type::QueueType;
use warmq_types::retry_tier::RetryTier;
use warmq_types::state::JobState;

use super::publisher::PublishError;

/// RabbitMQ 3.10 loses nacked messages at -1, and 4.0 dead-letters after 20: attempts are counted
/// in Redis instead.
const NO_DELIVERY_LIMIT: i32 = 1_000_000;

/// Minimum time without a consumer after which a runner's queue expires (and at least ten accept
/// timeouts).
const RUNNER_QUEUE_EXPIRY: Duration = Duration::from_secs(30 * 60);

/// Time that an event waits without a consumer: the default retention of results. Unbounded, these
/// queues would fill the broker's disk in a deployment without that role.
const EVENTS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Suffix of the keys of events with a webhook, and the key of repeated deliveries.
const WEBHOOK: &str = "webhook";

/// Suffix of the keys of events that advance a flow.
const FLOW: &str = "flow";

/// Names and declarations of one namespace.
#[derive(Debug, Clone)]
pub struct Topology {
    namespace: Namespace,
    queue_type: QueueType,
}

impl Topology {
    /// Returns the topology of `namespace`.
    pub fn new(namespace: Namespace, queue_type: QueueType) -> Self {
        Self {
            namespace,
            queue_type,
        }
    }

    fn name(&self, rest: impl std::fmt::Display) -> String {
        format!("{}.{rest}", self.namespace)
    }

    /// Returns the exchange of AMQP submissions.
    pub fn jobs_exchange(&self) -> String {
        self.name("jobs")
    }

    /// Returns the exchange of the apps' lanes.
    pub fn dispatch_exchange(&self) -> String {
        self.name("dispatch")
    }

    /// Returns the exchange of events.
    pub fn events_exchange(&self) -> String {
        self.name("jobs.events")
    }

    /// Returns the exchange whose messages return to `dispatch` after the tier's delay.
    pub fn retry_exchange(&self, tier: RetryTier) -> String {
        self.name(format_args!("retry.{}", tier.label()))
    }

    /// Returns the queue of AMQP submissions.
    pub fn submissions_queue(&self) -> String {
        self.name("submissions")
    }

    /// Returns an app's lane.
    pub fn lane_queue(&self, app: &AppId, lane: Priority) -> String {
        self.name(format_args!("jobs.{}", self.lane_key(app, lane)))
    }

    /// Returns an app's shared queue.
    pub fn shared_queue(&self, app: &AppId) -> String {
        self.name(format_args!("shared.{app}"))
    }

    /// Returns the queue of one incarnation of a runner.
    pub fn runner_queue(&self, runner: &RunnerId, epoch: Epoch) -> String {
        self.name(format_args!("runner.{runner}.{epoch}"))
    }

    /// Returns an app's dead-letter queue.
    pub fn dead_queue(&self, app: &AppId) -> String {
        self.name(format_args!("dead.{app}"))
    }

    /// Returns the dead-letter queue of submissions without a valid app. No app's queue, since an
    /// app's name contains a slash.
    pub fn dead_submissions_queue(&self) -> String {
        self.name("dead.submissions")
    }

    /// Returns the queue of messages for apps without queues.
    pub fn unroutable_queue(&self) -> String {
        self.name("unroutable")
    }

    /// Returns the queue of deferred results.
    pub fn deferred_results_queue(&self) -> String {
        self.name("deferred_results")
    }

    /// Returns the queue of ended jobs with a reply.
    pub fn reply_events_queue(&self) -> String {
        self.name("events.reply")
    }

    /// Returns the queue of ended jobs with a webhook.
    pub fn webhook_events_queue(&self) -> String {
        self.name("events.webhook")
    }

    /// Returns the queue of events that advance flows.
    pub fn flow_events_queue(&self) -> String {
        self.name("events.flow")
    }

    /// Returns the routing key on the retry exchanges (and then on `dispatch`) of
    /// [`Self::webhook_events_queue`]. No app's key, since an app's name contains a slash.
    pub fn webhook_key(&self) -> &'static str {
        WEBHOOK
    }

    /// Returns the routing key on `dispatch` (and on the retry exchanges) of an app's lane.
    pub fn lane_key(&self, app: &AppId, lane: Priority) -> String {
        match lane {
            Priority::Normal => app.to_string(),
            Priority::Low => format!("{app}.low"),
        }
    }

    /// Returns the routing key of an event on `jobs.events`. Jobs without a webhook create no
    /// message for webhooks, and jobs that are no step none for flows. Steps have no webhooks:
    /// their flows have them.
    pub fn event_key(&self, job: &JobSpec, state: JobState) -> String {
        match (&job.step_of, &job.webhook) {
            (Some(_), _) => format!("{state}.{}.{FLOW}", job.app),
            (None, Some(_)) => format!("{state}.{}.{WEBHOOK}", job.app),
            (None, None) => format!("{state}.{}", job.app),
        }
    }

    /// Returns the routing key on `jobs.events` of an accepted flow.
    pub fn flow_accepted_key(&self, flow: &JobSpec) -> String {
        format!("{}.{}.{FLOW}", JobState::Queued, flow.app)
    }

    /// Declares the exchanges and queues that every process relies on.
    ///
    /// # Errors
    /// The connection broke, or a queue exists with other arguments.
    pub async fn declare_base(&self, channel: &Channel) -> lapin::Result<()> {
        let unroutable = self.unroutable_queue();
        self.exchange(channel, &unroutable, ExchangeKind::Fanout, Args::new())
            .await?;
        self.queue(channel, &unroutable, self.durable()).await?;
        self.bind(channel, &unroutable, &unroutable, "").await?;

        let dispatch = self.dispatch_exchange();
        let alternate = Args::new().text("alternate-exchange", &unroutable);
        self.exchange(channel, &dispatch, ExchangeKind::Direct, alternate)
            .await?;

        let jobs = self.jobs_exchange();
        let submissions = self.submissions_queue();
        self.exchange(channel, &jobs, ExchangeKind::Topic, Args::new())
            .await?;
        self.queue(channel, &submissions, self.durable()).await?;
        self.bind(channel, &submissions, &jobs, "#").await?;
        self.queue(channel, &self.dead_submissions_queue(), self.durable())
            .await?;
        self.queue(channel, &self.deferred_results_queue(), self.durable())
            .await?;

        let events = self.events_exchange();
        let reply = self.reply_events_queue();
        self.exchange(channel, &events, ExchangeKind::Topic, Args::new())
            .await?;
        self.queue(channel, &reply, self.event_queue_args()).await?;
        self.bind_terminal_events(channel, &reply, "#").await?;
        let webhook = self.webhook_events_queue();
        self.queue(channel, &webhook, self.event_queue_args())
            .await?;
        let wants_webhook = format!("*.{WEBHOOK}");
        self.bind_terminal_events(channel, &webhook, &wants_webhook)
            .await?;
        self.bind(channel, &webhook, &dispatch, WEBHOOK).await?;
        let flow = self.flow_events_queue();
        self.queue(channel, &flow, self.event_queue_args()).await?;
        let of_flows = format!("*.{FLOW}");
        self.bind_terminal_events(channel, &flow, &of_flows).await?;
        let begins = format!("{}.{of_flows}", JobState::Queued);
        self.bind(channel, &flow, &events, &begins).await?;

        for tier in RetryTier::ALL {
            let name = self.retry_exchange(tier);
            let arguments = self
                .dead_lettering()
                .int("x-message-ttl", millis(tier.delay()))
                .text("x-dead-letter-exchange", &dispatch);
            // A fanout of its own: through the default exchange the routing key would be this
            // queue's name, and the app would be unknown.
            self.exchange(channel, &name, ExchangeKind::Fanout, Args::new())
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
            let arguments = self.durable().flag("x-single-active-consumer");
            self.queue(channel, &queue, arguments).await?;
            let key = self.lane_key(app, lane);
            self.bind(channel, &queue, &self.dispatch_exchange(), &key)
                .await?;
        }
        self.queue(channel, &self.shared_queue(app), self.durable())
            .await?;
        self.queue(channel, &self.dead_queue(app), self.durable())
            .await
    }

    /// Declares the queue of one incarnation of a runner. A job that is not accepted within
    /// `accept_timeout` returns to the dispatcher.
    ///
    /// # Errors
    /// The connection broke.
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
        let arguments = Args::of(QueueType::Classic)
            .int("x-message-ttl", millis(accept_timeout))
            .int("x-expires", millis(expiry))
            .text("x-dead-letter-exchange", &self.dispatch_exchange())
            .text("x-dead-letter-routing-key", app.as_str());
        self.queue(channel, &self.runner_queue(runner, epoch), arguments)
            .await
    }

    /// Declares a queue of ended jobs that lives as long as the channel's connection, and returns
    /// its name. Events outside that time are missed.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn declare_completion_queue(&self, channel: &Channel) -> lapin::Result<String> {
        let name = self.name(format_args!("events.api.{}", Uuid::new_v4().simple()));
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let arguments = Args::of(QueueType::Classic).0;
        channel
            .queue_declare(name.as_str().into(), options, arguments)
            .await?;
        self.bind_terminal_events(channel, &name, "#").await?;
        Ok(name)
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
    ///
    /// # Errors
    /// The connection broke.
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
                    tracing::debug!(%app, %error, "a queue of a forgotten app is in use");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Returns the number of ready messages in an existing queue.
    ///
    /// # Errors
    /// The queue does not exist (which closes the channel), or the connection broke.
    pub async fn depth(channel: &Channel, queue: &str) -> lapin::Result<u32> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let found = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await?;
        Ok(found.message_count())
    }

    fn event_queue_args(&self) -> Args {
        self.durable().int("x-message-ttl", millis(EVENTS_KEPT))
    }

    fn durable(&self) -> Args {
        let arguments = Args::of(self.queue_type);
        match self.queue_type {
            QueueType::Classic => arguments,
            QueueType::Quorum => arguments.int("x-delivery-limit", NO_DELIVERY_LIMIT),
        }
    }

    /// Returns the arguments of a queue whose messages leave by its dead-letter exchange. A quorum
    /// queue then keeps each message until the next queue has confirmed it, instead of losing those
    /// in flight at a change of leader. RabbitMQ offers that to queues that reject overflow.
    fn dead_lettering(&self) -> Args {
        let arguments = self.durable();
        match self.queue_type {
            QueueType::Classic => arguments,
            QueueType::Quorum => arguments
                .text("x-dead-letter-strategy", "at-least-once")
                .text("x-overflow", "reject-publish"),
        }
    }

    async fn exchange(
        &self,
        channel: &Channel,
        name: &str,
        kind: ExchangeKind,
        arguments: Args,
    ) -> lapin::Result<()> {
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(name.into(), kind, options, arguments.0)
            .await
    }

    async fn queue(&self, channel: &Channel, name: &str, arguments: Args) -> lapin::Result<()> {
        channel
            .queue_declare(name.into(), QueueDeclareOptions::durable(), arguments.0)
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

/// Why queues cannot be declared or used.
#[derive(Debug, thiserror::Error)]
pub enum DeclareError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] PublishError),
    /// A queue of that name exists with other arguments.
    #[error(
        "rabbitmq has a queue of this namespace with other arguments ({0}): start all processes of a namespace with \
         the same --queue-type; queues of an older warmq are to be deleted, or choose another --namespace"
    )]
    Mismatch(String),
    /// The user has no permission.
    #[error(
        "rabbitmq does not let this user use its queues ({0}): grant it (`rabbitmqctl set_permissions -p VHOST USER '.*' \
         '.*' '.*'`)"
    )]
    Forbidden(String),
    /// The connection broke.
    #[error("the connection to RabbitMQ broke: {0}")]
    Broke(String),
}

impl DeclareError {
    /// Returns whether retrying is useless: settings must change, here or in the broker.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Connect(error) => error.is_final(),
            Self::Mismatch(_) | Self::Forbidden(_) => true,
            Self::Broke(_) => false,
        }
    }
}

impl From<lapin::Error> for DeclareError {
    fn from(error: lapin::Error) -> Self {
        let lapin::ErrorKind::ProtocolError(refused) = error.kind() else {
            return Self::Broke(error.to_string());
        };
        let text = refused.get_message().to_string();
        match refused.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Self::Mismatch(text),
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Self::Forbidden(text),
            _ => Self::Broke(text),
        }
    }
}

/// Arguments of a declaration.
struct Args(FieldTable);

impl Args {
    fn new() -> Self {
        Self(FieldTable::default())
    }

    /// Returns the arguments of a queue. Its type is explicit: the default depends on the virtual
    /// host, and an accidental quorum queue drops a message at its 20th delivery (RabbitMQ 4).
    fn of(queue_type: QueueType) -> Self {
        Self::new().text("x-queue-type", &queue_type.to_string())
    }

    fn text(mut self, name: &str, value: &str) -> Self {
        let value = AMQPValue::LongString(LongString::from(value));
        self.0.insert(name.into(), value);
        self
    }

    fn int(mut self, name: &str, value: i32) -> Self {
        self.0.insert(name.into(), AMQPValue::LongInt(value));
        self
    }

    fn flag(mut self, name: &str) -> Self {
        self.0.insert(name.into(), AMQPValue::Boolean(true));
        self
    }
}

/// Converts to milliseconds as RabbitMQ takes them, at most 24 days.
fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_types::flow::StepOf;

    #[test]
    fn the_longest_tier_that_fits_is_chosen() {
        let tier = |s| RetryTier::at_most(Duration::from_secs(s));
        assert_eq!(tier(0), RetryTier::S1);
        assert_eq!(tier(15), RetryTier::S5);
        assert_eq!(tier(30), RetryTier::S30);
        assert_eq!(tier(86_400), RetryTier::H1);
    }

    #[test]
    fn a_delay_is_rounded_up_to_a_tier() {
        let tier = |s| RetryTier::at_least(Duration::from_secs(s));
        assert_eq!(tier(2), RetryTier::S5);
        assert_eq!(tier(30), RetryTier::S30);
        assert_eq!(tier(86_400), RetryTier::H1);
    }

    #[test]
    fn event_keys_mark_jobs_with_webhooks_and_steps() {
        let topology = Topology::new(Namespace::parse("test").unwrap(), QueueType::Classic);
        let mut job = JobSpec::new(AppId::parse("a/b").unwrap(), serde_json::Value::Null);
        let key = |job: &JobSpec| topology.event_key(job, JobState::Failed);
        assert_eq!(key(&job), "failed.a/b");
        job.webhook = Some("https://example.com/".to_owned());
        assert_eq!(key(&job), "failed.a/b.webhook");
        job.step_of = Some(StepOf {
            route: job.app.clone(),
            flow: job.id,
            index: 0,
        });
        assert_eq!(key(&job), "failed.a/b.flow");
        assert_eq!(topology.flow_accepted_key(&job), "queued.a/b.flow");
    }

    #[test]
    fn names_carry_the_namespace() {
        let topology = Topology::new(Namespace::parse("test").unwrap(), QueueType::Classic);
        let app = AppId::parse("warmq/diffusion").unwrap();
        assert_eq!(
            topology.lane_queue(&app, Priority::Low),
            "test.jobs.warmq/diffusion.low"
        );
        assert_eq!(
            topology.runner_queue(&RunnerId::parse("gpu-1").unwrap(), Epoch(7)),
            "test.runner.gpu-1.7"
        );
    }
}
