//! `/v1/jobs`: lists of jobs.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_store::JobFilter;
use warmq_types::http::Jobs;
use warmq_types::job::JobSummary;
use warmq_types::state::JobState;

use super::auth::By;
use super::extract::Query;
use super::openapi::{OPERATE, Querying};
use super::parameter::{invalid, parsed, quoted, some_of};
use super::{Api, ApiError};

/// Default number of jobs per page.
const LIMIT: usize = 50;

/// Maximum number of jobs per page.
const MAX_LIMIT: usize = 200;

/// Filters of a list; all of them apply.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only jobs in this state, or in one of several, comma-separated: `queued`, `dispatched`,
    /// `running`, `succeeded`, `failed`, `cancelled`, `expired`.
    #[param(example = "queued,dispatched")]
    state: Option<String>,
    /// Only jobs of this app, or flows of this route.
    #[param(example = "warmq/diffusion")]
    app: Option<String>,
    /// Only jobs with this hint.
    hint: Option<String>,
    /// Only jobs that this key submitted: its id, the part before the colon. Keys without scope
    /// `admin` see their own jobs only.
    key: Option<String>,
    /// Only jobs before this one: `next` of the previous page, the id of a job, or a time (Unix
    /// ms).
    before: Option<String>,
    /// Maximum number of jobs, 1 to 200; 50 by default.
    #[param(example = "50")]
    limit: Option<String>,
}

impl ListQuery {
    /// Parses the filters and the limit.
    ///
    /// # Errors
    /// A value is invalid; the message names its parameter.
    fn parse(self) -> Result<(JobFilter, usize), ApiError> {
        let filter = JobFilter {
            states: states(self.state.as_deref())?,
            app: parsed("app", self.app)?,
            hint: parsed("hint", self.hint)?,
            owner: parsed("key", self.key)?,
            before: parsed("before", self.before)?,
        };
        let limit = match self.limit {
            None => LIMIT,
            Some(text) => (text.parse().ok())
                .filter(|limit| (1..=MAX_LIMIT).contains(limit))
                .ok_or_else(|| {
                    let expected = format!("expected a number from 1 to {MAX_LIMIT}");
                    invalid("limit", format!("'{}': {expected}", quoted(&text)))
                })?,
        };
        Ok((filter, limit))
    }
}

fn states(text: Option<&str>) -> Result<Vec<JobState>, ApiError> {
    text.map_or(Ok(Vec::new()), |text| {
        some_of("state", text, &JobState::ALL, JobState::as_str)
    })
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list))
}

/// Lists jobs and flows, newest first, that pass all filters. The cost of a page does not depend on
/// the number of jobs. Continue with `next` as `before` until it is null: a page may be shorter
/// than the limit, even empty, where few of many jobs pass.
#[utoipa::path(
    get,
    path = "/jobs",
    operation_id = "jobs",
    tag = OPERATE,
    params(ListQuery),
    responses((status = 200, description = "A page of jobs", body = Jobs), Querying)
)]
async fn list(
    State(api): State<Api>,
    By(caller): By,
    Query(query): Query<ListQuery>,
) -> Result<Json<Jobs>, ApiError> {
    let (mut filter, limit) = query.parse()?;
    filter.owner = caller.may_list(filter.owner)?;
    let page = api.store.job_list().page(&filter, limit).await?;
    Ok(Json(Jobs {
        jobs: page.jobs.into_iter().map(JobSummary::from).collect(),
        next: page.next,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_a_set() {
        let parsed = states(Some("running,queued,running")).unwrap();
        assert_eq!(parsed, [JobState::Queued, JobState::Running]);
        assert_eq!(states(None).unwrap(), []);
        for bad in ["", "done", "queued,", "Queued"] {
            assert!(states(Some(bad)).is_err(), "{bad}");
        }
    }
}
