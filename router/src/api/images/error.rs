//! Errors in OpenAI's format: a layer rewrites what the other calls return.

use std::collections::BTreeMap;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use utoipa::openapi::{ContentBuilder, ObjectBuilder, RefOr, ResponseBuilder};
use utoipa::{IntoResponses, openapi};
use utoipa_axum::router::OpenApiRouter;

use crate::api::Api;

/// Size limit of an error's body, bytes: more than any error has.
const MAX_ERROR_BYTES: usize = 1 << 20;

/// Returns `routes` with errors in OpenAI's format.
pub(crate) fn in_its_format(routes: OpenApiRouter<Api>) -> OpenApiRouter<Api> {
    routes.layer(middleware::map_response(rewrite))
}

async fn rewrite(response: Response) -> Response {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, MAX_ERROR_BYTES).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    // The job has ended with it: a repeated request would run it again.
    if parts.headers.contains_key("x-fal-request-id") || status == StatusCode::UNPROCESSABLE_ENTITY
    {
        let no = HeaderValue::from_static("false");
        parts.headers.insert("x-should-retry", no);
    }
    let body = Body::from(openai(status, &body).to_string());
    (parts, body).into_response()
}

/// Converts an error's body: `{"detail": text or fields, "error_type": …}`.
fn openai(status: StatusCode, body: &Value) -> Value {
    let first = &body["detail"][0];
    let (message, code) = match body["detail"].as_str() {
        Some(message) => (message.to_owned(), &body["error_type"]),
        None => {
            let message = first["msg"].as_str().unwrap_or("the request failed");
            (message.to_owned(), &first["type"])
        }
    };
    let path = first["loc"].as_array().into_iter().flatten().skip(1);
    let path: Vec<String> = path
        .map(|part| {
            part.as_str()
                .map_or_else(|| part.to_string(), str::to_owned)
        })
        .collect();
    let param = (!path.is_empty()).then(|| path.join("."));
    let message = match &param {
        Some(param) => format!("{param}: {message}"),
        None => message,
    };
    let code = match status {
        StatusCode::UNAUTHORIZED => json!("invalid_api_key"),
        _ => code.clone(),
    };
    let kind = match status.as_u16() {
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
}

/// The documented errors.
pub(super) enum Errors {}

impl IntoResponses for Errors {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let error = ObjectBuilder::new()
            .property("error", ObjectBuilder::new())
            .required("error");
        let response = ResponseBuilder::new()
            .description("An error in OpenAI's format: `{\"error\": {message, type, param, code}}`")
            .content(
                "application/json",
                ContentBuilder::new().schema(Some(error)).build(),
            )
            .build();
        let of = |statuses: &str| (statuses.to_owned(), RefOr::T(response.clone()));
        [of("4XX"), of("5XX")].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_openais_format() {
        let body = json!({"detail": "no key", "error_type": "unauthorized"});
        let error = openai(StatusCode::UNAUTHORIZED, &body);
        let expected = json!({
            "message": "no key", "type": "invalid_request_error", "param": null,
            "code": "invalid_api_key",
        });
        assert_eq!(error["error"], expected);
        let body = json!({"detail": [{"loc": ["body", "size"], "msg": "wrong", "type": "value"}]});
        let error = &openai(StatusCode::BAD_REQUEST, &body)["error"];
        assert_eq!(
            (&error["param"], &error["code"]),
            (&json!("size"), &json!("value"))
        );
        assert_eq!(error["message"], "size: wrong");
        let kind = |status| openai(status, &Value::Null)["error"]["type"].clone();
        assert_eq!(kind(StatusCode::TOO_MANY_REQUESTS), "rate_limit_error");
        assert_eq!(kind(StatusCode::SERVICE_UNAVAILABLE), "server_error");
    }
}
