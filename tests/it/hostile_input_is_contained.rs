//! Hostile submissions crash no process, are not redelivered, and appear verbatim or escaped in
//! logs, headers, metrics and terminals.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use warmq_broker::Topology;
use warmq_testkit::{Process, eventually};
use warmq_tests::amqp::{DIRECT_REPLY_TO, header, json, next, with_hint};
use warmq_tests::metrics::Page;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, Program, System};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

/// A forged log line, and terminal escapes.
const FORGERY: &str =
    "x\r\n2026-01-01T00:00:00.000000Z  INFO FORGED\n\u{1b}[2J\u{9b}1A\u{7}\u{202e}";

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// Bodies that no app accepts, and their HTTP responses.
fn bad_bodies() -> Vec<(Vec<u8>, u16)> {
    let mut bodies: Vec<(Vec<u8>, u16)> = [
        ("NaN", 400),
        (r#"{"output": Infinity}"#, 400),
        (r#"{"output": 1e400}"#, 400),
        (r#"{"output": "\ud800"}"#, 400),
        ("{\"output\": \"\0\"}", 400),
        ("{} {}", 400),
        ("7", 422),
        ("null", 422),
        ("true", 422),
        (r#""text""#, 422),
        ("[]", 422),
        (r#"{"run_ms": 1, "run_ms": "the last one counts"}"#, 422),
        (r#"{"run_ms": 1e300}"#, 422),
        (r#"{"run_ms": 18446744073709551616}"#, 422),
        (r#"{"run_ms": -0.5}"#, 422),
    ]
    .map(|(text, status)| (text.as_bytes().to_vec(), status))
    .to_vec();
    bodies.push((b"{\"output\": \"\xff\xfe\"}".to_vec(), 400));
    for levels in [100, 126, 127, 128, 100_000] {
        let body = format!(r#"{{"output": {}}}"#, nested(levels));
        bodies.push((body.into_bytes(), 400));
    }
    // An error quotes the rejected value.
    let long = json!({"run_ms": "x".repeat(1 << 20)}).to_string();
    bodies.push((long.into_bytes(), 422));
    bodies
}

/// Unusual inputs that are accepted.
fn odd_outputs() -> Vec<Value> {
    let deep = serde_json::from_str(&nested(99)).unwrap();
    vec![
        json!("\0\u{1b}[2J\r\n\u{2028}"),
        json!({"": {"\0": 1e308}, "__proto__": -1e-308}),
        json!([u64::MAX, i64::MIN, 1e30]),
        deep,
    ]
}

/// Checks that only the program's own writes end lines of a log.
fn log_is_intact(process: &Process) {
    let log = std::fs::read_to_string(process.log()).unwrap();
    for line in log.lines() {
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(!line.contains('\u{202e}'), "{line:?}");
        // Each line begins with its time; forged lines have another time.
        assert!(
            line.starts_with("20") && !line.starts_with("2026-01-01T00"),
            "{line}"
        );
    }
    assert!(!log.contains("reading submissions failed"), "{log}");
}

#[tokio::test]
async fn any_json_gets_an_http_response() {
    let system = System::start().await;
    let worker = system.timed_worker("a").await;
    for (body, status) in bad_bodies() {
        let path = format!("/queue/{TIMED}");
        let what = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = system.http(reqwest::Method::POST, &path, &[], body).await;
        assert_eq!(answer.status.as_u16(), status, "{what}: {:?}", answer.body);
        assert!(!answer.body["detail"].is_null(), "{what}");
        assert!(answer.bytes.len() < 4096, "{what}: {}", answer.bytes.len());
    }
    let deep = format!(r#"{{"output": {}}}"#, nested(127));
    let answer = system.post(TIMED, &[], &deep).await;
    let reported = answer.body["detail"].as_str().unwrap();
    assert!(reported.contains("more than 100 levels"), "{reported}");
    for output in odd_outputs() {
        let input = json!({"run_ms": 1, "load_ms": 1, "output": output});
        let id = system.submit_to(TIMED, "m", input).await;
        system.succeeded(id).await;
        let result = system.get(&format!("/queue/{TIMED}/requests/{id}")).await;
        assert_eq!(result.body, output);
    }
    log_is_intact(&system.router);
    log_is_intact(&worker);
    system.cleanup().await;
}

#[tokio::test]
async fn invalid_amqp_messages_are_refused_once() {
    let system = System::start().await;
    let worker = system.timed_worker("a").await;
    system.succeeded(system.submit("m", 1).await).await;
    let user = AmqpClient::connect(&system.testbed).await;
    let topology = system.testbed.topology();
    let mut dead = user
        .consume(&topology.dead_queue(&TIMED.parse().unwrap()))
        .await;
    let mut dead_submissions = user.consume(&topology.dead_submissions_queue()).await;
    let plain = BasicProperties::default;
    let with_header = |name: &str, text: &[u8]| {
        let mut headers = FieldTable::default();
        headers.insert(name.into(), AMQPValue::LongString(text.to_vec().into()));
        plain().with_headers(headers)
    };
    let huge = "x".repeat(100_000);
    let mut hostile: Vec<(Vec<u8>, BasicProperties)> = bad_bodies()
        .into_iter()
        .map(|(body, _)| (body, plain()))
        .collect();
    for properties in [
        with_hint(&huge),
        with_header("x-queue-priority", huge.as_bytes()),
        with_header("x-max-warm-wait", b"\xff\xfe\r\n"),
        with_header("x-no-retry", FORGERY.as_bytes()),
        plain().with_message_id(FORGERY.into()),
    ] {
        hostile.push((b"{}".to_vec(), properties));
    }
    for (body, properties) in hostile {
        let what = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        user.submit(TIMED, &body, properties).await;
        let letter = next(&mut dead).await;
        assert_eq!(letter.data, body, "{what}");
        assert!(!header(&letter, "x-warmq-reason").is_empty(), "{what}");
    }
    let longest = "z".repeat(255);
    for app in [FORGERY, "", "a/b\0", "é/é", longest.as_str()] {
        user.submit(app, "{}", plain()).await;
        let letter = next(&mut dead_submissions).await;
        assert_eq!(header(&letter, "x-warmq-routing-key"), app);
    }
    for output in odd_outputs() {
        let id = JobId::generate();
        let input = json!({"run_ms": 1, "load_ms": 1, "output": output}).to_string();
        user.submit(TIMED, input, plain().with_message_id(id.to_string().into()))
            .await;
        let job = system.reached_once_recorded(id, JobState::Succeeded).await;
        assert_eq!(job.output, Some(output));
    }
    let channel = system.testbed.publisher().channel().await.unwrap();
    let left = Topology::depth(&channel, &topology.submissions_queue()).await;
    assert_eq!(left.unwrap(), 0);
    log_is_intact(&system.router);
    log_is_intact(&worker);
    system.cleanup().await;
}

#[tokio::test]
async fn a_hint_is_passed_verbatim_and_not_interpreted() {
    let config = "[apps.'bench/timed']\nhint_from = 'input.output'";
    let system = System::with_config(config).await;
    let worker = system.timed_worker("a").await;
    let user = AmqpClient::connect(&system.testbed).await;
    for hint in [
        FORGERY,
        "\0",
        "a\r\nx-injected: 1",
        "模型\u{85}",
        "}:{app}:idle",
        "../../etc",
    ] {
        // By AMQP in a header, by HTTP in the input, since HTTP headers cannot contain all of them.
        let by_amqp = JobId::generate();
        let properties = with_hint(hint).with_message_id(by_amqp.to_string().into());
        user.submit(TIMED, r#"{"run_ms": 1, "load_ms": 1}"#, properties)
            .await;
        system
            .reached_once_recorded(by_amqp, JobState::Succeeded)
            .await;
        system.all_idle(TIMED).await;
        let input = json!({"run_ms": 1, "load_ms": 1, "output": hint}).to_string();
        let answer = system.post(TIMED, &[], &input).await;
        let by_http = answer.job_id();
        let job = system.succeeded(by_http).await;
        assert_eq!(job.spec.hint.unwrap().as_str(), hint);
        assert!(
            job.timings.unwrap().warm,
            "{hint:?} is another hint by HTTP"
        );
        system.all_idle(TIMED).await;
        let result = system
            .get(&format!("/queue/{TIMED}/requests/{by_http}"))
            .await;
        assert_eq!(result.headers["x-warmq-runner"], "a");
        assert!(!result.headers.contains_key("x-injected"));
    }
    // `Page::read` panics on a line that is not a sample.
    let page = String::from_utf8(system.get("/metrics").await.bytes).unwrap();
    Page::read(&page);
    log_is_intact(&system.router);
    log_is_intact(&worker);
    system.cleanup().await;
}

#[tokio::test]
async fn a_header_with_control_characters_is_refused() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let address = system.router.url().strip_prefix("http://").unwrap();
    for hint in ["a\rb", "a\0b", "a\n b", "a\u{7f}b", "a\u{1b}[2J"] {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "POST /queue/{TIMED} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: 2\r\n\
             x-fal-runner-hint: {hint}\r\n\r\n{{}}"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{hint:?}: {answer}");
    }
    log_is_intact(&system.router);
    system.cleanup().await;
}

#[tokio::test]
async fn terminal_escapes_in_errors_are_escaped() {
    let system = System::start().await;
    let worker = system.timed_worker("a").await;
    let input = json!({"run_ms": 1, "load_ms": 1, "fail": FORGERY});
    let id = system
        .submit_to(TIMED, FORGERY.split('\r').next().unwrap(), input)
        .await;
    let job = system.ended(id).await;
    assert_eq!(job.error.unwrap().message, FORGERY, "unchanged");
    let user = AmqpClient::connect(&system.testbed).await;
    user.submit(FORGERY, "{}", BasicProperties::default()).await;
    let dead = async || {
        let letters = system.get("/v1/dead").await.body["letters"].clone();
        letters
            .as_array()
            .filter(|letters| !letters.is_empty())
            .map(drop)
    };
    eventually("the submission is a dead letter", TIMEOUT, dead)
        .await
        .unwrap();
    let id = id.to_string();
    for command in [
        &["status", &id] as &[&str],
        &["result", &id],
        &["explain", &id],
        &["--json", "status", &id],
        &["dead", "list"],
        &[
            "submit",
            TIMED,
            "--wait",
            "--input",
            &json!({"fail": FORGERY}).to_string(),
        ],
    ] {
        let output = Program::new("warmq", command)
            .env("WARMQ_URL", system.router.url())
            .run()
            .await;
        let text = format!("{}{}", output.out, output.err);
        assert!(text.contains("FORGED"), "{command:?}: {text}");
        let harmless = |letter: char| letter == '\n' || warmq_types::text::is_printable(letter);
        assert!(text.chars().all(harmless), "{command:?}: {text:?}");
        let forged = text.lines().any(|line| line.starts_with("2026-01-01T00"));
        assert!(!forged, "{command:?}: {text}");
    }
    log_is_intact(&system.router);
    log_is_intact(&worker);
    system.cleanup().await;
}

#[tokio::test]
async fn replies_go_only_to_queues_of_the_submitter() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(system.submit("m", 1).await).await;
    let topology = system.testbed.topology();
    let user = AmqpClient::connect(&system.testbed).await;
    let mut dead = user
        .consume(&topology.dead_queue(&TIMED.parse().unwrap()))
        .await;
    let app = TIMED.parse().unwrap();
    // Queues of other clients whose names resemble reply queues.
    let others = ["replies", "jobs.reply.x", "Reply.x"].map(|name| {
        let namespace = system.testbed.namespace();
        format!("{name}.{namespace}")
    });
    for queue in &others {
        user.own_queue(queue).await;
    }
    let own = [
        topology.submissions_queue(),
        topology.lane_queue(&app, warmq_types::job::Priority::Normal),
        topology.shared_queue(&app),
        topology.dead_queue(&app),
        topology.deferred_results_queue(),
        topology.reply_events_queue(),
        format!("jobs.{TIMED}"),
        String::new(),
    ];
    for queue in others.iter().chain(&own) {
        // A good job and a bad one: either would get a reply.
        for body in [r#"{"run_ms": 1}"#, "nonsense"] {
            let properties = BasicProperties::default().with_reply_to(queue.as_str().into());
            user.submit(TIMED, body, properties).await;
            let reason = header(&next(&mut dead).await, "x-warmq-reason");
            assert!(reason.contains("invalid reply queue"), "{queue}: {reason}");
        }
    }
    // An unknown direct reply queue. RabbitMQ closes the connection with an internal error on the
    // first such publish.
    for address in ["g2.forged", "g1h2AAAA.AAAA", "", "é", "\r\n"] {
        for body in [r#"{"run_ms": 1}"#, "nonsense"] {
            let address = format!("{DIRECT_REPLY_TO}.{address}");
            let nobody = BasicProperties::default().with_reply_to(address.into());
            user.submit(TIMED, body, nobody).await;
        }
        let reason = header(&next(&mut dead).await, "x-warmq-reason");
        assert!(reason.contains("not JSON"), "{reason}");
    }
    let mut replies = user.consume(DIRECT_REPLY_TO).await;
    let properties = BasicProperties::default().with_reply_to(DIRECT_REPLY_TO.into());
    user.submit(TIMED, r#"{"run_ms": 1, "output": "mine"}"#, properties)
        .await;
    assert_eq!(json(&next(&mut replies).await)["payload"], "mine");
    let channel = system.testbed.publisher().channel().await.unwrap();
    let depth = async |queue: &str| Topology::depth(&channel, queue).await.unwrap();
    for queue in &own[..6] {
        assert_eq!(depth(queue).await, 0, "{queue}");
    }
    let apps = system.get("/v1/apps").await;
    assert_eq!(
        (apps.status, &apps.body["apps"][0]["queued"]),
        (StatusCode::OK, &json!(0))
    );
    for queue in &others {
        assert!(user.is_empty(queue).await, "{queue}");
    }
    log_is_intact(&system.router);
    system.cleanup().await;
}
