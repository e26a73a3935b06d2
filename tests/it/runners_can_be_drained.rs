//! `warmq runners drain`: a runner takes no further job, ends the one that it has, and leaves.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use warmq_store::{Claim, Start, StartSource};
use warmq_testkit::{Testbed, WorkerOptions, decision, registration};
use warmq_tests::program::Output;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{Program, System};
use warmq_types::ids::{AppId, Epoch, RunnerId};
use warmq_types::job::JobSpec;
use warmq_types::state::JobState;

/// Duration of a job during which the runner sends heartbeats, ms.
const LONG_MS: u64 = 6_000;

async fn drain(system: &System, runner: &str) -> (StatusCode, Value) {
    let path = format!("/v1/runners/{runner}/drain");
    let response = system.http(Method::POST, &path, &[], "").await;
    (response.status, response.body)
}

async fn warmq(system: &System, args: &[&str]) -> Output {
    let url = ["--url", system.router.url()];
    Program::new("warmq", &[&url, args].concat()).run().await
}

#[tokio::test]
async fn a_drained_runner_ends_its_job_and_its_process_takes_no_other_and_exits() {
    let system = System::start().await;
    let mut leaving = system.timed_worker("leaving").await;
    let long = system.submit("m", LONG_MS).await;
    system.reached(long, JobState::Running).await;
    let output = warmq(&system, &["runners", "drain", "leaving", "--app", TIMED]).await;
    let expected = format!("leaving leaves after job {long}; see `warmq runners`\n");
    assert_eq!((output.code, &*output.out), (Some(0), &*expected));
    // A request that is repeated has no further effect.
    let (status, record) = drain(&system, "leaving").await;
    assert_eq!(
        (status, &record["draining"]),
        (StatusCode::ACCEPTED, &json!(true))
    );
    let listed = warmq(&system, &["runners"]).await.out;
    assert!(
        listed.contains(&format!("draining, job {long}")),
        "{listed}"
    );
    let listed = system.get("/v1/runners").await.body;
    assert_eq!(listed["runners"][0]["draining"], true, "{listed}");

    // It has the model, and its job would end first.
    let next = system.submit("m", 1).await;
    let staying = system.timed_worker("staying").await;
    let next = system.succeeded(next).await;
    assert_eq!(next.runner.as_ref(), Some(staying.runner()));
    assert!(
        leaving.wait(TIMEOUT).await.unwrap().success(),
        "{}",
        leaving.log_tail()
    );
    let long = system.job(long).await;
    assert_eq!((long.state, long.attempt), (JobState::Succeeded, 1));
    let (status, body) = drain(&system, "leaving").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    assert!(
        warmq(&system, &["runners", "drain", "leaving"])
            .await
            .err
            .contains("lapsed")
    );
    system.cleanup().await;
}

#[tokio::test]
async fn an_idle_runner_leaves_and_the_others_of_its_process_work_until_they_are_drained() {
    let system = System::start().await;
    let options = WorkerOptions {
        concurrency: 3,
        ..WorkerOptions::timed("three", TIMED)
    };
    let mut worker = system.worker(options).await;
    let names: Vec<String> = worker
        .runners()
        .iter()
        .map(|runner| runner.id.to_string())
        .collect();
    drain(&system, &names[0]).await;
    // It is not claimed while it still is registered.
    for _ in 0..6 {
        let job = system.succeeded(system.submit("", 20).await).await;
        assert_ne!(job.runner.unwrap().as_str(), names[0]);
    }
    let left = async |count: usize| {
        system
            .until("the drained runners left", TIMEOUT, async || {
                (system.runners(TIMED).await.len() == count).then_some(())
            })
            .await;
    };
    left(2).await;
    assert_eq!(worker.ended(), None);
    let running = system.submit("", 1_000).await;
    for name in &names[1..] {
        assert_eq!(drain(&system, name).await.0, StatusCode::ACCEPTED);
    }
    assert!(
        worker.wait(TIMEOUT).await.unwrap().success(),
        "{}",
        worker.log_tail()
    );
    left(0).await;
    // Whether or not it had been sent to one of them, no attempt was lost.
    let _next = system.timed_worker("next").await;
    assert_eq!(system.succeeded(running).await.attempt, 1);
    system.cleanup().await;
}

#[tokio::test]
async fn a_drain_needs_no_router_once_it_is_accepted() {
    let mut system = System::start().await;
    let mut worker = system.timed_worker("a").await;
    let job = system.submit("m", LONG_MS).await;
    system.reached(job, JobState::Running).await;
    assert_eq!(drain(&system, "a").await.0, StatusCode::ACCEPTED);
    system.router.kill9().await.unwrap();
    assert!(
        worker.wait(TIMEOUT).await.unwrap().success(),
        "{}",
        worker.log_tail()
    );
    assert_eq!(system.job(job).await.state, JobState::Succeeded);
    assert!(system.runners(TIMED).await.is_empty());
    system.cleanup().await;
}

#[tokio::test]
async fn a_draining_runner_leaves_the_jobs_of_the_shared_queue_to_others() {
    let system = System::with_config(&format!("[apps.'{TIMED}']\npolicy = 'fal'")).await;
    let mut leaving = system.timed_worker("leaving").await;
    let running = system.submit("m", 1_500).await;
    system.reached(running, JobState::Running).await;
    let mut waiting = Vec::new();
    for _ in 0..5 {
        waiting.push(system.submit("m", 1).await);
    }
    drain(&system, "leaving").await;
    assert!(
        leaving.wait(TIMEOUT).await.unwrap().success(),
        "{}",
        leaving.log_tail()
    );
    assert_eq!(system.job(running).await.state, JobState::Succeeded);
    for job in &waiting {
        assert_eq!(system.job(*job).await.attempt, 0);
    }
    let staying = system.timed_worker("staying").await;
    for job in waiting {
        let job = system.succeeded(job).await;
        assert_eq!(
            (job.runner.as_ref(), job.attempt),
            (Some(staying.runner()), 1)
        );
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_drain_concerns_a_process_and_all_its_incarnations() {
    let testbed = Testbed::builder().start().await.unwrap();
    let (membership, app) = (testbed.store().membership(), AppId::parse("a/b").unwrap());
    let runner = RunnerId::parse("gpu-1").unwrap();
    let lease = Duration::from_secs(60);
    let register = async |instance: &str, epoch: u64| {
        let mut incarnation = registration(&app, &runner);
        incarnation.instance = instance.to_owned();
        incarnation.epoch = Epoch(epoch);
        membership
            .register(&incarnation, &json!(true), lease)
            .await
            .unwrap();
    };
    let draining = async |epoch: u64| {
        let heartbeat = membership
            .heartbeat(&app, &runner, Epoch(epoch), lease, false)
            .await;
        let is_draining = heartbeat.unwrap().unwrap().is_draining;
        let listed = testbed.store().runners().list(&app).await.unwrap();
        assert_eq!(
            (listed[0].draining, listed[0].idle),
            (is_draining, !is_draining)
        );
        is_draining
    };
    assert!(
        !membership.drain(&app, &runner).await.unwrap(),
        "it does not exist"
    );
    register("one", 1).await;
    assert!(!draining(1).await);
    assert!(membership.drain(&app, &runner).await.unwrap());
    assert!(draining(1).await);

    // No dispatcher sends a job to it, and it takes none by itself.
    let job = JobSpec::new(app.clone(), json!({}));
    testbed.store().jobs().create(&job).await.unwrap();
    let claim = testbed.store().placement();
    let claimed = claim
        .claim(&app, job.id, &runner, 1000, &decision(&runner))
        .await;
    assert_eq!(claimed.unwrap(), Claim::Refused);
    let attempts = testbed.store().attempts();
    let shared = StartSource::SharedQueue;
    let started = attempts
        .start(&app, job.id, &runner, Epoch(1), 1000, shared)
        .await;
    assert!(matches!(started.unwrap(), Start::Draining));
    let feed = testbed.store().runner_feed();
    assert_eq!(feed.availability(&app).await.unwrap(), []);

    // It lost its connection to RabbitMQ.
    membership.leave(&app, &runner, Epoch(1)).await.unwrap();
    register("one", 2).await;
    assert!(draining(2).await);
    // Its supervisor started another process.
    register("two", 3).await;
    assert!(!draining(3).await);
    register("two", 4).await;
    assert!(!draining(4).await);
    testbed.cleanup().await.unwrap();
}
