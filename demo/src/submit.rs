//! The two doors into the queue. A job is the same whichever it takes.

use warmq_cli::client::{Client, Submission};
use warmq_cluster::Cluster;
use warmq_common::amqp::Message;
use warmq_common::hint::Hint;
use warmq_common::ids::{AppId, JobId};

use crate::plan::{Order, Via};

/// Submits one job by its door, and returns its id.
///
/// # Errors
/// The router or RabbitMQ does not take it.
pub async fn submit(
    cluster: &Cluster,
    client: &Client,
    app: &AppId,
    order: &Order,
) -> anyhow::Result<JobId> {
    match order.via {
        Via::Http => by_http(client, app, order).await,
        Via::Amqp => by_amqp(cluster, app, order).await,
    }
}

async fn by_http(client: &Client, app: &AppId, order: &Order) -> anyhow::Result<JobId> {
    let submission = Submission::new(app.clone(), order.input()).hint(Hint::parse(order.model)?);
    Ok(client.submit(&submission).await?.request_id)
}

/// What any AMQP client does: publish the input to exchange `<namespace>.jobs`. The message's id becomes the job's.
async fn by_amqp(cluster: &Cluster, app: &AppId, order: &Order) -> anyhow::Result<JobId> {
    let id = JobId::generate();
    let message = Message {
        message_id: Some(id.to_string()),
        headers: vec![("x-runner-hint", order.model.to_owned())],
        ..Message::new(order.input().to_string().into_bytes())
    };
    let exchange = cluster.topology().jobs_exchange();
    cluster
        .publisher()
        .publish(&exchange, app.as_str(), &message)
        .await?;
    Ok(id)
}
