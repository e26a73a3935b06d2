//! `--metrics-listen`: `/metrics` and `/healthz` by HTTP.

use std::net::SocketAddr;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Metrics;

/// Why the metrics cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("metrics-listen: cannot listen on {address}: {error}")]
pub struct BindError {
    address: SocketAddr,
    error: std::io::Error,
}

/// Serves the metrics until `stop`.
///
/// # Errors
/// The address is in use, or not of this machine.
pub(crate) async fn start(
    metrics: Metrics,
    address: Option<SocketAddr>,
    stop: CancellationToken,
) -> Result<(), BindError> {
    tokio::spawn(metrics.0.clone().upkeep(stop.clone()));
    let Some(address) = address else {
        return Ok(());
    };
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|error| BindError { address, error })?;
    let page = move || async move {
        let kind = [(CONTENT_TYPE, warmq_metrics::CONTENT_TYPE)];
        (kind, metrics.0.page())
    };
    let routes = Router::new()
        .route("/metrics", get(page))
        .route("/healthz", get("ok\n"));
    tracing::info!("metrics at http://{address}/metrics");
    let served = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "the metrics are no longer served");
        }
    });
    Ok(())
}
