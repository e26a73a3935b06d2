//! RabbitMQ requeues a message that is unacknowledged for long (`consumer_timeout`, half an hour).
//! Jobs may run or wait longer, and run once.

use std::time::Duration;

use warmq_testkit::{PrivateRabbit, Testbed};
use warmq_tests::System;
use warmq_tests::system::TIMED;
use warmq_types::state::JobState;

/// Several times the broker's timeout.
const LONG_MS: u64 = 14_000;
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Two attempts of 4 s and the pause between, with room for a busy machine; reconcile begins after
/// 60 s.
const BEFORE_RECONCILE: Duration = Duration::from_secs(40);

/// A broker with a `consumer_timeout` of 6 s, checked twice a second instead of once a minute.
async fn broker_with_short_timeout() -> PrivateRabbit {
    let rabbit = PrivateRabbit::start(&["consumer_timeout = 6000"]);
    let rabbit = rabbit.await.unwrap();
    let look = "application:set_env(rabbit, channel_tick_interval, 500).";
    rabbit.ctl(&["eval", look]).await.unwrap();
    rabbit
}

fn timed_out(rabbit: &PrivateRabbit) -> bool {
    let log = std::fs::read_to_string(rabbit.log()).unwrap();
    log.contains("has timed out waiting for delivery acknowledgement")
}

async fn system_of(rabbit: &PrivateRabbit, config: &str) -> System {
    let testbed = Testbed::builder().amqp_url(rabbit.url().expose());
    System::of(testbed.config(config).start().await.unwrap()).await
}

#[tokio::test]
async fn a_job_longer_than_the_consumer_timeout_runs_once() {
    let rabbit = broker_with_short_timeout().await;
    let system = system_of(&rabbit, "consumer_timeout = '6s'").await;
    let _worker = system.timed_worker("a").await;
    let long = system.submit("m", LONG_MS).await;
    system.reached(long, JobState::Running).await;
    let held = system.submit("m", 1).await;
    for id in [long, held] {
        let job = system.ended_within(id, WAIT_TIMEOUT).await;
        assert_eq!((job.state, job.attempt), (JobState::Succeeded, 1));
    }
    assert_eq!(
        system.succeeded(system.submit("m", 1).await).await.attempt,
        1
    );
    assert!(!timed_out(&rabbit));
    system.cleanup().await;
}

#[tokio::test]
async fn a_consumer_timeout_causes_no_second_run() {
    let rabbit = broker_with_short_timeout().await;
    // The worker has another setting.
    let system = system_of(&rabbit, "").await;
    let worker = system.timed_worker("a").await;
    let long = system.submit("m", LONG_MS).await;
    let job = system.ended_within(long, WAIT_TIMEOUT).await;
    assert_eq!((job.state, job.attempt), (JobState::Succeeded, 1));
    assert_eq!(job.runner.as_ref(), Some(worker.runner()));
    assert!(timed_out(&rabbit));
    system.succeeded(system.submit("m", 1).await).await;
    system.cleanup().await;
}

#[tokio::test]
async fn a_different_consumer_timeout_of_the_broker_is_logged() {
    let rabbit = broker_with_short_timeout().await;
    // The router has the default.
    let system = system_of(&rabbit, "").await;
    let _worker = system.timed_worker("a").await;
    let long = system.submit("m", LONG_MS).await;
    system.reached(long, JobState::Running).await;
    let held = system.submit("m", 1).await;
    system
        .until("it is warned of", WAIT_TIMEOUT, async || {
            let warnings = system.get("/readyz").await.body["warnings"].to_string();
            warnings.contains("--consumer-timeout 6000ms").then_some(())
        })
        .await;
    assert_eq!(system.ended_within(held, WAIT_TIMEOUT).await.attempt, 1);
    system.cleanup().await;
}

#[tokio::test]
async fn the_next_attempt_after_a_timeout_does_not_wait_for_the_parked_copy() {
    let config = format!(
        "consumer_timeout = '3s'\n[apps.'{TIMED}']\nrun_timeout = '4s'\nmax_attempts = 2\n"
    );
    let system = System::with_config(&config).await;
    let _workers = (
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    );
    // Its message is acknowledged after 2 s, and a copy parked for 10 min.
    let job = system.submit("m", LONG_MS).await;
    let ended = system.ended_within(job, BEFORE_RECONCILE).await;
    assert_eq!((ended.state, ended.attempt), (JobState::Failed, 2));
    system.cleanup().await;
}
