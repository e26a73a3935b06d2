//! A server that is missing is named, with the way to start it; a bad configuration lists every mistake.

use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Runs a program of ours until it ends by itself: its exit status, and what it said.
async fn run(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let binaries = std::env::current_exe().unwrap();
    let binaries = binaries.parent().unwrap().parent().unwrap().to_owned();
    let child = Command::new(binaries.join(program))
        .args(args)
        .current_dir(folder.path())
        .env("WARMQ_NAMESPACE", "t-missing")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output())
        .await
        .expect("it neither started nor gave up")
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), said)
}

/// Every program with every server missing; `url` answers in no useful way.
async fn names_the_missing(scheme: &str, setting: &str, package: &str, port: u16) {
    let url = format!("{scheme}://127.0.0.1:{port}");
    for (program, more) in [
        ("warmq-router", &["--listen", "127.0.0.1:0"] as &[&str]),
        (
            "warmq-worker",
            &["--app", "bench/timed", "--engine", "timed"],
        ),
    ] {
        let (code, said) = run(program, &[more, &[setting, &url]].concat()).await;
        assert_eq!(code, Some(69), "{program}: {said}");
        assert!(
            said.contains(&url) && said.contains(package),
            "{program}: {said}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_way_to_start_it() {
    // Bound and closed again: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    names_the_missing("amqp", "--amqp-url", "rabbitmq-server", port).await;
    names_the_missing("redis", "--redis-url", "redis-server", port).await;
}

#[tokio::test]
async fn a_server_that_dies_during_the_greeting_is_named_too() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    names_the_missing("amqp", "--amqp-url", "rabbitmq-server", port).await;
    names_the_missing("redis", "--redis-url", "redis-server", port).await;
}

#[tokio::test]
async fn a_bad_configuration_lists_every_mistake_and_exits_64() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    std::fs::write(
        &file,
        "nonsense = 1\n[apps.'A']\n[apps.'a/b']\npolicy = 'luck'\nmax_warm_wait = -1\nprior_run = 0\n\
         retention = '1s'\nmax_queue_length = 0\n",
    )
    .unwrap();
    let config = file.to_str().unwrap();
    let (code, said) = run(
        "warmq-router",
        &["--config", config, "--namespace", "A B", "--listen", "x"],
    )
    .await;
    assert_eq!(code, Some(64));
    for mistake in [
        "nonsense",
        "'A'",
        "luck",
        "max_warm_wait",
        "prior_run",
        "retention",
        "max_queue_length",
        "namespace",
        "listen",
    ] {
        assert!(said.contains(mistake), "{mistake} is missing in: {said}");
    }
    let (code, said) = run(
        "warmq-worker",
        &["--app", "x", "--engine", "steam", "--memory-budget", "much"],
    )
    .await;
    assert_eq!(code, Some(64));
    for mistake in ["app", "steam", "much"] {
        assert!(said.contains(mistake), "{mistake} is missing in: {said}");
    }
}

#[tokio::test]
async fn strangers_are_not_served_by_accident() {
    let (code, said) = run("warmq-router", &["--listen", "0.0.0.0:0"]).await;
    assert_eq!(code, Some(64));
    assert!(said.contains("--allow-anonymous"), "{said}");
}
