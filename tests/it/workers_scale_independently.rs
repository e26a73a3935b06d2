//! Workers join and leave at any time; each runner runs one job at a time.

use std::collections::BTreeSet;

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;
use warmq_testkit::{PrivateRabbit, Testbed, WorkerOptions, eventually};
use warmq_tests::System;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::ids::{AppId, JobId};
use warmq_types::state::JobState;

#[tokio::test]
async fn a_worker_that_joins_under_load_takes_jobs_within_two_seconds() {
    let system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let mut jobs = Vec::new();
    for n in 0..60 {
        jobs.push(system.submit(["x", "y", "z"][n % 3], 150).await);
    }
    let third = system.timed_worker("third").await;
    let joined_ms = third.runners()[0].since_ms;
    let mut first_start_ms = u64::MAX;
    for id in jobs {
        let job = system.succeeded(id).await;
        if job.runner.as_ref() == Some(third.runner()) {
            first_start_ms = first_start_ms.min(job.started_ms.unwrap());
        }
    }
    assert_ne!(first_start_ms, u64::MAX, "it took no job at all");
    let waited_ms = first_start_ms - joined_ms;
    assert!(
        waited_ms < 2000,
        "it took its first job after {waited_ms} ms"
    );
    system.cleanup().await;
}

#[tokio::test]
async fn the_runners_of_a_process_consume_on_one_channel_and_rejoin_if_it_is_lost() {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    let testbed = Testbed::builder().amqp_url(rabbit.url().expose());
    let system = System::of(testbed.start().await.unwrap()).await;
    let options = WorkerOptions {
        concurrency: 3,
        ..WorkerOptions::timed("a", TIMED)
    };
    let _worker = system.worker(options).await;
    let (before, channels) = consumed_queues(&rabbit).await;
    assert_eq!((before.len(), channels.len()), (3, 1));
    let running = system.submit("m", 3000).await;
    system.reached(running, JobState::Running).await;
    rabbit.ctl(&["eval", KILL_CHANNELS]).await.unwrap();
    let all_anew = eventually("all runners have joined again", TIMEOUT, async || {
        let (now, channels) = consumed_queues(&rabbit).await;
        (now.len() == 3 && now.is_disjoint(&before) && channels.len() == 1).then_some(())
    });
    all_anew.await.unwrap();
    // Its result counts, although its message is lost.
    let job = system.succeeded(running).await;
    assert_eq!(job.attempt, 1);
    system.succeeded(system.submit("m", 1).await).await;
    system.cleanup().await;
}

/// Kills the channels on which runners consume, in Erlang.
const KILL_CHANNELS: &str = r#"
    Runners = [Consumer || Consumer <- rabbit_amqqueue:consumers_all(<<"/">>),
        string:find(element(4, proplists:get_value(queue_name, Consumer)), ".runner.") =/= nomatch],
    [exit(Channel, kill) || Channel <-
        lists:usort([proplists:get_value(channel_pid, Consumer) || Consumer <- Runners])].
"#;

/// Returns the queues of runners that are consumed, and the channels on which they are.
async fn consumed_queues(rabbit: &PrivateRabbit) -> (BTreeSet<String>, BTreeSet<String>) {
    let list = ["list_consumers", "-q", "queue_name", "channel_pid"];
    let list = rabbit.ctl(&list).await.unwrap();
    let runners = list.lines().filter(|line| line.contains(".runner."));
    let columns = runners.filter_map(|line| line.split_once('\t'));
    columns
        .map(|(queue, channel)| (queue.to_owned(), channel.to_owned()))
        .unzip()
}

#[tokio::test]
async fn a_runner_runs_one_job_at_a_time_from_either_queue() {
    let system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
        system
            .worker(WorkerOptions {
                concurrency: 2,
                ..WorkerOptions::timed("c", TIMED)
            })
            .await,
    ];
    let mut jobs: Vec<JobId> = Vec::new();
    for n in 0..120 {
        jobs.push(system.submit(["x", "y", "z", "w", "v"][n % 5], 10).await);
    }
    let mut spans = Vec::new();
    for id in jobs {
        let job = system.succeeded(id).await;
        assert_eq!(job.attempt, 1);
        spans.push((
            job.runner.unwrap(),
            job.started_ms.unwrap(),
            job.finished_ms.unwrap(),
        ));
    }
    spans.sort();
    for pair in spans.windows(2) {
        let ((runner, _, end), (next_runner, start, _)) = (&pair[0], &pair[1]);
        assert!(
            runner != next_runner || end <= start,
            "{runner} ran two jobs at once"
        );
    }
    system.cleanup().await;
}

#[tokio::test]
async fn apps_do_not_share_runners() {
    let system = System::start().await;
    let _one = system.worker(WorkerOptions::timed("one", "team/one")).await;
    let _two = system.worker(WorkerOptions::timed("two", "team/two")).await;
    for _ in 0..5 {
        for (app, runner) in [("team/one", "one"), ("team/two", "two")] {
            let id = system
                .submit_to(app, "m", serde_json::json!({"run_ms": 1, "load_ms": 1}))
                .await;
            assert_eq!(system.succeeded(id).await.runner.unwrap().as_str(), runner);
        }
    }
    system.cleanup().await;
}

/// Run time of the jobs of the unloaded app, ms; waiting, loading and notification may take a fifth
/// of it.
const CALM_MS: u64 = 500;

/// Returns the 95th percentile of the jobs' latency, ms, with one or two jobs at a time.
async fn calm_p95_ms(system: &System) -> u64 {
    let mut took_ms = Vec::new();
    for _ in 0..15 {
        let pair = join_all([0, 1].map(|_| async {
            // Without a hint, since one of two would wait for the warm runner.
            let input = json!({"run_ms": CALM_MS}).to_string();
            let answer = system.post("acme/calm", &[], &input).await;
            let id = answer.job_id();
            let job = system.succeeded(id).await;
            job.finished_ms.unwrap() - job.spec.created_ms
        }));
        took_ms.extend(pair.await);
    }
    took_ms.sort_unstable();
    took_ms[took_ms.len() * 95 / 100]
}

#[tokio::test]
async fn a_saturated_app_does_not_affect_the_latency_of_others() {
    let system = System::start().await;
    let of_two = |name: &str| WorkerOptions {
        concurrency: 2,
        ..WorkerOptions::timed(name, &format!("acme/{name}"))
    };
    let _workers = [
        system.worker(of_two("calm")).await,
        system.worker(of_two("busy")).await,
    ];
    calm_p95_ms(&system).await; // Everything is up.
    let alone_ms = calm_p95_ms(&system).await;

    // Each of 60 clients submits the next job once the last one ended, to runners for two at a
    // time.
    let users = (0..60).map(async |user| {
        for n in 0.. {
            let input = json!({"run_ms": 50, "load_ms": 20}).to_string();
            let hint = format!("m{}", (user + n) % 7);
            let headers = [("x-fal-runner-hint", hint.as_str())];
            let ran = system.http(Method::POST, "/run/acme/busy", &headers, input);
            assert_eq!(ran.await.status, StatusCode::OK);
        }
    });
    let measured = async {
        let busy = AppId::parse("acme/busy").unwrap();
        let waiting = async || {
            (system
                .testbed
                .store()
                .jobs()
                .queue_length(&busy)
                .await
                .unwrap()
                > 40)
                .then_some(())
        };
        system
            .until("it is saturated", warmq_tests::system::TIMEOUT, waiting)
            .await;
        let loaded_ms = calm_p95_ms(&system).await;
        system
            .until("it is so still", warmq_tests::system::TIMEOUT, waiting)
            .await;
        loaded_ms
    };
    let loaded_ms = tokio::select! {
        loaded_ms = measured => loaded_ms,
        _ = join_all(users) => unreachable!("users never end"),
    };
    println!("p95 of the other app: {alone_ms} ms alone, {loaded_ms} ms beside a saturated one");
    assert!(
        loaded_ms * 100 <= alone_ms * 120,
        "{alone_ms} ms alone, {loaded_ms} ms beside a saturated app"
    );
    system.cleanup().await;
}
