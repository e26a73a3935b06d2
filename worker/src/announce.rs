//! The event at a job's end, and the format of messages about a job.

use warmq_broker::{Message, PublishError};
use warmq_types::ids::JobId;
use warmq_types::job::JobSpec;
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::state::JobState;

use crate::context::WorkerContext;

/// Publishes the event that a job ended. A redelivered job is announced again: consumers are
/// idempotent. `has_reply_address`: its submitter expects a reply, or may.
///
/// # Errors
/// RabbitMQ is unreachable or blocks publishers.
pub async fn announce(
    context: &WorkerContext,
    job: &JobSpec,
    state: JobState,
    has_reply_address: bool,
) -> Result<(), PublishError> {
    let topology = &context.topology;
    let message = message(job.id, &JobEvent::new(job, state));
    let key = topology.event_key(job, state, has_reply_address);
    context
        .publisher
        .announce(&topology.events_exchange(), &key, &message)
        .await
}

/// Builds a message about a job.
pub fn message(job: JobId, content: &impl Versioned) -> Message {
    Message {
        message_id: Some(job.to_string()),
        // Encoding cannot fail: string keys, no I/O.
        ..Message::new(content.encode().unwrap_or_default())
    }
}
