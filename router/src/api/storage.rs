//! `/storage` and `POST /files/upload…`: uploads in each of the ways of fal's clients.
//!
//! - Python, first: `POST /storage/auth/token`, then `POST /files/upload`; in parts `POST
//!   /files/upload/multipart`, then `PUT` and `POST` below the file's link. If that fails, as
//!   JavaScript.
//! - JavaScript: `POST /storage/upload/initiate`, then `PUT upload_url`; in parts `POST
//!   /storage/upload/initiate-multipart`, then `PUT` and `POST` below `upload_url`.
//!
//! A key is checked where an upload begins ([`routes`]). From then on a URL, or the token
//! ([`UploadToken`]), is the permit, signed and short-lived ([`by_permit`]): clients send their key
//! with the first call only.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::DateTime;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_types::job::{FieldError, JobError};

use super::auth::By;
use super::extract::Path;
use super::openapi::{Bringing, FILES, Making};
use super::server::Streamed;
use super::submission::text_of;
use super::{Api, ApiError};
use crate::access::Right;
use crate::files::uploads::Part;
use crate::files::{FileKey, Links, UploadError, Uploads, Use, lifetime, now_s};

/// How long an upload may take from its announcement on, s.
const PERMIT_S: u64 = 3600;

/// How long the link to an uploaded file holds if its uploader does not say, s: 7 days.
const LINK_S: u64 = 7 * 24 * 3600;

/// What an upload is called that has no name: fal's Python client says the same.
const NAMELESS: &str = "upload.bin";

/// Where uploads begin: here the caller is asked who it is.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(give_token))
        .routes(routes!(announce))
        .routes(routes!(announce_parts))
}

/// The further calls of an upload, which need its URL or token.
pub(super) fn by_permit() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(take))
        .routes(routes!(take_part))
        .routes(routes!(complete))
        .routes(routes!(take_at_once))
        .routes(routes!(begin_parts))
        .routes(routes!(take_part_at_link))
        .routes(routes!(complete_at_link))
}

/// A file that will come.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct Announcement {
    /// What the link to it ends with, if it can.
    #[schema(example = "cat.png")]
    file_name: Option<String>,
    /// Gives it an ending, if its name has none.
    #[schema(example = "image/png")]
    content_type: Option<String>,
}

/// What the last call of an upload in parts names.
#[derive(Debug, Deserialize, ToSchema)]
struct Completion {
    parts: Vec<Part>,
}

/// A token for `POST /files/upload`, as fal's Python client asks for it.
#[utoipa::path(
    post,
    path = "/storage/auth/token",
    operation_id = "upload_token",
    tag = FILES,
    responses((status = 200, description = "The token, and how long it is good", body = Value), Making)
)]
async fn give_token(State(api): State<Api>, _: Uploader) -> Response {
    let expires_s = now_s() + PERMIT_S;
    let expires_at = i64::try_from(expires_s).ok();
    let expires_at = expires_at.and_then(|s| DateTime::from_timestamp(s, 0));
    Json(json!({
        "token": api.links.upload_token(expires_s),
        "token_type": "Bearer",
        "base_url": api.links.public_url(),
        "expires_at": expires_at.unwrap_or_default().to_rfc3339(),
    }))
    .into_response()
}

/// Where to put a file (`upload_url`), and where it will be read (`file_url`).
#[utoipa::path(
    post,
    path = "/storage/upload/initiate",
    operation_id = "upload",
    tag = FILES,
    request_body(content = Option<Announcement>, content_type = "application/json"),
    responses((status = 200, description = "Both URLs", body = Value), Making)
)]
async fn announce(
    State(api): State<Api>,
    _: Uploader,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    announced(&api, &headers, body, Links::to_write)
}

/// The same, for a file in parts: `PUT upload_url/1`, …, `POST upload_url/complete`.
#[utoipa::path(
    post,
    path = "/storage/upload/initiate-multipart",
    operation_id = "upload_in_parts",
    tag = FILES,
    request_body(content = Option<Announcement>, content_type = "application/json"),
    responses((status = 200, description = "Both URLs", body = Value), Making)
)]
async fn announce_parts(
    State(api): State<Api>,
    _: Uploader,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    announced(&api, &headers, body, Links::to_write_parts)
}

/// A place for the file that a body announces: the link to it, and one by which it can be put
/// there, as `to_put` makes it.
fn announced(
    api: &Api,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    to_put: fn(&Links, &FileKey, u64) -> String,
) -> Result<Response, ApiError> {
    let Announcement {
        file_name,
        content_type,
    } = read_json(api, body)?;
    let (key, file_url) = new_file(
        api,
        headers,
        file_name.as_deref(),
        content_type.as_deref().unwrap_or_default(),
    )?;
    let upload_url = to_put(&api.links, &key, now_s() + PERMIT_S);
    Ok(Json(json!({"upload_url": upload_url, "file_url": file_url})).into_response())
}

/// A place for a new file, and the link to it.
fn new_file(
    api: &Api,
    headers: &HeaderMap,
    name: Option<&str>,
    content_type: &str,
) -> Result<(FileKey, String), ApiError> {
    let holds_s = lifetime_of(headers)?.unwrap_or(LINK_S);
    let key = Uploads::new_key(name.unwrap_or(NAMELESS), content_type)
        .ok_or_else(|| ApiError::internal("the file's name came out as none"))?;
    let link = api.links.to_read(&key, now_s().saturating_add(holds_s));
    Ok((key, link))
}

/// How long links are to hold, s. fal's clients give the one header or the other, or both alike.
fn lifetime_of(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    for name in [
        "x-fal-object-lifecycle-preference",
        "x-fal-object-lifecycle",
    ] {
        if let Some(text) = text_of(headers, name) {
            return lifetime::seconds(&text).map_err(|msg| {
                ApiError::from(JobError::fields(vec![FieldError {
                    loc: vec!["header".into(), name.into()],
                    msg,
                    error_type: "invalid_object_lifecycle".to_owned(),
                }]))
            });
        }
    }
    Ok(None)
}

/// The file that a permit in the path is for, if it allows that.
#[derive(Deserialize)]
struct FileAddress {
    permit: String,
    id: String,
    name: String,
    #[serde(default)]
    upload: String,
    #[serde(default)]
    number: u64,
}

type FileAddressInPath = Result<Path<FileAddress>, ApiError>;

/// Where a file goes: what follows in the URL that its announcement gave.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what `FileAddress` reads")]
struct FilePath {
    /// When the URL expires, what it allows, and its signature.
    permit: String,
    /// The file's folder.
    id: String,
    /// Its name.
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what `FileAddress` reads")]
struct PartNumber {
    /// Which part, from 1 on.
    #[param(minimum = 1)]
    number: u64,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what `FileAddress` reads")]
struct UploadId {
    /// `uploadId` of the announcement.
    upload: String,
}

impl FileAddress {
    fn read(path: FileAddressInPath) -> Result<Self, ApiError> {
        match path {
            Ok(Path(address)) => Ok(address),
            // What cannot be read is no upload.
            Err(_) => Err(ApiError::not_found("there is no such upload")),
        }
    }

    fn key(&self, api: &Api, what: Use, permit: &str) -> Result<FileKey, ApiError> {
        let key = FileKey::parse(&format!("uploads/{}/{}", self.id, self.name));
        let key = key.ok_or_else(|| ApiError::not_found("there is no such upload"))?;
        api.links.check(what, &key, permit)?;
        Ok(key)
    }
}

/// `PUT upload_url`: the file itself.
#[utoipa::path(
    put,
    path = "/storage/upload/{permit}/uploads/{id}/{name}",
    operation_id = "put_file",
    tag = FILES,
    params(FilePath),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "It is stored"), Bringing)
)]
async fn take(
    State(api): State<Api>,
    path: FileAddressInPath,
    Streamed(body): Streamed,
) -> Result<StatusCode, ApiError> {
    let address = FileAddress::read(path)?;
    let key = address.key(&api, Use::Write, &address.permit)?;
    api.uploads.store(&key, body).await?;
    Ok(StatusCode::OK)
}

/// `PUT upload_url/N`: a part, as fal's JavaScript client sends it.
#[utoipa::path(
    put,
    path = "/storage/parts/{permit}/uploads/{id}/{name}/{number}",
    operation_id = "put_part",
    tag = FILES,
    params(FilePath, PartNumber),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "It is stored", body = Value), Bringing)
)]
async fn take_part(
    State(api): State<Api>,
    path: FileAddressInPath,
    body: Body,
) -> Result<Response, ApiError> {
    let address = FileAddress::read(path)?;
    let key = address.key(&api, Use::WriteParts, &address.permit)?;
    store_part(&api, &key, address.number, body).await
}

/// `PUT access_url/multipart/<upload id>/N`: a part, as fal's Python client sends it.
#[utoipa::path(
    put,
    path = "/files/{permit}/uploads/{id}/{name}/multipart/{upload}/{number}",
    operation_id = "put_part_at_link",
    tag = FILES,
    params(FilePath, UploadId, PartNumber),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "It is stored", body = Value), Bringing)
)]
async fn take_part_at_link(
    State(api): State<Api>,
    path: FileAddressInPath,
    body: Body,
) -> Result<Response, ApiError> {
    let address = FileAddress::read(path)?;
    let key = address.key(&api, Use::WriteParts, &address.upload)?;
    store_part(&api, &key, address.number, body).await
}

/// Python reads the header, JavaScript the body.
async fn store_part(
    api: &Api,
    key: &FileKey,
    number: u64,
    body: Body,
) -> Result<Response, ApiError> {
    let etag = api.uploads.store_part(key, number, body).await?;
    let headers = [(header::ETAG, format!("\"{etag}\""))];
    let answer = json!({"partNumber": number, "etag": etag});
    Ok((headers, Json(answer)).into_response())
}

/// `POST upload_url/complete`: all parts are there.
#[utoipa::path(
    post,
    path = "/storage/parts/{permit}/uploads/{id}/{name}/complete",
    operation_id = "complete_parts",
    tag = FILES,
    params(FilePath),
    request_body(content = Completion, content_type = "application/json"),
    responses((status = 200, description = "The file is put together"), Bringing)
)]
async fn complete(
    State(api): State<Api>,
    path: FileAddressInPath,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let address = FileAddress::read(path)?;
    let key = address.key(&api, Use::WriteParts, &address.permit)?;
    put_together(&api, &key, body).await
}

/// `POST access_url/multipart/<upload id>/complete`: all parts are there.
#[utoipa::path(
    post,
    path = "/files/{permit}/uploads/{id}/{name}/multipart/{upload}/complete",
    operation_id = "complete_parts_at_link",
    tag = FILES,
    params(FilePath, UploadId),
    request_body(content = Completion, content_type = "application/json"),
    responses((status = 200, description = "The file is put together"), Bringing)
)]
async fn complete_at_link(
    State(api): State<Api>,
    path: FileAddressInPath,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let address = FileAddress::read(path)?;
    let key = address.key(&api, Use::WriteParts, &address.upload)?;
    put_together(&api, &key, body).await
}

async fn put_together(
    api: &Api,
    key: &FileKey,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let completion: Completion = read_json(api, body)?;
    api.uploads.complete(key, completion.parts).await?;
    Ok(StatusCode::OK)
}

/// The file itself, its name in the header `x-fal-file-name`; with a token as `Authorization:
/// Bearer`.
#[utoipa::path(
    post,
    path = "/files/upload",
    operation_id = "upload_at_once",
    tag = FILES,
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "It is stored: its link is `access_url`", body = Value), Bringing)
)]
async fn take_at_once(
    State(api): State<Api>,
    _: UploadToken,
    headers: HeaderMap,
    Streamed(body): Streamed,
) -> Result<Response, ApiError> {
    let (key, link) = named_in_headers(&api, &headers)?;
    api.uploads.store(&key, body).await?;
    Ok(Json(json!({"access_url": link})).into_response())
}

/// A file will come in parts, as fal's Python client sends them; with a token as `Authorization:
/// Bearer`.
#[utoipa::path(
    post,
    path = "/files/upload/multipart",
    operation_id = "begin_parts",
    tag = FILES,
    responses((status = 200, description = "Its link (`access_url`) and the id of the upload", body = Value), Bringing)
)]
async fn begin_parts(
    State(api): State<Api>,
    _: UploadToken,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (key, link) = named_in_headers(&api, &headers)?;
    let upload = api.links.permit(Use::WriteParts, &key, now_s() + PERMIT_S);
    Ok(Json(json!({"access_url": link, "uploadId": upload})).into_response())
}

fn named_in_headers(api: &Api, headers: &HeaderMap) -> Result<(FileKey, String), ApiError> {
    let name = text_of(headers, "x-fal-file-name");
    let content_type = text_of(headers, "content-type").unwrap_or_default();
    new_file(api, headers, name.as_deref(), &content_type)
}

/// That the caller may bring files.
struct Uploader;

impl FromRequestParts<Api> for Uploader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let By(caller) = By::from_request_parts(parts, api).await?;
        caller.may(Right::Bring)?;
        Ok(Self)
    }
}

/// That the request carries a token of `POST /storage/auth/token`.
struct UploadToken;

impl FromRequestParts<Api> for UploadToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let given = parts.headers.get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok());
        let (scheme, token) = given
            .and_then(|text| text.split_once(' '))
            .unwrap_or_default();
        let checked = api.links.check_upload_token(token.trim());
        match scheme.eq_ignore_ascii_case("bearer") && checked.is_ok() {
            true => Ok(Self),
            false => Err(ApiError::unauthorized(
                "uploads here need a token: POST /storage/auth/token gives it, and Authorization: Bearer <token> takes it",
            )),
        }
    }
}

/// A JSON object, whatever its content type; an empty body is `{}`.
fn read_json<T: DeserializeOwned>(
    api: &Api,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, ApiError> {
    let body = body.map_err(|rejection| super::submission::unreadable(&rejection, api))?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    // As a map at first: a list would do for a struct, too.
    serde_json::from_slice::<Map<String, Value>>(text)
        .and_then(|fields| T::deserialize(Value::Object(fields)))
        .map_err(|error| ApiError::bad_request(format!("the body is not as expected: {error}")))
}

impl From<UploadError> for ApiError {
    fn from(error: UploadError) -> Self {
        let (status, error_type) = match error {
            UploadError::Storage(error) => return error.into(),
            UploadError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            UploadError::Stalled => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            UploadError::Interrupted(_)
            | UploadError::NoSuchPart { .. }
            | UploadError::NotAllParts
            | UploadError::PartMissing(_) => (StatusCode::BAD_REQUEST, "bad_request"),
        };
        Self::plain(status, error_type, error.to_string())
    }
}
