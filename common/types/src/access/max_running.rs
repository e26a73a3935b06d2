//! A key's bound on jobs that run at the same time.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The maximum number of a key's jobs that run at the same time in each app: at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct MaxRunning(NonZeroU64);

/// A bound that would keep every job waiting, or that is not a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("max_running is a whole number of at least 1, not {0}")]
pub struct InvalidMaxRunning(String);

impl MaxRunning {
    /// Returns the bound of this many jobs.
    ///
    /// # Errors
    /// The number is 0.
    pub fn new(jobs: u64) -> Result<Self, InvalidMaxRunning> {
        let bound = NonZeroU64::new(jobs).map(Self);
        bound.ok_or_else(|| InvalidMaxRunning(jobs.to_string()))
    }

    /// Returns the number of jobs, at least 1.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

impl TryFrom<u64> for MaxRunning {
    type Error = InvalidMaxRunning;
    fn try_from(jobs: u64) -> Result<Self, InvalidMaxRunning> {
        Self::new(jobs)
    }
}

impl From<MaxRunning> for u64 {
    fn from(bound: MaxRunning) -> Self {
        bound.get()
    }
}

impl FromStr for MaxRunning {
    type Err = InvalidMaxRunning;
    fn from_str(text: &str) -> Result<Self, InvalidMaxRunning> {
        let bound = text.parse().map(Self);
        bound.map_err(|_| InvalidMaxRunning(text.to_owned()))
    }
}

impl fmt::Display for MaxRunning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_least_one_job_may_run() {
        for jobs in [1, 40, u64::MAX] {
            assert_eq!(MaxRunning::new(jobs).map(MaxRunning::get), Ok(jobs));
            assert_eq!(jobs.to_string().parse(), MaxRunning::new(jobs));
        }
        let error = MaxRunning::new(0).unwrap_err().to_string();
        assert_eq!(error, "max_running is a whole number of at least 1, not 0");
        for text in ["0", "-1", "1.5", "many", ""] {
            assert!(text.parse::<MaxRunning>().is_err(), "{text}");
        }
    }
}
