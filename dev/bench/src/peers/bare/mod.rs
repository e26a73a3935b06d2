//! The bare transport: what the messages and writes of a job cost without a queue's logic.
//!
//! The driver publishes a job, a relay (in the router's place) consumes and publishes it, a worker
//! consumes it, writes to Redis and publishes the reply: three persistent, mandatory and confirmed
//! messages, each acknowledged after the confirm of the next.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`hop`] | consumes, publishes, acknowledges |
//! | [`writes`] | the writes to Redis that warmq's scripts do for a job |

pub mod hop;
pub mod writes;

use anyhow::Context;
use lapin::options::{QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use serde_json::Value;
use warmq_types::ids::JobId;
use warmq_types::server_url::ServerUrl;

use super::amqp_driver::Submission;
use super::load::unix_us;
use super::outcome::Execution;
use crate::args::{BareOptions, BareRole};
use hop::Hop;
use writes::Writer;

/// Jobs of the driver.
const JOBS: &str = "bare.jobs";
/// Jobs of the workers.
const WORK: &str = "bare.work";
/// Replies.
const REPLIES: &str = "bare.replies";

/// Unacknowledged messages of the relay.
const RELAY_PREFETCH: u16 = 256;

/// Returns how jobs are submitted.
pub fn submission() -> Submission {
    Submission {
        exchange: String::new(),
        routing_key: JOBS.to_owned(),
        body: br#"{"run_ms": 0, "load_ms": 0}"#.to_vec(),
        properties: BasicProperties::default(),
        replies: REPLIES.to_owned(),
        execution: |_, reply: &Value| {
            let started_us = reply["started_us"].as_u64();
            Ok(Execution::At(started_us.context("a reply without a time")?))
        },
    }
}

/// Declares the queues, and empties them: earlier processes were stopped before their last acks.
///
/// # Errors
/// RabbitMQ is unreachable.
pub async fn declare(url: &ServerUrl) -> anyhow::Result<()> {
    let connection = warmq_broker::connect(url, "warmq-bench bare").await?;
    let channel = connection.create_channel().await?;
    for queue in [JOBS, WORK, REPLIES] {
        declare_queue(&channel, queue).await?;
    }
    Ok(connection.close(200, "done".into()).await?)
}

async fn declare_queue(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let arguments = FieldTable::default();
    (channel.queue_declare(queue.into(), options, arguments)).await?;
    let purge = QueuePurgeOptions::default();
    channel.queue_purge(queue.into(), purge).await?;
    Ok(())
}

/// Runs the relay or a worker until RabbitMQ closes the connection.
///
/// # Errors
/// A server is unreachable.
pub fn run(options: &BareOptions) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        let url: ServerUrl = options.amqp_url.parse().map_err(anyhow::Error::msg)?;
        match options.role {
            BareRole::Relay => {
                let hop = Hop::open(&url, JOBS, WORK, RELAY_PREFETCH).await?;
                hop.run(async |delivery| Ok(delivery.data.clone())).await
            }
            BareRole::Worker => {
                let writer = Writer::connect(&options.redis_url).await?;
                let hop = Hop::open(&url, WORK, REPLIES, options.slots).await?;
                hop.run(async |delivery| {
                    let started_us = unix_us();
                    let id = delivery.properties.message_id().as_ref();
                    let id: JobId = id.context("a job without an id")?.as_str().parse()?;
                    writer.write(id, &delivery.data).await?;
                    Ok(format!(r#"{{"started_us": {started_us}}}"#).into_bytes())
                })
                .await
            }
        }
    })
}
