//! `max` of an app: a hook starts runners while jobs wait, and the router drains those that are not
//! needed.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use warmq_tests::System;
use warmq_tests::metrics::Page;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::ids::RunnerId;
use warmq_types::state::JobState;

/// Lifetime of a worker that a failed test leaves behind, s.
const MAX_LIFETIME_S: u32 = 120;

/// The hook of the examples, whose workers end with the test.
struct ExampleHook {
    folder: TempDir,
}

impl ExampleHook {
    fn new() -> Self {
        let test = std::env::current_exe().unwrap();
        let worker = test
            .parent()
            .and_then(Path::parent)
            .unwrap()
            .join("warmq-worker");
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("warmq-worker");
        let starts = folder.path().join("starts");
        let script = format!(
            "#!/bin/sh\necho start >> {}\nexec timeout {MAX_LIFETIME_S} {} \"$@\"\n",
            starts.display(),
            worker.display()
        );
        std::fs::write(&program, script).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, executable).unwrap();
        Self { folder }
    }

    /// Returns the line of `warmq.toml`.
    fn setting(&self) -> String {
        let example = "../deploy/examples/scale-hook.sh";
        let hook: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(example);
        let folder = self.folder.path().display();
        let others = std::env::var("PATH").unwrap();
        format!(
            "scale_hook = 'env \"PATH={folder}:{others}\" {}'\n",
            hook.display()
        )
    }

    /// Returns the number of workers that it started.
    fn starts(&self) -> usize {
        let starts = std::fs::read_to_string(self.folder.path().join("starts"));
        starts.unwrap_or_default().lines().count()
    }
}

async fn gauge(system: &System, name: &str) -> Option<f64> {
    let page = String::from_utf8(system.get("/metrics").await.bytes).unwrap();
    Page::read(&page).get(name, &[("app", TIMED)])
}

async fn until_wanted(system: &System, wanted: f64) {
    let what = format!("{wanted} runners are wanted");
    system
        .until(&what, TIMEOUT, async || {
            let found = gauge(system, "warmq_wanted_runners").await;
            (found == Some(wanted)).then_some(())
        })
        .await;
}

async fn until_runners(system: &System, count: usize) {
    let what = format!("there are {count} runners");
    system
        .until(&what, TIMEOUT, async || {
            (system.runners(TIMED).await.len() == count).then_some(())
        })
        .await;
}

#[tokio::test]
async fn runners_start_from_zero_under_load_and_leave_once_they_are_spare() {
    let hook = ExampleHook::new();
    let system = System::with_config(&format!(
        "{}engine = 'timed'\n[apps.'{TIMED}']\nmax = 2\nkeep_alive = '3s'\nscale_target = '2s'\n\
         prior_load = 0.1\nprior_run = 1",
        hook.setting()
    ))
    .await;
    let mut jobs = Vec::new();
    for number in 0..16 {
        jobs.push(system.submit(["a", "b", "c"][number % 3], 700).await);
    }
    until_wanted(&system, 2.0).await;
    let mut runners: BTreeSet<RunnerId> = BTreeSet::new();
    let mut ended = Vec::new();
    for job in jobs {
        let job = system.succeeded(job).await;
        runners.extend(job.runner.clone());
        ended.push(job);
    }
    assert_eq!((runners.len(), hook.starts()), (2, 2));
    until_runners(&system, 0).await;
    // A job that raced to a runner that was drained would have been counted a second time.
    for job in ended {
        let now = system.job(job.spec.id).await;
        assert_eq!((now.state, now.attempt), (JobState::Succeeded, 1));
    }
    until_wanted(&system, 0.0).await;

    // By now the app may have no leader.
    let job = system.succeeded(system.submit("a", 1).await).await;
    assert_eq!(job.attempt, 1);
    assert_eq!(hook.starts(), 3, "one job needs one runner");
    until_runners(&system, 0).await;
    system.cleanup().await;
}

#[tokio::test]
async fn min_runners_are_there_before_the_first_job_and_stay() {
    let hook = ExampleHook::new();
    let system = System::with_config(&format!(
        "{}engine = 'timed'\n[apps.'{TIMED}']\nmin = 1\nmax = 2\nkeep_alive = 0",
        hook.setting()
    ))
    .await;
    until_runners(&system, 1).await;
    until_wanted(&system, 1.0).await;
    let first = system.runners(TIMED).await.remove(0);
    for _ in 0..3 {
        let job = system.succeeded(system.submit("a", 300).await).await;
        assert_eq!((job.runner, job.attempt), (Some(first.id.clone()), 1));
    }
    assert!(!system.runners(TIMED).await[0].draining);

    // Without `max` the app is no longer scaled, so the runner is not replaced.
    let file = system.testbed.folder().join("warmq.toml");
    std::fs::write(file, hook.setting()).unwrap();
    let reloaded = system
        .http(Method::POST, "/v1/config/reload", &[], "")
        .await;
    assert_eq!(reloaded.status, StatusCode::OK, "{:?}", reloaded.body);
    until_wanted(&system, 0.0).await;
    let membership = system.testbed.store().membership();
    assert!(membership.drain(&first.app, &first.id).await.unwrap());
    until_runners(&system, 0).await;
    assert_eq!(hook.starts(), 1);
    system.cleanup().await;
}

#[tokio::test]
async fn a_hook_that_fails_delays_no_job_and_its_error_is_shown() {
    let system = System::with_config(&format!(
        "scale_hook = \"sh -c 'echo no GPU is free >&2; exit 3'\"\n\
         [apps.'{TIMED}']\nmin = 2\nmax = 2"
    ))
    .await;
    let _worker = system.timed_worker("a").await;
    let failures = async || gauge(&system, "warmq_scale_hook_failures_total").await;
    system
        .until("the hook was called again", TIMEOUT, async || {
            failures().await.filter(|failures| *failures >= 2.0)
        })
        .await;
    for _ in 0..3 {
        system.succeeded(system.submit("a", 1).await).await;
    }
    let scaling = system
        .until("the error is recorded", TIMEOUT, async || {
            let app = system.get(&format!("/v1/apps/{TIMED}")).await.body;
            let scaling = app["scaling"].clone();
            scaling["now"]["hook_error"].is_string().then_some(scaling)
        })
        .await;
    let error = "it failed (exit status: 3): no GPU is free";
    assert_eq!(scaling["now"], json!({"wanted": 2, "hook_error": error}));
    assert_eq!(
        (&scaling["min"], &scaling["keep_alive_ms"]),
        (&json!(2), &json!(300_000))
    );
    system.cleanup().await;
}

#[tokio::test]
async fn a_hook_that_hangs_delays_no_job() {
    let system = System::with_config(&format!(
        "scale_hook = 'timeout 60 sleep 60'\n[apps.'{TIMED}']\nmin = 2\nmax = 2"
    ))
    .await;
    let _worker = system.timed_worker("a").await;
    until_wanted(&system, 2.0).await;
    let begin = std::time::Instant::now();
    for _ in 0..5 {
        system.succeeded(system.submit("a", 1).await).await;
    }
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{:?}",
        begin.elapsed()
    );
    system.cleanup().await;
}

#[tokio::test]
async fn without_a_hook_the_number_is_shown_and_no_runner_is_drained() {
    let system = System::with_config(&format!("[apps.'{TIMED}']\nmax = 3\nkeep_alive = 0")).await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(system.submit("a", 1).await).await;
    until_wanted(&system, 0.0).await;
    let running = system.submit("a", 2_000).await;
    until_wanted(&system, 1.0).await;
    system.succeeded(running).await;
    until_wanted(&system, 0.0).await;
    let runner = system.runners(TIMED).await.remove(0);
    assert!(runner.idle && !runner.draining);
    let app = system.get(&format!("/v1/apps/{TIMED}")).await.body;
    assert_eq!(app["scaling"]["now"], json!({"wanted": 0}));
    system.cleanup().await;
}

#[tokio::test]
async fn of_an_app_without_runners_and_jobs_the_minimum_is_shown() {
    let system = System::with_config(&format!("[apps.'{TIMED}']\nmin = 1\nmax = 3")).await;
    let app = system.get(&format!("/v1/apps/{TIMED}")).await.body;
    assert_eq!(app["scaling"]["now"], json!({"wanted": 1}));
    system.cleanup().await;
}
