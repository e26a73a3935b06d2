//! fal's proxy protocol: a header contains the URL at fal. The router handles the call itself and
//! sends nothing to fal.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use tower::ServiceExt;
use url::Url;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;

use super::openapi::{Proxied, QUEUE};
use super::{Api, ApiError, endpoint_ids};

const TARGET: &str = "x-fal-target-url";

/// Returns the proxy in front of `calls`.
pub(super) fn routes(calls: Router) -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(answer).with_state(calls))
}

/// Handles the call in the header, with this request's method and body. Nothing is sent to fal.
#[utoipa::path(
    method(get, post, put),
    path = "/api/fal/proxy",
    operation_id = "proxy",
    tag = QUEUE,
    params((
        "x-fal-target-url" = String, Header, example = "https://queue.fal.run/warmq/diffusion",
        description = "Where the call would go at fal, of which this router has the same: https://queue.fal.run/… or https://fal.run/…"
    )),
    request_body(content = Option<Value>, content_type = "application/json", description = "The call's body"),
    responses(
        (status = 200, description = "As the call answers", content((Value = "application/json"), ("text/event-stream"))),
        (status = 202, description = "As the call answers", body = Value),
        Proxied,
    )
)]
async fn answer(State(calls): State<Router>, mut request: Request) -> Response {
    let target = request.headers().get(TARGET);
    let target = target.and_then(|target| target.to_str().ok());
    if target.is_some_and(is_realtime) {
        return ApiError::realtime().into_response();
    }
    let Some(here) = target.and_then(here) else {
        let message = format!(
            "{TARGET} must begin with https://queue.fal.run/, https://fal.run/ or https://rest.fal.ai/storage/"
        );
        return ApiError::bad_request(message).into_response();
    };
    *request.uri_mut() = here;
    match calls.oneshot(endpoint_ids::resolved(request)).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Returns whether a call belongs to fal's realtime protocol: a connection to `ws.fal.run` or to an
/// app's `/realtime`, or the token for it.
fn is_realtime(target: &str) -> bool {
    let Ok(target) = Url::parse(target) else {
        return false;
    };
    let host = target.host_str().unwrap_or_default();
    let is_fals = ["fal.run", "falrun.com", "fal.ai"].iter().any(|domain| {
        host.strip_suffix(domain)
            .is_some_and(|sub| sub.is_empty() || sub.ends_with('.'))
    });
    let path = target.path().trim_end_matches('/');
    let is_socket = matches!(target.scheme(), "ws" | "wss") || host.starts_with("ws.");
    let is_token = host == "rest.fal.ai" && path.starts_with("/tokens");
    is_fals && (is_socket || is_token || path.ends_with("/realtime"))
}

/// Returns the router's path of a call to fal. `falrun.com` is fal's fallback domain.
fn here(target: &str) -> Option<Uri> {
    let target = Url::parse(target).ok()?;
    let root = match (target.scheme(), target.host_str()?) {
        ("https", "queue.fal.run" | "queue.falrun.com") => "/queue",
        ("https", "fal.run" | "falrun.com") => "/run",
        ("https", "rest.fal.ai") if target.path().starts_with("/storage/") => "",
        _ => return None,
    };
    let path = target.path().trim_end_matches('/');
    let query = target.query().map(|query| format!("?{query}"));
    format!("{root}{path}{}", query.unwrap_or_default())
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(target: &str) -> Option<String> {
        here(target).map(|uri| uri.to_string())
    }

    #[test]
    fn realtime_calls_are_recognized() {
        for target in [
            "wss://fal.run/a/b/realtime?token=x",
            "https://ws.fal.run/a/b",
            "https://fal.run/a/b/realtime/",
            "https://rest.fal.ai/tokens/realtime",
            "https://rest.fal.ai/tokens/",
        ] {
            assert!(is_realtime(target), "{target}");
        }
        for target in [
            "https://fal.run/a/realtime-b",
            "wss://example.com/a/b",
            "https://notfal.run/a/b/realtime",
            "",
        ] {
            assert!(!is_realtime(target), "{target}");
        }
    }

    #[test]
    fn fals_hosts_are_folders_here_and_nothing_else_is() {
        let queue = "https://queue.fal.run/a/b/requests/1/status?logs=1";
        let queue = path(queue);
        assert_eq!(
            queue.as_deref(),
            Some("/queue/a/b/requests/1/status?logs=1")
        );
        assert_eq!(path("https://fal.run/a/b/").as_deref(), Some("/run/a/b"));
        assert_eq!(path("https://falrun.com/a/b").as_deref(), Some("/run/a/b"));
        let other = path("https://queue.falrun.com/a/b/requests/1");
        assert_eq!(other.as_deref(), Some("/queue/a/b/requests/1"));
        let upload = path("https://rest.fal.ai/storage/upload/initiate?storage_type=x");
        assert_eq!(
            upload.as_deref(),
            Some("/storage/upload/initiate?storage_type=x")
        );
        for elsewhere in [
            "https://example.com/a/b",
            "http://fal.run/a/b",
            "https://rest.fal.ai/tokens/",
            "https://rest.fal.ai/storage/../queue/a/b",
            "/v1/dead",
            "",
        ] {
            assert_eq!(path(elsewhere), None, "{elsewhere}");
        }
        let upwards = path("https://fal.run/../v1/dead");
        assert_eq!(upwards.as_deref(), Some("/run/v1/dead"));
    }
}
