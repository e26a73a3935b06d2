//! The end of a job becomes an event in RabbitMQ if a role needs it, and in any case reaches the
//! requests that wait for it.

use std::time::Duration;

use futures::{FutureExt, StreamExt};
use reqwest::Method;
use serde_json::json;
use warmq_testkit::Testbed;
use warmq_tests::System;
use warmq_tests::amqp::{AmqpClient, next_end_event, with_id};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::flow::StepOf;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::{JobSpec, ReplyTo, StoredInput};
use warmq_types::state::JobState;

#[tokio::test]
async fn the_outbox_has_the_ends_with_a_routing_key_and_the_channel_has_all() {
    let testbed = Testbed::builder().start().await.unwrap();
    let (store, topology) = (testbed.store(), testbed.topology());
    let app = AppId::parse("a/b").unwrap();
    let job = || JobSpec::new(app.clone(), json!({}));
    let stored_input = Some(StoredInput {
        key: "inputs/a".to_owned(),
        bytes: 1,
        sha256: "0".repeat(64),
    });
    let reply_to = Some(ReplyTo {
        queue: "reply.a".to_owned(),
        correlation_id: None,
    });
    let step_of = Some(StepOf {
        route: app.clone(),
        flow: JobId::generate(),
        index: 0,
    });
    let webhook = Some("https://example.com/".to_owned());
    #[rustfmt::skip]
    let jobs = [
        (false, job()),
        (true, JobSpec { reply_to, ..job() }),
        (true, JobSpec { webhook, ..job() }),
        (true, JobSpec { step_of, ..job() }),
        (false, JobSpec { no_store: true, ..job() }),
        (false, JobSpec { stored_input: stored_input.clone(), ..job() }),
        (true, JobSpec { no_store: true, stored_input, ..job() }),
    ];
    let mut ends = store.jobs().ends().await.unwrap();
    for (has_event, job) in &jobs {
        store.jobs().create(job).await.unwrap();
        store.cancellation().cancel(&app, job.id).await.unwrap();
        let key = topology.event_key(job, JobState::Cancelled, job.reply_to.is_some());
        assert_eq!(key.is_some(), *has_event, "{job:?}");
        let published = tokio::time::timeout(TIMEOUT, ends.next()).await;
        assert_eq!(published.unwrap(), Some(job.id));
    }
    let kept = store.outbox().entries(&app, Duration::ZERO).await.unwrap();
    let needed = jobs.iter().filter(|(has_event, _)| *has_event);
    assert_eq!(kept, needed.map(|(_, job)| job.id).collect::<Vec<_>>());
    testbed.cleanup().await.unwrap();
}

#[tokio::test]
async fn only_a_job_with_a_reply_address_has_an_event_and_a_waiting_request_is_answered() {
    let system = System::start().await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut ends = user.end_events().await;
    let _worker = system.timed_worker("a").await;
    let path = format!("/run/{TIMED}");
    let answer = system
        .http(Method::POST, &path, &[], r#"{"run_ms": 1}"#)
        .await;
    assert_eq!(answer.body["runner"], "a", "{}", answer.body);
    let replies = format!("reply.{}", system.testbed.namespace());
    user.own_queue(&replies).await;
    let id = JobId::generate();
    user.submit(TIMED, r#"{"run_ms": 1}"#, with_id(id, &replies))
        .await;
    assert_eq!(next_end_event(&mut ends).await, (id, JobState::Succeeded));
    assert!(ends.next().now_or_never().is_none(), "one event");
    system.cleanup().await;
}
