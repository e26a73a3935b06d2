//! Every Redis key has a life or a bound, and neither queues nor memory grow with the number of
//! jobs that ended.

use std::time::Duration;

use futures::{StreamExt, stream};
use warmq_testkit::{PrivateRabbit, PrivateRedis, Process, Testbed, Worker, WorkerOptions};
use warmq_tests::System;
use warmq_tests::system::TIMED;

/// Jobs after which the processes have allocated what they need in any case.
const FIRST_JOBS: usize = 1_000;

const JOBS: usize = 20_000;

const CONCURRENT: usize = 32;

/// Timeout for the end of the records, which are kept for a minute, and of their entries in lists.
const RECORDS_GONE: Duration = Duration::from_secs(150);

/// Elements by which bounded keys may grow meanwhile: fields of the four runners, minutes of the
/// history, models. A job leaves several, if any.
const BOUNDED_GROWTH: u64 = 500;

/// Bytes by which a process may grow: allocators keep what they used at the busiest moment.
const PROCESS_GROWTH: u64 = 48 << 20;

/// What jobs occupy.
#[derive(Debug)]
struct Occupied {
    /// Elements of the keys without a life.
    elements: u64,
    /// Lines of `rabbitmqctl list_queues`.
    queues: Vec<String>,
    router_bytes: u64,
    worker_bytes: u64,
}

struct Servers {
    rabbit: PrivateRabbit,
    redis: PrivateRedis,
}

impl Servers {
    async fn occupied(&self, system: &System, worker: &Worker) -> Occupied {
        let queues = ["list_queues", "--quiet", "name", "messages"];
        let queues = self.rabbit.ctl(&queues).await.unwrap();
        let mut queues: Vec<String> = queues.lines().map(str::to_owned).collect();
        queues.sort();
        let bytes = |process: &Process| process.resident_bytes().unwrap();
        Occupied {
            elements: elements_without_life(&self.redis).await,
            queues,
            router_bytes: bytes(&system.router),
            worker_bytes: bytes(worker),
        }
    }
}

/// Counts the elements of all keys that do not expire.
async fn elements_without_life(redis: &PrivateRedis) -> u64 {
    let client = redis::Client::open(redis.url().expose()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut elements = 0;
    let mut cursor = 0_u64;
    loop {
        let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
            .arg(cursor)
            .arg("COUNT")
            .arg(1000)
            .query_async(&mut connection)
            .await
            .unwrap();
        for key in keys {
            let life: i64 = redis::cmd("TTL")
                .arg(&key)
                .query_async(&mut connection)
                .await
                .unwrap();
            if life == -1 {
                elements += length(&mut connection, &key).await;
            }
        }
        cursor = next;
        if cursor == 0 {
            return elements;
        }
    }
}

async fn length(connection: &mut redis::aio::MultiplexedConnection, key: &str) -> u64 {
    let kind: String = redis::cmd("TYPE")
        .arg(key)
        .query_async(connection)
        .await
        .unwrap();
    let command = match kind.as_str() {
        "hash" => "HLEN",
        "zset" => "ZCARD",
        "set" => "SCARD",
        "list" => "LLEN",
        _ => return 1,
    };
    let length = redis::cmd(command).arg(key).query_async(connection).await;
    length.unwrap()
}

/// Runs jobs to their end.
async fn run(system: &System, jobs: usize) {
    let path = format!("/run/{TIMED}");
    let calls = stream::iter(0..jobs).map(|number| {
        let input = format!(r#"{{"run_ms": 0, "load_ms": 0, "output": {number}}}"#);
        let path = &path;
        async move {
            let headers = [("content-type", "application/json")];
            let answer = system
                .http(reqwest::Method::POST, path, &headers, input)
                .await;
            assert_eq!(answer.status, 200, "{:?}", answer.body);
        }
    });
    calls
        .buffer_unordered(CONCURRENT)
        .for_each(async |()| ())
        .await;
}

#[tokio::test]
async fn twenty_thousand_jobs_leave_nothing_behind() {
    let servers = Servers {
        rabbit: PrivateRabbit::start(&[]).await.unwrap(),
        redis: PrivateRedis::start().await.unwrap(),
    };
    let testbed = Testbed::builder()
        .amqp_url(servers.rabbit.url().expose())
        .redis_url(servers.redis.url().expose())
        .config("[apps.'bench/timed']\nretention = '1m'");
    let system = System::of(testbed.start().await.unwrap()).await;
    let options = WorkerOptions::timed("a", TIMED).args(["--concurrency", "4"]);
    let worker = system.worker(options).await;
    let elements = elements_without_life(&servers.redis).await;
    run(&system, FIRST_JOBS).await;
    let before = Occupied {
        elements,
        ..servers.occupied(&system, &worker).await
    };
    run(&system, JOBS).await;
    let what = "records are gone, and their entries in lists";
    let gone = async || {
        let elements = elements_without_life(&servers.redis).await;
        (elements <= before.elements + BOUNDED_GROWTH).then_some(())
    };
    system.until(what, RECORDS_GONE, gone).await;
    let page = system.get("/v1/jobs?limit=1").await.body;
    assert_eq!(page, serde_json::json!({"jobs": [], "next": null}));
    let after = servers.occupied(&system, &worker).await;
    println!("before: {before:#?}\nafter: {after:#?}");
    assert_eq!(after.queues, before.queues);
    assert!(after.router_bytes <= before.router_bytes + PROCESS_GROWTH);
    assert!(after.worker_bytes <= before.worker_bytes + PROCESS_GROWTH);
    system.cleanup().await;
}
