//! A job is visible to its owner only.

use reqwest::{Method, StatusCode};
use warmq_tests::amqp::with_hint;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{AmqpClient, HttpResponse, System};
use warmq_types::access::Limits;
use warmq_types::ids::JobId;
use warmq_types::state::JobState;

use super::{ROOT, call, key, keyed, limited, of_a_job, submit};

/// A pipeline whose steps are jobs of [`TIMED`].
const PIPELINE: &str = r#"
    [routes."acme/pipeline"]
    kind = "sequence"
    steps = [{ name = "one", app = "bench/timed" }, { name = "two", app = "bench/timed" }]
"#;

/// Returns status and body, without the job's id.
fn anonymous(answer: &HttpResponse, job: &str) -> (StatusCode, String) {
    let body = String::from_utf8_lossy(&answer.bytes).replace(job, "ID");
    (answer.status, body)
}

#[tokio::test]
async fn the_job_of_another_key_looks_like_an_unknown_job() {
    let system = keyed().await;
    let alice = key(&system, "alice", &["submit:*", "read"]).await;
    let bob = key(&system, "bob", &["submit:*", "read", "watch"]).await;
    let blind = key(&system, "blind", &["submit:*"]).await;
    let hers = submit(&system, &alice, TIMED).await.job_id();
    let (job, none) = (hers.to_string(), JobId::generate().to_string());
    let compared = of_a_job(&job).into_iter().zip(of_a_job(&none));
    for ((method, path), (_, nowhere)) in compared {
        let foreign = call(&system, &bob, method.clone(), &path).await;
        let missing = call(&system, &bob, method.clone(), &nowhere).await;
        let foreign = anonymous(&foreign, &job);
        assert_eq!(foreign.0, StatusCode::NOT_FOUND, "{method} {path}");
        assert_eq!(foreign, anonymous(&missing, &none), "{method} {path}");
        let target = path.strip_prefix("/queue");
        if let Some(target) = target.map(|path| format!("https://queue.fal.run{path}")) {
            let authorization = format!("Key {bob}");
            let headers = [
                ("authorization", authorization.as_str()),
                ("x-fal-target-url", &target),
            ];
            let proxied = system
                .http(method.clone(), "/api/fal/proxy", &headers, "")
                .await;
            assert_eq!(anonymous(&proxied, &job), foreign, "{target}");
        }
        // A key without that scope gets the same refusal for any job.
        for path in [&path, &nowhere] {
            let refused = call(&system, &blind, method.clone(), path).await;
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}");
        }
    }
    // The job is not cancelled: its owner and an admin see it wait.
    let path = format!("/v1/jobs/{job}");
    for key in [alice.as_str(), ROOT] {
        let seen = call(&system, key, Method::GET, &path).await;
        assert_eq!(seen.status, StatusCode::OK);
        assert_eq!(seen.body["state"], "queued");
        assert_eq!(seen.body["owner"], alice.split_once(':').unwrap().0);
    }
    let cancelled = call(&system, &alice, Method::DELETE, &path).await;
    assert_eq!(cancelled.body["state"], "cancelled");
    system.cleanup().await;
}

#[tokio::test]
async fn an_amqp_job_has_no_owner_and_is_visible_to_admins() {
    let system = keyed().await;
    let _worker = system.timed_worker("a").await;
    let user = AmqpClient::connect(&system.testbed).await;
    let job = JobId::generate();
    let properties = with_hint("m").with_message_id(job.to_string().into());
    user.submit(TIMED, r#"{"run_ms": 1}"#, properties).await;
    system.reached_once_recorded(job, JobState::Succeeded).await;
    let alice = key(&system, "alice", &["submit:*", "read", "watch"]).await;
    let path = format!("/queue/{TIMED}/requests/{job}");
    let foreign = call(&system, &alice, Method::GET, &path).await;
    assert_eq!(foreign.status, StatusCode::NOT_FOUND);
    let seen = call(&system, ROOT, Method::GET, &path).await;
    assert_eq!(seen.status, StatusCode::OK);
    system.cleanup().await;
}

#[tokio::test]
async fn idempotency_keys_are_scoped_to_the_owner() {
    let system = keyed().await;
    let alice = key(&system, "alice", &["submit:*", "read"]).await;
    let bob = key(&system, "bob", &["submit:*", "read"]).await;
    let submit = |key: &str| {
        let (system, key) = (&system, format!("Key {key}"));
        async move {
            let headers = [
                ("authorization", key.as_str()),
                ("idempotency-key", "order 7"),
            ];
            system.post(TIMED, &headers, "{}").await.job_id()
        }
    };
    let hers = submit(&alice).await;
    let his = submit(&bob).await;
    assert_ne!(hers, his);
    assert_eq!(submit(&alice).await, hers);
    assert_eq!(submit(&bob).await, his);
    let owner = system.job(his).await.spec.owner.unwrap();
    assert!(bob.starts_with(owner.as_str()));
    system.cleanup().await;
}

#[tokio::test]
async fn a_flow_counts_as_one_job_and_its_steps_belong_to_its_owner() {
    let toml = format!("admin_key = '{ROOT}'\n[apps.'bench/timed']\n{PIPELINE}");
    let system = System::with_config(&toml).await;
    let one_at_a_time = Limits {
        max_jobs: Some(1),
        ..Limits::default()
    };
    // The key needs no access to the apps of the steps.
    let mine = limited(&system, "mine", &["submit:acme/*", "read"], one_at_a_time).await;
    let other = key(&system, "other", &["submit:*", "read"]).await;
    assert_eq!(
        submit(&system, &mine, TIMED).await.status,
        StatusCode::FORBIDDEN
    );
    let flow = submit(&system, &mine, "acme/pipeline").await.job_id();
    let first = system
        .until("its first step waits", TIMEOUT, async || {
            let step = system.job(flow).await.flow?.steps.first()?.job;
            system.testbed.store().jobs().job(step).await.unwrap()
        })
        .await;
    let full = submit(&system, &mine, "acme/pipeline").await;
    assert_eq!(full.body["error_type"], "too_many_jobs", "{:?}", full.body);
    for job in [flow, first.spec.id] {
        let path = format!("/v1/jobs/{job}");
        assert_eq!(
            call(&system, &mine, Method::GET, &path).await.status,
            StatusCode::OK
        );
        for method in [Method::GET, Method::DELETE] {
            let answer = call(&system, &other, method, &path).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND);
        }
    }
    let _worker = system.timed_worker("a").await;
    system.succeeded(flow).await;
    // It frees its slot like any ended job.
    submit(&system, &mine, "acme/pipeline").await.job_id();
    system.cleanup().await;
}

#[tokio::test]
async fn a_key_sees_its_own_usage_and_an_admin_that_of_all() {
    let system = keyed().await;
    let alice = key(&system, "alice", &["submit:*", "read"]).await;
    let bob = key(&system, "bob", &["submit:*", "read"]).await;
    for (key, jobs) in [(&alice, 2), (&bob, 1)] {
        for _ in 0..jobs {
            let job = submit(&system, key, TIMED).await.job_id();
            call(&system, key, Method::DELETE, &format!("/v1/jobs/{job}")).await;
        }
    }
    let counted = async |key: &str, query: &str| {
        let usage = call(&system, key, Method::GET, &format!("/v1/usage?{query}")).await;
        usage.body["total"]["cancelled"].as_u64()
    };
    let all = async || (counted(ROOT, "").await == Some(3)).then_some(());
    system.until("three ends are counted", TIMEOUT, all).await;
    assert_eq!(counted(&alice, "").await, Some(2));
    assert_eq!(counted(&bob, "by=day").await, Some(1));
    let id = bob.split_once(':').unwrap().0;
    assert_eq!(counted(ROOT, &format!("key={id}")).await, Some(1));
    let foreign = format!("/v1/usage?key={id}");
    let refused = call(&system, &alice, Method::GET, &foreign).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    system.cleanup().await;
}
