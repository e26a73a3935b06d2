//! HTTP: fal's protocol under `/queue` and `/run`, our own answers under `/v1`, pictures under `/files`; and, whatever the router's
//! roles, what those who watch over it ask: `/healthz`, `/readyz`, `/metrics`.

mod browsers;
mod dead;
mod error;
mod files;
mod fleet;
mod following;
mod gate;
mod health;
mod jobs;
mod keys;
mod metrics;
mod outcome;
mod own;
mod proxy;
mod queue;
mod run;
mod server;
mod sse;
mod status;
mod submission;
mod webhook_keys;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get};
use warmq_common::amqp::Publisher;
use warmq_common::artifacts::Artifacts;
use warmq_common::store::Store;

use crate::access::{Keyring, Right};
use crate::apps::AppDirectory;
use crate::dead::DeadLetters;
use crate::ended::EndedJobs;
use crate::ending::Endings;
use crate::metrics::Metrics;
use crate::submit::Submitter;
use error::ApiError;
use gate::guarded;

pub use server::{Limits, Server};
pub use sse::Streams;

/// What the handlers work with.
#[derive(Clone)]
pub struct Api {
    /// Jobs and fleet.
    pub store: Store,
    /// Who may come in.
    pub keys: Keyring,
    /// Which apps there are.
    pub apps: AppDirectory,
    /// The door for jobs.
    pub submitter: Submitter,
    /// Ends jobs that nobody wants any more.
    pub endings: Endings,
    /// Tells of jobs that ended.
    pub ended: EndedJobs,
    /// To see whether RabbitMQ answers.
    pub publisher: Publisher,
    /// What could not be run.
    pub dead: DeadLetters,
    /// Pictures.
    pub artifacts: Artifacts,
    /// Begins every URL in answers.
    pub public_url: Arc<str>,
    /// Largest request body, bytes.
    pub max_body_bytes: usize,
    /// What this process counted.
    pub metrics: Metrics,
    /// Jobs come in here and can be looked at; else only the router itself can.
    pub is_door: bool,
    /// Answers that are streams of events.
    pub streams: Streams,
}

fn routes(api: Api) -> Router {
    let routes = match api.is_door {
        true => door(&api).merge(watch(&api)),
        false => watch(&api),
    };
    routes
        .fallback(|| async { ApiError::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(api.max_body_bytes))
        .with_state(api)
}

/// For those who submit jobs and ask for them, and for those who look after them. Only files are not behind the gate: their
/// URLs stand in results, for browsers and others that know of no key.
fn door(api: &Api) -> Router<Api> {
    let with_a_key = Router::new()
        .route("/v1/jobs/{id}", get(jobs::show).delete(jobs::cancel))
        .route("/v1/apps", get(fleet::apps));
    let watching = Router::new().route("/v1/runners", get(fleet::runners));
    let administering = Router::new()
        .nest("/v1/dead", dead::routes())
        .nest("/v1/keys", keys::routes());
    Router::new()
        .merge(for_pages(api))
        .merge(guarded(with_a_key, api, Right::Call))
        .merge(guarded(watching, api, Right::Watch))
        .merge(guarded(administering, api, Right::Administer))
        .route("/.well-known/jwks.json", get(webhook_keys::show))
}

/// What web pages may call, too.
fn for_pages(api: &Api) -> Router<Api> {
    let proxy = any(proxy::answer).with_state(calls().with_state(api.clone()));
    let with_a_key = calls().route("/api/fal/proxy", proxy);
    // The outer layer is around the gate, so that pages can read its refusals, and around the fallback for wrong methods: what
    // a browser asks first has a method of its own, and no key.
    guarded(with_a_key, api, Right::Call)
        .route("/files/{*key}", get(files::show))
        .method_not_allowed_fallback(wrong_method)
        .layer(browsers::any())
}

/// fal's protocol. Behind the proxy, too, which passes on who asks.
fn calls() -> Router<Api> {
    Router::new()
        .nest("/queue", queue::routes())
        .nest("/run", run::routes())
        .method_not_allowed_fallback(wrong_method)
}

async fn wrong_method() -> ApiError {
    ApiError::method_not_allowed()
}

/// For those who watch over the process. Whether it lives is no secret; what it does is.
fn watch(api: &Api) -> Router<Api> {
    let watching = Router::new().route("/metrics", get(metrics::show));
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .merge(guarded(watching, api, Right::Watch))
}
