//! The two doors into the queue. A job is the same whichever it takes.

use warmq_broker::Message;
use warmq_cli::client::{Client, Submission};
use warmq_testkit::Testbed;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId};

use crate::plan::{Order, Via};
use crate::routing::Routing;

/// Where jobs go in.
pub struct Door<'a> {
    /// Has the exchange `jobs`.
    pub cluster: &'a Testbed,
    /// The HTTP API.
    pub client: &'a Client,
    /// What runs them.
    pub app: &'a AppId,
    /// Whether they carry hints.
    pub routing: Routing,
}

impl Door<'_> {
    /// Submits one job, and returns its id.
    ///
    /// # Errors
    /// The router or RabbitMQ does not take it.
    pub async fn submit(&self, order: &Order) -> anyhow::Result<JobId> {
        let hint = self.routing.hint(order)?;
        match order.via {
            Via::Http => self.by_http(order, hint).await,
            Via::Amqp => self.by_amqp(order, hint).await,
        }
    }

    async fn by_http(&self, order: &Order, hint: Option<Hint>) -> anyhow::Result<JobId> {
        let submission = Submission::new(self.app.clone(), order.input());
        let submission = match hint {
            Some(hint) => submission.hint(hint),
            None => submission,
        };
        Ok(self.client.submit(&submission).await?.request_id)
    }

    /// What any AMQP client does: publish the input to exchange `<namespace>.jobs`. The message's id becomes the job's.
    async fn by_amqp(&self, order: &Order, hint: Option<Hint>) -> anyhow::Result<JobId> {
        let id = JobId::generate();
        let hint = hint.map(|hint| ("x-runner-hint".to_owned(), hint.into()));
        let message = Message {
            message_id: Some(id.to_string()),
            headers: hint.into_iter().collect(),
            ..Message::new(order.input().to_string().into_bytes())
        };
        let exchange = self.cluster.topology().jobs_exchange();
        self.cluster
            .publisher()
            .publish(&exchange, self.app.as_str(), &message)
            .await?;
        Ok(id)
    }
}
