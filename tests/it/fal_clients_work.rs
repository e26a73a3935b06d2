//! fal's Python and JavaScript clients work as PyPI and npm have them: `clients/` says what that means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use warmq_testkit::{Certificates, WorkerOptions};
use warmq_tests::System;

/// How long one way to use a client may take, on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Fails if what `make setup-test` installs is not there.
fn installed(path: PathBuf) -> PathBuf {
    let missing = "`make setup-test` installs fal's clients";
    assert!(path.exists(), "{} is missing: {missing}", path.display());
    path
}

/// A setting of each router: the clients' webhooks are received on this machine.
const RECEIVERS: &str = "fetch_allow = '127.0.0.0/8'\n";

/// An app whose jobs may not take long.
const SHORT: &str = "\n[apps.'bench/short']\nrun_timeout = '300ms'\nmax_attempts = 1\n";

/// A router with this setting, besides.
async fn system(setting: &str) -> System {
    System::with_config(&format!("{RECEIVERS}{setting}{SHORT}")).await
}

/// Lets a client say to a router with two workers what its users rely on.
async fn promises_hold(system: System, command: impl FnOnce(&str) -> Command) {
    let workflow = WorkerOptions::timed("c", "workflows/me");
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
        system.worker(workflow).await,
        system
            .worker(WorkerOptions::timed("d", "bench/short"))
            .await,
    ];
    let told = command(system.router.url()).kill_on_drop(true).output();
    let told = tokio::time::timeout(BOUND, told).await.unwrap().unwrap();
    let report = [told.stdout, told.stderr].concat();
    let report = String::from_utf8_lossy(&report);
    assert!(told.status.success(), "{report}");
    println!("{report}");
    system.cleanup().await;
}

/// The script about the Python client, unmodified like the client itself.
fn python(router: &str, class: &str) -> Command {
    let mut command = Command::new(installed(clients().join("../../.venv/bin/python")));
    command
        .arg(clients().join("fal_client_keeps_its_promises.py"))
        .args([router, class]);
    command
}

async fn pythons_promises_hold(system: System, key: &str, class: &str) {
    promises_hold(system, |router| {
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
    pythons_promises_hold(system, &key, "Sync").await;
}

#[tokio::test]
async fn python_asynchronously_with_any_key() {
    pythons_promises_hold(system("").await, "any", "Async").await;
}

#[tokio::test]
async fn python_by_environment_alone() {
    let certificates = Certificates::generate().unwrap();
    let system = System::secured(&format!("{RECEIVERS}{SHORT}"), &certificates).await;
    promises_hold(system, |router| {
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
    pythons_promises_hold(system("").await, "any", "Uploads").await;
}

#[tokio::test]
async fn javascript() {
    installed(clients().join("node_modules/@fal-ai/client"));
    promises_hold(system("").await, |router| {
        let mut command = Command::new("node");
        command
            .arg("--test")
            .arg(clients().join("fal_client_keeps_its_promises.mjs"))
            .env("ROUTER", router);
        command
    })
    .await;
}
