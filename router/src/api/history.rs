//! `/v1/history`: ends of jobs, waits and loads over time.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_store::{HISTORY_MINUTES, MinuteCounts};
use warmq_types::ids::AppId;

use super::extract::Query;
use super::openapi::{OPERATE, Querying};
use super::{Api, ApiError};

const MINUTE_MS: u64 = 60_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Span {
    /// Only this app; otherwise all apps.
    #[param(example = "warmq/diffusion")]
    app: Option<String>,
    /// Length of the span up to now, minutes: 1 to 1440 [default: 60].
    #[param(minimum = 1, maximum = 1440)]
    minutes: Option<u64>,
    /// Length of one point, minutes: 1 to 60 [default: 1].
    #[param(minimum = 1, maximum = 60)]
    step: Option<u64>,
}

/// Ends of jobs over time.
#[derive(Debug, Serialize, ToSchema)]
struct History {
    /// Length of one point, minutes.
    step_minutes: u64,
    /// The apps in which jobs ended, by name.
    apps: Vec<AppHistory>,
}

/// Ends of an app's jobs over time.
#[derive(Debug, Serialize, ToSchema)]
struct AppHistory {
    /// The app.
    app: AppId,
    /// Sums over the whole span.
    total: HistoryPoint,
    /// The points in order; those in which nothing ended are absent.
    points: Vec<HistoryPoint>,
}

/// What ended within one point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
struct HistoryPoint {
    /// Begin of the point, Unix ms.
    at_ms: u64,
    /// Jobs that succeeded.
    succeeded: u64,
    /// Jobs that failed.
    failed: u64,
    /// Jobs that were cancelled.
    cancelled: u64,
    /// Jobs that expired.
    expired: u64,
    /// Succeeded jobs with a hint that found their model loaded.
    warm: u64,
    /// Succeeded jobs with a hint that had to load their model.
    cold: u64,
    /// Time that those loads took, ms.
    load_ms: u64,
    /// Run time of succeeded jobs, ms.
    run_ms: u64,
    /// Ended jobs that a runner had started.
    started: u64,
    /// Their waits from acceptance to the last start, ms in total.
    wait_ms: u64,
    /// Jobs that were held and then found their model loaded: loads avoided, at most.
    swaps_avoided: u64,
    /// Loading that those jobs would have needed, ms: `swaps_avoided` times the mean load of the
    /// span.
    loading_saved_ms: u64,
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(history))
}

/// Returns how many jobs ended, how long they waited, and how often their model was loaded, over
/// the last minutes.
#[utoipa::path(
    get,
    path = "/history",
    tag = OPERATE,
    params(Span),
    responses((status = 200, description = "The apps' history", body = History), Querying)
)]
async fn history(
    State(api): State<Api>,
    Query(span): Query<Span>,
) -> Result<Json<History>, ApiError> {
    let within = |name: &str, value: Option<u64>, default, most| match value.unwrap_or(default) {
        value if (1..=most).contains(&value) => Ok(value),
        value => Err(ApiError::bad_request(format!(
            "{name}: {value} is not from 1 to {most}"
        ))),
    };
    let minutes = within("minutes", span.minutes, 60, HISTORY_MINUTES)?;
    let step = within("step", span.step, 1, 60)?;
    let apps = match span.app {
        Some(name) => vec![
            AppId::parse(&name).map_err(|error| ApiError::bad_request(format!("app: {error}")))?,
        ],
        None => api.apps.all().await?.into_iter().collect(),
    };
    let now = api.store.now_ms().await? / MINUTE_MS;
    let first = now.saturating_sub(minutes - 1);
    let counts = api.store.history().of(&apps, first).await?;
    let apps = apps.into_iter().zip(counts);
    let apps = apps.filter(|(_, counts)| !counts.is_empty());
    Ok(Json(History {
        step_minutes: step,
        apps: apps
            .map(|(app, counts)| summed(app, &counts, step))
            .collect(),
    }))
}

/// Sums up minutes to points of `step` minutes.
fn summed(app: AppId, counts: &[MinuteCounts], step: u64) -> AppHistory {
    let mut total = MinuteCounts::default();
    let mut points: BTreeMap<u64, MinuteCounts> = BTreeMap::new();
    for minute in counts {
        total.add(minute);
        let begin = minute.minute - minute.minute % step;
        points.entry(begin).or_default().add(minute);
    }
    let mean_load_ms = total.load_ms.checked_div(total.cold).unwrap_or(0);
    let begin = points.keys().next().copied().unwrap_or(0);
    AppHistory {
        app,
        total: point(begin, &total, mean_load_ms),
        points: (points.into_iter())
            .map(|(begin, counts)| point(begin, &counts, mean_load_ms))
            .collect(),
    }
}

fn point(begin: u64, counts: &MinuteCounts, mean_load_ms: u64) -> HistoryPoint {
    HistoryPoint {
        at_ms: begin * MINUTE_MS,
        succeeded: counts.succeeded,
        failed: counts.failed,
        cancelled: counts.cancelled,
        expired: counts.expired,
        warm: counts.warm,
        cold: counts.cold,
        load_ms: counts.load_ms,
        run_ms: counts.run_ms,
        started: counts.started,
        wait_ms: counts.wait_ms,
        swaps_avoided: counts.swaps_avoided,
        loading_saved_ms: counts.swaps_avoided * mean_load_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_add_up_to_points_and_avoided_loads_cost_the_mean_load() {
        let minute = |minute, cold, swaps_avoided| MinuteCounts {
            minute,
            succeeded: 2,
            cold,
            load_ms: cold * 300,
            swaps_avoided,
            ..MinuteCounts::default()
        };
        let counts = [minute(12, 1, 0), minute(10, 1, 2), minute(15, 0, 1)];
        let history = summed("a/b".parse().unwrap(), &counts, 5);
        let points = history.points.iter();
        let points = points.map(|point| (point.at_ms / MINUTE_MS, point.succeeded));
        assert_eq!(points.collect::<Vec<_>>(), [(10, 4), (15, 2)]);
        assert_eq!((history.total.cold, history.total.swaps_avoided), (2, 3));
        assert_eq!(history.total.loading_saved_ms, 900);
        assert_eq!(history.points[0].loading_saved_ms, 600);
    }
}
