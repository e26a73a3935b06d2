//! Each publisher receives the outcome of its own message, however many are in flight.

use futures::future::join_all;
use warmq_broker::{Message, PublishError};
use warmq_tests::{AmqpClient, System};

const MESSAGES: usize = 400;

#[tokio::test]
async fn a_returned_message_fails_only_its_own_publish() {
    let system = System::start().await;
    let user = AmqpClient::connect(&system.testbed).await;
    let there = format!("{}.there", system.testbed.namespace());
    user.own_queue(&there).await;
    let publisher = system.testbed.publisher();
    let outcomes = join_all((0..MESSAGES).map(async |n| {
        let queue = if n % 2 == 0 { &there } else { "nowhere" };
        let message = Message::new(vec![b'x'; 1000]);
        publisher.publish("", queue, &message).await
    }));
    for (n, outcome) in outcomes.await.into_iter().enumerate() {
        match outcome {
            Ok(()) => assert_eq!(n % 2, 0, "number {n} was lost"),
            Err(PublishError::Returned { .. }) => assert_eq!(n % 2, 1, "number {n} arrived"),
            Err(error) => panic!("{error}"),
        }
    }
    system.cleanup().await;
}
