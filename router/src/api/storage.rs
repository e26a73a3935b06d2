//! `/storage` and `POST /files/upload…`: uploads by the protocols of fal's clients.
//!
//! - Python, first: `POST /storage/auth/token`, then `POST /files/upload`; in parts `POST
//!   /files/upload/multipart`, then `PUT` and `POST` below the file's URL. If that fails, as
//!   JavaScript.
//! - JavaScript: `POST /storage/upload/initiate`, then `PUT upload_url`; in parts `POST
//!   /storage/upload/initiate-multipart`, then `PUT` and `POST` below `upload_url`.
//!
//! A key is checked where an upload begins ([`routes`]). From then on a signed,
//! short-lived URL or token ([`UploadToken`]) grants access ([`signed`]): clients send their key
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
use super::openapi::{Creating, FILES, Uploading};
use super::server::Streamed;
use super::submission::text_of;
use super::{Api, ApiError};
use crate::access::Right;
use crate::files::uploads::Part;
use crate::files::{FileKey, SignedUrls, UploadError, Uploads, Use, lifetime, now_s};

/// Time limit of an upload from its first call, s.
const UPLOAD_LIFETIME_S: u64 = 3600;

/// Default lifetime of the URLs of uploaded files, s: 7 days.
const FILE_LIFETIME_S: u64 = 7 * 24 * 3600;

/// Name of an upload without one, as in fal's Python client.
const NAMELESS: &str = "upload.bin";

/// Returns the first calls of uploads, which require a key.
pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(create_token))
        .routes(routes!(announce))
        .routes(routes!(announce_parts))
}

/// Returns the further calls of an upload, which need its URL or token.
pub(super) fn signed() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(upload))
        .routes(routes!(upload_part))
        .routes(routes!(complete))
        .routes(routes!(upload_whole))
        .routes(routes!(begin_parts))
        .routes(routes!(upload_part_at_file))
        .routes(routes!(complete_at_file))
}

/// A file to be uploaded.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
struct Announcement {
    /// Name at the end of its URL.
    #[schema(example = "cat.png")]
    file_name: Option<String>,
    /// Determines the extension, if the name has none.
    #[schema(example = "image/png")]
    content_type: Option<String>,
}

/// List of parts in the last call of an upload in parts.
#[derive(Debug, Deserialize, ToSchema)]
struct Completion {
    parts: Vec<Part>,
}

/// Returns a token for `POST /files/upload`, which fal's Python client requests.
#[utoipa::path(
    post,
    path = "/storage/auth/token",
    operation_id = "upload_token",
    tag = FILES,
    responses((status = 200, description = "The token and its expiry", body = Value), Creating)
)]
async fn create_token(State(api): State<Api>, _: Uploader) -> Response {
    let expires_s = now_s() + UPLOAD_LIFETIME_S;
    let expires_at = i64::try_from(expires_s).ok();
    let expires_at = expires_at.and_then(|s| DateTime::from_timestamp(s, 0));
    Json(json!({
        "token": api.signed_urls.upload_token(expires_s),
        "token_type": "Bearer",
        "base_url": api.signed_urls.public_url(),
        "expires_at": expires_at.unwrap_or_default().to_rfc3339(),
    }))
    .into_response()
}

/// Returns URLs for writing a file (`upload_url`) and for reading it (`file_url`).
#[utoipa::path(
    post,
    path = "/storage/upload/initiate",
    operation_id = "upload",
    tag = FILES,
    request_body(content = Option<Announcement>, content_type = "application/json"),
    responses((status = 200, description = "Both URLs", body = Value), Creating)
)]
async fn announce(
    State(api): State<Api>,
    _: Uploader,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    announced(&api, &headers, body, SignedUrls::to_write).await
}

/// Returns the same for a file in parts: `PUT upload_url/1`, …, `POST upload_url/complete`.
#[utoipa::path(
    post,
    path = "/storage/upload/initiate-multipart",
    operation_id = "upload_in_parts",
    tag = FILES,
    request_body(content = Option<Announcement>, content_type = "application/json"),
    responses((status = 200, description = "Both URLs", body = Value), Creating)
)]
async fn announce_parts(
    State(api): State<Api>,
    _: Uploader,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    announced(&api, &headers, body, SignedUrls::to_write_parts).await
}

/// Returns the URLs for reading and for writing a new file; `to_put` creates the latter.
async fn announced(
    api: &Api,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
    to_put: fn(&SignedUrls, &FileKey, u64) -> String,
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
    )
    .await?;
    let upload_url = to_put(&api.signed_urls, &key, now_s() + UPLOAD_LIFETIME_S);
    Ok(Json(json!({"upload_url": upload_url, "file_url": file_url})).into_response())
}

/// Returns a key for a new file, and its URL.
async fn new_file(
    api: &Api,
    headers: &HeaderMap,
    name: Option<&str>,
    content_type: &str,
) -> Result<(FileKey, String), ApiError> {
    let requested_s = lifetime_of(headers)?;
    let key = Uploads::new_key(name.unwrap_or(NAMELESS), content_type)
        .ok_or_else(|| ApiError::internal("the file's name yields no key"))?;
    if let (Some(lifetime_s), Some(folder)) = (requested_s, key.folder()) {
        (api.store.file_retention().keep(folder, lifetime_s)).await?;
    }
    let lifetime_s = requested_s.unwrap_or(FILE_LIFETIME_S);
    let url = api
        .signed_urls
        .to_read(&key, now_s().saturating_add(lifetime_s));
    Ok((key, url))
}

/// Parses the lifetime of URLs, s. fal's clients send one of the headers, or both alike.
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

/// The file of a signed URL.
#[derive(Deserialize)]
struct FileUrl {
    signature: String,
    id: String,
    name: String,
    #[serde(default)]
    upload: String,
    #[serde(default)]
    number: u64,
}

type FileUrlInPath = Result<Path<FileUrl>, ApiError>;

/// Path of a signed URL.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what `FileUrl` reads")]
struct FilePath {
    /// `<expires>-<mac>`: expiry of the URL (Unix s), and its signature.
    signature: String,
    /// The file's folder.
    id: String,
    /// Its name.
    name: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what `FileUrl` reads")]
struct PartNumber {
    /// Number of the part, from 1.
    #[param(minimum = 1)]
    number: u64,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "documents what `FileUrl` reads")]
struct UploadId {
    /// `uploadId` of the response to `begin_parts`.
    upload: String,
}

impl FileUrl {
    fn read(path: FileUrlInPath) -> Result<Self, ApiError> {
        match path {
            Ok(Path(url)) => Ok(url),
            // A path that is not UTF-8 contains no key.
            Err(_) => Err(ApiError::not_found("the upload does not exist")),
        }
    }

    fn key(&self, api: &Api, what: Use, signature: &str) -> Result<FileKey, ApiError> {
        let key = FileKey::parse(&format!("uploads/{}/{}", self.id, self.name));
        let key = key.ok_or_else(|| ApiError::not_found("the upload does not exist"))?;
        api.signed_urls.check(what, &key, signature)?;
        Ok(key)
    }
}

/// Uploads a file: `PUT upload_url`.
#[utoipa::path(
    put,
    path = "/storage/upload/{signature}/uploads/{id}/{name}",
    operation_id = "put_file",
    tag = FILES,
    params(FilePath),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "The file is stored"), Uploading)
)]
async fn upload(
    State(api): State<Api>,
    path: FileUrlInPath,
    Streamed(body): Streamed,
) -> Result<StatusCode, ApiError> {
    let url = FileUrl::read(path)?;
    let key = url.key(&api, Use::Write, &url.signature)?;
    api.uploads.store(&key, body).await?;
    Ok(StatusCode::OK)
}

/// Uploads a part as fal's JavaScript client does: `PUT upload_url/N`.
#[utoipa::path(
    put,
    path = "/storage/parts/{signature}/uploads/{id}/{name}/{number}",
    operation_id = "put_part",
    tag = FILES,
    params(FilePath, PartNumber),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "The part is stored", body = Value), Uploading)
)]
async fn upload_part(
    State(api): State<Api>,
    path: FileUrlInPath,
    body: Body,
) -> Result<Response, ApiError> {
    let url = FileUrl::read(path)?;
    let key = url.key(&api, Use::WriteParts, &url.signature)?;
    store_part(&api, &key, url.number, body).await
}

/// Uploads a part as fal's Python client does: `PUT access_url/multipart/<upload id>/N`.
#[utoipa::path(
    put,
    path = "/files/{signature}/uploads/{id}/{name}/multipart/{upload}/{number}",
    operation_id = "put_part_at_file",
    tag = FILES,
    params(FilePath, UploadId, PartNumber),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "The part is stored", body = Value), Uploading)
)]
async fn upload_part_at_file(
    State(api): State<Api>,
    path: FileUrlInPath,
    body: Body,
) -> Result<Response, ApiError> {
    let url = FileUrl::read(path)?;
    let key = url.key(&api, Use::WriteParts, &url.upload)?;
    store_part(&api, &key, url.number, body).await
}

/// Returns a part's etag: Python reads the header, JavaScript the body.
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

/// Joins the parts: `POST upload_url/complete`.
#[utoipa::path(
    post,
    path = "/storage/parts/{signature}/uploads/{id}/{name}/complete",
    operation_id = "complete_parts",
    tag = FILES,
    params(FilePath),
    request_body(content = Completion, content_type = "application/json"),
    responses((status = 200, description = "The parts are joined"), Uploading)
)]
async fn complete(
    State(api): State<Api>,
    path: FileUrlInPath,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let url = FileUrl::read(path)?;
    let key = url.key(&api, Use::WriteParts, &url.signature)?;
    join_parts(&api, &key, body).await
}

/// Joins the parts: `POST access_url/multipart/<upload id>/complete`.
#[utoipa::path(
    post,
    path = "/files/{signature}/uploads/{id}/{name}/multipart/{upload}/complete",
    operation_id = "complete_parts_at_file",
    tag = FILES,
    params(FilePath, UploadId),
    request_body(content = Completion, content_type = "application/json"),
    responses((status = 200, description = "The parts are joined"), Uploading)
)]
async fn complete_at_file(
    State(api): State<Api>,
    path: FileUrlInPath,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let url = FileUrl::read(path)?;
    let key = url.key(&api, Use::WriteParts, &url.upload)?;
    join_parts(&api, &key, body).await
}

async fn join_parts(
    api: &Api,
    key: &FileKey,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let completion: Completion = read_json(api, body)?;
    api.uploads.complete(key, completion.parts).await?;
    Ok(StatusCode::OK)
}

/// Uploads a file with its name in the header `x-fal-file-name` and a token as `Authorization:
/// Bearer`.
#[utoipa::path(
    post,
    path = "/files/upload",
    operation_id = "upload_at_once",
    tag = FILES,
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "The file is stored; its URL is `access_url`", body = Value), Uploading)
)]
async fn upload_whole(
    State(api): State<Api>,
    _: UploadToken,
    headers: HeaderMap,
    Streamed(body): Streamed,
) -> Result<Response, ApiError> {
    let (key, url) = named_in_headers(&api, &headers).await?;
    api.uploads.store(&key, body).await?;
    Ok(Json(json!({"access_url": url})).into_response())
}

/// Announces a file in parts, as fal's Python client does, with a token as `Authorization: Bearer`.
#[utoipa::path(
    post,
    path = "/files/upload/multipart",
    operation_id = "begin_parts",
    tag = FILES,
    responses((status = 200, description = "The file's URL (`access_url`) and the id of the upload", body = Value), Uploading)
)]
async fn begin_parts(
    State(api): State<Api>,
    _: UploadToken,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (key, url) = named_in_headers(&api, &headers).await?;
    let upload = api
        .signed_urls
        .signature(Use::WriteParts, &key, now_s() + UPLOAD_LIFETIME_S);
    Ok(Json(json!({"access_url": url, "uploadId": upload})).into_response())
}

async fn named_in_headers(api: &Api, headers: &HeaderMap) -> Result<(FileKey, String), ApiError> {
    let name = text_of(headers, "x-fal-file-name");
    let content_type = text_of(headers, "content-type").unwrap_or_default();
    new_file(api, headers, name.as_deref(), &content_type).await
}

/// Proof that the caller may upload files.
struct Uploader;

impl FromRequestParts<Api> for Uploader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let By(caller) = By::from_request_parts(parts, api).await?;
        caller.may(Right::Upload)?;
        Ok(Self)
    }
}

/// Proof that the request has a token of `POST /storage/auth/token`.
struct UploadToken;

impl FromRequestParts<Api> for UploadToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let given = parts.headers.get(header::AUTHORIZATION);
        let given = given.and_then(|value| value.to_str().ok());
        let (scheme, token) = given
            .and_then(|text| text.split_once(' '))
            .unwrap_or_default();
        let checked = api.signed_urls.check_upload_token(token.trim());
        match scheme.eq_ignore_ascii_case("bearer") && checked.is_ok() {
            true => Ok(Self),
            false => Err(ApiError::unauthorized(
                "this upload requires a token: request one (POST /storage/auth/token) and send Authorization: Bearer <token>",
            )),
        }
    }
}

/// Parses a JSON object of any content type; an empty body is `{}`.
fn read_json<T: DeserializeOwned>(
    api: &Api,
    body: Result<Bytes, BytesRejection>,
) -> Result<T, ApiError> {
    let body = body.map_err(|rejection| super::submission::unreadable(&rejection, api))?;
    let text: &[u8] = if body.is_empty() { b"{}" } else { &body };
    // As a map first: serde would accept a list for a struct.
    serde_json::from_slice::<Map<String, Value>>(text)
        .and_then(|fields| T::deserialize(Value::Object(fields)))
        .map_err(|error| ApiError::bad_request(format!("invalid body: {error}")))
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
