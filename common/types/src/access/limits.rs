//! How much a key's holder may do.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Bounds of one key. Without any, only those of the apps hold.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How often it may submit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Wire>)]
    pub rate: Option<Rate>,
    /// How many of its jobs may wait or run at a time, over all apps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_jobs: Option<u64>,
}

/// So many submissions per second, on average; more at once after a pause.
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
    /// Submissions per second on average.
    per_second: f64,
    /// Submissions at once; what comes in a second, if it is left out.
    burst: Option<u32>,
}

/// Numbers that are no rate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidRate {
    /// Nobody can submit that slowly or that fast.
    #[error("a rate is from 0.0001 to 1000000 submissions per second, not {0}")]
    PerSecond(f64),
    /// Nothing would ever pass.
    #[error("a burst is from 1 to 1000000 submissions, not {0}")]
    Burst(u32),
}

impl Rate {
    /// `per_second` on average, up to `burst` of them at once [default: what comes in a second, at least 1].
    ///
    /// # Errors
    /// The numbers are not ones that make sense.
    pub fn new(per_second: f64, burst: Option<u32>) -> Result<Self, InvalidRate> {
        // Whatever is not a number is not in there either.
        if !(0.0001..=1e6).contains(&per_second) {
            return Err(InvalidRate::PerSecond(per_second));
        }
        // In bounds by the line above.
        let burst = burst.unwrap_or(per_second.ceil() as u32);
        if !(1..=1_000_000).contains(&burst) {
            return Err(InvalidRate::Burst(burst));
        }
        Ok(Self { per_second, burst })
    }

    /// Submissions per second on average.
    pub fn per_second(&self) -> f64 {
        self.per_second
    }

    /// Submissions at once.
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
    use super::*;

    #[test]
    fn a_burst_is_what_comes_in_a_second_unless_it_is_said() {
        let burst = |per_second, burst| Rate::new(per_second, burst).unwrap().burst();
        assert_eq!(burst(2.5, None), 3);
        assert_eq!(burst(0.1, None), 1);
        assert_eq!(burst(0.1, Some(20)), 20);
    }

    #[test]
    fn what_would_let_nothing_or_everything_pass_is_no_rate() {
        for per_second in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-9, 2e6] {
            assert!(Rate::new(per_second, None).is_err(), "{per_second}");
        }
        assert_eq!(Rate::new(1.0, Some(0)), Err(InvalidRate::Burst(0)));
        assert!(serde_json::from_str::<Limits>(r#"{"rate": {"per_second": 0}}"#).is_err());
        assert!(serde_json::from_str::<Limits>(r#"{"max_job": 3}"#).is_err());
    }
}
