//! `/storage` and `POST /files/upload…`: how fal's clients bring files, in each of the ways that they know.
//!
//! | client | whole | in parts |
//! | --- | --- | --- |
//! | Python, at first | `POST /storage/auth/token`, `POST /files/upload` | token, `POST /files/upload/multipart`, `PUT` and `POST` below the file's link |
//! | Python, if that fails | as JavaScript | – |
//! | JavaScript | `POST /storage/upload/initiate`, `PUT upload_url` | `POST /storage/upload/initiate-multipart`, `PUT` and `POST` below `upload_url` |
//!
//! Who may bring files is asked where an upload begins ([`routes`]). From then on a URL, or the token ([`UploadToken`]), is the
//! permit, signed and short-lived ([`by_permit`]): clients send their key along with the first call only.

use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{post, put};
use axum::{Json, Router};
use chrono::DateTime;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use warmq_common::job::{FieldError, JobError};

use super::submission::text_of;
use super::{Api, ApiError};
use crate::files::uploads::Part;
use crate::files::{FileKey, UploadError, Uploads, Use, lifetime, now_s};

/// How long an upload may take from its announcement on, s.
const PERMIT_S: u64 = 3600;

/// How long the link to an uploaded file holds if its uploader does not say, s: 7 days.
const LINK_S: u64 = 7 * 24 * 3600;

/// What an upload is called that has no name: fal's Python client says the same.
const NAMELESS: &str = "upload.bin";

/// Where uploads begin: here the caller is asked who it is.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/storage/auth/token", post(give_token))
        .route("/storage/upload/initiate", post(announce))
        .route("/storage/upload/initiate-multipart", post(announce_parts))
}

/// How they go on: whoever has the URL, or the token, may.
pub(super) fn by_permit() -> Router<Api> {
    Router::new()
        .route("/storage/upload/{permit}/uploads/{id}/{name}", put(take))
        .route(
            "/storage/parts/{permit}/uploads/{id}/{name}/{number}",
            put(take_part),
        )
        .route(
            "/storage/parts/{permit}/uploads/{id}/{name}/complete",
            post(complete),
        )
        .route("/files/upload", post(take_at_once))
        .route("/files/upload/multipart", post(begin_parts))
        .route(
            "/files/{permit}/uploads/{id}/{name}/multipart/{upload}/{number}",
            put(take_part_at_link),
        )
        .route(
            "/files/{permit}/uploads/{id}/{name}/multipart/{upload}/complete",
            post(complete_at_link),
        )
}

/// A file that will come.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Announcement {
    file_name: Option<String>,
    content_type: Option<String>,
}

/// What the last call of an upload in parts names.
#[derive(Debug, Deserialize)]
struct Completion {
    parts: Vec<Part>,
}

/// `POST /storage/auth/token`: a token for the calls that fal's Python client sends to its CDN.
async fn give_token(State(api): State<Api>) -> Response {
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

/// `POST /storage/upload/initiate`: where to put a file, and where it will be read.
async fn announce(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let (key, file_url) = announced(&api, &headers, body)?;
    let upload_url = api.links.to_write(&key, now_s() + PERMIT_S);
    Ok(Json(json!({"upload_url": upload_url, "file_url": file_url})).into_response())
}

/// `POST /storage/upload/initiate-multipart`: the same, for a file in parts.
async fn announce_parts(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let (key, file_url) = announced(&api, &headers, body)?;
    let upload_url = api.links.to_write_parts(&key, now_s() + PERMIT_S);
    Ok(Json(json!({"upload_url": upload_url, "file_url": file_url})).into_response())
}

/// A place for the file that a body announces, and the link to it.
fn announced(
    api: &Api,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(FileKey, String), ApiError> {
    let Announcement {
        file_name,
        content_type,
    } = read_json(api, body)?;
    new_file(
        api,
        headers,
        file_name.as_deref(),
        content_type.as_deref().unwrap_or_default(),
    )
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
        if let Some(text) = text_of(headers, name)? {
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
struct Place {
    permit: String,
    id: String,
    name: String,
    #[serde(default)]
    upload: String,
    #[serde(default)]
    number: u64,
}

type PlaceInPath = Result<Path<Place>, PathRejection>;

impl Place {
    fn read(path: PlaceInPath) -> Result<Self, ApiError> {
        match path {
            Ok(Path(place)) => Ok(place),
            Err(rejection) => Err(ApiError::not_found(rejection.body_text())),
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
async fn take(
    State(api): State<Api>,
    path: PlaceInPath,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let place = Place::read(path)?;
    let key = place.key(&api, Use::Write, &place.permit)?;
    api.uploads.store(&key, body).await?;
    Ok(StatusCode::OK)
}

/// `PUT upload_url/N`: a part, as fal's JavaScript client sends it.
async fn take_part(
    State(api): State<Api>,
    path: PlaceInPath,
    body: Body,
) -> Result<Response, ApiError> {
    let place = Place::read(path)?;
    let key = place.key(&api, Use::WriteParts, &place.permit)?;
    store_part(&api, &key, place.number, body).await
}

/// `PUT access_url/multipart/<upload id>/N`: a part, as fal's Python client sends it. The upload's id is the permit.
async fn take_part_at_link(
    State(api): State<Api>,
    path: PlaceInPath,
    body: Body,
) -> Result<Response, ApiError> {
    let place = Place::read(path)?;
    let key = place.key(&api, Use::WriteParts, &place.upload)?;
    store_part(&api, &key, place.number, body).await
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

/// `POST upload_url/complete`.
async fn complete(
    State(api): State<Api>,
    path: PlaceInPath,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let place = Place::read(path)?;
    let key = place.key(&api, Use::WriteParts, &place.permit)?;
    put_together(&api, &key, body).await
}

/// `POST access_url/multipart/<upload id>/complete`.
async fn complete_at_link(
    State(api): State<Api>,
    path: PlaceInPath,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let place = Place::read(path)?;
    let key = place.key(&api, Use::WriteParts, &place.upload)?;
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

/// `POST /files/upload`: the file itself, its name in a header.
async fn take_at_once(
    State(api): State<Api>,
    _: UploadToken,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let (key, link) = named_in_headers(&api, &headers)?;
    api.uploads.store(&key, body).await?;
    Ok(Json(json!({"access_url": link})).into_response())
}

/// `POST /files/upload/multipart`: a file will come in parts.
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
    let name = text_of(headers, "x-fal-file-name")?;
    let content_type = text_of(headers, "content-type")?.unwrap_or_default();
    new_file(api, headers, name.as_deref(), &content_type)
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
            false => Err(JobError {
                status: 401,
                error_type: "unauthorized".to_owned(),
                message: "uploads here need a token: POST /storage/auth/token gives it, and Authorization: Bearer <token> takes it"
                    .to_owned(),
                detail: Vec::new(),
            }
            .into()),
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
            UploadError::TooLarge { .. } => (413, "payload_too_large"),
            UploadError::Stalled => (408, "request_timeout"),
            UploadError::Broken(_)
            | UploadError::NoSuchPart { .. }
            | UploadError::NotAllParts
            | UploadError::PartMissing(_) => (400, "bad_request"),
        };
        Self::from(JobError {
            status,
            error_type: error_type.to_owned(),
            message: error.to_string(),
            detail: Vec::new(),
        })
    }
}
