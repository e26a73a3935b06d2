//! Acks and nacks that end. lapin writes them to the socket and waits for nothing else, yet the ack
//! of a message whose connection is lost at that moment may never complete (4.12.3), like publishes
//! then: <https://github.com/amqp-rs/lapin/issues/409>.

use std::io;
use std::time::Duration;

use lapin::Acker;
use lapin::options::{BasicAckOptions, BasicNackOptions};

/// Timeout of an ack or nack: then its connection is lost.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Acknowledges a message.
///
/// # Errors
/// The connection is lost: the broker redelivers the message.
pub async fn ack(acker: &Acker) -> lapin::Result<()> {
    within_timeout(acker.ack(BasicAckOptions::default())).await
}

/// Nacks a message. `requeue`: it returns to its queue; otherwise it is dead-lettered.
///
/// # Errors
/// The connection is lost: the broker redelivers the message.
pub async fn nack(acker: &Acker, requeue: bool) -> lapin::Result<()> {
    let options = BasicNackOptions {
        requeue,
        ..BasicNackOptions::default()
    };
    within_timeout(acker.nack(options)).await
}

async fn within_timeout(sent: impl Future<Output = lapin::Result<bool>>) -> lapin::Result<()> {
    match tokio::time::timeout(TIMEOUT, sent).await {
        Ok(sent) => sent.map(drop),
        Err(_) => {
            Err(io::Error::new(io::ErrorKind::TimedOut, "an ack was not sent in time").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_ack_that_never_completes_is_an_error() {
        let never = within_timeout(std::future::pending());
        let error = never.await.unwrap_err();
        assert!(error.to_string().contains("not sent in time"), "{error}");
        assert!(within_timeout(std::future::ready(Ok(true))).await.is_ok());
    }
}
