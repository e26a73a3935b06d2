//! One hop: consumes a message, publishes the next one, and acknowledges the first after the
//! confirm.

use anyhow::{bail, ensure};
use futures::TryStreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation, Connection, Consumer};
use warmq_broker::consumer;
use warmq_types::server_url::ServerUrl;

/// A consumer of one queue and a publisher to another one, on a connection of their own.
pub struct Hop {
    consumer: Consumer,
    publishing: Channel,
    to: &'static str,
    prefetch: u16,
    _connection: Connection,
}

impl Hop {
    /// Opens a hop with at most `prefetch` messages at a time.
    ///
    /// # Errors
    /// RabbitMQ is unreachable, or a queue does not exist.
    pub async fn open(
        url: &ServerUrl,
        from: &str,
        to: &'static str,
        prefetch: u16,
    ) -> anyhow::Result<Self> {
        let connection = warmq_broker::connect(url, "warmq-bench hop").await?;
        let consuming = consumer::channel(&connection, prefetch).await?;
        let publishing = connection.create_channel().await?;
        let confirms = ConfirmSelectOptions::default();
        publishing.confirm_select(confirms).await?;
        Ok(Self {
            consumer: consumer::consume(&consuming, from, "hop").await?,
            publishing,
            to,
            prefetch,
            _connection: connection,
        })
    }

    /// Publishes for each message what `next` makes of it.
    ///
    /// # Errors
    /// The connection broke, or `next` failed.
    pub async fn run(
        self,
        next: impl AsyncFn(&Delivery) -> anyhow::Result<Vec<u8>>,
    ) -> anyhow::Result<()> {
        let Self {
            consumer,
            publishing,
            to,
            prefetch,
            ..
        } = self;
        let forward = async |delivery: Delivery| {
            let body = next(&delivery).await?;
            let published = publishing.basic_publish(
                "".into(),
                to.into(),
                BasicPublishOptions {
                    mandatory: true,
                    ..BasicPublishOptions::default()
                },
                &body,
                delivery.properties.clone(),
            );
            let confirmed = published.await?.await?;
            let accepted = matches!(confirmed, Confirmation::Ack(None));
            ensure!(accepted, "RabbitMQ refused a message");
            delivery.ack(BasicAckOptions::default()).await?;
            Ok(())
        };
        consumer
            .map_err(anyhow::Error::from)
            .try_for_each_concurrent(usize::from(prefetch), forward)
            .await?;
        bail!("the queue is gone")
    }
}
