//! A channel in confirm mode that many messages in flight share, which costs RabbitMQ less than a
//! channel each: it is one process there, and confirms several messages at once.

use std::sync::Arc;

use futures::future::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use lapin::Channel;
use tokio::sync::{mpsc, oneshot};

use super::outcomes::{Outcome, Outcomes};
use super::publish::Publish;

/// Requests that the task has not taken yet.
const MAX_REQUESTS: usize = 64;

/// A handle on the channel; its last one ends the task that publishes.
#[derive(Clone)]
pub(super) struct SharedChannel {
    channel: Channel,
    requests: mpsc::Sender<Request>,
}

struct Request {
    publish: Arc<Publish>,
    outcome: oneshot::Sender<lapin::Result<Outcome>>,
}

impl SharedChannel {
    /// Publishes on a channel in confirm mode from now on.
    pub(super) fn start(channel: Channel) -> Self {
        let (requests, received) = mpsc::channel(MAX_REQUESTS);
        tokio::spawn(publish_all(channel.clone(), received));
        Self { channel, requests }
    }

    pub(super) fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Publishes and waits for the outcome; `None` if the process ends first.
    pub(super) async fn publish(&self, publish: Arc<Publish>) -> Option<lapin::Result<Outcome>> {
        let (outcome, received) = oneshot::channel();
        self.requests
            .send(Request { publish, outcome })
            .await
            .ok()?;
        received.await.ok()
    }
}

/// Publishes until all handles are gone. On a closed channel, all publishes fail.
async fn publish_all(channel: Channel, mut requests: mpsc::Receiver<Request>) {
    let mut confirms = FuturesUnordered::new();
    let mut outcomes = Outcomes::default();
    loop {
        tokio::select! {
            biased;
            Some((number, confirm)) = confirms.next() => {
                outcomes.confirmed(number, confirm);
                // The return of a message may be on any confirm that came before its own.
                while let Some(Some((number, confirm))) = confirms.next().now_or_never() {
                    outcomes.confirmed(number, confirm);
                }
                for (waiter, outcome) in outcomes.settle() {
                    // Its publisher may have given up.
                    let _: Result<_, _> = oneshot::Sender::send(waiter, outcome);
                }
            }
            request = requests.recv() => {
                let Some(Request { publish, outcome }) = request else {
                    return;
                };
                let number = outcomes.published(publish.address(), outcome);
                let channel = &channel;
                confirms.push(async move { (number, publish.on(channel).await) });
            }
        }
    }
}
