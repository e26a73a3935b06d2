//! `GET /files/<signature>/<key>`: files by signed URLs, never with a type that a browser executes.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::Path;
use super::openapi::{FILES, Finding};
use super::{Api, ApiError};
use crate::files::names::kind;
use crate::files::{FileKey, InvalidSignature, Use};

/// Content security policy: a displayed file has no scripts, forms or origin.
const POLICY: &str = "default-src 'none'; sandbox";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(show))
}

/// Returns a file. The signature grants access.
#[utoipa::path(
    get,
    path = "/files/{signature}/{*key}",
    operation_id = "file",
    tag = FILES,
    params(
        ("signature" = String, Path, description = "`<expires>-<mac>`: expiry of the URL (Unix s), and its signature"),
        ("key" = String, Path, min_length = 1, description = "The file's key. It has several segments, which OpenAPI cannot express."),
    ),
    responses(
        (status = 200, description = "The file", content(
            ("image/png"),
            ("image/jpeg"),
            ("image/webp"),
            ("application/json"),
            ("application/octet-stream"),
        )),
        Finding,
    )
)]
async fn show(
    State(api): State<Api>,
    path: Result<Path<(String, String)>, ApiError>,
) -> Result<Response, ApiError> {
    // A path that is not UTF-8 contains no key.
    let Path((signature, key)) = path.map_err(|_| no_such_file())?;
    let key = FileKey::parse(&key).ok_or_else(no_such_file)?;
    let lifetime_s = api.signed_urls.check(Use::Read, &key, &signature)?;
    let found = api.storage.read(key.as_str()).await?;
    let file = found.ok_or_else(no_such_file)?;
    let kind = kind(key.name());
    let headers = [
        (header::CONTENT_TYPE, kind.content_type.to_owned()),
        (header::CONTENT_LENGTH, file.size_bytes.to_string()),
        // A file does not change, but its URL expires.
        (
            header::CACHE_CONTROL,
            format!("private, max-age={lifetime_s}, immutable"),
        ),
    ];
    let mut response = (headers, Body::from_stream(file.body)).into_response();
    let headers = response.headers_mut();
    let mut insert = |name: header::HeaderName, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    insert(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    insert(header::CONTENT_SECURITY_POLICY, POLICY);
    // Pages of other origins display pictures by their URLs.
    insert(
        header::HeaderName::from_static("cross-origin-resource-policy"),
        "cross-origin",
    );
    insert(header::REFERRER_POLICY, "no-referrer");
    if !kind.may_be_shown {
        insert(header::CONTENT_DISPOSITION, "attachment");
    }
    Ok(response)
}

fn no_such_file() -> ApiError {
    ApiError::not_found("the file does not exist")
}

impl From<InvalidSignature> for ApiError {
    fn from(refused: InvalidSignature) -> Self {
        match refused {
            InvalidSignature::Malformed => Self::not_found(refused.to_string()),
            InvalidSignature::Mismatch | InvalidSignature::Expired => {
                Self::plain(StatusCode::FORBIDDEN, "forbidden", refused.to_string())
            }
        }
    }
}

impl From<warmq_objects::Error> for ApiError {
    fn from(error: warmq_objects::Error) -> Self {
        tracing::warn!(%error, "could not access the storage");
        Self::unavailable("the storage is unavailable; try again soon")
    }
}
