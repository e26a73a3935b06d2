//! Republishes jobs that were sent to an app without queues, because these were deleted or Redis
//! recovered before RabbitMQ. A message that is not a job becomes a dead letter.

use lapin::message::Delivery;
use tokio_util::sync::CancellationToken;
use warmq_broker::{DeadLetter, Message, Publisher, Topology, acknowledgement};
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::server_url::ServerUrl;

use crate::reconnecting_consumer::ReconnectingConsumer;
use crate::session_error::SessionError;

const PREFETCH: u16 = 16;

/// Consumer of unroutable messages.
pub struct Unroutable {
    /// RabbitMQ.
    pub amqp_url: ServerUrl,
    /// Its names.
    pub topology: Topology,
    /// For what is sent again.
    pub publisher: Publisher,
}

impl Unroutable {
    /// Republishes jobs until `shutdown`, reconnecting as needed.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let unroutable = ReconnectingConsumer {
            what: "what could not be routed",
            amqp_url: &self.amqp_url,
            topology: &self.topology,
            queue: self.topology.unroutable_queue(),
            prefetch: PREFETCH,
            max_concurrent: 1,
        };
        unroutable
            .each(&shutdown, |delivery| self.send_again(delivery))
            .await;
        Ok(())
    }

    async fn send_again(&self, delivery: Delivery) -> Result<(), SessionError> {
        let (topology, publisher) = (&self.topology, &self.publisher);
        match JobMessage::decode(&delivery.data) {
            Ok(JobMessage { job, .. }) => {
                tracing::warn!(job.id = %job.id, app = %job.app, "a job found no queue; declaring its app's and sending it again");
                topology
                    .declare_app(&publisher.channel().await?, &job.app)
                    .await?;
                let message = Message {
                    message_id: Some(job.id.to_string()),
                    ..Message::new(delivery.data.clone())
                }
                .returned();
                let key = topology.lane_key(&job.app, job.priority);
                let exchange = topology.dispatch_exchange();
                publisher.publish(&exchange, &key, &message).await?;
            }
            Err(error) => {
                tracing::warn!(%error, "dead-lettered a message that found no queue and cannot be read");
                let letter = DeadLetter::new(delivery.data.clone(), error.to_string()).message();
                let queue = topology.dead_submissions_queue();
                publisher.publish("", &queue, &letter).await?;
            }
        }
        acknowledgement::ack(&delivery.acker).await?;
        Ok(())
    }
}
