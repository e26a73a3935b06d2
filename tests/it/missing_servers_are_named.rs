//! A missing server is named with the remedy; a bad configuration lists every mistake.

use std::net::TcpListener;

use warmq_tests::Program;

/// Runs a program until it ends: its exit status and standard error.
async fn run(program: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = Program::new(program, args).run().await;
    (output.code, output.err)
}

/// The programs that need servers, with their required flags.
const PROGRAMS: [(&str, &[&str]); 2] = [
    ("warmq-router", &["--listen", "127.0.0.1:0"]),
    (
        "warmq-worker",
        &["--app", "bench/timed", "--engine", "timed"],
    ),
];

/// Checks that every program waits for a missing server; `url` gives no useful response.
async fn names_the_missing(scheme: &str, setting: &str, package: &str, port: u16) {
    let url = format!("{scheme}://127.0.0.1:{port}");
    for (program, more) in PROGRAMS {
        let program = Program::new(program, &[more, &[setting, &url]].concat());
        let output = program.run_until(&["waiting", &url, package]).await;
        assert_eq!(output.matches(package).count(), 2, "named once: {output}");
    }
}

#[tokio::test]
async fn an_unreachable_server_is_named_with_the_remedy() {
    // Bound and closed again: connections are refused.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    names_the_missing("amqp", "--amqp-url", "rabbitmq-server", port).await;
    names_the_missing("redis", "--redis-url", "redis-server", port).await;
}

#[tokio::test]
async fn a_server_that_dies_during_the_handshake_is_named() {
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
    let (code, output) = run(
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
        assert!(
            output.contains(mistake),
            "{mistake} is missing in: {output}"
        );
    }
    let (code, output) = run(
        "warmq-worker",
        &["--app", "x", "--engine", "steam", "--memory-budget", "much"],
    )
    .await;
    assert_eq!(code, Some(64));
    for mistake in ["app", "steam", "much"] {
        assert!(
            output.contains(mistake),
            "{mistake} is missing in: {output}"
        );
    }
}

#[tokio::test]
async fn listening_beyond_loopback_requires_keys() {
    let (code, output) = run("warmq-router", &["--listen", "0.0.0.0:0"]).await;
    assert_eq!(code, Some(64));
    assert!(output.contains("--allow-anonymous"), "{output}");
}
