//! `/v1/usage`: what ended jobs used, by day, API key and app.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, Datelike, NaiveDate};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use warmq_store::USAGE_DAYS;
use warmq_types::ids::{AppId, KeyId};
use warmq_types::usage::{DailyUsage, UsageGroup, UsageLine, UsageReport, UsageTotals};

use super::auth::By;
use super::extract::Query;
use super::openapi::{OPERATE, Querying};
use super::parameter::{invalid, parsed, quoted, some_of};
use super::{Api, ApiError};

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct UsageQuery {
    /// First day, UTC [default: the first of the month of `to`].
    #[param(example = "2026-11-01")]
    from: Option<String>,
    /// Last day, UTC, included; at most 400 days after `from` [default: today].
    #[param(example = "2026-11-30")]
    to: Option<String>,
    /// Only jobs of this app, or flows of this route.
    #[param(example = "warmq/diffusion")]
    app: Option<String>,
    /// Only jobs that this key submitted: its id, the part before the colon. Keys without scope
    /// `admin` see their own jobs only.
    key: Option<String>,
    /// What a line is about, comma-separated: `day`, `key`, `app` [default: all three].
    #[param(example = "key,app")]
    by: Option<String>,
}

/// A query whose parameters are valid.
#[derive(Debug, PartialEq, Eq)]
struct Requested {
    from: NaiveDate,
    to: NaiveDate,
    app: Option<AppId>,
    key: Option<KeyId>,
    by: Vec<UsageGroup>,
}

impl UsageQuery {
    /// Parses the parameters. `today`: in UTC.
    ///
    /// # Errors
    /// A value is invalid; the message names its parameter.
    fn parse(self, today: NaiveDate) -> Result<Requested, ApiError> {
        let to = day("to", self.to)?.unwrap_or(today);
        let first_of_month = to.with_day(1).unwrap_or(to);
        let from = day("from", self.from)?.unwrap_or(first_of_month);
        let days = to.signed_duration_since(from).num_days();
        if days < 0 {
            return Err(invalid("from", format!("{from} is after {to}")));
        }
        if days >= i64::from(USAGE_DAYS) {
            let message = format!("{from} is more than {USAGE_DAYS} days before {to}");
            return Err(invalid("from", message));
        }
        Ok(Requested {
            from,
            to,
            app: parsed("app", self.app)?,
            key: parsed("key", self.key)?,
            by: groups(self.by.as_deref())?,
        })
    }
}

fn day(parameter: &str, text: Option<String>) -> Result<Option<NaiveDate>, ApiError> {
    let parse = |text: String| {
        let day = NaiveDate::parse_from_str(&text, "%Y-%m-%d");
        // Redis' keys are numbered from 1970 on.
        let day = day.ok().filter(|day| (1970..10_000).contains(&day.year()));
        day.ok_or_else(|| {
            let text = quoted(&text);
            invalid(parameter, format!("'{text}' is not a day, as 2026-11-30"))
        })
    };
    text.map(parse).transpose()
}

fn groups(text: Option<&str>) -> Result<Vec<UsageGroup>, ApiError> {
    let all = UsageGroup::ALL;
    text.map_or(Ok(all.to_vec()), |text| {
        some_of("by", text, &all, UsageGroup::as_str)
    })
}

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(usage))
}

/// Returns how many jobs ended, how long they occupied runners, and how many pictures they made. A
/// job counts on the day on which it ended, in the same step. A dead letter that is redriven ends
/// twice.
#[utoipa::path(
    get,
    path = "/usage",
    tag = OPERATE,
    params(UsageQuery),
    responses((status = 200, description = "The usage", body = UsageReport), Querying)
)]
async fn usage(
    State(api): State<Api>,
    By(caller): By,
    Query(query): Query<UsageQuery>,
) -> Result<Json<UsageReport>, ApiError> {
    let now_ms = i64::try_from(api.store.now_ms().await?).unwrap_or_default();
    let today = DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
    let mut requested = query.parse(today.date_naive())?;
    requested.key = caller.may_list(requested.key)?;
    let usage = api.store.usage().of(requested.from, requested.to).await?;
    Ok(Json(report(requested, usage)))
}

/// Filters and sums up.
fn report(requested: Requested, usage: Vec<DailyUsage>) -> UsageReport {
    let Requested {
        from,
        to,
        app,
        key,
        by,
    } = requested;
    let grouped = |group| by.contains(&group);
    let mut total = UsageTotals::default();
    let mut sums: BTreeMap<_, UsageTotals> = BTreeMap::new();
    for daily in usage {
        let is_other_app = app.as_ref().is_some_and(|app| *app != daily.app);
        let is_other_key = key.is_some() && key != daily.key;
        if is_other_app || is_other_key {
            continue;
        }
        let owner = daily.key.map_or_else(String::new, |key| key.to_string());
        let line = (
            grouped(UsageGroup::Day).then_some(daily.day),
            grouped(UsageGroup::Key).then_some(owner),
            grouped(UsageGroup::App).then_some(daily.app),
        );
        *sums.entry(line).or_default() += daily.totals;
        total += daily.totals;
    }
    let lines = sums.into_iter();
    let usage = lines.map(|((day, key, app), totals)| UsageLine {
        day,
        key,
        app,
        totals,
    });
    UsageReport {
        from,
        to,
        usage: usage.collect(),
        total,
        by,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn parse(from: Option<&str>, to: Option<&str>, by: Option<&str>) -> Result<Requested, String> {
        let query = UsageQuery {
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
            by: by.map(str::to_owned),
            ..UsageQuery::default()
        };
        let parsed = query.parse(date("2026-11-30"));
        parsed.map_err(|error| format!("{error:?}"))
    }

    #[test]
    fn the_default_is_this_month_by_all_groups() {
        let requested = parse(None, None, None).unwrap();
        let span = (requested.from, requested.to);
        assert_eq!(span, (date("2026-11-01"), date("2026-11-30")));
        assert_eq!(requested.by, UsageGroup::ALL);
        let requested = parse(None, Some("2026-02-10"), Some("app,day,app")).unwrap();
        assert_eq!(requested.from, date("2026-02-01"));
        assert_eq!(requested.by, [UsageGroup::Day, UsageGroup::App]);
    }

    #[test]
    fn an_error_names_its_parameter() {
        for (from, to, by, named) in [
            (Some("2026-11-31"), None, None, "'from'"),
            (None, Some("today"), None, "'to'"),
            (None, Some("0001-01-01"), None, "'to'"),
            (Some("2026-12-01"), None, None, "'from'"),
            (Some("2025-01-01"), None, None, "400 days"),
            (None, None, Some("hour"), "day, key, app"),
            (None, None, Some(""), "'by'"),
        ] {
            let error = parse(from, to, by).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn lines_are_summed_by_group() {
        let used = |day, key: &str, app: &str, succeeded| DailyUsage {
            day: date(day),
            key: KeyId::parse(key).ok(),
            app: AppId::parse(app).unwrap(),
            totals: UsageTotals {
                succeeded,
                ..UsageTotals::default()
            },
        };
        let usage = vec![
            used("2026-11-02", "bob", "a/b", 1),
            used("2026-11-01", "alice", "a/b", 2),
            used("2026-11-01", "alice", "a/c", 4),
            used("2026-11-02", "", "a/b", 8),
        ];
        let sums = |by: &str, app: Option<&str>, key: Option<&str>| {
            let requested = Requested {
                app: app.map(|app| AppId::parse(app).unwrap()),
                key: key.map(|key| KeyId::parse(key).unwrap()),
                ..parse(None, None, Some(by)).unwrap()
            };
            let report = report(requested, usage.clone());
            let lines = report.usage.iter().map(|line| line.totals.succeeded);
            (lines.collect::<Vec<_>>(), report.total.succeeded)
        };
        assert_eq!(sums("day,key,app", None, None), (vec![2, 4, 8, 1], 15));
        assert_eq!(sums("day", None, None), (vec![6, 9], 15));
        assert_eq!(sums("key", None, None), (vec![8, 6, 1], 15));
        assert_eq!(sums("app", Some("a/b"), None), (vec![11], 11));
        assert_eq!(sums("app", None, Some("alice")), (vec![2, 4], 6));
    }
}
