//! Servers that the worker starts: `--spawn`.

use std::io::Write;
use std::path::PathBuf;

use serde_json::json;
use warmq_types::state::JobState;
use warmq_worker::engine::http::options::Target;

use super::config;
use super::stub::Stub;
use crate::harness::World;

/// A server of one thread in Python's standard library. `{"exit": n}` ends it after the response,
/// `{"hang": true}` makes it hang, `{"stop": true}` asks for a restart.
const SERVER: &str = r#"
import json, os, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.reply({})
    def do_POST(self):
        job = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.reply({"pid": os.getpid()}, "stop" in job)
        if "hang" in job:
            time.sleep(3600)
        if "exit" in job:
            print("out of luck", file=sys.stderr, flush=True)
            os._exit(job["exit"])
    def reply(self, value, stops=False):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        if stops:
            self.send_header("x-fal-stop-runner", "1")
        self.end_headers()
        self.wfile.write(body)

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"#;

fn script(world: &World) -> PathBuf {
    let path = world.testbed.folder().join("server.py");
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(SERVER.as_bytes()).unwrap();
    path
}

fn spawned(command: &[&str]) -> Target {
    Target::Spawned {
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        upstream: None,
    }
}

fn is_alive(pid: u64) -> bool {
    PathBuf::from(format!("/proc/{pid}/cmdline")).exists()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawned_server_is_restarted_when_it_exits_and_ends_with_the_worker() {
    let world = World::new().await;
    let script = script(&world);
    let target = spawned(&["python3", script.to_str().unwrap(), "{port}"]);
    let worker = world.worker_that_may_fail(Default::default(), config(&world, target));
    world.idle("a").await;
    let pid = async |input| {
        let job = world.share("", input).await;
        let record = world.reached(&job, JobState::Succeeded).await;
        record.output.unwrap()["pid"].as_u64().unwrap()
    };
    let first = pid(json!({"exit": 3})).await;
    world
        .until("the fault names the reason", async || {
            let fault = world.runner("a").await?.fault?;
            let is_complete = fault.contains("exit status: 3") && fault.contains("out of luck");
            is_complete.then_some(())
        })
        .await;
    world.idle("a").await;
    let second = pid(json!({})).await;
    assert_ne!(first, second);
    assert!(is_alive(second));
    world.end([worker]).await;
    assert!(!is_alive(second), "it ends with the worker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawned_server_that_hangs_or_asks_for_it_is_restarted() {
    let world = World::new().await;
    let script = script(&world);
    let target = spawned(&["python3", script.to_str().unwrap(), "{port}"]);
    let mut config = config(&world, target);
    config.hang_grace = std::time::Duration::from_secs(3);
    let worker = world.worker_that_may_fail(Default::default(), config);
    world.idle("a").await;
    let mut pids = Vec::new();
    for input in [json!({"hang": true}), json!({"stop": true}), json!({})] {
        let job = world.share("", input).await;
        let record = world.reached(&job, JobState::Succeeded).await;
        pids.push(record.output.unwrap()["pid"].as_u64().unwrap());
        if pids.len() < 3 {
            world.faulty("a").await;
        }
    }
    pids.dedup();
    assert_eq!(pids.len(), 3, "{pids:?}");
    assert!(!is_alive(pids[0]));
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spawned_server_that_does_not_get_ready_in_time_is_restarted() {
    let world = World::new().await;
    // Ready at the second start.
    let marker = world.testbed.folder().join("started");
    let script = script(&world);
    let command = format!(
        "test -e {marker} && exec python3 {script} $0; touch {marker}; exec sleep 60",
        marker = marker.display(),
        script = script.display()
    );
    let mut config = config(&world, spawned(&["sh", "-c", &command, "{port}"]));
    let options = config.engine.http.as_mut().unwrap();
    options.startup_timeout = Some(std::time::Duration::from_secs(1));
    let worker = world.worker_that_may_fail(Default::default(), config);
    world.idle("a").await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_does_not_exist_is_refused_at_the_start() {
    let world = World::new().await;
    let target = spawned(&["no-such-program", "{port}"]);
    let worker = world.worker_that_may_fail(Default::default(), config(&world, target));
    let error = worker.ended().await.unwrap_err();
    assert_eq!(error.exit_code(), 64);
    assert!(
        error
            .to_string()
            .contains("'no-such-program' cannot be started"),
        "{error}"
    );
    world.end([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_exits_at_once_is_listed_with_its_last_line() {
    let world = World::new().await;
    let target = spawned(&["python3", "-c", "raise SystemExit('no module named torch')"]);
    let worker = world.worker_that_may_fail(Default::default(), config(&world, target));
    world
        .until("the fault names the reason", async || {
            let fault = world.runner("a").await?.fault?;
            let is_complete =
                fault.contains("exit status: 1") && fault.contains("no module named torch");
            is_complete.then_some(())
        })
        .await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_another_program_uses_is_named() {
    let world = World::new().await;
    let other = Stub::start().await;
    let target = Target::Spawned {
        command: vec!["sleep".to_owned(), "60".to_owned()],
        upstream: Some(other.url().parse().unwrap()),
    };
    let worker = world.worker_that_may_fail(Default::default(), config(&world, target));
    let fault = world.faulty("a").await.fault.unwrap();
    assert!(fault.contains("is in use by another program"), "{fault}");
    world.end([worker]).await;
}
