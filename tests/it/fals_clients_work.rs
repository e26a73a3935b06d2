//! fal's Python client, as PyPI has it, works: `clients/fal_client_keeps_its_promises.py` says how.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use warmq_tests::Stage;

/// How long one way to use the client may take, on a busy machine.
const BOUND: Duration = Duration::from_secs(120);

async fn promises_hold(class: &str) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = tests.join("../.venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: `make setup-test` installs fal's client",
        python.display()
    );
    let stage = Stage::start().await;
    let _workers = [stage.timed("a").await, stage.timed("b").await];
    let told = Command::new(python)
        .arg(tests.join("clients/fal_client_keeps_its_promises.py"))
        .args([stage.router.url(), class])
        .kill_on_drop(true)
        .output();
    let told = tokio::time::timeout(BOUND, told).await.unwrap().unwrap();
    let report = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{report}");
    println!("{report}");
    stage.clean_up().await;
}

#[tokio::test]
async fn synchronously() {
    promises_hold("Sync").await;
}

#[tokio::test]
async fn asynchronously() {
    promises_hold("Async").await;
}
