//! OpenAI's images API: `POST /v1/images/generations` submits a job and waits for its pictures.
//!
//! | module | what it does |
//! | --- | --- |
//! | this one | the call |
//! | `request` | turns its body into an app's input |
//! | `pictures` | finds the pictures in the app's output |
//! | `error` | errors in OpenAI's format |

mod error;
mod pictures;
mod request;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_process::clock::unix_ms;
use warmq_types::job::JobRecord;

use self::pictures::Picture;
use self::request::{Form, GenerationRequest};
use super::auth::By;
use super::job_result::with_job_headers;
use super::openapi::RUN;
use super::{Api, ApiError, job_result, run, submission};
use crate::submit::Submission;

pub(super) use error::in_its_format;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(generate))
}

/// Pictures of a job.
#[derive(Debug, Serialize, ToSchema)]
struct Generated {
    /// Unix time, s.
    created: u64,
    data: Vec<Picture>,
}

/// Generates pictures as OpenAI's images API does. `model` selects the app whose `image_models`
/// name it, or is the name of an app or route, and is the job's hint. Fields that the API does not
/// have are passed on to the app's input.
#[utoipa::path(
    post,
    path = "/v1/images/generations",
    operation_id = "images_generations",
    tag = RUN,
    request_body = GenerationRequest,
    responses((status = 200, description = "The pictures", body = Generated), error::Errors)
)]
async fn generate(
    State(api): State<Api>,
    By(caller): By,
    request: Request,
) -> Result<Response, ApiError> {
    let submission = submission::read(request, &api).await?;
    let routing = api.apps.routing();
    let request = request::parse(&submission.body, &routing.apps)?;
    let submission = Submission {
        app: request.app,
        hint: submission.hint.clone().or(request.hint),
        body: request.input.to_string().into(),
        ..submission
    };
    let record = run::ended(api.clone(), caller, submission).await?;
    let response = pictures(&api, record.clone(), request.form).await;
    let response = response.unwrap_or_else(IntoResponse::into_response);
    Ok(with_job_headers(response, record.spec.id, Some(&record)))
}

/// Returns the pictures of a job that has ended.
async fn pictures(api: &Api, mut record: JobRecord, form: Form) -> Result<Response, ApiError> {
    let references = record.output.clone().unwrap_or_default();
    let output = job_result::output(&mut record, &api.signed_urls)?;
    let data = match form {
        Form::Url => pictures::by_url(&output),
        Form::Base64 => pictures::by_content(&references, &api.storage).await?,
    };
    if data.is_empty() {
        let message = "the app's output has no pictures in `images` or `image`";
        return Err(ApiError::internal(message));
    }
    let created = unix_ms() / 1000;
    Ok(Json(Generated { created, data }).into_response())
}
