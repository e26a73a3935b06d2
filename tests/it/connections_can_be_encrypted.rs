//! TLS on every way: to the router, and from router and workers to RabbitMQ and Redis. Who can not prove who he is, is not
//! spoken to.

use reqwest::{Method, StatusCode};
use warmq_testkit::{Certificates, Cluster, PrivateRabbit, PrivateRedis, WorkerOptions, free_port};
use warmq_tests::stage::TIMED;
use warmq_tests::{Program, Stage};
use warmq_types::state::JobState;

/// Servers that speak TLS beside what they speak else, and the URLs for it.
struct Servers {
    rabbit: PrivateRabbit,
    redis: PrivateRedis,
    amqps: String,
    rediss: String,
}

impl Servers {
    async fn start(certificates: &Certificates) -> Self {
        let (amqp_port, redis_port) = (free_port().unwrap(), free_port().unwrap());
        let config = certificates.for_rabbitmq(amqp_port);
        let config: Vec<&str> = config.iter().map(String::as_str).collect();
        Self {
            rabbit: PrivateRabbit::start(&config).await.unwrap(),
            redis: PrivateRedis::start_configured(certificates.for_redis(redis_port))
                .await
                .unwrap(),
            amqps: format!("amqps://guest:guest@localhost:{amqp_port}/%2f"),
            rediss: format!("rediss://127.0.0.1:{redis_port}/0"),
        }
    }
}

#[tokio::test]
async fn jobs_run_over_encrypted_connections_to_both_servers() {
    let certificates = Certificates::fresh().unwrap();
    let servers = Servers::start(&certificates).await;
    // The test itself looks on by the plain ports.
    let cluster = Cluster::builder()
        .amqp_url(servers.rabbit.url().expose())
        .redis_url(servers.redis.url().expose())
        .trusting(certificates.authority())
        .start()
        .await
        .unwrap();
    let mut stage = Stage::of(cluster).await;
    let encrypted = ["--amqp-url", &servers.amqps, "--redis-url", &servers.rediss];
    stage.replace_router(&encrypted).await;
    let worker = WorkerOptions::timed("a", TIMED).args(encrypted);
    let _worker = stage.worker(worker).await;
    let job = stage.succeeded(stage.submit("m", 10).await).await;
    assert_eq!(job.runner.unwrap().as_str(), "a");
    // A subscription is a connection of its own.
    let long = stage.submit("m", 600_000).await;
    stage.reached(long, JobState::Running).await;
    let path = format!("/v1/jobs/{long}");
    let cancelled = stage.http(Method::DELETE, &path, &[], "").await;
    assert_eq!(cancelled.status, StatusCode::OK);
    stage.all_idle(TIMED).await;
    stage.clean_up().await;
}

#[tokio::test]
async fn a_server_whose_certificate_is_not_trusted_is_refused_with_the_way_to_trust_it() {
    let certificates = Certificates::fresh().unwrap();
    let others = Certificates::fresh().unwrap();
    let servers = Servers::start(&certificates).await;
    // Redis is connected to first, so RabbitMQ's turn comes with one that answers.
    let redis = servers.redis.url().expose();
    for (name, args) in [
        (
            "Redis",
            &["--redis-url", servers.rediss.as_str()] as &[&str],
        ),
        (
            "RabbitMQ",
            &["--redis-url", redis, "--amqp-url", &servers.amqps],
        ),
    ] {
        for (program, more) in [
            ("warmq-router", &["--listen", "127.0.0.1:0"] as &[&str]),
            ("warmq-worker", &["--app", TIMED, "--engine", "timed"]),
        ] {
            let said = Program::new(program, &[more, args].concat());
            let said = said.env("SSL_CERT_FILE", others.authority()).run().await;
            assert_eq!(said.code, Some(69), "{program}: {said:?}");
            for part in [name, "is not trusted", "UnknownIssuer", "SSL_CERT_FILE"] {
                assert!(said.err.contains(part), "{program}: {said:?}");
            }
        }
    }
}

#[tokio::test]
async fn the_routers_own_certificate_is_told_in_its_urls_and_checked_by_the_command_line() {
    let certificates = Certificates::fresh().unwrap();
    let stage = Stage::secured("", &certificates).await;
    let _worker = stage.timed("a").await;
    let url = stage.router.url();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let answer = stage.post(TIMED, &[], r#"{"run_ms": 1}"#).await;
    let status_url = answer.body["status_url"].as_str().unwrap();
    assert!(status_url.starts_with(url), "{status_url}");

    let submit = [
        "--url",
        url,
        "submit",
        TIMED,
        "--wait",
        "--input",
        r#"{"output": "done"}"#,
    ];
    let said = Program::new("warmq", &submit).env("SSL_CERT_FILE", certificates.authority());
    let said = said.run().await;
    assert_eq!(
        (said.code, said.out.trim()),
        (Some(0), "\"done\""),
        "{said:?}"
    );
    let others = Certificates::fresh().unwrap();
    let said = Program::new("warmq", &submit).env("SSL_CERT_FILE", others.authority());
    let said = said.run().await;
    assert_eq!(said.code, Some(69), "{said:?}");
    assert!(said.err.contains("SSL_CERT_FILE"), "{said:?}");
    stage.clean_up().await;
}

#[tokio::test]
async fn a_certificate_that_can_not_be_served_with_is_a_mistake_in_the_configuration() {
    let certificates = Certificates::fresh().unwrap();
    let others = Certificates::fresh().unwrap();
    let certificate = certificates.certificate().to_str().unwrap();
    let foreign_key = others.key().to_str().unwrap();
    for (args, told) in [
        (
            ["--tls-cert", certificate, "--tls-key", foreign_key],
            "tls-key: it does not belong",
        ),
        (
            ["--tls-cert", certificate, "--listen", "127.0.0.1:0"],
            "tls-key: it is missing",
        ),
        (
            ["--tls-cert", foreign_key, "--tls-key", foreign_key],
            "tls-cert: ",
        ),
    ] {
        let said = Program::new("warmq-router", &args).run().await;
        assert_eq!(said.code, Some(64), "{said:?}");
        assert!(said.err.contains(told), "{said:?}");
    }
}
