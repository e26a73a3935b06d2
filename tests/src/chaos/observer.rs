//! Collects every reported end: from events, from replies, and by polling.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use warmq_broker::{Topology, consumer};
use warmq_types::ids::JobId;
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::server_url::ServerUrl;

use super::ledger::{End, Ledger, Source};
use super::submitters::Submitters;

/// Queue of replies.
pub const REPLIES: &str = "reply.chaos";

/// Queue of events.
const EVENTS: &str = "chaos.events";

const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);

const PREFETCH: u16 = 64;

/// Timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Interval of requests, so that polling is not the routers' main load.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Declares the observer's queues: before the first job, so that no end is missed.
///
/// # Errors
/// RabbitMQ is away.
pub async fn declare(url: &ServerUrl, topology: &Topology) -> anyhow::Result<()> {
    let connection = warmq_broker::connect(url, "warmq-chaos observer").await?;
    let channel = connection.create_channel().await?;
    topology.declare_base(&channel).await?;
    for queue in [REPLIES, EVENTS] {
        let options = QueueDeclareOptions::durable();
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
        declared.await?;
    }
    let exchange = topology.events_exchange();
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(
            EVENTS.into(),
            exchange.into(),
            "#".into(),
            options,
            arguments,
        )
        .await?;
    Ok(())
}

/// Records the ends in events and replies until `stop`; reconnects as often as necessary.
pub async fn consume_ends(url: ServerUrl, ledger: Ledger, stop: CancellationToken) {
    while !stop.is_cancelled() {
        // After a broken connection, unacknowledged messages are redelivered.
        tokio::select! {
            () = stop.cancelled() => {}
            _ = consume_once(&url, &ledger) => tokio::time::sleep(RECONNECT_INTERVAL).await,
        }
    }
}

async fn consume_once(url: &ServerUrl, ledger: &Ledger) -> anyhow::Result<()> {
    let connection = warmq_broker::connect(url, "warmq-chaos observer").await?;
    let channel = consumer::channel(&connection, PREFETCH).await?;
    let mut events = consumer::consume(&channel, EVENTS, "events").await?;
    let mut replies = consumer::consume(&channel, REPLIES, "replies").await?;
    loop {
        let (delivery, reports) = tokio::select! {
            Some(event) = events.next() => { let event = event?; let reports = read_event(&event); (event, reports) }
            Some(reply) = replies.next() => { let reply = reply?; let reports = read_reply(&reply); (reply, reports) }
            else => return Ok(()),
        };
        if let Some((id, source, end)) = reports {
            ledger.record_end(id, source, end);
        }
        delivery.ack(BasicAckOptions::default()).await?;
    }
}

/// Returns the end in an event; `None` if the job has not ended.
fn read_event(delivery: &Delivery) -> Option<(JobId, Source, End)> {
    let event = JobEvent::decode(&delivery.data).ok()?;
    (event.state.is_terminal()).then(|| (event.job_id, Source::Event, End::state(event.state)))
}

/// Returns the end in a reply.
fn read_reply(delivery: &Delivery) -> Option<(JobId, Source, End)> {
    let id = delivery.properties.correlation_id().as_ref()?;
    let body: Value = serde_json::from_slice(&delivery.data).ok()?;
    let end = End::body(body["payload"].clone());
    Some((id.as_str().parse().ok()?, Source::Reply, end))
}

/// Polls every job until its end was read, or until `stop`.
pub async fn ask(submitters: Submitters, ledger: Ledger, stop: CancellationToken) {
    let mut jobs = VecDeque::new();
    while !stop.is_cancelled() {
        tokio::time::sleep(POLL_INTERVAL).await;
        let Some(id) = jobs.pop_front() else {
            jobs = ledger.open_jobs().into();
            continue;
        };
        let question = submitters.router().job(id);
        if let Ok(Ok(Some(view))) = tokio::time::timeout(REQUEST_TIMEOUT, question).await
            && let Some(end) = End::of(&view.record)
        {
            ledger.record_end(id, Source::Record, end);
        }
    }
}
