//! Passwords are part of URLs, and URLs of messages: without the password.

use warmq_tests::Program;
use warmq_tests::system::TIMED;

const SECRET: &str = "hunter2-is-a-secret";

/// Router and worker, with their required flags.
const PROGRAMS: [(&str, &[&str]); 2] = [
    ("warmq-router", &["--listen", "127.0.0.1:0"]),
    ("warmq-worker", &["--app", TIMED, "--engine", "timed"]),
];

/// Starts router and worker with failing settings, and checks that no output contains the secret.
async fn is_not_printed(code: i32, args: &[&str], reported: &[&str]) {
    for (program, more) in PROGRAMS {
        let output = Program::new(program, &[more, args].concat());
        let output = output.env("WARMQ_LOG", "debug").run().await;
        assert_eq!(output.code, Some(code), "{program}: {output:?}");
        let all = format!("{}{}", output.out, output.err);
        assert!(!all.contains(SECRET), "{program}: {all}");
        for part in reported {
            assert!(
                all.contains(part),
                "{program} does not print '{part}': {all}"
            );
        }
    }
}

#[tokio::test]
async fn a_refused_password_is_not_printed() {
    let amqp = format!("amqp://guest:{SECRET}@127.0.0.1:5672/%2f");
    is_not_printed(
        69,
        &["--amqp-url", &amqp],
        &["RabbitMQ", "amqp://guest:***@127.0.0.1:5672"],
    )
    .await;
    // Without a user, and as the user.
    for login in [format!(":{SECRET}"), format!("nobody:{SECRET}")] {
        let redis = format!("redis://{login}@127.0.0.1:6379/0");
        is_not_printed(
            69,
            &["--redis-url", &redis],
            &["redis at", ":***@127.0.0.1:6379"],
        )
        .await;
    }
}

#[tokio::test]
async fn the_password_of_an_unreachable_server_is_not_printed() {
    // The discard port, which refuses connections: programs wait for it.
    let amqp = format!("amqps://guest:{SECRET}@127.0.0.1:9/%2f");
    let redis = format!("rediss://:{SECRET}@127.0.0.1:9/0");
    for (setting, url, server) in [
        ("--amqp-url", &amqp, "rabbitmq"),
        ("--redis-url", &redis, "redis"),
    ] {
        for (program, more) in PROGRAMS {
            let waiting = Program::new(program, &[more, &[setting, url]].concat());
            let output = waiting
                .env("WARMQ_LOG", "debug")
                .run_until(&[server, "127.0.0.1:9"])
                .await;
            assert!(!output.contains(SECRET), "{program}: {output}");
        }
    }
}

#[tokio::test]
async fn an_invalid_url_is_named_without_its_password() {
    let wrong = format!("http://user:{SECRET}@127.0.0.1/");
    let settings = [
        "--amqp-url",
        &wrong,
        "--redis-url",
        &wrong,
        "--storage",
        &wrong,
    ];
    is_not_printed(64, &settings, &["amqp-url", "redis-url", "storage", "***"]).await;
    // An unescaped password, which makes the URL invalid or another one.
    for broken in [
        format!("amqp://user:{SECRET}/x@127.0.0.1:5672"),
        format!("redis://user:6379/{SECRET}@127.0.0.1"),
    ] {
        let settings = ["--amqp-url", &broken];
        is_not_printed(64, &settings, &["amqp-url"]).await;
    }
}
