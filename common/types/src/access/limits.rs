//! Bounds on what a key's holder may submit and run, and its share of the runners.

use std::fmt;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{MaxRunning, Weight};
use crate::unknown::retain_known;

/// Bounds of one key; without them only those of the apps apply.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Maximum submission rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Wire>)]
    pub rate: Option<Rate>,
    /// Maximum number of its jobs that wait or run at a time, over all apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_jobs: Option<u64>,
    /// Maximum number of its jobs that run at a time, in each app with policy `warm`; at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, minimum = 1)]
    pub max_running: Option<MaxRunning>,
    /// Its share of an app's runner time, relative to that of the other keys that have jobs
    /// waiting: from 0.01 to 1000, by default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, minimum = 0.01, maximum = 1000)]
    pub weight: Option<Weight>,
}

impl Limits {
    /// Returns the maximum number of jobs that run at a time in each app, at least 1; `None`: no
    /// bound.
    pub fn max_running(&self) -> Option<u64> {
        self.max_running.map(MaxRunning::get)
    }

    /// Returns the weight, from 0.01 to 1000: 1 if none is set.
    pub fn weight(&self) -> f64 {
        self.weight.unwrap_or_default().get()
    }

    /// Replaces the limits in `stored` by these, except those of a newer build.
    pub(super) fn replace_in(&self, stored: &mut Map<String, Value>) -> serde_json::Result<()> {
        stored.retain(|name, _| !LIMITS.contains(&name.as_str()));
        if let Value::Object(ours) = serde_json::to_value(self)? {
            stored.extend(ours);
        }
        Ok(())
    }
}

/// The fields of [`Limits`].
const LIMITS: [&str; 4] = ["rate", "max_jobs", "max_running", "weight"];

/// The fields of a [`Rate`].
const RATE: [&str; 2] = ["per_second", "burst"];

/// Deserializes limits that are stored or come from a router, without those of a newer build. In
/// requests those are refused.
pub(super) fn known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limits, D::Error> {
    let mut limits = Value::deserialize(deserializer)?;
    retain_known(&mut limits, &LIMITS);
    if let Some(rate) = limits.get_mut("rate") {
        retain_known(rate, &RATE);
    }
    serde_json::from_value(limits).map_err(D::Error::custom)
}

/// A token bucket: submissions per second on average, with a burst.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct Rate {
    per_second: f64,
    burst: u32,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Rate)]
struct Wire {
    /// Returns the average submissions per second.
    per_second: f64,
    /// Maximum burst, submissions; by default the submissions of one second.
    burst: Option<u32>,
}

/// Why numbers are not a rate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidRate {
    /// The average is out of range.
    #[error("a rate is from 0.0001 to 1000000 submissions per second, not {0}")]
    PerSecond(f64),
    /// A burst of 0 would admit nothing.
    #[error("a burst is from 1 to 1000000 submissions, not {0}")]
    Burst(u32),
}

impl Rate {
    /// Returns the rate of `per_second` on average, up to `burst` at once (default: the submissions
    /// of one second, at least 1).
    ///
    /// # Errors
    /// A number is out of range.
    pub fn new(per_second: f64, burst: Option<u32>) -> Result<Self, InvalidRate> {
        // NaN is in no range.
        if !(0.0001..=1e6).contains(&per_second) {
            return Err(InvalidRate::PerSecond(per_second));
        }
        // In range by the check above.
        let burst = burst.unwrap_or(per_second.ceil() as u32);
        if !(1..=1_000_000).contains(&burst) {
            return Err(InvalidRate::Burst(burst));
        }
        Ok(Self { per_second, burst })
    }

    /// Returns the average submissions per second.
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Returns the maximum burst, submissions.
    pub fn burst(&self) -> u32 {
        self.burst
    }
}

impl TryFrom<Wire> for Rate {
    type Error = InvalidRate;
    fn try_from(wire: Wire) -> Result<Self, InvalidRate> {
        Self::new(wire.per_second, wire.burst)
    }
}

impl From<Rate> for Wire {
    fn from(rate: Rate) -> Self {
        Self {
            per_second: rate.per_second,
            burst: Some(rate.burst),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s, {} at once", self.per_second, self.burst)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_default_burst_is_the_rate_of_one_second() {
        let burst = |per_second, burst| Rate::new(per_second, burst).unwrap().burst();
        assert_eq!(burst(2.5, None), 3);
        assert_eq!(burst(0.1, None), 1);
        assert_eq!(burst(0.1, Some(20)), 20);
    }

    #[test]
    fn rates_that_admit_nothing_or_everything_are_refused() {
        for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9, 2e6] {
            assert!(Rate::new(per_second, None).is_err(), "{per_second}");
        }
        assert_eq!(Rate::new(1.0, Some(0)), Err(InvalidRate::Burst(0)));
        assert!(serde_json::from_str::<Limits>(r#"{"rate": {"per_second": 0}}"#).is_err());
        assert!(serde_json::from_str::<Limits>(r#"{"max_job": 3}"#).is_err());
    }

    #[test]
    fn the_names_of_all_limits_are_known() {
        let all = serde_json::json!({
            "rate": {"per_second": 2.0, "burst": 4}, "max_jobs": 1, "max_running": 3, "weight": 2.5
        });
        let limits: Limits = serde_json::from_value(all.clone()).unwrap();
        let written = serde_json::to_value(limits).unwrap();
        assert_eq!(written, all);
        let names = |value: &Value| -> BTreeSet<String> {
            let fields = value.as_object().unwrap();
            fields.keys().cloned().collect()
        };
        assert_eq!(names(&written), LIMITS.map(str::to_owned).into());
        assert_eq!(names(&written["rate"]), RATE.map(str::to_owned).into());
    }

    #[test]
    fn weight_and_running_jobs_are_optional_and_within_their_bounds() {
        let read = serde_json::from_str::<Limits>;
        let unset = read("{}").unwrap();
        assert_eq!((unset.weight(), unset.max_running()), (1.0, None));
        assert_eq!(serde_json::to_string(&unset).unwrap(), "{}");
        let text = r#"{"max_running":3,"weight":2.5}"#;
        let set = read(text).unwrap();
        assert_eq!((set.weight(), set.max_running()), (2.5, Some(3)));
        assert_eq!(serde_json::to_string(&set).unwrap(), text);
        for (text, named) in [
            (r#"{"weight": 0}"#, "from 0.01 to 1000, not 0"),
            (r#"{"weight": -3.5}"#, "from 0.01 to 1000, not -3.5"),
            (r#"{"max_running": 0}"#, "at least 1, not 0"),
            (r#"{"max_running": -1}"#, "-1"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
