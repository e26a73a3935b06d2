//! fal's Python and JavaScript clients, as published, work with warmq; `clients/` has the scripts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use warmq_testkit::{Certificates, WorkerOptions};
use warmq_tests::System;

/// Timeout of one script on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Fails if the output of `make setup-test` is missing.
fn installed(path: PathBuf) -> PathBuf {
    let missing = "`make setup-test` installs fal's clients";
    assert!(path.exists(), "{} is missing: {missing}", path.display());
    path
}

/// Setting of each router: the clients' webhook receivers are on this machine.
const RECEIVERS: &str = "fetch_allow = '127.0.0.0/8'\n";

/// An app with a short run timeout.
const SHORT: &str = "\n[apps.'bench/short']\nrun_timeout = '300ms'\nmax_attempts = 1\n";

/// Starts a router with one more setting.
async fn system(setting: &str) -> System {
    System::with_config(&format!("{RECEIVERS}{setting}{SHORT}")).await
}

/// Runs a client's script against a router with two workers.
async fn script_passes(system: System, command: impl FnOnce(&str) -> Command) {
    let workflow = WorkerOptions::timed("c", "workflows/me");
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
        system.worker(workflow).await,
        system
            .worker(WorkerOptions::timed("d", "bench/short"))
            .await,
    ];
    let output = command(system.router.url()).kill_on_drop(true).output();
    let output = tokio::time::timeout(BOUND, output).await.unwrap().unwrap();
    let report = [output.stdout, output.stderr].concat();
    let report = String::from_utf8_lossy(&report);
    assert!(output.status.success(), "{report}");
    println!("{report}");
    system.cleanup().await;
}

/// The command for the Python script; the client is unmodified.
fn python(router: &str, class: &str) -> Command {
    let mut command = Command::new(installed(clients().join("../../.venv/bin/python")));
    command
        .arg(clients().join("fal_client_works.py"))
        .args([router, class]);
    command
}

async fn python_script_passes(system: System, key: &str, class: &str) {
    script_passes(system, |router| {
        let mut command = python(router, class);
        command.env("FAL_KEY", key);
        command
    })
    .await;
}

#[tokio::test]
async fn python_synchronously_with_a_key_of_the_routers() {
    let key = format!("me:{}", "0".repeat(64));
    let system = system(&format!("admin_key = '{key}'")).await;
    python_script_passes(system, &key, "Sync").await;
}

#[tokio::test]
async fn python_asynchronously_with_any_key() {
    python_script_passes(system("").await, "any", "Async").await;
}

#[tokio::test]
async fn python_by_environment_alone() {
    let certificates = Certificates::generate().unwrap();
    let system = System::secured(&format!("{RECEIVERS}{SHORT}"), &certificates).await;
    script_passes(system, |router| {
        let address = router.strip_prefix("https://").unwrap();
        let mut command = python("environment", "Sync");
        command
            .env("FAL_RUN_HOST", format!("{address}/run"))
            .env("FAL_QUEUE_RUN_HOST", format!("{address}/queue"))
            .env("SSL_CERT_FILE", certificates.authority());
        command
    })
    .await;
}

#[tokio::test]
async fn python_uploads() {
    python_script_passes(system("").await, "any", "Uploads").await;
}

#[tokio::test]
async fn javascript() {
    installed(clients().join("node_modules/@fal-ai/client"));
    script_passes(system("").await, |router| {
        let mut command = Command::new("node");
        command
            .arg("--test")
            .arg(clients().join("fal_client_works.mjs"))
            .env("ROUTER", router);
        command
    })
    .await;
}
