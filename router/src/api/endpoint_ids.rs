//! fal's endpoint ids: `owner/app` with any path after it (`fal-ai/flux/dev`). A job is submitted
//! under the whole id; its app is the first two parts. Clients poll it under either: fal's own
//! under the first two, or all three in the namespaces `workflows/` and `comfy/`; hand-written URLs
//! under the submitted id.

use axum::extract::Request;
use axum::http::Uri;

use super::docs;

/// The segment between an endpoint id and a job's id.
const REQUESTS: &str = "requests";

/// Prefixes of fal's calls.
const PREFIXES: [&str; 2] = ["queue", "run"];

/// Paths after a job's id.
const CALLS: [&[&str]; 5] = [
    &[],
    &["status"],
    &["status", "stream"],
    &["response"],
    &["cancel"],
];

/// A path without a route.
const NOWHERE: &str = "/queue";

/// Rewrites a request about a job to the name of its app. An unknown call of a job has no route: it
/// must not become a submission to an endpoint of that name.
pub(super) fn resolved(mut request: Request) -> Request {
    if docs::is_folder(request.uri().path()) {
        *request.uri_mut() = Uri::from_static(docs::INDEX);
    } else if let Some(uri) = under_its_app(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// Returns whether an endpoint's path after `owner/app` is reserved for calls about jobs.
pub(super) fn is_reserved(path: &str) -> bool {
    path.split('/').any(|segment| segment == REQUESTS)
}

/// Rewrites `/queue/owner/app/any/path/requests/…` to `/queue/owner/app/requests/…`; `None` for
/// other paths.
fn under_its_app(uri: &Uri) -> Option<Uri> {
    let parts: Vec<&str> = uri.path().trim_end_matches('/').split('/').collect();
    let ["", prefix, owner, app, behind @ ..] = parts.as_slice() else {
        return None;
    };
    let at = behind.iter().position(|part| *part == REQUESTS)?;
    if !PREFIXES.contains(prefix) {
        return None;
    }
    let call = match &behind[at + 1..] {
        [id, call @ ..] if *prefix == "queue" && !id.is_empty() && CALLS.contains(&call) => {
            [&[*id], call].concat().join("/")
        }
        _ => return Some(Uri::from_static(NOWHERE)),
    };
    if at == 0 {
        return None;
    }
    let query = uri.query().map(|query| format!("?{query}"));
    let query = query.unwrap_or_default();
    format!("/{prefix}/{owner}/{app}/{REQUESTS}/{call}{query}")
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Option<String> {
        under_its_app(&path.parse().unwrap()).map(|uri| uri.to_string())
    }

    #[test]
    fn a_job_is_asked_for_under_any_endpoint_of_its_app() {
        for (asked, meant) in [
            (
                "comfy/me/flow/requests/1/status?logs=1",
                "comfy/me/requests/1/status?logs=1",
            ),
            ("fal-ai/flux/dev/requests/1", "fal-ai/flux/requests/1"),
            (
                "a/b/c/d/e/requests/1/status/stream",
                "a/b/requests/1/status/stream",
            ),
            ("a/b/v2/requests/1/cancel/", "a/b/requests/1/cancel"),
            ("a/b/v2/requests/1/response", "a/b/requests/1/response"),
        ] {
            let meant = format!("/queue/{meant}");
            assert_eq!(path(&format!("/queue/{asked}")), Some(meant), "{asked}");
        }
    }

    #[test]
    fn unknown_calls_of_a_job_have_no_route() {
        for asked in [
            "/queue/a/b/requests",
            "/queue/a/b/requests/",
            "/queue/a/b/v2/requests/1/foo",
            "/queue/a/b/requests/1/status/stream/more",
            "/queue/a/b/requests/requests/x",
            "/run/a/b/requests/1/cancel",
            "/run/a/b/v2/requests/1",
        ] {
            assert_eq!(path(asked).as_deref(), Some(NOWHERE), "{asked}");
        }
    }

    #[test]
    fn all_other_paths_stay() {
        for asked in [
            "/queue/a/b",
            "/queue/a/b/v2",
            "/queue/requests/requests",
            "/queue/a/requests/v2",
            "/queue/workflows/me/requests/1",
            "/queue/a/b/requests/1/status/",
            "/v1/a/b/requests/1",
            "/files/a/b/c/requests/1/0.png",
            "/",
        ] {
            assert_eq!(path(asked), None, "{asked}");
        }
        assert!(is_reserved("v2/requests/x") && !is_reserved("v2/requests-x"));
    }
}
