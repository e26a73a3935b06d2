//! `/v1/overview`: runners and queues at present, once or as a stream of changes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use futures::stream;
use serde_json::Value;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::{By, Identifier};
use super::openapi::{Listing, OPERATE};
use super::{Api, ApiError, sse};
use crate::access::{Caller, Right};
use crate::overview::{Overview, OverviewChanges, REFRESH_INTERVAL, Snapshot};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(show))
        .routes(routes!(follow))
}

/// Returns the runners with their jobs, and the queues with their held jobs. Previews are shown to
/// admins only.
#[utoipa::path(
    get,
    path = "/overview",
    operation_id = "overview",
    tag = OPERATE,
    responses((status = 200, description = "The whole state", body = OverviewChanges), Listing)
)]
async fn show(State(api): State<Api>, By(caller): By) -> Result<Json<Value>, ApiError> {
    let now = api.overview.now().await?;
    Ok(Json(changes(&now, None, &caller)))
}

/// Streams the overview: the first event has the whole state, each later one what changed since.
#[utoipa::path(
    get,
    path = "/overview/stream",
    operation_id = "follow_overview",
    tag = OPERATE,
    responses((status = 200, description = "Events", content(("text/event-stream"))), Listing)
)]
async fn follow(
    State(api): State<Api>,
    By(caller): By,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let permit = api.streams.permit()?;
    let first = api.overview.now().await?;
    let viewer = Viewer {
        identifier: Identifier::of(&api),
        headers,
        overview: api.overview.clone(),
        caller,
        sent: None,
        next: Some(first),
    };
    let events = stream::unfold(viewer, |mut viewer| async move {
        let event = viewer.next().await?;
        Some((event, viewer))
    });
    Ok(sse::events(events, permit))
}

/// One open stream.
struct Viewer {
    overview: Overview,
    identifier: Identifier,
    /// Those of its request, with the key or session.
    headers: HeaderMap,
    caller: Caller,
    sent: Option<Arc<Snapshot>>,
    /// Read already.
    next: Option<Arc<Snapshot>>,
}

impl Viewer {
    /// Waits for the next snapshot; `None` once the key is revoked or the session has ended. The
    /// stream continues after an outage of Redis.
    async fn next(&mut self) -> Option<Value> {
        let now = loop {
            if let Some(first) = self.next.take() {
                break first;
            }
            tokio::time::sleep(REFRESH_INTERVAL).await;
            match self.identifier.caller(&Method::GET, &self.headers).await {
                Ok(caller) if caller.may(Right::Watch).is_ok() => self.caller = caller,
                Err(error) if !error.is_unauthorized() => continue,
                _ => return None,
            }
            match self.overview.now().await {
                Ok(now) => break now,
                Err(error) => tracing::debug!(%error, "could not read the overview"),
            }
        };
        let event = changes(&now, self.sent.as_deref(), &self.caller);
        self.sent = Some(now);
        Some(event)
    }
}

/// Returns the changes as JSON. A preview shows a job's picture, which only its owner and admins
/// may see.
fn changes(now: &Snapshot, before: Option<&Snapshot>, caller: &Caller) -> Value {
    // Encoding cannot fail: string keys, no I/O.
    let mut changes = serde_json::to_value(now.changes(before)).unwrap_or_default();
    if caller.may(Right::Administer).is_err()
        && let Some(runners) = changes["runners"].as_array_mut()
    {
        for runner in runners {
            if let Some(progress) = runner.pointer_mut("/running/progress")
                && let Some(progress) = progress.as_object_mut()
            {
                progress.remove("preview");
            }
        }
    }
    changes
}
