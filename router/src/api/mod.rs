//! HTTP: fal's protocol under `/queue` and `/run`, our own answers under `/v1`, pictures under `/files`; and, whatever the router's
//! roles, what those who watch over it ask: `/healthz`, `/readyz`, `/metrics`.

mod browsers;
mod dead;
mod error;
mod files;
mod fleet;
mod following;
mod health;
mod jobs;
mod metrics;
mod outcome;
mod proxy;
mod queue;
mod run;
mod server;
mod sse;
mod status;
mod submission;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get};
use warmq_common::amqp::Publisher;
use warmq_common::artifacts::Artifacts;
use warmq_common::store::Store;

use crate::apps::AppDirectory;
use crate::dead::DeadLetters;
use crate::ended::EndedJobs;
use crate::ending::Endings;
use crate::metrics::Metrics;
use crate::submit::Submitter;
use error::ApiError;

pub use server::{Limits, Server};
pub use sse::Streams;

/// What the handlers work with.
#[derive(Clone)]
pub struct Api {
    /// Jobs and fleet.
    pub store: Store,
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
        true => door(&api).merge(watch()),
        false => watch(),
    };
    routes
        .fallback(|| async { ApiError::not_found("there is nothing at this path") })
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(api.max_body_bytes))
        .with_state(api)
}

/// For those who submit jobs and ask for them.
fn door(api: &Api) -> Router<Api> {
    Router::new()
        .merge(for_pages(api))
        .nest("/v1/dead", dead::routes())
        .route("/v1/jobs/{id}", get(jobs::show).delete(jobs::cancel))
        .route("/v1/apps", get(fleet::apps))
        .route("/v1/runners", get(fleet::runners))
}

/// What web pages may call, too.
fn for_pages(api: &Api) -> Router<Api> {
    let proxy = any(proxy::answer).with_state(calls().with_state(api.clone()));
    // The layer is around the fallback for wrong methods, too: what a browser asks first has a method of its own.
    calls()
        .route("/api/fal/proxy", proxy)
        .layer(browsers::any())
}

/// fal's protocol, and the files that results name.
fn calls() -> Router<Api> {
    Router::new()
        .nest("/queue", queue::routes())
        .nest("/run", run::routes())
        .route("/files/{*key}", get(files::show))
        .method_not_allowed_fallback(wrong_method)
}

async fn wrong_method() -> ApiError {
    ApiError::method_not_allowed()
}

/// For those who watch over the process.
fn watch() -> Router<Api> {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
}
