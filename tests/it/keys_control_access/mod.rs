//! With keys configured, every call requires one and is limited to its scopes.
//!
//! | file | subject |
//! | --- | --- |
//! | `authentication` | calls without a key, with a wrong, new or revoked one |
//! | `ownership` | the jobs of other keys |
//! | `limits` | rates and concurrent jobs |
//! | `administration` | the keys themselves: the first one, their storage, their secrecy |
//! | `shares` | shares of the runners, and jobs that run at a time |
//! | `changes` | changes of a key's limits |

mod administration;
mod authentication;
mod changes;
mod limits;
mod ownership;
mod shares;

use std::time::Duration;

use reqwest::Method;
use warmq_cli::client::Client;
use warmq_tests::system::TIMED;
use warmq_tests::{HttpResponse, System};
use warmq_types::access::{Limits, NewKey};

/// The configured admin key.
const ROOT: &str = "root:5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8";

/// Timeout for a revocation to reach every router.
const REVOKED_WITHIN: Duration = Duration::from_secs(4);

/// Starts a router with authentication.
async fn keyed() -> System {
    let toml = format!("admin_key = '{ROOT}'\n[apps.'bench/timed']\n[apps.'other/app']");
    System::with_config(&toml).await
}

fn client(url: &str, key: &str) -> Client {
    Client::new(url, Some(key)).unwrap()
}

fn wished(name: &str, scopes: &[&str], limits: Limits) -> NewKey {
    NewKey {
        name: name.parse().unwrap(),
        scopes: scopes.iter().map(|scope| scope.parse().unwrap()).collect(),
        limits,
    }
}

/// Creates a key as the admin: `id:secret`.
async fn limited(system: &System, name: &str, scopes: &[&str], limits: Limits) -> String {
    let root = client(system.router.url(), ROOT);
    let made = root
        .create_key(&wished(name, scopes, limits))
        .await
        .unwrap();
    made.credentials
}

async fn key(system: &System, name: &str, scopes: &[&str]) -> String {
    limited(system, name, scopes, Limits::default()).await
}

/// Sends a request with a key.
async fn call(system: &System, key: &str, method: Method, path: &str) -> HttpResponse {
    let authorization = format!("Key {key}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/json"),
    ];
    system
        .http(method, path, &headers, r#"{"run_ms": 1}"#)
        .await
}

async fn submit(system: &System, key: &str, app: &str) -> HttpResponse {
    call(system, key, Method::POST, &format!("/queue/{app}")).await
}

/// Every call that requires a key, for some job.
fn calls(job: &str) -> Vec<(Method, String)> {
    let own = of_a_job(job).into_iter();
    let others = [
        (Method::POST, format!("/queue/{TIMED}")),
        (Method::POST, format!("/queue/{TIMED}/some/path")),
        (Method::POST, format!("/run/{TIMED}")),
        (Method::POST, format!("/run/{TIMED}/stream")),
        (Method::POST, "/api/fal/proxy".to_owned()),
        (Method::GET, "/v1/apps".to_owned()),
        (Method::GET, format!("/v1/apps/{TIMED}")),
        (Method::GET, "/v1/jobs".to_owned()),
        (Method::GET, "/v1/usage".to_owned()),
    ];
    own.chain(others).chain(for_operators(job)).collect()
}

/// Every call about a job.
fn of_a_job(job: &str) -> Vec<(Method, String)> {
    let queue = format!("/queue/{TIMED}/requests/{job}");
    vec![
        (Method::GET, queue.clone()),
        (Method::GET, format!("{queue}/response")),
        (Method::GET, format!("{queue}/status?logs=1")),
        (Method::GET, format!("{queue}/status/stream")),
        (Method::PUT, format!("{queue}/cancel")),
        (Method::GET, format!("/v1/jobs/{job}")),
        (Method::GET, format!("/v1/jobs/{job}/explanation")),
        (Method::DELETE, format!("/v1/jobs/{job}")),
    ]
}

fn for_operators(job: &str) -> Vec<(Method, String)> {
    vec![
        (Method::GET, "/metrics".to_owned()),
        (Method::GET, "/v1/runners".to_owned()),
        (Method::GET, "/v1/overview".to_owned()),
        (Method::GET, "/v1/history".to_owned()),
        (Method::GET, "/v1/dead".to_owned()),
        (Method::GET, format!("/v1/dead/{TIMED}")),
        (Method::GET, format!("/v1/dead/{TIMED}/{job}")),
        (Method::DELETE, format!("/v1/dead/{TIMED}/{job}")),
        (Method::POST, format!("/v1/dead/{TIMED}/{job}/redrive")),
        (Method::GET, "/v1/keys".to_owned()),
        (Method::POST, "/v1/keys".to_owned()),
        (Method::PATCH, "/v1/keys/alice-1".to_owned()),
        (Method::DELETE, "/v1/keys/alice-1".to_owned()),
    ]
}
