//! RabbitMQ and Redis in common configurations: supported ones work, and unsupported ones are
//! reported.

use warmq_testkit::{
    PrivateRabbit, PrivateRedis, Proxy, Testbed, Worker, WorkerOptions, eventually,
};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{Program, System};
use warmq_types::queue_type::QueueType;

/// The programs that need servers, with their required flags.
const PROGRAMS: [(&str, &[&str]); 2] = [
    ("warmq-router", &["--listen", "127.0.0.1:0"]),
    ("warmq-worker", &["--app", TIMED, "--engine", "timed"]),
];

/// A broker whose virtual host `v` defaults to quorum queues, as hosted ones do.
async fn broker_that_prefers_quorum_queues() -> (PrivateRabbit, String) {
    let rabbit = PrivateRabbit::start(&[]).await.unwrap();
    for command in [
        &["add_vhost", "v", "--default-queue-type", "quorum"] as &[&str],
        &["set_permissions", "-p", "v", "guest", ".*", ".*", ".*"],
    ] {
        rabbit.ctl(command).await.unwrap();
    }
    let url = rabbit.url().expose().replace("%2f", "v");
    (rabbit, url)
}

async fn worker(system: &System) -> Worker {
    system.worker(WorkerOptions::timed("a", TIMED)).await
}

#[tokio::test]
async fn queues_have_the_configured_type_regardless_of_the_virtual_hosts_default() {
    let (rabbit, url) = broker_that_prefers_quorum_queues().await;
    let testbed = Testbed::builder()
        .amqp_url(url)
        .queue_type(QueueType::Classic);
    let system = System::of(testbed.start().await.unwrap()).await;
    let _worker = worker(&system).await;
    system.succeeded(system.submit("m", 1).await).await;
    let list = ["list_queues", "-q", "-p", "v", "name", "type"];
    let queues = rabbit.ctl(&list).await.unwrap();
    assert!(queues.contains(&format!("jobs.{TIMED}")), "{queues}");
    assert!(!queues.contains("quorum"), "{queues}");
    system.cleanup().await;
}

/// Checks that both programs end at once with an error that has all of `parts`.
async fn refused(setting: &str, url: &str, parts: &[&str]) {
    for (program, args) in PROGRAMS {
        let output = Program::new(program, &[args, &[setting, url]].concat());
        let output = output.run().await;
        assert_eq!(output.code, Some(69), "{program} {url}: {output:?}");
        for part in parts {
            let times = output.err.matches(part).count();
            assert_eq!(times, 1, "{program} {url}: '{part}' in {output:?}");
        }
        assert!(
            !output.err.contains("apt-get"),
            "{program} {url}: {output:?}"
        );
    }
}

async fn command(redis: &PrivateRedis, command: &str) {
    let client = redis::Client::open(redis.url().expose()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut words = command.split(' ');
    let mut command = redis::cmd(words.next().unwrap());
    for word in words {
        command.arg(word);
    }
    let _: () = command.query_async(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_refusal_by_rabbitmq_is_reported_with_its_cause() {
    let testbed = Testbed::builder().start().await.unwrap();
    let url = testbed.amqp_url().expose();
    let (host, _) = url.rsplit_once('/').unwrap();
    refused("--amqp-url", &format!("{host}/"), &["%2f"]).await;
    let unknown = format!("{host}/t-nowhere");
    refused("--amqp-url", &unknown, &["'t-nowhere'", "add_vhost"]).await;
    let (_, address) = host.split_once('@').unwrap();
    let wrong = format!("amqp://t-nobody:wrong@{address}/%2f");
    refused("--amqp-url", &wrong, &["refused the user or the password"]).await;
}

#[tokio::test]
async fn a_refusal_by_redis_is_reported_with_its_cause() {
    let redis = PrivateRedis::start().await.unwrap();
    let url = redis.url().expose();
    let (host, _) = url.rsplit_once('/').unwrap();
    refused("--redis-url", &format!("{host}/99"), &["no such database"]).await;
    let as_user = |user: &str| url.replace("redis://", &format!("redis://{user}@"));
    let wrong = as_user("nobody:wrong");
    refused("--redis-url", &wrong, &["refused the user or the password"]).await;
    for (user, rules) in [
        ("noscripts", "~* &* +@all -@scripting"),
        ("nochannels", "~* resetchannels +@all"),
        ("nokeys", "~other:* &* +@all"),
    ] {
        command(&redis, &format!("ACL SETUSER {user} on >p {rules}")).await;
        let url = as_user(&format!("{user}:p"));
        refused(
            "--redis-url",
            &url,
            &["does not let its user", "ACL SETUSER"],
        )
        .await;
    }
    command(&redis, "CONFIG SET requirepass secret").await;
    refused("--redis-url", url, &["asks for a password"]).await;
}

#[tokio::test]
async fn a_redis_user_needs_only_the_namespaces_keys_and_channels() {
    let redis = PrivateRedis::start().await.unwrap();
    let testbed = Testbed::builder().redis_url(redis.url().expose());
    let mut system = System::of(testbed.start().await.unwrap()).await;
    let namespace = system.testbed.namespace();
    let rules = format!("~{namespace}:* &{namespace}:* +@all -@dangerous");
    command(&redis, &format!("ACL SETUSER warmq on >p {rules}")).await;
    let url = (redis.url().expose()).replace("redis://", "redis://warmq:p@");
    system.replace_router(&["--redis-url", &url]).await;
    let options = WorkerOptions::timed("a", TIMED).args(["--redis-url", &url]);
    let _worker = system.worker(options).await;
    system.succeeded(system.submit("m", 1).await).await;
    assert_eq!(system.get("/readyz").await.status, 200);
    system.cleanup().await;
}

#[tokio::test]
async fn a_redis_cluster_is_refused() {
    // By default the port of its bus follows from its own, and may be taken.
    let bus = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap();
    let settings = [
        ("--cluster-enabled", "yes".to_owned()),
        ("--cluster-port", bus.port().to_string()),
    ];
    let redis = PrivateRedis::start_configured(settings).await.unwrap();
    let parts = ["is a Redis Cluster, which warmq does not support"];
    refused("--redis-url", redis.url().expose(), &parts).await;
    // With all slots, one node alone answers most commands.
    command(&redis, "CLUSTER ADDSLOTSRANGE 0 16383").await;
    eventually("the Redis Cluster is up", TIMEOUT, async || {
        let client = redis::Client::open(redis.url().expose()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        let mut get = redis::cmd("GET");
        let got = get.arg("key").query_async(&mut connection).await;
        got.ok().map(|_: Option<String>| ())
    })
    .await
    .unwrap();
    refused("--redis-url", redis.url().expose(), &parts).await;
}

#[tokio::test]
async fn a_replica_is_named_and_waited_for() {
    let redis = PrivateRedis::start().await.unwrap();
    let port = redis.url().as_url().port().unwrap();
    let settings = [("--replicaof", format!("127.0.0.1 {port}"))];
    let replica = PrivateRedis::start_configured(settings).await.unwrap();
    for (program, args) in PROGRAMS {
        let args = [args, &["--redis-url", replica.url().expose()]].concat();
        let waits = Program::new(program, &args);
        let output = waits.run_until(&["waiting", "read-only replica"]).await;
        assert!(!output.contains("apt-get"), "{output}");
    }
}

#[tokio::test]
async fn servers_that_start_later_are_waited_for() {
    let testbed = Testbed::builder().start().await.unwrap();
    let amqp = Proxy::of(testbed.amqp_url()).await.unwrap();
    let redis = Proxy::of(testbed.redis_url()).await.unwrap();
    amqp.shut();
    redis.shut();
    let (amqp_url, redis_url) = (amqp.url(), redis.url());
    let args = [
        "--amqp-url",
        amqp_url.expose(),
        "--redis-url",
        redis_url.expose(),
    ];
    let come_up = async {
        // Both programs reported that Redis is away, and then that RabbitMQ is.
        let output = async |text: &str| {
            eventually(text, TIMEOUT, async || {
                let logs = ["router-1.log", "a.log"].map(|log| testbed.folder().join(log));
                let all_say = logs
                    .iter()
                    .all(|log| std::fs::read_to_string(log).is_ok_and(|log| log.contains(text)));
                all_say.then_some(())
            })
            .await
            .unwrap();
        };
        output("redis is unreachable").await;
        redis.reopen();
        output("rabbitmq is unreachable").await;
        amqp.reopen();
    };
    let options = WorkerOptions::timed("a", TIMED).args(args);
    let (router, worker, ()) =
        tokio::join!(testbed.router(&args), testbed.worker(options), come_up);
    let (router, _worker) = (router.unwrap(), worker.unwrap());
    let ready = reqwest::get(format!("{}/readyz", router.url()))
        .await
        .unwrap();
    assert_eq!(ready.status(), 200);
    drop(router);
    testbed.cleanup().await.unwrap();
}

#[tokio::test]
async fn queues_of_another_type_are_refused_with_the_setting() {
    let system = System::start().await;
    let namespace = system.testbed.namespace().to_string();
    let _worker = worker(&system).await;
    for (program, args) in PROGRAMS {
        let quorum = ["--namespace", &namespace, "--queue-type", "quorum"];
        let output = Program::new(program, &[args, &quorum].concat()).run().await;
        assert_eq!(output.code, Some(69), "{program}: {output:?}");
        for part in ["inequivalent arg", "--queue-type"] {
            assert_eq!(output.err.matches(part).count(), 1, "{program}: {output:?}");
        }
    }
    system.cleanup().await;
}
