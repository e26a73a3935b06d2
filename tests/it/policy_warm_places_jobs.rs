//! Policy `warm`: a job waits a bounded time for a runner that has its model, and models are loaded
//! where that pays.

use std::time::Duration;

use futures::future::join_all;
use lapin::types::AMQPValue;
use serde_json::json;
use warmq_store::{Claim, Registration, RunnerReport};
use warmq_testkit::eventually;
use warmq_testkit::{WorkerOptions, registration};
use warmq_tests::System;
use warmq_tests::amqp::{AmqpClient, with_hint};
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId, RunnerId};
use warmq_types::job::{JobRecord, JobSpec, Target};
use warmq_types::state::JobState;

fn app() -> AppId {
    AppId::parse(TIMED).unwrap()
}

/// Starts two runners, one of which has `hot` loaded and is busy with it for `run_ms`.
async fn one_warm_and_busy(system: &System, run_ms: u64) -> JobRecord {
    system.succeeded(system.submit("hot", 10).await).await;
    system.all_idle(TIMED).await;
    let busy = system.submit("hot", run_ms).await;
    system.reached(busy, JobState::Running).await
}

async fn post(system: &System, headers: &[(&str, &str)], body: &str) -> JobId {
    system.post(TIMED, headers, body).await.job_id()
}

#[tokio::test]
async fn a_job_waits_for_the_busy_runner_that_has_its_model() {
    let system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let busy = one_warm_and_busy(&system, 1000).await;
    let id = system.submit("hot", 10).await;
    let held = eventually("the job is held", TIMEOUT, async || {
        system.job(id).await.hold
    })
    .await
    .unwrap();
    assert_eq!((held.holders, held.idle_runners), (1, 1), "{held:?}");
    assert!(held.predicted_wait_ms.is_some() && held.until_ms > held.since_ms);
    let job = system.succeeded(id).await;
    let decision = job.decision.unwrap();
    assert_eq!(job.runner, busy.runner, "{}", decision.reason);
    assert!(decision.warm && job.timings.unwrap().warm);
    assert!(decision.held_ms > 100, "{decision:?}");
    assert_eq!(decision.policy, "warm");
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_with_no_warm_wait_goes_to_any_runner_at_once() {
    let system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let busy = one_warm_and_busy(&system, 2000).await;
    let headers = [("x-fal-runner-hint", "hot"), ("x-max-warm-wait", "0")];
    let job = post(&system, &headers, r#"{"run_ms": 1, "load_ms": 1}"#).await;
    let job = system.succeeded(job).await;
    assert_ne!(job.runner, busy.runner);
    assert_eq!(job.spec.max_warm_wait_ms, Some(0));
    assert_eq!(
        system.job(busy.spec.id).await.state,
        JobState::Running,
        "the test was too slow for a verdict"
    );
    system.cleanup().await;
}

#[tokio::test]
async fn patience_is_set_by_the_amqp_header_or_the_config() {
    let config = "[apps.'bench/timed']\nmax_warm_wait = '300ms'";
    for (config, header) in [(config, None), ("", Some(AMQPValue::Double(0.3)))] {
        let system = System::with_config(config).await;
        let _workers = [
            system.timed_worker("a").await,
            system.timed_worker("b").await,
        ];
        let busy = one_warm_and_busy(&system, 5000).await;
        let id = JobId::generate();
        let mut properties = with_hint("hot").with_message_id(id.to_string().into());
        if let Some(wait) = header {
            let mut headers = properties.headers().clone().unwrap();
            headers.insert("x-max-warm-wait".into(), wait);
            properties = properties.with_headers(headers);
        }
        let user = AmqpClient::connect(&system.testbed).await;
        user.submit(TIMED, r#"{"run_ms": 1, "load_ms": 1}"#, properties)
            .await;
        eventually("the job is recorded", TIMEOUT, async || {
            system.testbed.store().jobs().job(id).await.unwrap()
        })
        .await
        .unwrap();
        let job = system.succeeded(id).await;
        let decision = job.decision.unwrap();
        assert_ne!(job.runner, busy.runner, "{decision:?}");
        assert!((300..3000).contains(&decision.held_ms), "{decision:?}");
        assert!(decision.reason.contains("bound"), "{decision:?}");
        system.cleanup().await;
    }
}

#[tokio::test]
async fn cold_loads_of_one_model_coalesce() {
    let system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let mut jobs = Vec::new();
    for _ in 0..6 {
        let input = json!({"run_ms": 20, "load_ms": 600});
        jobs.push(system.submit_to(TIMED, "new", input).await);
    }
    let mut loads = 0;
    for id in jobs {
        loads += u32::from(!system.succeeded(id).await.timings.unwrap().warm);
    }
    assert_eq!(loads, 1);
    system.cleanup().await;
}

#[tokio::test]
async fn a_low_job_waits_until_no_normal_one_does() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let busy = system.submit("m", 1000).await;
    system.reached(busy, JobState::Running).await;
    let headers = [("x-fal-queue-priority", "low"), ("x-fal-runner-hint", "m")];
    let low = post(&system, &headers, r#"{"run_ms": 1}"#).await;
    // The cold runner as well: a normal job needs the runner.
    let normal = [system.submit("m", 100).await, system.submit("n", 100).await];
    let low = system.succeeded(low).await;
    for id in normal {
        let normal = system.succeeded(id).await;
        assert!(
            normal.started_ms < low.started_ms,
            "a low job overtook a normal one"
        );
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_job_without_hint_goes_to_a_chosen_runner() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let free = system.succeeded(system.submit("", 300).await).await;
    let runner = RunnerId::parse("a").unwrap();
    assert_eq!(free.decision.unwrap().target, Target::Runner { runner });
    system.all_idle(TIMED).await;
    // Without normal jobs, it is held like any other, and dispatched in turn.
    let busy = system.submit("", 500).await;
    system.reached(busy, JobState::Running).await;
    let [first, second] = [system.submit("", 10).await, system.submit("m", 10).await];
    let (first, second) = (
        system.succeeded(first).await,
        system.succeeded(second).await,
    );
    assert!(first.started_ms <= second.started_ms);
    assert!(first.decision.unwrap().held_ms > 0);
    system.cleanup().await;
}

#[tokio::test]
async fn a_burst_without_hints_runs_in_order_of_age_under_load() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    system.succeeded(system.submit("", 1).await).await;
    system.all_idle(TIMED).await;
    let burst: Vec<JobId> = join_all((0..20).map(|_| system.submit("", 20))).await;
    let later: Vec<JobId> = join_all((0..40).map(|_| system.submit("", 20))).await;
    let mut started = Vec::new();
    for id in burst {
        started.push(system.succeeded(id).await.started_ms);
    }
    let last_of_burst = started.into_iter().max().unwrap();
    for id in later {
        let job = system.succeeded(id).await;
        assert!(job.started_ms >= last_of_burst, "{id} overtook the burst");
    }
    system.cleanup().await;
}

#[tokio::test]
async fn holds_are_bounded_although_another_model_is_hot() {
    let system = System::start().await;
    let _worker = system
        .worker(WorkerOptions {
            slots: Some(1),
            ..WorkerOptions::timed("a", TIMED)
        })
        .await;
    system.succeeded(system.submit("hot", 1).await).await;
    system.all_idle(TIMED).await;
    // A backlog of the hot model, for 6 s.
    let hot: Vec<JobId> = join_all((0..40).map(|_| system.submit("hot", 150))).await;
    let cold = r#"{"run_ms": 1, "load_ms": 1}"#;
    let mut bounded = Vec::new();
    for (name, value, most_ms) in [
        ("x-max-warm-wait", "0", 1000),
        ("x-max-warm-wait", "1", 2000),
        ("x-fal-request-timeout", "4", 3000),
    ] {
        let headers = [("x-fal-runner-hint", "cold"), (name, value)];
        bounded.push((post(&system, &headers, cold).await, most_ms));
    }
    for (id, most_ms) in bounded {
        let job = system.succeeded(id).await;
        let waited_ms = job.started_ms.unwrap() - job.spec.created_ms;
        assert!(waited_ms < most_ms, "{waited_ms} of {most_ms}: {job:?}");
    }
    for id in hot {
        system.succeeded(id).await;
    }
    system.cleanup().await;
}

#[tokio::test]
async fn a_runner_claimed_by_another_dispatcher_is_not_used() {
    let system = System::start().await;
    let _workers = [
        system.timed_worker("a").await,
        system.timed_worker("b").await,
    ];
    let first = system.succeeded(system.submit("m", 10).await).await;
    system.all_idle(TIMED).await;
    let (runner, decision) = (first.runner.unwrap(), first.decision.unwrap());
    // Claims send no event; the dispatcher detects it when its own claim is refused.
    let store = system.testbed.store();
    let foreign = JobSpec::new(app(), json!({}));
    store.jobs().create(&foreign).await.unwrap();
    let claim = store
        .placement()
        .claim(&foreign.app, foreign.id, &runner, 60_000, &decision)
        .await;
    assert!(matches!(claim.unwrap(), Claim::Won(_)));
    let headers = [("x-fal-runner-hint", "m"), ("x-max-warm-wait", "0")];
    let job = post(&system, &headers, r#"{"run_ms": 1, "load_ms": 1}"#).await;
    let job = system.succeeded(job).await;
    assert_ne!(job.runner.as_ref(), Some(&runner));
    system.cleanup().await;
}

#[tokio::test]
async fn a_runner_may_report_ten_thousand_hints() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let names = (0..10_000).map(|n| format!("model, {n} — «{{{n}}}» 模型"));
    let report = RunnerReport {
        hints: names.map(|name| Hint::parse(&name).unwrap()).collect(),
        slots: 10_000,
        ..RunnerReport::default()
    };
    let last = report.hints.last().unwrap().clone();
    let giant = Registration {
        report,
        ..registration(&app(), &RunnerId::parse("giant").unwrap())
    };
    let lease = Duration::from_secs(60);
    let store = system.testbed.store();
    store
        .membership()
        .register(&giant, &json!({}), lease)
        .await
        .unwrap();
    let other = system.submit("small", 10).await;
    let id = system.submit(last.as_str(), 10).await;
    // The runner has no queue, so the job returns and goes to a runner that has one.
    let job = system.succeeded(id).await;
    assert_eq!(job.runner.unwrap().as_str(), "a");
    system.succeeded(other).await;
    store
        .membership()
        .leave(&app(), &giant.runner, giant.epoch)
        .await
        .unwrap();
    system.cleanup().await;
}

#[tokio::test]
async fn learned_statistics_survive_the_router() {
    let mut system = System::start().await;
    let _worker = system.timed_worker("a").await;
    for _ in 0..3 {
        system.succeeded(system.submit("m", 30).await).await;
    }
    let hint = Some(Hint::parse("m").unwrap());
    let measured = async || {
        let stats = system.testbed.store().stats().read(&app()).await.unwrap();
        let text = stats.get(&hint)?;
        let stats: serde_json::Value = serde_json::from_str(text).unwrap();
        // The prior counts as one observation.
        (stats["run_s"]["observations"] == 4.0).then(|| stats["run_s"]["value"].as_f64().unwrap())
    };
    let before = eventually("three runs are stored", TIMEOUT, measured)
        .await
        .unwrap();
    assert!((0.03..2.0).contains(&before), "{before}");
    system.router.kill9().await.unwrap();
    system.router = system.testbed.router(&[]).await.unwrap();
    system.succeeded(system.submit("m", 30).await).await;
    eventually("the next leader has the statistics", TIMEOUT, async || {
        let stats = system.testbed.store().stats().read(&app()).await.unwrap();
        let stats: serde_json::Value = serde_json::from_str(stats.get(&hint)?).unwrap();
        (stats["run_s"]["observations"] == 5.0).then_some(())
    })
    .await
    .unwrap();
    system.cleanup().await;
}

/// The leader's lease (5 s) and one second, ms.
const TAKE_OVER_MS: u64 = 6000;

#[tokio::test]
async fn the_next_leader_dispatches_within_the_lease_and_a_second() {
    let mut system = System::start().await;
    let second = system.testbed.router(&[]).await.unwrap();
    let mut workers = Vec::new();
    for name in ["a", "b", "c"] {
        workers.push(system.worker(WorkerOptions::timed(name, TIMED)).await);
    }
    let mut jobs = Vec::new();
    for n in 0..90 {
        jobs.push(system.submit(["x", "y", "z", "u", "v"][n % 5], 40).await);
    }
    system.router.kill9().await.unwrap();
    let killed_ms = system.testbed.store().now_ms().await.unwrap();
    system.router = second;
    for n in 0..30 {
        jobs.push(system.submit(["x", "y", "z"][n % 3], 40).await);
    }
    let mut after = Vec::new();
    for id in jobs {
        let job = system.succeeded(id).await;
        assert_eq!(job.attempt, 1, "{id} ran more than once");
        after.extend(job.dispatched_ms.filter(|at| *at > killed_ms));
    }
    let first = after.iter().min().unwrap() - killed_ms;
    assert!(
        first <= TAKE_OVER_MS,
        "the first dispatch came after {first} ms"
    );
    system.cleanup().await;
}

#[tokio::test]
async fn an_invalid_patience_is_refused_by_name() {
    let system = System::with_config("[apps.'bench/timed']").await;
    for bad in ["-1", "inf", "NaN", "soon", "1e9", ""] {
        let answer = system.post(TIMED, &[("x-max-warm-wait", bad)], "{}").await;
        assert_eq!(answer.status, 422, "'{bad}': {:?}", answer.body);
        let detail = &answer.body["detail"][0];
        assert_eq!(detail["loc"], json!(["header", "x-max-warm-wait"]));
        assert_eq!(detail["type"], "invalid_max_warm_wait");
    }
    for good in ["0", "2.5", "500ms", "1m"] {
        let answer = system.post(TIMED, &[("x-max-warm-wait", good)], "{}").await;
        assert_eq!(answer.status, 200, "'{good}': {:?}", answer.body);
    }
    system.cleanup().await;
}
