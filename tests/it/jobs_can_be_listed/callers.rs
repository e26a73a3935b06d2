//! Keys list their own jobs, and admins all.

use reqwest::{Method, StatusCode};
use warmq_cli::client::Client;
use warmq_tests::system::TIMED;
use warmq_tests::{HttpResponse, System};
use warmq_types::access::{Limits, NewKey};
use warmq_types::ids::JobId;

use super::detail;

/// The configured admin key.
const ROOT: &str = "root:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

async fn key(system: &System, name: &str, scopes: &[&str]) -> String {
    let root = Client::new(system.router.url(), Some(ROOT)).unwrap();
    let new = NewKey {
        name: name.parse().unwrap(),
        scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
        limits: Limits::default(),
    };
    root.create_key(&new).await.unwrap().credentials
}

async fn call(system: &System, key: &str, method: Method, path: &str) -> HttpResponse {
    let authorization = format!("Key {key}");
    let headers = [("authorization", authorization.as_str())];
    system.http(method, path, &headers, "{}").await
}

async fn listed(system: &System, key: &str, query: &str) -> Vec<JobId> {
    let answer = call(system, key, Method::GET, &format!("/v1/jobs?{query}")).await;
    assert_eq!(answer.status, StatusCode::OK, "{query}: {:?}", answer.body);
    let jobs = answer.body["jobs"].as_array().unwrap();
    let id = |job: &serde_json::Value| job["id"].as_str().unwrap().parse().unwrap();
    jobs.iter().map(id).collect()
}

#[tokio::test]
async fn a_key_lists_its_own_jobs_and_an_admin_all() {
    let toml = format!("admin_key = '{ROOT}'\n[apps.'{TIMED}']");
    let system = System::with_config(&toml).await;
    let alice = key(&system, "alice", &["submit:*", "read"]).await;
    let bob = key(&system, "bob", &["submit:*", "read", "watch"]).await;
    let blind = key(&system, "blind", &["submit:*"]).await;
    let submit = async |key: &str| {
        let path = format!("/queue/{TIMED}");
        call(&system, key, Method::POST, &path).await.job_id()
    };
    let (hers, his, roots) = (submit(&alice).await, submit(&bob).await, submit(ROOT).await);
    let id = |key: &str| key.split_once(':').unwrap().0.to_owned();
    assert_eq!(listed(&system, &alice, "").await, [hers]);
    assert_eq!(listed(&system, &bob, "state=queued").await, [his]);
    assert_eq!(
        listed(&system, &alice, &format!("key={}", id(&alice))).await,
        [hers]
    );
    assert_eq!(listed(&system, ROOT, "").await, [roots, his, hers]);
    assert_eq!(
        listed(&system, ROOT, &format!("key={}", id(&bob))).await,
        [his]
    );

    let path = format!("/v1/jobs?key={}", id(&alice));
    let foreign = call(&system, &bob, Method::GET, &path).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert!(detail(&foreign.body).contains("lacks the scope admin"));
    let refused = call(&system, &blind, Method::GET, "/v1/jobs").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    assert!(detail(&refused.body).contains("lacks the scope read"));
    let unknown = system.get("/v1/jobs").await;
    assert_eq!(unknown.status, StatusCode::UNAUTHORIZED);
    system.cleanup().await;
}
