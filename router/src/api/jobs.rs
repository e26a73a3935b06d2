//! `/v1/jobs/{id}`: the whole record, with the routing decision.

use axum::Json;
use axum::extract::{Path, State};
use serde::Serialize;
use serde_json::Value;
use warmq_common::artifacts::with_public_urls;
use warmq_common::job::JobRecord;

use super::{Api, ApiError};

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
    let found = match id.parse() {
        Ok(job) => api.store.job(job).await?,
        Err(_) => None,
    };
    let mut record = found.ok_or_else(|| ApiError::no_such_job(&id))?;
    let queue_position = api
        .store
        .queue_position(&record.spec.app, record.spec.id)
        .await?;
    if record.spec.no_store {
        record.spec.input = Value::Null;
    }
    if let Some(output) = &mut record.output {
        with_public_urls(output, &api.public_url);
    }
    Ok(Json(JobView {
        record,
        queue_position,
    }))
}
