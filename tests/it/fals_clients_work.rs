//! fal's Python and JavaScript clients work as PyPI and npm have them: `clients/` says what that means.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use warmq_tests::Stage;

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

/// Lets a client say to a router with two workers what its users rely on.
async fn promises_hold(command: impl FnOnce(&str) -> Command) {
    let stage = Stage::start().await;
    let _workers = [stage.timed("a").await, stage.timed("b").await];
    let told = command(stage.router.url()).kill_on_drop(true).output();
    let told = tokio::time::timeout(BOUND, told).await.unwrap().unwrap();
    let report = [told.stdout, told.stderr].concat();
    let report = String::from_utf8_lossy(&report);
    assert!(told.status.success(), "{report}");
    println!("{report}");
    stage.clean_up().await;
}

async fn pythons_promises_hold(class: &str) {
    let python = installed(clients().join("../../.venv/bin/python"));
    promises_hold(|router| {
        let mut command = Command::new(python);
        command
            .arg(clients().join("fal_client_keeps_its_promises.py"))
            .args([router, class]);
        command
    })
    .await;
}

#[tokio::test]
async fn python_synchronously() {
    pythons_promises_hold("Sync").await;
}

#[tokio::test]
async fn python_asynchronously() {
    pythons_promises_hold("Async").await;
}

#[tokio::test]
async fn python_uploads() {
    pythons_promises_hold("Uploads").await;
}

#[tokio::test]
async fn javascript() {
    installed(clients().join("node_modules/@fal-ai/client"));
    promises_hold(|router| {
        let mut command = Command::new("node");
        command
            .arg("--test")
            .arg(clients().join("fal_client_keeps_its_promises.mjs"))
            .env("ROUTER", router);
        command
    })
    .await;
}
