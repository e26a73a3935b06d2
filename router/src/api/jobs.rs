//! `/v1/jobs/{id}`: the whole record, with the routing decision; and its end, if its owner wants that.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::Value;
use warmq_common::artifacts::with_public_urls;
use warmq_common::job::JobRecord;

use super::{Api, ApiError};
use crate::ending::Cancelled;

#[derive(Serialize)]
pub(super) struct JobView {
    #[serde(flatten)]
    record: JobRecord,
    /// Jobs in front of it, while it waits.
    queue_position: Option<u64>,
}

pub(super) async fn show(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, ApiError> {
    let record = find(&api, &id).await?;
    view(&api, record).await
}

/// Cancels. A job that was cancelled already is well; one that ended otherwise keeps its end, and the answer says so.
pub(super) async fn cancel(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, ApiError> {
    let record = find(&api, &id).await?;
    match api.endings.cancel(&record.spec).await? {
        Cancelled::Yes => {}
        Cancelled::Ended(state) => return Err(ApiError::already_ended(state)),
        Cancelled::Missing => return Err(ApiError::no_such_job(&id)),
    }
    let record = find(&api, &id).await?;
    view(&api, record).await
}

async fn find(api: &Api, id: &str) -> Result<JobRecord, ApiError> {
    let found = match id.parse() {
        Ok(job) => api.store.job(job).await?,
        Err(_) => None,
    };
    found.ok_or_else(|| ApiError::no_such_job(id))
}

async fn view(api: &Api, mut record: JobRecord) -> Result<Json<JobView>, ApiError> {
    let queue_position = api
        .store
        .queue_position(&record.spec.app, record.spec.id)
        .await?;
    if record.spec.no_store {
        record.spec.input = Value::Null;
    }
    if let Some(output) = &mut record.output {
        with_public_urls(output, &api.public_url);
        record.spec.sign(output);
    }
    Ok(Json(JobView {
        record,
        queue_position,
    }))
}
