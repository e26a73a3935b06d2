//! Submits jobs by AMQP, and awaits the replies: for warmq and for the bare transport.

use std::collections::HashMap;

use anyhow::{Context, bail, ensure};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer};
use serde_json::Value;
use warmq_broker::consumer;
use warmq_types::ids::JobId;
use warmq_types::server_url::ServerUrl;

use super::load::{Load, Pacer, unix_us};
use super::outcome::{Execution, Observed, ObservedJob};

/// Messages in flight without a confirm.
const MAX_UNCONFIRMED: usize = 256;

/// Delivery mode of messages that survive a restart of RabbitMQ.
const PERSISTENT: u8 = 2;

/// Where and how jobs are published.
pub struct Submission {
    /// The exchange; empty for the default one.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// The input.
    pub body: Vec<u8>,
    /// Properties besides ids.
    pub properties: BasicProperties,
    /// The queue of the replies.
    pub replies: String,
    /// Returns the execution from a reply.
    pub execution: fn(JobId, &Value) -> anyhow::Result<Execution>,
}

/// A client with a connection to RabbitMQ.
pub struct AmqpDriver {
    submission: Submission,
    channel: Channel,
    replies: Consumer,
    _connection: Connection,
}

impl AmqpDriver {
    /// Connects.
    ///
    /// # Errors
    /// RabbitMQ is unreachable, or the queue of the replies does not exist.
    pub async fn connect(url: &ServerUrl, submission: Submission) -> anyhow::Result<Self> {
        let connection = warmq_broker::connect(url, "warmq-bench driver").await?;
        let channel = connection.create_channel().await?;
        let confirms = ConfirmSelectOptions::default();
        channel.confirm_select(confirms).await?;
        Ok(Self {
            replies: consumer::follow(&channel, &submission.replies, "replies").await?,
            submission,
            channel,
            _connection: connection,
        })
    }

    /// Submits the jobs of a load, and receives all replies.
    ///
    /// # Errors
    /// RabbitMQ is unreachable or refuses a message, or a job failed.
    pub async fn run(&mut self, load: &Load) -> anyhow::Result<Observed> {
        let Self {
            submission,
            channel,
            replies,
            ..
        } = self;
        let ids: Vec<JobId> = (0..load.jobs()).map(|_| JobId::generate()).collect();
        let mut pacer = Pacer::start(load);
        let begun_us = pacer.begun_us;
        let submit = async {
            let mut unconfirmed = FuturesUnordered::new();
            let mut submitted_us = begun_us;
            loop {
                tokio::select! {
                    number = pacer.next(), if unconfirmed.len() < MAX_UNCONFIRMED => match number {
                        Some(number) => unconfirmed.push(publish(channel, submission, ids[number])),
                        None => break,
                    },
                    Some(confirmed) = unconfirmed.next() => {
                        confirmed?;
                        submitted_us = unix_us();
                    }
                }
            }
            while let Some(confirmed) = unconfirmed.next().await {
                confirmed?;
                submitted_us = unix_us();
            }
            anyhow::Ok(submitted_us)
        };
        let (submitted_us, jobs) = tokio::try_join!(submit, receive(replies, submission, &ids))?;
        Ok(Observed {
            begun_us,
            submitted_us,
            jobs,
        })
    }
}

/// Publishes a job, and waits for the confirm.
async fn publish(channel: &Channel, submission: &Submission, id: JobId) -> anyhow::Result<()> {
    let properties = submission.properties.clone();
    let id = id.to_string();
    let published = channel.basic_publish(
        submission.exchange.as_str().into(),
        submission.routing_key.as_str().into(),
        BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        },
        &submission.body,
        properties
            .with_delivery_mode(PERSISTENT)
            .with_message_id(id.as_str().into())
            .with_correlation_id(id.into()),
    );
    let confirmed = published.await?.await?;
    // An ack with a message: no queue is bound.
    let accepted = matches!(confirmed, Confirmation::Ack(None));
    ensure!(accepted, "RabbitMQ refused a job");
    Ok(())
}

/// Receives one reply for each job.
async fn receive(
    replies: &mut Consumer,
    submission: &Submission,
    ids: &[JobId],
) -> anyhow::Result<Vec<ObservedJob>> {
    let mut received = HashMap::new();
    while received.len() < ids.len() {
        let Some(reply) = replies.next().await else {
            bail!("the queue of the replies is gone");
        };
        let (reply, result_us) = (reply?, unix_us());
        let id = reply.properties.correlation_id().as_ref();
        let id: JobId = id
            .context("a reply without a correlation id")?
            .as_str()
            .parse()?;
        let body: Value = serde_json::from_slice(&reply.data)?;
        let execution = (submission.execution)(id, &body)?;
        received.insert(
            id,
            ObservedJob {
                execution,
                result_us,
            },
        );
    }
    let in_order = ids.iter().map(|id| received.get(id).copied());
    let jobs: Option<Vec<_>> = in_order.collect();
    jobs.context("a reply to a job of an earlier load")
}
