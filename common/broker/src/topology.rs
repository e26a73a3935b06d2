//! Every exchange and queue: names, arguments, declaration. No other file declares any.
//!
//! | name (after `<namespace>.`) | kind | what |
//! | --- | --- | --- |
//! | `jobs` | topic exchange | AMQP submissions, routing key = app; all go to `submissions` |
//! | `submissions` | queue | the router's submit consumes it |
//! | `dispatch` | direct exchange | key = `<app>` or `<app>.low`; what it can not route goes to `unroutable` |
//! | `jobs.<app>`, `jobs.<app>.low` | queues | the backlog; one active consumer: the app's dispatcher |
//! | `shared.<app>` | queue | jobs for whichever runner is free first |
//! | `runner.<id>.<epoch>` | queue | one claimed job at most; unaccepted ones go back to `dispatch` |
//! | `retry.<tier>` | fanout exchange and queue | holds a message for the tier's time, then back to `dispatch` |
//! | `dead.<app>` | queue | what can not be run, with the reason |
//! | `unroutable` | fanout exchange and queue | published for an app without queues; the router sends it again |
//! | `deferred_results` | queue | ends of jobs that came while Redis was away; the router stores them |
//! | `jobs.events` | topic exchange | what happened to jobs, key = `<state>.<app>`, with `.webhook` behind it if one is to be told, `.flow` if a flow waits for it |
//! | `events.reply` | queue | ended jobs, for submitters that gave `reply_to`; like the two below it keeps an event for a day, should no router have the role that reads it |
//! | `events.webhook` | queue | ended jobs whose webhook is to be told; `dispatch` brings back those that wait in a retry tier for another try, by key `webhook` |
//! | `events.flow` | queue | flows that were accepted, and steps of flows that ended |
//! | `events.api.<random>` | transient queue | ended jobs, for the clients that wait at one router |

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

/// RabbitMQ 3.10 loses nacked messages at -1, and 4.0 dead-letters after 20: attempts are counted in Redis instead.
const NO_DELIVERY_LIMIT: i32 = 1_000_000;

/// A runner's queue outlives its last consumer by this much at least (and by ten accept timeouts).
const RUNNER_QUEUE_EXPIRY: Duration = Duration::from_secs(30 * 60);

/// How long an event waits for a router that has the role to read it: as long as results are kept by default. Without such a
/// router, these queues would grow until the broker's disk is full.
const EVENTS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Ends the keys of events that are told by webhook, and is the key of those that wait to be told again.
const WEBHOOK: &str = "webhook";

/// Ends the keys of events that let a flow go on.
const FLOW: &str = "flow";

/// Names and declarations for one namespace.
#[derive(Debug, Clone)]
pub struct Topology {
    namespace: Namespace,
    queue_type: QueueType,
}

impl Topology {
    /// The topology under `namespace`.
    pub fn new(namespace: Namespace, queue_type: QueueType) -> Self {
        Self {
            namespace,
            queue_type,
        }
    }

    fn name(&self, rest: impl std::fmt::Display) -> String {
        format!("{}.{rest}", self.namespace)
    }

    /// Exchange for AMQP submissions.
    pub fn jobs_exchange(&self) -> String {
        self.name("jobs")
    }

    /// Exchange in front of the apps' backlogs.
    pub fn dispatch_exchange(&self) -> String {
        self.name("dispatch")
    }

    /// Exchange for what happened to jobs.
    pub fn events_exchange(&self) -> String {
        self.name("jobs.events")
    }

    /// Exchange whose messages come back to `dispatch` after the tier's delay.
    pub fn retry_exchange(&self, tier: RetryTier) -> String {
        self.name(format_args!("retry.{}", tier.label()))
    }

    /// Queue of AMQP submissions.
    pub fn submissions_queue(&self) -> String {
        self.name("submissions")
    }

    /// Queue of an app's backlog in one lane.
    pub fn backlog_queue(&self, app: &AppId, lane: Priority) -> String {
        self.name(format_args!("jobs.{}", self.lane_key(app, lane)))
    }

    /// Queue for whichever runner is free first.
    pub fn shared_queue(&self, app: &AppId) -> String {
        self.name(format_args!("shared.{app}"))
    }

    /// Queue of one incarnation of a runner.
    pub fn runner_queue(&self, runner: &RunnerId, epoch: Epoch) -> String {
        self.name(format_args!("runner.{runner}.{epoch}"))
    }

    /// Queue of what can not be run for an app.
    pub fn dead_queue(&self, app: &AppId) -> String {
        self.name(format_args!("dead.{app}"))
    }

    /// Queue of submissions whose app has no valid name. No app's, since an app's name holds a slash.
    pub fn dead_submissions_queue(&self) -> String {
        self.name("dead.submissions")
    }

    /// Queue of what was published for an app without queues.
    pub fn unroutable_queue(&self) -> String {
        self.name("unroutable")
    }

    /// Queue of ends that came while Redis was away.
    pub fn deferred_results_queue(&self) -> String {
        self.name("deferred_results")
    }

    /// Queue of ended jobs, for replies.
    pub fn reply_events_queue(&self) -> String {
        self.name("events.reply")
    }

    /// Queue of ended jobs whose webhook is to be told.
    pub fn webhook_events_queue(&self) -> String {
        self.name("events.webhook")
    }

    /// Queue of what lets flows go on.
    pub fn flow_events_queue(&self) -> String {
        self.name("events.flow")
    }

    /// Routing key on the retry exchanges (and then on `dispatch`) for [`Self::webhook_events_queue`]. No app's, since an app's name
    /// holds a slash.
    pub fn webhook_key(&self) -> &'static str {
        WEBHOOK
    }

    /// Routing key on `dispatch` (and on the retry exchanges) for an app's lane.
    pub fn lane_key(&self, app: &AppId, lane: Priority) -> String {
        match lane {
            Priority::Normal => app.to_string(),
            Priority::Low => format!("{app}.low"),
        }
    }

    /// Routing key on `jobs.events`. What has no webhook makes no message for those who tell them, and what is no step none for
    /// flows. Steps have no webhooks: their flows have them.
    pub fn event_key(&self, job: &JobSpec, state: JobState) -> String {
        match (&job.step_of, &job.webhook) {
            (Some(_), _) => format!("{state}.{}.{FLOW}", job.app),
            (None, Some(_)) => format!("{state}.{}.{WEBHOOK}", job.app),
            (None, None) => format!("{state}.{}", job.app),
        }
    }

    /// Routing key on `jobs.events` for a flow that was accepted and is to begin.
    pub fn begin_key(&self, flow: &JobSpec) -> String {
        format!("{}.{}.{FLOW}", JobState::Queued, flow.app)
    }

    /// Declares what every process relies on.
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
        self.queue(channel, &reply, self.of_events()).await?;
        self.bind_ends(channel, &reply, "#").await?;
        let webhook = self.webhook_events_queue();
        self.queue(channel, &webhook, self.of_events()).await?;
        let wants_webhook = format!("*.{WEBHOOK}");
        self.bind_ends(channel, &webhook, &wants_webhook).await?;
        self.bind(channel, &webhook, &dispatch, WEBHOOK).await?;
        let flow = self.flow_events_queue();
        self.queue(channel, &flow, self.of_events()).await?;
        let of_flows = format!("*.{FLOW}");
        self.bind_ends(channel, &flow, &of_flows).await?;
        let begins = format!("{}.{of_flows}", JobState::Queued);
        self.bind(channel, &flow, &events, &begins).await?;

        for tier in RetryTier::ALL {
            let name = self.retry_exchange(tier);
            let arguments = self
                .dead_lettering()
                .int("x-message-ttl", millis(tier.delay()))
                .text("x-dead-letter-exchange", &dispatch);
            // A fanout of its own: through the default exchange the routing key would be this queue's name,
            // and the dead-letter exchange could not tell the app.
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
            let queue = self.backlog_queue(app, lane);
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

    /// Declares the queue of one incarnation of a runner. A job that is not taken within `accept_timeout` goes back
    /// to the dispatcher.
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
        // Back to the normal lane, a low job too: it was dispatched, so no normal job wanted its runner then.
        let arguments = Args::of(QueueType::Classic)
            .int("x-message-ttl", millis(accept_timeout))
            .int("x-expires", millis(expiry))
            .text("x-dead-letter-exchange", &self.dispatch_exchange())
            .text("x-dead-letter-routing-key", app.as_str());
        self.queue(channel, &self.runner_queue(runner, epoch), arguments)
            .await
    }

    /// Declares a queue of ended jobs that lives as long as the channel's connection, and names it. What happens while nobody
    /// listens is missed.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn declare_live_ends(&self, channel: &Channel) -> lapin::Result<String> {
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
        self.bind_ends(channel, &name, "#").await?;
        Ok(name)
    }

    /// Deletes the queue of a runner that leaves, provided that it holds no job.
    ///
    /// # Errors
    /// The connection broke, or the queue holds a job (which then expires back to the dispatcher).
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

    /// Deletes an app's queues that have no consumer and no message. Quorum queues stay: RabbitMQ does not delete those on
    /// conditions.
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
            self.backlog_queue(app, Priority::Normal),
            self.backlog_queue(app, Priority::Low),
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

    /// Messages ready in a queue that exists.
    ///
    /// # Errors
    /// There is no such queue (which closes the channel), or the connection broke.
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

    fn of_events(&self) -> Args {
        self.durable().int("x-message-ttl", millis(EVENTS_KEPT))
    }

    fn durable(&self) -> Args {
        let arguments = Args::of(self.queue_type);
        match self.queue_type {
            QueueType::Classic => arguments,
            QueueType::Quorum => arguments.int("x-delivery-limit", NO_DELIVERY_LIMIT),
        }
    }

    /// As [`Self::durable`], for a queue whose messages leave by its dead-letter exchange: a quorum queue
    /// keeps each until its next queue has confirmed it, instead of losing those under way in a change of
    /// leader. RabbitMQ offers that to queues that reject what overflows them.
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

    /// Lets a queue hear of every job's end, if what follows the state in the event's key is like `rest`.
    async fn bind_ends(&self, channel: &Channel, queue: &str, rest: &str) -> lapin::Result<()> {
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

/// Why queues cannot be declared, or used.
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
    /// The user may not do that.
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
    /// Returns whether waiting is no remedy: the settings must change, here or in the broker.
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

    /// Of a queue. Its type is always named: without one a queue is what its virtual host prefers, and a
    /// quorum queue by accident drops a message at its 20th delivery (RabbitMQ 4).
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

/// Milliseconds as RabbitMQ takes them; beyond 24 days, the longest that fits.
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
    fn only_ends_that_are_told_by_webhook_or_to_a_flow_say_so() {
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
        assert_eq!(topology.begin_key(&job), "queued.a/b.flow");
    }

    #[test]
    fn names_carry_the_namespace() {
        let topology = Topology::new(Namespace::parse("test").unwrap(), QueueType::Classic);
        let app = AppId::parse("warmq/diffusion").unwrap();
        assert_eq!(
            topology.backlog_queue(&app, Priority::Low),
            "test.jobs.warmq/diffusion.low"
        );
        assert_eq!(
            topology.runner_queue(&RunnerId::parse("gpu-1").unwrap(), Epoch(7)),
            "test.runner.gpu-1.7"
        );
    }
}
