//! HTTP API: fal's protocol under `/queue` and `/run`, warmq's own under `/v1` besides OpenAI's
//! images, pictures under `/files`, uploads under `/storage`, the dashboard at `/`; and in every
//! role, for operators: `/healthz`, `/readyz`, `/metrics`.

mod apps;
mod auth;
mod config;
mod cors;
mod dashboard;
mod dead;
mod docs;
mod endpoint_ids;
mod error;
mod explanation;
mod extract;
mod files;
mod health;
mod history;
mod hosts;
mod images;
mod job;
mod job_list;
mod job_result;
mod job_status;
mod job_stream;
mod keys;
mod metrics;
mod openapi;
mod overview;
mod owned_job;
mod parameter;
mod proxy;
mod queue;
mod run;
mod runners;
mod server;
mod session;
mod sse;
mod status_body;
mod storage;
mod submission;
mod usage;
mod webhook_keys;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::Uri;
use axum::{Extension, Router, middleware};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_objects::ObjectStorage;
use warmq_store::Store;

use crate::access::{Keyring, Right};
use crate::apps::AppDirectory;
use crate::completions::CompletionListener;
use crate::dead_letters::DeadLetters;
use crate::files::{SignedUrls, Uploads};
use crate::finalizer::Finalizer;
use crate::metrics::Metrics;
use crate::overview::Overview;
use crate::readiness::Readiness;
use crate::reload::Reload;
use crate::submit::Submitter;
use auth::guarded;
use error::ApiError;

pub(crate) use hosts::Hosts;
pub(crate) use server::{Server, ServerLimits};
pub(crate) use sse::Streams;

/// State of the handlers, which axum clones several times per request.
pub(crate) type Api = Arc<ApiState>;

/// What the handlers share.
pub(crate) struct ApiState {
    pub(crate) store: Store,
    pub(crate) keys: Keyring,
    pub(crate) apps: AppDirectory,
    pub(crate) submitter: Submitter,
    pub(crate) reload: Reload,
    /// Cancels jobs.
    pub(crate) finalizer: Finalizer,
    /// Wakes requests when jobs end.
    pub(crate) ended: CompletionListener,
    pub(crate) readiness: Readiness,
    pub(crate) dead: DeadLetters,
    pub(crate) storage: ObjectStorage,
    pub(crate) signed_urls: SignedUrls,
    pub(crate) uploads: Uploads,
    /// Host names that are served while no keys exist.
    pub(crate) hosts: Hosts,
    /// Prefix of every URL in responses.
    pub(crate) public_url: Arc<str>,
    pub(crate) max_body_bytes: usize,
    pub(crate) metrics: Metrics,
    /// Whether the process has the role `api`; otherwise it serves only the operators' endpoints.
    pub(crate) has_api_role: bool,
    /// Permits for event streams.
    pub(crate) streams: Streams,
    pub(crate) overview: Overview,
}

/// # Errors
/// The OpenAPI document cannot be written.
fn routes(api: Api) -> anyhow::Result<Router> {
    let public_url = api.public_url.clone();
    let (routes, openapi) = match api.has_api_role {
        true => api_routes(&api).merge(monitoring_routes(&api)),
        false => monitoring_routes(&api),
    }
    .split_for_parts();
    let routes = match api.has_api_role {
        true => routes
            .layer(Extension(openapi::Document::of(openapi, &public_url)?))
            .merge(docs::routes())
            .merge(dashboard::routes(&public_url)),
        false => routes,
    };
    let known = (api.keys.clone(), api.hosts.clone());
    Ok(routes
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(api.max_body_bytes))
        .layer(middleware::from_fn_with_state(known, hosts::check))
        .with_state(api))
}

/// Returns the routes of submitters and operators. Files alone need no key: their URLs are
/// signed, and are opened by browsers without a key.
fn api_routes(api: &Api) -> OpenApiRouter<Api> {
    let with_a_key = (job::routes().merge(job_list::routes()))
        .merge(explanation::routes())
        .merge(usage::routes())
        .merge(apps::routes());
    let watching = (runners::routes().merge(overview::routes())).merge(history::routes());
    let administering = (dead::routes().merge(keys::routes()).merge(config::routes()))
        .merge(runners::changing_routes());
    let own_pages = middleware::from_fn_with_state(api.clone(), cors::own_pages_only);
    let operating = OpenApiRouter::default()
        .merge(guarded(with_a_key, api, Right::Call))
        .merge(guarded(watching, api, Right::Watch))
        .merge(guarded(administering, api, Right::Administer))
        .merge(session::routes())
        .layer(own_pages);
    OpenApiRouter::default()
        .merge(cross_origin_routes(api))
        .nest("/v1", operating)
        .routes(routes!(openapi::show))
        .routes(routes!(webhook_keys::show))
}

/// Returns the routes that web pages may call, too.
fn cross_origin_routes(api: &Api) -> OpenApiRouter<Api> {
    let calls = calls();
    let proxied = Router::from(calls.clone())
        .fallback(no_such_path)
        .method_not_allowed_fallback(wrong_method)
        .with_state(api.clone());
    let with_a_key = guarded(calls.merge(proxy::routes(proxied)), api, Right::Call);
    let images = images::in_its_format(guarded(images::routes(), api, Right::Call));
    let signed = storage::signed().merge(files::routes());
    let (routes, openapi) = with_a_key.merge(images).merge(signed).split_for_parts();
    // Outside the authorization, so that pages can read its errors, and outside the fallback for
    // wrong methods, since a CORS preflight has a method of its own and no key.
    let routes = routes
        .method_not_allowed_fallback(wrong_method)
        .layer(cors::any());
    let mut documented = OpenApiRouter::from(routes);
    *documented.get_openapi_mut() = openapi;
    documented
}

/// Returns fal's protocol, also served behind the proxy, which passes the caller on.
fn calls() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .nest("/queue", queue::routes())
        .nest("/run", run::routes())
        .merge(storage::routes())
}

async fn no_such_path() -> ApiError {
    ApiError::not_found("there is nothing at this path")
}

/// Handles a wrong method. fal's realtime protocol begins with such a call.
async fn wrong_method(uri: Uri) -> ApiError {
    match uri.path().ends_with("/realtime") {
        true => ApiError::realtime(),
        false => ApiError::method_not_allowed(),
    }
}

/// Returns the endpoints of monitoring. Liveness is public; metrics need a key.
fn monitoring_routes(api: &Api) -> OpenApiRouter<Api> {
    health::routes().merge(guarded(metrics::routes(), api, Right::Watch))
}
