//! Submission by HTTP and AMQP. Both create the same job.

use warmq_broker::Message;
use warmq_cli::client::{Client, Submission};
use warmq_testkit::Testbed;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId};

use crate::plan::{PlannedJob, Via};
use crate::routing::Routing;

/// Submits jobs.
pub struct Submitter<'a> {
    /// The testbed, for its exchange `jobs`.
    pub testbed: &'a Testbed,
    /// The HTTP API.
    pub client: &'a Client,
    /// The app.
    pub app: &'a AppId,
    /// Whether jobs have hints.
    pub routing: Routing,
}

impl Submitter<'_> {
    /// Submits one job and returns its id.
    ///
    /// # Errors
    /// The router or RabbitMQ rejects the job.
    pub async fn submit(&self, planned: &PlannedJob) -> anyhow::Result<JobId> {
        let hint = self.routing.hint(planned)?;
        match planned.via {
            Via::Http => self.submit_http(planned, hint).await,
            Via::Amqp => self.submit_amqp(planned, hint).await,
        }
    }

    async fn submit_http(&self, planned: &PlannedJob, hint: Option<Hint>) -> anyhow::Result<JobId> {
        let submission = Submission::new(self.app.clone(), planned.input());
        let submission = match hint {
            Some(hint) => submission.hint(hint),
            None => submission,
        };
        Ok(self.client.submit(&submission).await?.request_id)
    }

    /// Publishes the input to exchange `<namespace>.jobs`, as any AMQP client does. The message id
    /// becomes the job's id.
    async fn submit_amqp(&self, planned: &PlannedJob, hint: Option<Hint>) -> anyhow::Result<JobId> {
        let id = JobId::generate();
        let hint = hint.map(|hint| ("x-runner-hint".to_owned(), hint.into()));
        let message = Message {
            message_id: Some(id.to_string()),
            headers: hint.into_iter().collect(),
            ..Message::new(planned.input().to_string().into_bytes())
        };
        let exchange = self.testbed.topology().jobs_exchange();
        self.testbed
            .publisher()
            .publish(&exchange, self.app.as_str(), &message)
            .await?;
        Ok(id)
    }
}
