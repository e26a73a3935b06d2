//! A worker that cannot start prints the reason and exits with a matching status.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

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
fn all_mistakes_in_the_settings_are_reported_at_once() {
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
fn a_worker_that_cannot_serve_any_model_does_not_start() {
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
fn an_unreachable_server_is_named_with_its_remedy_and_retried() {
    for (flag, program) in [
        ("--redis-url=redis://127.0.0.1:9/0", "redis-server"),
        (
            "--amqp-url=amqp://guest:secret@127.0.0.1:9/%2f",
            "rabbitmq-server",
        ),
    ] {
        let mut waiting = Command::new(env!("CARGO_BIN_EXE_warmq-worker"))
            .args(["--app=a/b", "--engine=timed", flag])
            .current_dir(std::env::temp_dir())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(waiting.stderr.take().unwrap());
        let line = log
            .lines()
            .map_while(Result::ok)
            .find(|line| line.contains(program));
        let still_waits = waiting.try_wait().unwrap().is_none();
        waiting.kill().unwrap();
        waiting.wait().unwrap();
        let line = line.unwrap();
        assert!(still_waits && line.contains("127.0.0.1:9"), "{line}");
        assert!(!line.contains("secret"), "{line}");
    }
}
