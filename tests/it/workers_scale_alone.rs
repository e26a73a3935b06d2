//! Workers come and go by themselves; each runs one job at a time.

use warmq_cluster::WorkerOptions;
use warmq_common::ids::JobId;
use warmq_tests::Stage;
use warmq_tests::stage::TIMED;

#[tokio::test]
async fn a_worker_that_joins_under_load_takes_jobs_within_two_seconds() {
    let stage = Stage::start().await;
    let _workers = [stage.timed("a").await, stage.timed("b").await];
    let mut jobs = Vec::new();
    for n in 0..60 {
        jobs.push(stage.submit(["x", "y", "z"][n % 3], 150).await);
    }
    let third = stage.timed("third").await;
    let joined_ms = third.runners()[0].since_ms;
    let mut first_start_ms = u64::MAX;
    for id in jobs {
        let job = stage.succeeded(id).await;
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
    stage.clean_up().await;
}

#[tokio::test]
async fn a_runner_runs_one_job_at_a_time_whichever_queue_it_came_by() {
    let stage = Stage::start().await;
    let _workers = [
        stage.timed("a").await,
        stage.timed("b").await,
        stage
            .worker(WorkerOptions {
                concurrency: 2,
                ..WorkerOptions::timed("c", TIMED)
            })
            .await,
    ];
    let mut jobs: Vec<JobId> = Vec::new();
    for n in 0..120 {
        jobs.push(stage.submit(["x", "y", "z", "w", "v"][n % 5], 10).await);
    }
    let mut spans = Vec::new();
    for id in jobs {
        let job = stage.succeeded(id).await;
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
    stage.clean_up().await;
}

#[tokio::test]
async fn apps_do_not_share_runners() {
    let stage = Stage::start().await;
    let _one = stage.worker(WorkerOptions::timed("one", "team/one")).await;
    let _two = stage.worker(WorkerOptions::timed("two", "team/two")).await;
    for _ in 0..5 {
        for (app, runner) in [("team/one", "one"), ("team/two", "two")] {
            let id = stage
                .submit_to(app, "m", serde_json::json!({"run_ms": 1, "load_ms": 1}))
                .await;
            assert_eq!(stage.succeeded(id).await.runner.unwrap().as_str(), runner);
        }
    }
    stage.clean_up().await;
}
