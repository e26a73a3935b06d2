//! The event at a job's end, and the format of messages about a job.

use warmq_broker::{Message, PublishError};
use warmq_types::ids::JobId;
use warmq_types::job::JobSpec;
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::state::JobState;

use crate::context::WorkerContext;

/// Publishes the event that a job ended, with this routing key. A redelivered job is announced
/// again: consumers are idempotent.
///
/// # Errors
/// RabbitMQ is unreachable or blocks publishers.
pub async fn announce(
    context: &WorkerContext,
    job: &JobSpec,
    state: JobState,
    key: &str,
) -> Result<(), PublishError> {
    let exchange = context.topology.events_exchange();
    let message = message(job.id, &JobEvent::new(job, state));
    context.publisher.announce(&exchange, key, &message).await
}

/// Builds a message about a job.
pub fn message(job: JobId, content: &impl Versioned) -> Message {
    Message {
        message_id: Some(job.to_string()),
        // Encoding cannot fail: string keys, no I/O.
        ..Message::new(content.encode().unwrap_or_default())
    }
}
