//! A cancelled job ends at once in any state, and its runner takes the next one.

use std::time::{Duration, Instant};

use lapin::BasicProperties;
use reqwest::{Method, StatusCode};
use serde_json::json;
use warmq_testkit::{WorkerOptions, eventually};
use warmq_tests::amqp::{DIRECT_REPLY_TO, json as body_of, next};
use warmq_tests::metrics::Page;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, HttpResponse, System};
use warmq_types::ids::JobId;
use warmq_types::job::Phase;
use warmq_types::state::JobState;

/// An app without workers.
const NAMED: &str = "[apps.'bench/timed']";

async fn cancel(system: &System, app: &str, id: JobId) -> HttpResponse {
    let path = format!("/queue/{app}/requests/{id}/cancel");
    system.http(Method::PUT, &path, &[], "").await
}

/// Cancels, and checks what fal's clients see.
async fn cancelled(system: &System, id: JobId) {
    let answer = cancel(system, TIMED, id).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert_eq!(answer.body, json!({"status": "CANCELLATION_REQUESTED"}));
    assert_eq!(answer.headers["x-fal-request-id"], id.to_string());
    let base = format!("/queue/{TIMED}/requests/{id}");
    let status = system.get(&format!("{base}/status")).await;
    assert_eq!(status.status, StatusCode::OK);
    assert_eq!(status.body["status"], "COMPLETED");
    assert_eq!(status.body["error_type"], "client_cancelled");
    let result = system.get(&base).await;
    assert_eq!(result.status.as_u16(), 499);
    assert_eq!(result.body["error_type"], "client_cancelled");
    let job = system.job(id).await;
    assert_eq!(job.state, JobState::Cancelled);
    assert!(job.finished_ms.is_some());
}

/// Waits until the dispatcher holds `count` jobs.
async fn held(system: &System, jobs: f64) {
    eventually(&format!("{jobs} jobs are held"), TIMEOUT, async || {
        let page = Page::read(&String::from_utf8(system.get("/metrics").await.bytes).unwrap());
        (page.get("warmq_held_jobs", &[("app", TIMED)]) == Some(jobs)).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_cancelled_held_job_ends_at_once_and_never_runs() {
    let system = System::with_config(NAMED).await;
    let [first, second] = [system.submit("m", 1).await, system.submit("m", 1).await];
    held(&system, 2.0).await;
    cancelled(&system, first).await;
    held(&system, 1.0).await;
    let status = system
        .get(&format!("/queue/{TIMED}/requests/{second}/status"))
        .await;
    assert_eq!(status.body["queue_position"], 0);
    let _worker = system.timed_worker("a").await;
    system.succeeded(second).await;
    assert_eq!(system.job(first).await.attempt, 0);
    system.cleanup().await;
}

#[tokio::test]
async fn a_cancelled_low_job_under_policy_fal_ends_at_once() {
    let system = System::with_config("[apps.'bench/timed']\npolicy = 'fal'").await;
    let _worker = system.timed_worker("a").await;
    let busy = system.submit("m", 60_000).await;
    system.reached(busy, JobState::Running).await;
    let waiting = system.submit("m", 1).await;
    system.reached(waiting, JobState::Dispatched).await;
    let headers = [("x-fal-queue-priority", "low")];
    let answer = system.post(TIMED, &headers, r#"{"run_ms": 1}"#).await;
    let low = answer.job_id();
    held(&system, 1.0).await;
    cancelled(&system, low).await;
    held(&system, 0.0).await;
    // In the shared queue: the message stays, and no runner starts it.
    cancelled(&system, waiting).await;
    cancelled(&system, busy).await;
    system.succeeded(system.submit("m", 1).await).await;
    assert_eq!(system.job(waiting).await.attempt, 0);
    system.cleanup().await;
}

#[tokio::test]
async fn a_cancelled_job_in_a_runners_queue_never_starts() {
    let system = System::start().await;
    let options = WorkerOptions::timed("a", TIMED).args(["--accept-timeout-ms", "60000"]);
    let worker = system.worker(options).await;
    worker.freeze().unwrap();
    let id = system.submit("m", 1).await;
    system.reached(id, JobState::Dispatched).await;
    cancelled(&system, id).await;
    worker.resume().unwrap();
    let next = system.submit("m", 1).await;
    system.succeeded(next).await;
    assert_eq!(system.job(id).await.attempt, 0);
    system.cleanup().await;
}

#[tokio::test]
async fn a_cancelled_running_job_stops_within_100_ms_and_its_runner_stays_warm() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(system.submit("m", 1).await).await;
    let mut fastest = Duration::MAX;
    for _ in 0..5 {
        let id = system.submit("m", 10_000).await;
        system.reached(id, JobState::Running).await;
        let asked = Instant::now();
        let answer = cancel(&system, TIMED, id).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
        while !system.runners(TIMED).await[0].idle {
            assert!(asked.elapsed() < TIMEOUT, "the runner is not free");
            tokio::task::yield_now().await;
        }
        println!("the runner was free after {:?}", asked.elapsed());
        fastest = fastest.min(asked.elapsed());
        assert_eq!(system.job(id).await.state, JobState::Cancelled);
    }
    // The best of five, since a busy machine adds delays.
    assert!(fastest < Duration::from_millis(100), "{fastest:?}");
    let next = system.succeeded(system.submit("m", 1).await).await;
    assert!(next.timings.unwrap().warm);
    system.cleanup().await;
}

#[tokio::test]
async fn a_cancelled_diffusion_job_stops_within_a_step() {
    const APP: &str = "warmq/diffusion";
    let system = System::start().await;
    let models = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
    let _painter = system
        .worker(WorkerOptions::diffusion("painter", APP, models))
        .await;
    let input = json!({"prompt": "a red circle on a blue background", "steps": 200});
    let id = system.submit_to(APP, "shapes", input).await;
    let step = eventually("the job paints", TIMEOUT, async || {
        let progress = system.job(id).await.progress?;
        (progress.phase == Phase::Running && progress.step > 0).then_some(progress.step)
    })
    .await
    .unwrap();
    assert!(step < 150, "the test was too slow for a verdict");
    let asked = Instant::now();
    let answer = cancel(&system, APP, id).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    system.all_idle(APP).await;
    println!("the painter was free after {:?}", asked.elapsed());
    let input = json!({"prompt": "a green star on a black background", "steps": 1});
    let next = system
        .succeeded(system.submit_to(APP, "shapes", input).await)
        .await;
    assert!(next.timings.unwrap().warm);
    assert_eq!(system.job(id).await.state, JobState::Cancelled);
    let page = String::from_utf8(system.get("/metrics").await.bytes).unwrap();
    // No picture was made: only the second job counts as run.
    let hits = [("app", APP), ("hint", "shapes")];
    assert_eq!(Page::read(&page).get("warmq_cold_loads_total", &hits), None);
    system.cleanup().await;
}

#[tokio::test]
async fn cancelling_an_ended_job_changes_nothing_and_an_unknown_one_is_not_found() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let done = system.submit("m", 1).await;
    system.succeeded(done).await;
    let answer = cancel(&system, TIMED, done).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.body, json!({"status": "ALREADY_COMPLETED"}));
    let path = format!("/v1/jobs/{done}");
    let answer = system.http(Method::DELETE, &path, &[], "").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.body["error_type"], "already_completed");
    assert_eq!(system.job(done).await.state, JobState::Succeeded);

    let unknown = JobId::generate();
    let answer = cancel(&system, TIMED, unknown).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!(answer.body, json!({"status": "NOT_FOUND"}));
    let elsewhere = cancel(&system, "other/app", done).await;
    assert_eq!(elsewhere.status, StatusCode::NOT_FOUND);
    let path = format!("/v1/jobs/{unknown}");
    let answer = system.http(Method::DELETE, &path, &[], "").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    system.cleanup().await;
}

#[tokio::test]
async fn cancelling_is_idempotent() {
    let system = System::with_config(NAMED).await;
    let id = system.submit("m", 1).await;
    cancelled(&system, id).await;
    let ended_ms = system.job(id).await.finished_ms;
    cancelled(&system, id).await;
    let path = format!("/v1/jobs/{id}");
    let answer = system.http(Method::DELETE, &path, &[], "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body["state"], "cancelled");
    assert_eq!(system.job(id).await.finished_ms, ended_ms);
    system.cleanup().await;
}

#[tokio::test]
async fn cancelling_an_amqp_job_replies_once() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let submit = async |run_ms: u32| {
        let id = JobId::generate();
        let properties = BasicProperties::default()
            .with_message_id(id.to_string().into())
            .with_reply_to(DIRECT_REPLY_TO.into());
        let input = json!({"run_ms": run_ms}).to_string();
        user.submit(TIMED, &input, properties).await;
        eventually("the job is known", TIMEOUT, async || {
            system.testbed.store().jobs().job(id).await.unwrap()
        })
        .await
        .unwrap();
        id
    };
    let running = submit(60_000).await;
    system.reached(running, JobState::Running).await;
    let waiting = submit(1).await;
    // The running one last: both the router and the worker announce its end.
    for id in [waiting, running] {
        cancelled(&system, id).await;
        let reply = body_of(&next(&mut replies).await);
        assert_eq!(reply["request_id"], id.to_string());
        assert_eq!(reply["status"], "ERROR");
        assert_eq!(reply["payload"]["error_type"], "client_cancelled");
    }
    let last = submit(1).await;
    system.succeeded(last).await;
    let reply = body_of(&next(&mut replies).await);
    assert_eq!(reply["request_id"], last.to_string());
    system.cleanup().await;
}

#[tokio::test]
async fn the_command_line_cancels_and_explain_prints_when() {
    let system = System::with_config(NAMED).await;
    let id = system.submit("m", 1).await;
    let this = std::env::current_exe().unwrap();
    let warmq = this.ancestors().nth(2).unwrap().join("warmq");
    let command_line = async |command: &str| {
        let output = tokio::process::Command::new(&warmq)
            .args(["--url", system.router.url(), command, &id.to_string()])
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(
        command_line("cancel").await,
        format!("job {id}: cancelled\n")
    );
    let explained = command_line("explain").await;
    let last = explained.lines().last().unwrap();
    assert!(last.starts_with("It was cancelled at 2"), "{explained}");
    assert!(last.ends_with("after the submission."), "{explained}");
    system.cleanup().await;
}
