//! HTTP: fal's protocol under `/queue` and `/run`, our own answers under `/v1`, pictures under
//! `/files`, uploads under `/storage`; and, whatever the router's roles, what those who watch over
//! it ask: `/healthz`, `/readyz`, `/metrics`.

mod auth;
mod config;
mod cors;
mod dead;
mod docs;
mod error;
mod extract;
mod files;
mod fleet;
mod health;
mod hosts;
mod job_result;
mod job_status;
mod job_stream;
mod jobs;
mod keys;
mod metrics;
mod namespaces;
mod openapi;
mod owned_job;
mod proxy;
mod queue;
mod run;
mod server;
mod sse;
mod status;
mod storage;
mod submission;
mod webhook_keys;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::{Extension, Router, middleware};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_objects::Artifacts;
use warmq_store::Store;

use crate::access::{Keyring, Right};
use crate::apps::AppDirectory;
use crate::completions::CompletionListener;
use crate::dead_letters::DeadLetters;
use crate::files::{Links, Uploads};
use crate::finalizer::Finalizer;
use crate::metrics::Metrics;
use crate::readiness::Readiness;
use crate::reload::Reload;
use crate::submit::Submitter;
use auth::guarded;
use error::ApiError;

pub use hosts::Hosts;
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
    /// Reads the configuration again.
    pub reload: Reload,
    /// Ends jobs that nobody wants any more.
    pub finalizer: Finalizer,
    /// Tells of jobs that ended.
    pub ended: CompletionListener,
    /// What the servers can do now.
    pub readiness: Readiness,
    /// What could not be run.
    pub dead: DeadLetters,
    /// Pictures.
    pub artifacts: Artifacts,
    /// Links to them.
    pub links: Links,
    /// Takes files.
    pub uploads: Uploads,
    /// Names that are answered to while there are no keys.
    pub hosts: Hosts,
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

/// # Errors
/// The routes' documentation cannot be written.
fn routes(api: Api) -> anyhow::Result<Router> {
    let public_url = api.public_url.clone();
    let (routes, openapi) = match api.is_door {
        true => door(&api).merge(watch(&api)),
        false => watch(&api),
    }
    .split_for_parts();
    let routes = match api.is_door {
        true => routes
            .layer(Extension(openapi::Document::of(openapi, &public_url)?))
            .merge(docs::routes()),
        false => routes,
    };
    let known = (api.keys.clone(), api.hosts.clone());
    Ok(routes
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(api.max_body_bytes))
        .layer(middleware::from_fn_with_state(known, hosts::check))
        .with_state(api))
}

/// For those who submit jobs and ask for them, and for those who look after them. Only files are
/// not behind the gate: their links say themselves who may, and are opened by browsers and others
/// that know of no key.
fn door(api: &Api) -> OpenApiRouter<Api> {
    let with_a_key = jobs::routes().merge(fleet::apps_routes());
    let administering = dead::routes().merge(keys::routes()).merge(config::routes());
    let own_pages = middleware::from_fn_with_state(api.clone(), cors::own_pages_only);
    let operating = OpenApiRouter::default()
        .merge(guarded(with_a_key, api, Right::Call))
        .merge(guarded(fleet::runners_routes(), api, Right::Watch))
        .merge(guarded(administering, api, Right::Administer))
        .layer(own_pages);
    OpenApiRouter::default()
        .merge(for_pages(api))
        .nest("/v1", operating)
        .routes(routes!(openapi::show))
        .routes(routes!(webhook_keys::show))
}

/// What web pages may call, too.
fn for_pages(api: &Api) -> OpenApiRouter<Api> {
    let calls = calls();
    let proxied = Router::from(calls.clone())
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api.clone());
    let with_a_key = guarded(calls.merge(proxy::routes(proxied)), api, Right::Call);
    let by_permit = storage::by_permit().merge(files::routes());
    let (routes, openapi) = with_a_key.merge(by_permit).split_for_parts();
    // The outer layer is around the gate, so that pages can read its refusals, and around the
    // fallback for wrong methods: what a browser asks first has a method of its own, and no key.
    let routes = routes
        .method_not_allowed_fallback(wrong_method)
        .layer(cors::any());
    let mut documented = OpenApiRouter::from(routes);
    *documented.get_openapi_mut() = openapi;
    documented
}

/// fal's protocol. Behind the proxy, too, which passes on who asks.
fn calls() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .nest("/queue", queue::routes())
        .nest("/run", run::routes())
        .merge(storage::routes())
}

async fn nothing_here() -> ApiError {
    ApiError::not_found("there is nothing at this path")
}

/// A path that is called by another method than it takes. fal's realtime protocol begins with such
/// a call.
async fn wrong_method(uri: Uri) -> ApiError {
    match uri.path().ends_with("/realtime") {
        true => ApiError::realtime(),
        false => ApiError::method_not_allowed(),
    }
}

/// For those who watch over the process. Whether it lives is no secret; what it does is.
fn watch(api: &Api) -> OpenApiRouter<Api> {
    health::routes().merge(guarded(metrics::routes(), api, Right::Watch))
}
