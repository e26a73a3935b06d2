//! `/v1/dead`: dead letters. Those of unknown apps are under `_/submissions`, since no app is
//! called `_`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_broker::DeadLetter;
use warmq_types::http::{self, DeadLetters, Redriven, WholeDeadLetter};
use warmq_types::ids::{AppId, JobId};

use super::extract::Path;
use super::openapi::{Finding, Listing, OPERATE};
use super::{Api, ApiError};
use crate::dead_letters::{DeadLetterQueue, MAX_BROWSED, RedriveError};
use crate::session_error::SessionError;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list_all))
        .routes(routes!(list))
        .routes(routes!(show, delete))
        .routes(routes!(redrive))
}

/// A dead-letter queue: an app's, or `_` and `submissions`.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct QueuePath {
    /// Owner in the app's name; or `_`.
    owner: String,
    /// Name after the slash; or `submissions`.
    app: String,
}

/// One dead letter.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
struct LetterPath {
    /// Owner in the app's name; or `_`.
    owner: String,
    /// Name after the slash; or `submissions`.
    app: String,
    /// Id of the letter: its job's, if it has one.
    id: String,
}

/// Lists the dead letters of every app.
#[utoipa::path(
    get,
    path = "/dead",
    operation_id = "dead_letters",
    tag = OPERATE,
    responses((status = 200, description = "The letters, the oldest of each app first", body = DeadLetters), Listing)
)]
async fn list_all(State(api): State<Api>) -> Result<Json<DeadLetters>, ApiError> {
    let apps = api.apps.all().await?;
    let queues = apps
        .into_iter()
        .map(DeadLetterQueue::App)
        .chain([DeadLetterQueue::Submissions]);
    letters(&api, queues).await
}

/// Lists the dead letters of an app; under `_/submissions`, those of unknown apps.
#[utoipa::path(
    get,
    path = "/dead/{owner}/{app}",
    operation_id = "dead_letters_of_app",
    tag = OPERATE,
    params(QueuePath),
    responses((status = 200, description = "The letters, the oldest first", body = DeadLetters), Finding)
)]
async fn list(
    State(api): State<Api>,
    Path(path): Path<QueuePath>,
) -> Result<Json<DeadLetters>, ApiError> {
    let queue = queue(&api, &path.owner, &path.app).await?;
    letters(&api, [queue]).await
}

/// Returns a dead letter with its body.
#[utoipa::path(
    get,
    path = "/dead/{owner}/{app}/{id}",
    operation_id = "dead_letter",
    tag = OPERATE,
    params(LetterPath),
    responses((status = 200, description = "The letter", body = WholeDeadLetter), Finding)
)]
async fn show(
    State(api): State<Api>,
    Path(path): Path<LetterPath>,
) -> Result<Json<WholeDeadLetter>, ApiError> {
    let queue = queue(&api, &path.owner, &path.app).await?;
    let id = letter_id(&path.id)?;
    let mut letters = api.dead.list(&queue).await?.into_iter();
    let letter = letters
        .find(|letter| letter.id == id)
        .ok_or(RedriveError::Missing)?;
    let body = serde_json::from_slice(&letter.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&letter.body).into());
    let submission = letter.submission.as_ref();
    Ok(Json(WholeDeadLetter {
        routing_key: submission.map(|submission| submission.routing_key.clone()),
        letter: view(&queue, letter),
        body,
    }))
}

/// Submits a dead letter's job again, and deletes the letter. A quarantined job keeps its id.
#[utoipa::path(
    post,
    path = "/dead/{owner}/{app}/{id}/redrive",
    tag = OPERATE,
    params(LetterPath),
    responses((status = 200, description = "The job is queued again", body = Redriven), Finding)
)]
async fn redrive(
    State(api): State<Api>,
    Path(path): Path<LetterPath>,
) -> Result<Json<Redriven>, ApiError> {
    let queue = queue(&api, &path.owner, &path.app).await?;
    let job_id = api.dead.redrive(&queue, letter_id(&path.id)?).await?;
    Ok(Json(Redriven { job_id }))
}

/// Deletes a dead letter.
#[utoipa::path(
    delete,
    path = "/dead/{owner}/{app}/{id}",
    operation_id = "drop_dead_letter",
    tag = OPERATE,
    params(LetterPath),
    responses((status = 204, description = "The letter is deleted"), Finding)
)]
async fn delete(
    State(api): State<Api>,
    Path(path): Path<LetterPath>,
) -> Result<StatusCode, ApiError> {
    let queue = queue(&api, &path.owner, &path.app).await?;
    match api.dead.drop_letter(&queue, letter_id(&path.id)?).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(RedriveError::Missing.into()),
    }
}

async fn letters(
    api: &Api,
    queues: impl IntoIterator<Item = DeadLetterQueue>,
) -> Result<Json<DeadLetters>, ApiError> {
    let (mut letters, mut truncated) = (Vec::new(), false);
    for queue in queues {
        let found = api.dead.list(&queue).await?;
        truncated |= found.len() >= MAX_BROWSED;
        letters.extend(found.into_iter().map(|letter| view(&queue, letter)));
    }
    Ok(Json(DeadLetters { letters, truncated }))
}

fn view(queue: &DeadLetterQueue, letter: DeadLetter) -> http::DeadLetter {
    http::DeadLetter {
        id: letter.id,
        place: queue.to_string(),
        kind: match letter.submission {
            Some(_) => "submission".to_owned(),
            None => "job".to_owned(),
        },
        reason: letter.reason,
        since_ms: letter.since_ms,
    }
}

/// Returns the queue of an existing app: listing must not declare queues.
async fn queue(api: &Api, owner: &str, app: &str) -> Result<DeadLetterQueue, ApiError> {
    let name = format!("{owner}/{app}");
    if name == DeadLetterQueue::Submissions.to_string() {
        return Ok(DeadLetterQueue::Submissions);
    }
    match AppId::parse(&name) {
        Ok(app) if (api.apps.find(&api.apps.routing(), &app).await?).is_some() => {
            Ok(DeadLetterQueue::App(app))
        }
        _ => Err(ApiError::not_found(format!("app '{name}' does not exist"))),
    }
}

fn letter_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|_| RedriveError::Missing.into())
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        tracing::warn!(%error, "could not access dead letters");
        Self::unavailable("RabbitMQ is unavailable; try again soon")
    }
}

impl From<RedriveError> for ApiError {
    fn from(error: RedriveError) -> Self {
        match error {
            RedriveError::Missing => Self::not_found(error.to_string()),
            RedriveError::NoJob | RedriveError::Ended(_) | RedriveError::Forgotten => {
                Self::bad_request(error.to_string())
            }
            RedriveError::SessionError(error) => error.into(),
        }
    }
}
