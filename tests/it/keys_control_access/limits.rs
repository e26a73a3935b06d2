//! Rates and concurrent jobs of a key.

use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::AsyncCommands;
use reqwest::{Method, StatusCode};
use warmq_testkit::eventually;
use warmq_tests::system::{TIMED, TIMEOUT};
use warmq_tests::{HttpResponse, System};
use warmq_types::access::{Limits, Rate};

use super::{ROOT, call, keyed, limited, submit};

#[tokio::test]
async fn the_rate_of_a_key_is_limited_across_routers_with_retry_after() {
    let system = keyed().await;
    let other = system.testbed.router(&[]).await.unwrap();
    let rate = |per_second, burst| Limits {
        rate: Some(Rate::new(per_second, burst).unwrap()),
        ..Limits::default()
    };
    let hasty = limited(&system, "hasty", &["submit:*"], rate(0.2, Some(2))).await;
    let slow = limited(&system, "slow", &["submit:*"], rate(0.01, None)).await;
    let http = reqwest::Client::new();
    let submit = async |url: &str, key: &str| {
        let request = http.post(format!("{url}/queue/{TIMED}")).body("{}");
        request
            .header("authorization", format!("Key {key}"))
            .send()
            .await
            .unwrap()
    };
    let retry_after = |answer: &reqwest::Response| {
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers()["x-fal-error-type"], "rate_limited");
        let header = answer.headers()["retry-after"].to_str().unwrap();
        header.parse::<u64>().unwrap()
    };
    let began = Instant::now();
    let [here, there] = [system.router.url(), other.url()];
    assert_eq!(submit(here, &hasty).await.status(), StatusCode::OK);
    assert_eq!(submit(there, &hasty).await.status(), StatusCode::OK);
    let wait_s = retry_after(&submit(here, &hasty).await);
    assert!((1..=5).contains(&wait_s), "{wait_s}");
    // A refusal costs nothing: one more is allowed 5 s after the first one, and not before.
    eventually("it may submit again", TIMEOUT, async || {
        (submit(there, &hasty).await.status() == StatusCode::OK).then_some(())
    })
    .await
    .unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(4900),
        "{:?}",
        began.elapsed()
    );
    // Other keys are not affected.
    assert_eq!(submit(here, &slow).await.status(), StatusCode::OK);
    let wait_s = retry_after(&submit(here, &slow).await);
    assert!((90..=100).contains(&wait_s), "{wait_s}");
    system.cleanup().await;
}

#[tokio::test]
async fn the_concurrent_jobs_of_a_key_are_limited() {
    let system = keyed().await;
    let bound = |jobs| Limits {
        max_jobs: Some(jobs),
        ..Limits::default()
    };
    let scopes = ["submit:*", "read"];
    let many = limited(&system, "many", &scopes, bound(7)).await;
    // The apps have no runners: accepted jobs wait.
    let answers = join_all((0..50).map(|_| submit(&system, &many, TIMED))).await;
    let (accepted, refused): (Vec<HttpResponse>, Vec<HttpResponse>) =
        (answers.into_iter()).partition(|answer| answer.status == StatusCode::OK);
    assert_eq!(accepted.len(), 7);
    for answer in &refused {
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.body["error_type"], "too_many_jobs");
        assert!(answer.headers.contains_key("retry-after"));
    }
    // Jobs that wait in one app count for another.
    let elsewhere = submit(&system, &many, "other/app").await;
    assert_eq!(elsewhere.body["error_type"], "too_many_jobs");
    // Other keys are not affected.
    let few = limited(&system, "few", &scopes, bound(2)).await;
    let first = submit(&system, &few, "other/app").await.job_id();
    submit(&system, &few, TIMED).await.job_id();
    let full = submit(&system, &few, TIMED).await;
    assert_eq!(full.status, StatusCode::TOO_MANY_REQUESTS);
    let path = format!("/v1/jobs/{first}");
    let cancelled = call(&system, &few, Method::DELETE, &path).await;
    assert_eq!(cancelled.status, StatusCode::OK);
    submit(&system, &few, TIMED).await.job_id();
    // A job that ran frees its slot, too.
    let _worker = system.timed_worker("a").await;
    for answer in &accepted {
        system.succeeded(answer.job_id()).await;
    }
    submit(&system, &many, TIMED).await.job_id();
    system.cleanup().await;
}

#[tokio::test]
async fn the_job_limit_of_a_key_spans_apps_and_ignores_lost_records() {
    let system = System::with_config(&format!("admin_key = '{ROOT}'\n[apps.'bench/timed']")).await;
    let one = Limits {
        max_jobs: Some(1),
        ..Limits::default()
    };
    let key = limited(&system, "one", &["submit:*", "read"], one).await;
    let first = submit(&system, &key, TIMED).await.job_id();
    let full = submit(&system, &key, TIMED).await;
    assert_eq!(full.body["error_type"], "too_many_jobs");
    // Redis loses the record for good.
    let client = redis::Client::open(system.testbed.redis_url().expose()).unwrap();
    let mut redis = client.get_connection_manager().await.unwrap();
    let record = format!("{}:{{{TIMED}}}:job:{first}", system.testbed.namespace());
    let tombstone = format!("{record}:tombstone");
    let _: () = redis.set(tombstone, "lost").await.unwrap();
    let _: () = redis.del(record).await.unwrap();
    submit(&system, &key, TIMED).await.job_id();
    system.cleanup().await;
}
