//! TLS to the router, and from router and workers to RabbitMQ and Redis. Peers with an untrusted
//! certificate are refused.

use reqwest::{Method, StatusCode};
use warmq_testkit::{Certificates, PrivateRabbit, PrivateRedis, Testbed, WorkerOptions, free_port};
use warmq_tests::system::TIMED;
use warmq_tests::{Program, System};
use warmq_types::state::JobState;

/// Servers with plain and TLS ports, and the URLs of the latter.
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
    let certificates = Certificates::generate().unwrap();
    let servers = Servers::start(&certificates).await;
    // The test itself uses the plain ports.
    let testbed = Testbed::builder()
        .amqp_url(servers.rabbit.url().expose())
        .redis_url(servers.redis.url().expose())
        .trusted_authority(certificates.authority())
        .start()
        .await
        .unwrap();
    let mut system = System::of(testbed).await;
    let encrypted = ["--amqp-url", &servers.amqps, "--redis-url", &servers.rediss];
    system.replace_router(&encrypted).await;
    let worker = WorkerOptions::timed("a", TIMED).args(encrypted);
    let _worker = system.worker(worker).await;
    let job = system.succeeded(system.submit("m", 10).await).await;
    assert_eq!(job.runner.unwrap().as_str(), "a");
    // A subscription is a connection of its own.
    let long = system.submit("m", 600_000).await;
    system.reached(long, JobState::Running).await;
    let path = format!("/v1/jobs/{long}");
    let cancelled = system.http(Method::DELETE, &path, &[], "").await;
    assert_eq!(cancelled.status, StatusCode::OK);
    system.all_idle(TIMED).await;
    system.cleanup().await;
}

#[tokio::test]
async fn an_untrusted_certificate_is_refused_with_the_remedy() {
    let certificates = Certificates::generate().unwrap();
    let others = Certificates::generate().unwrap();
    let servers = Servers::start(&certificates).await;
    // Programs connect to Redis first, so RabbitMQ is tried with a working Redis.
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
            let output = Program::new(program, &[more, args].concat());
            let output = output.env("SSL_CERT_FILE", others.authority()).run().await;
            assert_eq!(output.code, Some(69), "{program}: {output:?}");
            for part in [name, "is not trusted", "UnknownIssuer", "SSL_CERT_FILE"] {
                assert!(output.err.contains(part), "{program}: {output:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_router_with_a_certificate_prints_https_urls_and_the_command_line_verifies_it() {
    let certificates = Certificates::generate().unwrap();
    let system = System::secured("", &certificates).await;
    let _worker = system.timed_worker("a").await;
    let url = system.router.url();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let answer = system.post(TIMED, &[], r#"{"run_ms": 1}"#).await;
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
    let output = Program::new("warmq", &submit).env("SSL_CERT_FILE", certificates.authority());
    let output = output.run().await;
    assert_eq!(
        (output.code, output.out.trim()),
        (Some(0), "\"done\""),
        "{output:?}"
    );
    let others = Certificates::generate().unwrap();
    let output = Program::new("warmq", &submit).env("SSL_CERT_FILE", others.authority());
    let output = output.run().await;
    assert_eq!(output.code, Some(69), "{output:?}");
    assert!(output.err.contains("SSL_CERT_FILE"), "{output:?}");
    system.cleanup().await;
}

#[tokio::test]
async fn an_unusable_certificate_is_a_configuration_mistake() {
    let certificates = Certificates::generate().unwrap();
    let others = Certificates::generate().unwrap();
    let certificate = certificates.certificate().to_str().unwrap();
    let foreign_key = others.key().to_str().unwrap();
    for (args, reported) in [
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
        let output = Program::new("warmq-router", &args).run().await;
        assert_eq!(output.code, Some(64), "{output:?}");
        assert!(output.err.contains(reported), "{output:?}");
    }
}
