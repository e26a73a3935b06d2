//! A flow is durable: if its router dies between or during steps, it ends with the right result,
//! and each step has run once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use lapin::options::BasicAckOptions;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use warmq_testkit::{Testbed, WorkerOptions, eventually};
use warmq_tests::AmqpClient;
use warmq_tests::system::TIMEOUT;
use warmq_types::flow::StepOf;
use warmq_types::ids::{AppId, JobId};
use warmq_types::message::{JobEvent, Versioned};
use warmq_types::state::JobState;

/// Number of kills.
const KILLS: usize = 50;

/// Time from readiness to the kill, ms, drawn at random: about as long as a flow takes.
const KILL_AFTER_MS: std::ops::Range<u64> = 5..600;

/// Clients with one flow in progress each.
const CLIENTS: u64 = 12;

/// Seed of the moments of the kills.
const SEED: u64 = 20_261_126;

const CONFIG: &str = r#"
    [apps."acme/add"]
    [apps."acme/double"]
    [apps."acme/negate"]

    [routes."acme/pipeline"]
    kind = "sequence"
    steps = [
      { name = "add", app = "acme/add", input = { output = "input.n + 1", run_ms = 60 } },
      { name = "double", app = "acme/inner", input = { n = "steps.add.output" } },
      { name = "negate", app = "acme/negate", input = { output = "-steps.double.output", run_ms = 60 } },
    ]

    # A flow in the flow.
    [routes."acme/inner"]
    kind = "fallback"
    to = [{ app = "acme/double", input = { output = "input.n * 2", run_ms = 60 } }]
"#;

const ROUTE: &str = "acme/pipeline";

/// A submitted flow and its input.
struct Submitted {
    id: JobId,
    n: u64,
}

/// Submits under an idempotency key until a router accepts.
async fn order(http: &reqwest::Client, url: &str, n: u64) -> Submitted {
    let submit = async || {
        let request = http.post(format!("{url}/queue/{ROUTE}"));
        let request = request.header("idempotency-key", format!("order-{n}"));
        let answer = request.json(&json!({"n": n})).send().await.ok()?;
        let body: serde_json::Value = answer.error_for_status().ok()?.json().await.ok()?;
        body["request_id"].as_str()?.parse().ok()
    };
    let id = eventually("a flow is accepted", TIMEOUT * 2, submit)
        .await
        .unwrap();
    Submitted { id, n }
}

#[tokio::test]
async fn each_step_runs_once_although_the_router_is_killed_50_times() {
    let testbed = Testbed::builder().config(CONFIG).start().await.unwrap();
    let store = testbed.store();
    // The killed router runs the flows and serves HTTP. nothing_is_lost kills dispatchers.
    let _dispatcher = testbed.router(&["--roles", "dispatch"]).await.unwrap();
    let victim = ["--roles", "api,flow"];
    let mut router = testbed.router(&victim).await.unwrap();
    let address = router.url().trim_start_matches("http://").to_owned();
    let mut workers = Vec::new();
    for app in ["add", "double", "negate"] {
        let mut options = WorkerOptions::timed(app, &format!("acme/{app}"));
        options.concurrency = 4;
        workers.push(testbed.worker(options).await.unwrap());
    }
    let user = AmqpClient::connect(&testbed).await;
    let mut ends = user.end_events().await;

    let url = router.url().to_owned();
    let route = AppId::parse(ROUTE).unwrap();
    let is_over = Cell::new(false);
    // The flow that each client has in progress.
    let current = RefCell::new(BTreeMap::<u64, JobId>::new());
    let users = (0..CLIENTS).map(async |number| {
        let http = reqwest::Client::new();
        let mut orders = Vec::new();
        for n in (number..).step_by(CLIENTS as usize) {
            if is_over.get() {
                break;
            }
            let order = order(&http, &url, n).await;
            current.borrow_mut().insert(number, order.id);
            let ended = async || {
                let state = store.jobs().state_of(&route, order.id).await.unwrap()?;
                (state.is_terminal() || is_over.get()).then_some(())
            };
            eventually("a flow ends", TIMEOUT * 2, ended).await.unwrap();
            orders.push(order);
        }
        orders
    });
    let kills = async {
        // The step in progress at each kill; 3: between steps, or before the first.
        let mut hit = BTreeMap::<u32, u32>::new();
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(rng.random_range(KILL_AFTER_MS))).await;
            router.kill9().await.unwrap();
            let orders: Vec<JobId> = current.borrow().values().copied().collect();
            for id in orders {
                let record = store.jobs().job_of(&route, id).await.unwrap().unwrap();
                let flow = record.flow.unwrap();
                let step = flow.under_way().map_or(3, |step| step.index);
                *hit.entry(step).or_default() += 1;
            }
            router = testbed.router_at(&address, &victim).await.unwrap();
        }
        is_over.set(true);
        hit
    };
    let (orders, hit) = tokio::join!(join_all(users), kills);
    let orders: Vec<Submitted> = orders.into_iter().flatten().collect();
    println!(
        "{} flows, killed {KILLS} times; under way then, by step: {hit:?}",
        orders.len()
    );
    assert!(orders.len() as u64 > CLIENTS, "{}", orders.len());
    for place in 0..=3 {
        let kills = hit.get(&place).copied().unwrap_or(0);
        assert!(
            kills > 1,
            "the router died {kills} times in step {place}: {hit:?}"
        );
    }

    let mut expected: HashMap<JobId, AppId> = HashMap::new();
    for Submitted { id, n } in &orders {
        let ended = async || {
            let flow = store.jobs().job_of(&route, *id).await.unwrap()?;
            flow.state.is_terminal().then_some(flow)
        };
        let flow = eventually("every flow ends", TIMEOUT * 2, ended)
            .await
            .unwrap();
        let right = json!(-2 * (*n as i64 + 1));
        assert_eq!(
            (flow.state, flow.output),
            (JobState::Succeeded, Some(right)),
            "{:?}",
            flow.error
        );
        let step = |route: &AppId, flow, index| {
            StepOf {
                route: route.clone(),
                flow,
                index,
            }
            .job()
        };
        let inner = step(&route, *id, 1);
        let inner_route = AppId::parse("acme/inner").unwrap();
        for (app, job) in [
            ("acme/add", step(&route, *id, 0)),
            ("acme/double", step(&inner_route, inner, 0)),
            ("acme/negate", step(&route, *id, 2)),
        ] {
            let record = store.jobs().job(job).await.unwrap().unwrap();
            assert_eq!(
                (record.spec.app.as_str(), record.attempt),
                (app, 1),
                "step {job} of {id}"
            );
            expected.insert(job, record.spec.app);
        }
    }
    // Runners ran no other job.
    let mut ended = HashMap::new();
    while ended.len() < expected.len() {
        let delivery = tokio::time::timeout(TIMEOUT, ends.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let event = JobEvent::decode(&delivery.data).unwrap();
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        if event.state.is_terminal()
            && !["acme/pipeline", "acme/inner"].contains(&event.app.as_str())
        {
            ended.insert(event.job_id, event.app);
        }
    }
    assert_eq!(ended, expected);
    drop((router, workers));
    testbed.cleanup().await.unwrap();
}
