//! Submissions by AMQP: the same jobs, results by id, replies, dead letters.

use lapin::BasicProperties;
use warmq_testkit::eventually;
use warmq_tests::amqp::{DIRECT_REPLY_TO, header, json, next, with_hint};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

#[tokio::test]
async fn a_published_job_runs_and_is_polled_by_its_id() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let id = JobId::generate();
    let properties = with_hint("m").with_message_id(id.to_string().into());
    // Published twice, as after a lost confirm: it is one job.
    for _ in 0..2 {
        user.submit(
            TIMED,
            r#"{"run_ms": 5, "load_ms": 5, "output": "done"}"#,
            properties.clone(),
        )
        .await;
    }
    eventually("the job is known", TIMEOUT, async || {
        system.testbed.store().jobs().job(id).await.unwrap()
    })
    .await
    .unwrap();
    let job = system.succeeded(id).await;
    assert_eq!(job.spec.hint.unwrap().as_str(), "m");
    let result = system.get(&format!("/queue/{TIMED}/requests/{id}")).await;
    assert_eq!(result.body, "done");
    // The copy behind it is dropped, not run again.
    let last = system.submit("m", 1).await;
    system.succeeded(last).await;
    assert_eq!(system.job(id).await.attempt, 1);
    system.cleanup().await;
}

#[tokio::test]
async fn the_reply_carries_the_outcome() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut direct = user.consume(DIRECT_REPLY_TO).await;
    let named = format!("reply.{}", system.testbed.namespace());
    user.own_queue(&named).await;
    let mut own = user.consume(&named).await;
    for (queue, replies) in [(DIRECT_REPLY_TO, &mut direct), (named.as_str(), &mut own)] {
        let properties = with_hint("m")
            .with_reply_to(queue.into())
            .with_correlation_id("mine".into());
        user.submit(
            TIMED,
            r#"{"run_ms": 5, "load_ms": 5, "output": {"n": 1}}"#,
            properties,
        )
        .await;
        let reply = next(replies).await;
        let body = json(&reply);
        assert_eq!(
            reply.properties.correlation_id().as_ref().unwrap().as_str(),
            "mine"
        );
        assert_eq!(
            (&body["status"], &body["payload"]["n"]),
            (&"OK".into(), &1.into())
        );
    }
    let properties = BasicProperties::default().with_reply_to(DIRECT_REPLY_TO.into());
    user.submit(TIMED, r#"{"run_ms": 5, "fail": "no"}"#, properties)
        .await;
    let body = json(&next(&mut direct).await);
    assert_eq!(
        (&body["status"], &body["error"]),
        (&"ERROR".into(), &"no".into())
    );
    system.cleanup().await;
}

#[tokio::test]
async fn an_invalid_message_is_dead_lettered_with_the_reason_and_replied_to() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let topology = system.testbed.topology();
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    // The app's queues exist after its first job.
    system.succeeded(system.submit("m", 1).await).await;
    let app = TIMED.parse().unwrap();
    let mut dead = user.consume(&topology.dead_queue(&app)).await;
    let mut dead_submissions = user.consume(&topology.dead_submissions_queue()).await;
    let with_reply = || BasicProperties::default().with_reply_to(DIRECT_REPLY_TO.into());

    for (app, body, reason, known_app) in [
        (TIMED, "{oops", "not JSON", true),
        (TIMED, r#"{"run_ms": "long"}"#, "run_ms", true),
        ("no/where", "{}", "no/where", false),
        ("No App", "{}", "No App", false),
    ] {
        user.submit(app, body, with_reply()).await;
        let letters = match known_app {
            true => &mut dead,
            false => &mut dead_submissions,
        };
        let letter = next(letters).await;
        assert_eq!(letter.data, body.as_bytes());
        let reported = header(&letter, "x-warmq-reason");
        assert!(reported.contains(reason), "{reported}");
        let reply = json(&next(&mut replies).await);
        assert_eq!(reply["status"], "ERROR");
        assert!(reply["error"].as_str().unwrap().contains(reason), "{reply}");
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_reply_to_another_clients_queue_is_refused() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let user = AmqpClient::connect(&system.testbed).await;
    system.succeeded(system.submit("m", 1).await).await;
    let app = TIMED.parse().unwrap();
    let mut dead = user
        .consume(&system.testbed.topology().dead_queue(&app))
        .await;
    let foreign = system.testbed.topology().submissions_queue();
    let id = JobId::generate();
    let properties = BasicProperties::default()
        .with_reply_to(foreign.as_str().into())
        .with_message_id(id.to_string().into());
    user.submit(TIMED, r#"{"run_ms": 1}"#, properties).await;
    let letter = next(&mut dead).await;
    assert!(header(&letter, "x-warmq-reason").contains("invalid reply queue"));
    assert!(
        system
            .testbed
            .store()
            .jobs()
            .job(id)
            .await
            .unwrap()
            .is_none()
    );
    system.cleanup().await;
}

#[tokio::test]
async fn http_and_amqp_jobs_share_one_queue() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut jobs = Vec::new();
    for n in 0..20 {
        if n % 2 == 0 {
            jobs.push(system.submit("m", 5).await);
        } else {
            let id = JobId::generate();
            let properties = with_hint("m").with_message_id(id.to_string().into());
            user.submit(TIMED, r#"{"run_ms": 5}"#, properties).await;
            jobs.push(id);
        }
    }
    for id in jobs {
        eventually("the job succeeded", TIMEOUT, async || {
            let job = system.testbed.store().jobs().job(id).await.unwrap()?;
            (job.state == JobState::Succeeded).then_some(())
        })
        .await
        .unwrap();
    }
    system.cleanup().await;
}
