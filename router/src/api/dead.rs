//! `/v1/dead`: dead letters. Those for apps that do not exist are under `_/submissions`: no owner is called `_`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::{Value, json};
use warmq_common::amqp::DeadLetter;
use warmq_common::ids::{AppId, JobId};

use super::{Api, ApiError};
use crate::broken::Broken;
use crate::dead::{BROWSED, RedriveError, Shelf};

pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/", get(list_all))
        .route("/{owner}/{app}", get(list))
        .route("/{owner}/{app}/{id}", get(show).delete(throw_away))
        .route("/{owner}/{app}/{id}/redrive", post(redrive))
}

#[derive(Serialize)]
struct LettersView {
    letters: Vec<LetterView>,
    /// There may be more than is shown of one queue.
    truncated: bool,
}

/// A letter without its body.
#[derive(Serialize)]
struct LetterView {
    /// The job's id, if it is a job's; else the letter's own.
    id: JobId,
    /// `owner/name`, or `_/submissions`: where it is under `/v1/dead`.
    place: String,
    /// `job` or `submission`.
    kind: &'static str,
    reason: String,
    /// Unix ms.
    since_ms: u64,
}

#[derive(Serialize)]
struct WholeLetter {
    #[serde(flatten)]
    letter: LetterView,
    /// A submission's routing key: the app, as its submitter wrote it.
    routing_key: Option<String>,
    /// What could not be used: JSON if it is that, else text.
    body: Value,
}

async fn list_all(State(api): State<Api>) -> Result<Json<LettersView>, ApiError> {
    let apps = api.apps.all().await?;
    let shelves = apps.into_iter().map(Shelf::App).chain([Shelf::Submissions]);
    letters(&api, shelves).await
}

async fn list(
    State(api): State<Api>,
    Path((owner, app)): Path<(String, String)>,
) -> Result<Json<LettersView>, ApiError> {
    let shelf = shelf(&api, &owner, &app).await?;
    letters(&api, [shelf]).await
}

async fn show(
    State(api): State<Api>,
    Path((owner, app, id)): Path<(String, String, String)>,
) -> Result<Json<WholeLetter>, ApiError> {
    let shelf = shelf(&api, &owner, &app).await?;
    let id = letter_id(&id)?;
    let mut letters = api.dead.list(&shelf).await?.into_iter();
    let letter = letters
        .find(|letter| letter.id == id)
        .ok_or(RedriveError::Missing)?;
    let body = serde_json::from_slice(&letter.body)
        .unwrap_or_else(|_| String::from_utf8_lossy(&letter.body).into());
    let submission = letter.submission.as_ref();
    Ok(Json(WholeLetter {
        routing_key: submission.map(|submission| submission.routing_key.clone()),
        letter: view(&shelf, letter),
        body,
    }))
}

async fn redrive(
    State(api): State<Api>,
    Path((owner, app, id)): Path<(String, String, String)>,
) -> Result<Json<Value>, ApiError> {
    let shelf = shelf(&api, &owner, &app).await?;
    let job = api.dead.redrive(&shelf, letter_id(&id)?).await?;
    Ok(Json(json!({"job_id": job})))
}

async fn throw_away(
    State(api): State<Api>,
    Path((owner, app, id)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let shelf = shelf(&api, &owner, &app).await?;
    match api.dead.drop_letter(&shelf, letter_id(&id)?).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(RedriveError::Missing.into()),
    }
}

async fn letters(
    api: &Api,
    shelves: impl IntoIterator<Item = Shelf>,
) -> Result<Json<LettersView>, ApiError> {
    let (mut letters, mut truncated) = (Vec::new(), false);
    for shelf in shelves {
        let found = api.dead.list(&shelf).await?;
        truncated |= found.len() >= BROWSED;
        letters.extend(found.into_iter().map(|letter| view(&shelf, letter)));
    }
    Ok(Json(LettersView { letters, truncated }))
}

fn view(shelf: &Shelf, letter: DeadLetter) -> LetterView {
    LetterView {
        id: letter.id,
        place: shelf.to_string(),
        kind: match letter.submission {
            Some(_) => "submission",
            None => "job",
        },
        reason: letter.reason,
        since_ms: letter.since_ms,
    }
}

/// Only apps that exist have a shelf: looking must not make queues.
async fn shelf(api: &Api, owner: &str, app: &str) -> Result<Shelf, ApiError> {
    let name = format!("{owner}/{app}");
    if name == Shelf::Submissions.to_string() {
        return Ok(Shelf::Submissions);
    }
    match AppId::parse(&name) {
        Ok(app) if api.apps.find(&app).await?.is_some() => Ok(Shelf::App(app)),
        _ => Err(ApiError::not_found(format!("there is no app '{name}'"))),
    }
}

fn letter_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|_| RedriveError::Missing.into())
}

impl From<Broken> for ApiError {
    fn from(error: Broken) -> Self {
        tracing::warn!(%error, "could not look after dead letters");
        Self::unavailable("the queue does not answer right now; try again soon")
    }
}

impl From<RedriveError> for ApiError {
    fn from(error: RedriveError) -> Self {
        match error {
            RedriveError::Missing => Self::not_found(error.to_string()),
            RedriveError::NoJob | RedriveError::Ended(_) => Self::bad_request(error.to_string()),
            RedriveError::Broken(broken) => broken.into(),
        }
    }
}
