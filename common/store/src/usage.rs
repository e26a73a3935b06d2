//! What ended jobs used, per day, API key and app. The scripts that end jobs count each end, in the
//! same step.

use std::collections::{BTreeMap, HashMap};

use chrono::NaiveDate;
use warmq_types::ids::{AppId, KeyId};
use warmq_types::usage::{DailyUsage, UsageTotals};

use super::{Error, Usage};

/// How long the usage of a day is kept, days.
pub const USAGE_DAYS: u32 = 400;

/// Days per command.
const CHUNK: usize = 50;

impl Usage<'_> {
    /// Returns the usage from one day to another, both included; days older than [`USAGE_DAYS`]
    /// have none. Counts that another version wrote and this one does not know are omitted.
    pub async fn of(self, from: NaiveDate, to: NaiveDate) -> Result<Vec<DailyUsage>, Error> {
        let days: Vec<NaiveDate> = from.iter_days().take_while(|day| *day <= to).collect();
        let mut usage = Vec::new();
        for days in days.chunks(CHUNK) {
            let mut pipeline = redis::pipe();
            for day in days {
                pipeline.hgetall(self.keys.usage(days_since_epoch(*day)));
            }
            let counts: Vec<HashMap<String, u64>> =
                pipeline.query_async(&mut self.connection.clone()).await?;
            for (day, counts) in days.iter().zip(&counts) {
                usage.extend(of_day(*day, counts));
            }
        }
        Ok(usage)
    }
}

/// Returns the number of a day, as `ending_prelude.lua` computes it.
fn days_since_epoch(day: NaiveDate) -> i64 {
    day.signed_duration_since(NaiveDate::default()).num_days()
}

/// Reads the counts of a day: `<key or ''> <app> <count>`, each name without spaces.
fn of_day(day: NaiveDate, counts: &HashMap<String, u64>) -> Vec<DailyUsage> {
    let mut usage: BTreeMap<(&str, &str), UsageTotals> = BTreeMap::new();
    for (field, value) in counts {
        if let [key, app, name] = *field.splitn(3, ' ').collect::<Vec<_>>() {
            let totals = usage.entry((key, app)).or_default();
            match name {
                "succeeded" => totals.succeeded = *value,
                "failed" => totals.failed = *value,
                "cancelled" => totals.cancelled = *value,
                "expired" => totals.expired = *value,
                "pictures" => totals.pictures = *value,
                "gpu_ms" => totals.gpu_ms = *value,
                "load_ms" => totals.load_ms = *value,
                _ => {}
            }
        }
    }
    let lines = usage.into_iter().filter_map(|((key, app), totals)| {
        Some(DailyUsage {
            day,
            key: match key {
                "" => None,
                key => Some(KeyId::parse(key).ok()?),
            },
            app: AppId::parse(app).ok()?,
            totals,
        })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn a_day_is_numbered_as_redis_numbers_it() {
        // 2026-11-22 04:18:05 UTC, Unix ms.
        let script = 1_795_321_085_000_i64 / 86_400_000;
        assert_eq!(days_since_epoch(day("2026-11-22")), script);
        assert_eq!(days_since_epoch(day("1970-01-01")), 0);
    }

    #[test]
    fn the_counts_of_a_key_and_an_app_are_one_line() {
        let counts = [
            ("alice a/b succeeded", 2),
            ("alice a/b gpu_ms", 700),
            (" a/b failed", 1),
            ("alice a/c pictures", 3),
            ("alice a/c of a later version", 4),
            ("nonsense", 5),
        ];
        let counts = counts.map(|(field, value)| (field.to_owned(), value));
        let lines = of_day(day("2026-11-22"), &counts.into());
        let found = lines.iter().map(|line| {
            let key = line.key.as_ref().map_or("", KeyId::as_str);
            let UsageTotals {
                succeeded, failed, ..
            } = line.totals;
            (key, line.app.as_str(), succeeded, failed)
        });
        assert_eq!(
            found.collect::<Vec<_>>(),
            [
                ("", "a/b", 0, 1),
                ("alice", "a/b", 2, 0),
                ("alice", "a/c", 0, 0)
            ]
        );
        assert_eq!((lines[1].totals.gpu_ms, lines[2].totals.pictures), (700, 3));
    }
}
