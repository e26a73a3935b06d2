//! A worker that can not start says why, and which status it ends with.

use std::process::{Command, Output};

fn worker(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_warmq-worker"))
        .args(args)
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn every_mistake_in_the_settings_is_told_at_once() {
    let output = worker(&[
        "--engine=gpu",
        "--memory-budget=much",
        "--amqp-url=http://x",
    ]);
    assert_eq!(output.status.code(), Some(64));
    let complaint = complaint(&output);
    assert!(complaint.contains("4 mistakes"), "{complaint}");
    assert!(complaint.contains("--app owner/name"), "{complaint}");
}

#[test]
fn a_worker_that_could_serve_no_model_does_not_start() {
    let models = concat!("--models=", env!("CARGO_MANIFEST_DIR"), "/../models");
    let arguments = [
        "--app=a/b",
        "--runner-name=small",
        "--memory-budget=1MiB",
        models,
    ];
    let output = worker(&arguments);
    let complaint = complaint(&output);
    assert_eq!(output.status.code(), Some(64), "{complaint}");
    for part in [
        "no model of",
        "shapes",
        "digits",
        "memory budget is 1048576 bytes",
    ] {
        assert!(complaint.contains(part), "{part}: {complaint}");
    }
}

#[test]
fn a_memory_budget_without_its_unit_is_refused() {
    let output = worker(&["--app=a/b", "--memory-budget=20"]);
    let complaint = complaint(&output);
    assert_eq!(output.status.code(), Some(64), "{complaint}");
    assert!(complaint.contains("20GiB"), "{complaint}");
}

#[test]
fn without_a_server_it_ends_at_once_and_tells_how_to_start_one() {
    let app = ["--app=a/b", "--engine=timed"];
    for (flag, program) in [
        ("--redis-url=redis://127.0.0.1:9/0", "redis-server"),
        (
            "--amqp-url=amqp://guest:secret@127.0.0.1:9/%2f",
            "rabbitmq-server",
        ),
    ] {
        let output = worker(&[app[0], app[1], flag]);
        let complaint = complaint(&output);
        assert_eq!(output.status.code(), Some(69), "{complaint}");
        assert!(
            complaint.contains("127.0.0.1:9") && complaint.contains(program),
            "{complaint}"
        );
        assert!(!complaint.contains("secret"), "{complaint}");
    }
}
