//! fal's namespaces: an endpoint under `workflows/` or `comfy/` has three parts where others have two. Jobs are submitted to
//! `workflows/owner/name`, which is app `workflows/owner` here and `name` a path in it; but fal's clients name all three parts
//! where they ask for a job.

use axum::extract::Request;
use axum::http::Uri;

const NAMESPACES: [&str; 2] = ["workflows", "comfy"];

/// The request, asking for a job under the name of its app.
pub(super) fn resolved(mut request: Request) -> Request {
    if let Some(uri) = without_third_part(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// `/queue/workflows/owner/name/requests/…` as `/queue/workflows/owner/requests/…`; `None` for all other paths.
fn without_third_part(uri: &Uri) -> Option<Uri> {
    let parts: Vec<&str> = uri.path().split('/').collect();
    let ["", "queue", namespace, owner, _, "requests", rest @ ..] = parts.as_slice() else {
        return None;
    };
    if !NAMESPACES.contains(namespace) || rest.is_empty() {
        return None;
    }
    let rest = rest.join("/");
    let query = uri.query().map(|query| format!("?{query}"));
    let query = query.unwrap_or_default();
    format!("/queue/{namespace}/{owner}/requests/{rest}{query}")
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Option<String> {
        without_third_part(&path.parse().unwrap()).map(|uri| uri.to_string())
    }

    #[test]
    fn only_questions_about_jobs_of_a_namespace_lose_a_part() {
        let status = path("/queue/comfy/me/flow/requests/1/status?logs=1");
        assert_eq!(
            status.as_deref(),
            Some("/queue/comfy/me/requests/1/status?logs=1")
        );
        for other in [
            "/queue/workflows/me/flow",
            "/queue/workflows/me/requests/1",
            "/queue/workflows/me/flow/requests",
            "/queue/me/workflows/flow/requests/1",
            "/run/workflows/me/flow/requests/1",
            "/",
        ] {
            assert_eq!(path(other), None, "{other}");
        }
    }
}
