//! Every process is replaced under load, one after the other, as in an upgrade, without an effect
//! on clients. `make test-upgrade PREVIOUS=<git ref>` begins with the programs of another build.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tokio::task::JoinHandle;
use warmq_testkit::{Router, Testbed, Worker, WorkerOptions};
use warmq_tests::amqp::{json, next, with_id};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, System};
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

/// Clients that submit by HTTP, one job at a time: more than there are runners.
const USERS: usize = 8;

/// Between a client's polls, and between a refusal and the next attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// The variable with the folder of another build's programs, which this build's replace; without
/// it, this build's replace themselves.
const PREVIOUS: &str = "WARMQ_PREVIOUS";

const INPUT: &str = r#"{"run_ms": 200, "load_ms": 50}"#;
const MODELS: [&str; 3] = ["x", "y", "z"];

/// Jobs by HTTP that end before and after each kind of process is replaced, on both builds.
const JOBS_BETWEEN: usize = 40;

/// A flow of two jobs of [`TIMED`].
const FLOW: &str = "bench/twice";
const CONFIG: &str = r#"
    [apps."bench/timed"]

    [routes."bench/twice"]
    kind = "sequence"
    steps = [
      { name = "one", app = "bench/timed", input = { run_ms = 50, load_ms = 10 } },
      { name = "two", app = "bench/timed", input = { run_ms = 50, load_ms = 10 } },
    ]
"#;

/// A load balancer in front of the routers: it skips one only after a refused connection.
#[derive(Clone, Default)]
struct Balancer(Arc<Mutex<Vec<String>>>);

impl Balancer {
    fn add(&self, router: &Router) {
        self.0.lock().unwrap().push(router.url().to_owned());
    }

    fn remove(&self, url: &str) {
        self.0.lock().unwrap().retain(|known| known != url);
    }

    /// Round robin.
    fn next(&self) -> Option<String> {
        let mut urls = self.0.lock().unwrap();
        if !urls.is_empty() {
            urls.rotate_left(1);
        }
        urls.first().cloned()
    }
}

/// Returns whether no router accepted the connection: refused, or reset in the accept queue. A
/// stopping router answers accepted ones.
fn was_refused(error: &reqwest::Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    error.is_connect()
        || causes.any(|cause| {
            let io = cause.downcast_ref::<std::io::Error>();
            io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionReset)
        })
}

/// A client of the HTTP API that checks every response.
struct User {
    balancer: Balancer,
    client: Client,
}

impl User {
    /// Repeats until answered: another router if refused, later if 503.
    async fn ask(&self, request: impl Fn(&Client, &str) -> reqwest::RequestBuilder) -> Response {
        loop {
            if let Some(url) = self.balancer.next() {
                match request(&self.client, &url).send().await {
                    Err(error) => {
                        assert!(was_refused(&error), "{error:?}");
                        self.balancer.remove(&url);
                    }
                    Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => {
                        assert!(answer.headers().contains_key("retry-after"));
                    }
                    Ok(answer) => {
                        assert!(!answer.status().is_server_error(), "{answer:?}");
                        return answer;
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Submits a job with this hint, or a flow without one, and waits for its end.
    async fn run_a_job(&self, hint: Option<&str>) -> JobId {
        let key = JobId::generate().to_string();
        let app = hint.map_or(FLOW, |_| TIMED);
        let answer = self.ask(|client, url| {
            let request = client.post(format!("{url}/queue/{app}"));
            let request = match hint {
                Some(hint) => request.header("x-fal-runner-hint", hint),
                None => request,
            };
            request.header("idempotency-key", &key).body(INPUT)
        });
        let answer = answer.await;
        assert_eq!(answer.status(), StatusCode::OK);
        let body: Value = answer.json().await.unwrap();
        let id: JobId = body["request_id"].as_str().unwrap().parse().unwrap();
        loop {
            let path = format!("/queue/{app}/requests/{id}/status");
            let status = self.ask(|client, url| client.get(format!("{url}{path}")));
            match status.await.status() {
                StatusCode::OK => return id,
                StatusCode::ACCEPTED => tokio::time::sleep(PAUSE).await,
                other => panic!("{path}: {other}"),
            }
        }
    }
}

/// The state that the clients share with the test.
#[derive(Clone, Default)]
struct Load {
    stop: Arc<AtomicBool>,
    /// Number of jobs by HTTP that ended.
    ended: Arc<AtomicUsize>,
}

/// Submits until stopped, every fourth user flows, and returns the accepted jobs.
fn users(balancer: &Balancer, load: &Load) -> Vec<JoinHandle<Vec<JobId>>> {
    let user = |number: usize| {
        let user = User {
            balancer: balancer.clone(),
            // One connection per request: a client cannot detect whether a server that closes an
            // idle connection received a last request on it.
            client: Client::builder().pool_max_idle_per_host(0).build().unwrap(),
        };
        let load = load.clone();
        tokio::spawn(async move {
            let mut jobs = Vec::new();
            while !load.stop.load(Ordering::Relaxed) {
                let hint = MODELS[(number + jobs.len()) % MODELS.len()];
                let hint = (!number.is_multiple_of(4)).then_some(hint);
                jobs.push(user.run_a_job(hint).await);
                load.ended.fetch_add(1, Ordering::Relaxed);
            }
            jobs
        })
    };
    (0..USERS).map(user).collect()
}

/// An AMQP client: a job every [`PAUSE`], without waiting for earlier ones.
fn amqp_user(user: AmqpClient, replies: String, load: &Load) -> JoinHandle<Vec<JobId>> {
    let stop = Arc::clone(&load.stop);
    tokio::spawn(async move {
        let mut jobs = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let id = JobId::generate();
            user.submit(TIMED, INPUT, with_id(id, &replies)).await;
            jobs.push(id);
            tokio::time::sleep(PAUSE * 2).await;
        }
        jobs
    })
}

/// A worker that does not wait for its job when stopped.
async fn impatient(system: &System, name: &str) -> Worker {
    let options = WorkerOptions::timed(name, TIMED).args(["--drain-timeout-s", "0"]);
    system.worker(options).await
}

/// The processes that are replaced first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Workers,
    Routers,
}

/// Two routers and three workers, each replaced by a process of this build.
struct Deployment {
    system: System,
    second: Router,
    workers: Vec<Worker>,
    balancer: Balancer,
    load: Load,
}

impl Deployment {
    /// Starts the programs of the build in the folder [`PREVIOUS`], otherwise this build's.
    async fn start() -> Self {
        let previous = std::env::var_os(PREVIOUS).map(PathBuf::from);
        let testbed = Testbed::builder().config(CONFIG).programs(previous);
        let system = System::of(testbed.start().await.unwrap()).await;
        let second = system.testbed.router(&[]).await.unwrap();
        let balancer = Balancer::default();
        balancer.add(&system.router);
        balancer.add(&second);
        let mut workers = Vec::new();
        for name in ["a", "b", "c"] {
            workers.push(impatient(&system, name).await);
        }
        Self {
            system,
            second,
            workers,
            balancer,
            load: Load::default(),
        }
    }

    /// Waits until [`JOBS_BETWEEN`] more jobs ended.
    async fn work_on(&self) {
        let ended = || self.load.ended.load(Ordering::Relaxed);
        let wanted = ended() + JOBS_BETWEEN;
        let reached = async || (ended() >= wanted).then_some(());
        self.system.until("jobs end", TIMEOUT * 2, reached).await;
    }

    /// Replaces each worker while it runs a job.
    async fn replace_workers(&mut self) {
        let Self {
            system, workers, ..
        } = self;
        let mut handed_back = 0;
        for (old, name) in workers.iter_mut().zip(["d", "e", "f"]) {
            let new = impatient(system, name).await;
            let leaving = old.runner().clone();
            let runs = async || {
                let runners = system.runners(TIMED).await;
                let runner = runners.iter().find(|runner| runner.id == leaving);
                let job = system.job(runner?.job?).await;
                (job.state == JobState::Running).then_some(())
            };
            system.until("it runs a job", TIMEOUT, runs).await;
            assert!(old.stop(TIMEOUT).await.unwrap().success());
            handed_back += usize::from(
                old.log_tail()
                    .contains("stopping: requeued the unfinished job"),
            );
            *old = new;
        }
        assert!(handed_back > 0, "no worker was stopped under a job");
    }

    async fn replace_routers(&mut self) {
        let Self {
            system,
            second,
            balancer,
            ..
        } = self;
        for old in [second, &mut system.router] {
            let new = system.testbed.router(&[]).await.unwrap();
            balancer.add(&new);
            assert!(old.stop(TIMEOUT).await.unwrap().success());
            *old = new;
        }
    }
}

/// Replaces every process under load, and checks that each job ended once.
async fn replace_everything(first: First) {
    let mut deployment = Deployment::start().await;
    let system = &deployment.system;
    let load = deployment.load.clone();
    let amqp = AmqpClient::connect(&system.testbed).await;
    let queue = format!("reply.{}", system.testbed.namespace());
    amqp.own_queue(&queue).await;
    let mut replies = amqp.consume(&queue).await;
    let by_http = users(&deployment.balancer, &load);
    let by_amqp = amqp_user(amqp, queue, &load);

    system.testbed.use_own_programs();
    deployment.work_on().await;
    if first == First::Routers {
        deployment.replace_routers().await;
        deployment.work_on().await;
    }
    deployment.replace_workers().await;
    deployment.work_on().await;
    if first == First::Workers {
        deployment.replace_routers().await;
        deployment.work_on().await;
    }

    load.stop.store(true, Ordering::Relaxed);
    let by_http = join_all(by_http).await.into_iter();
    let mut jobs: Vec<JobId> = by_http.flat_map(Result::unwrap).collect();
    let by_amqp = by_amqp.await.unwrap();
    let mut counts: BTreeMap<JobId, u32> = BTreeMap::new();
    while counts.len() < by_amqp.len() {
        let reply = json(&next(&mut replies).await);
        let id: JobId = reply["request_id"].as_str().unwrap().parse().unwrap();
        *counts.entry(id).or_default() += 1;
    }
    assert!(counts.values().all(|times| *times == 1), "{counts:?}");
    jobs.extend(by_amqp);
    println!("{first:?} first: {} jobs and flows", jobs.len());
    let mut steps = Vec::new();
    for id in jobs {
        let record = deployment.system.succeeded(id).await;
        match record.flow {
            Some(flow) => {
                assert_eq!(flow.steps.len(), 2, "{flow:?}");
                steps.extend(flow.steps.iter().map(|step| step.job));
            }
            None => assert_eq!(record.attempt, 1),
        }
    }
    assert!(!steps.is_empty(), "no flow ended");
    for id in steps {
        assert_eq!(deployment.system.succeeded(id).await.attempt, 1);
    }
    let Deployment {
        system, workers, ..
    } = deployment;
    drop(workers);
    system.cleanup().await;
}

#[tokio::test]
async fn a_rolling_restart_of_everything_under_load_loses_nothing_and_costs_no_attempt() {
    replace_everything(First::Workers).await;
}

#[tokio::test]
async fn a_rolling_restart_of_the_routers_before_the_workers_costs_no_attempt_either() {
    replace_everything(First::Routers).await;
}
