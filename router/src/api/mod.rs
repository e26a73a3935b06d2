//! HTTP: fal's protocol under `/queue` and `/run`, our own answers under `/v1`, pictures under `/files`; and, whatever the router's
//! roles, what those who watch over it ask: `/healthz`, `/readyz`, `/metrics`.

mod browsers;
mod config;
mod dead;
mod error;
mod files;
mod fleet;
mod following;
mod health;
mod jobs;
mod listener;
mod metrics;
mod outcome;
mod proxy;
mod queue;
mod run;
mod sse;
mod status;
mod submission;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::routing::{any, get, post};
use axum::{ServiceExt, serve::ListenerExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::Layer;
use tower_http::normalize_path::NormalizePathLayer;
use warmq_common::amqp::Publisher;
use warmq_common::artifacts::Artifacts;
use warmq_common::store::Store;

use crate::apps::AppDirectory;
use crate::dead::DeadLetters;
use crate::ended::EndedJobs;
use crate::ending::Endings;
use crate::metrics::Metrics;
use crate::reload::Reload;
use crate::submit::Submitter;
use error::ApiError;
use listener::Closing;

/// How long after the signal to stop a connection that was taken may say what it wants: one that has not spoken yet, or is
/// kept alive between two requests, would else be closed on a request that is on its way.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

/// What the handlers work with.
#[derive(Clone)]
pub struct Api {
    /// Jobs and fleet.
    pub store: Store,
    /// Which apps there are.
    pub apps: AppDirectory,
    /// The door for jobs.
    pub submitter: Submitter,
    /// Reads the configuration again.
    pub reload: Reload,
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
}

/// A bound address, not yet served.
pub struct Server {
    listener: TcpListener,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// It is taken, or not this machine's.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("{address} can not be listened on; is another router running? (--listen)")
        })?;
        Ok(Self { listener })
    }

    /// The address, its port chosen by the system if 0 was asked for.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// Serves until `shutdown`, then finishes the answers under way, for `drain_timeout` at most: a client may be silent for ever.
    ///
    /// # Errors
    /// The socket broke.
    pub async fn run(
        self,
        api: Api,
        drain_timeout: Duration,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let address = self.address()?;
        tracing::info!(%address, public_url = %api.public_url, "serving HTTP");
        // For whoever started us with port 0, and waits for us to be ready.
        println!("listening on http://{address}");
        let listener = Closing::new(self.listener, shutdown.clone())?.tap_io(|stream| {
            // Small answers must not wait for more data; without it they are late, not wrong.
            let _ = stream.set_nodelay(true);
        });
        let service = NormalizePathLayer::trim_trailing_slash().layer(routes(api));
        let after = |delay: Duration| {
            let shutdown = shutdown.clone();
            async move {
                shutdown.cancelled().await;
                tokio::time::sleep(delay).await;
            }
        };
        let serving = axum::serve(listener, ServiceExt::<Request>::into_make_service(service))
            .with_graceful_shutdown(after(LAST_REQUESTS.min(drain_timeout)));
        tokio::select! {
            served = serving.into_future() => served.context("serving HTTP"),
            () = after(drain_timeout) => {
                tracing::warn!("stopping without some answers: their clients are too slow");
                Ok(())
            }
        }
    }
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
        .route("/v1/config/reload", post(config::reload))
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
