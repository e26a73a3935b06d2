//! History of an app: ends of jobs and their waits, per minute of the last day. The scripts that
//! end jobs count each end, in the same step.

use std::collections::HashMap;

use redis::AsyncCommands;
use serde::Deserialize;
use warmq_types::ids::AppId;

use super::{Error, History};

/// Number of minutes in the ring: one day.
pub const HISTORY_MINUTES: u64 = 24 * 60;

/// What ended in one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct MinuteCounts {
    /// Minutes since the Unix epoch.
    pub minute: u64,
    /// Jobs that succeeded.
    pub succeeded: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// Jobs that expired.
    pub expired: u64,
    /// Jobs with a hint that succeeded and found their model loaded.
    pub warm: u64,
    /// Jobs with a hint that succeeded and had to load their model.
    pub cold: u64,
    /// Sum of those loads, ms.
    pub load_ms: u64,
    /// Sum of the runs of succeeded jobs, ms.
    pub run_ms: u64,
    /// Ended jobs that a runner had started.
    pub started: u64,
    /// Sum of their waits from acceptance to the last start, ms.
    pub wait_ms: u64,
    /// Jobs that were held and then found their model loaded.
    pub swaps_avoided: u64,
}

impl MinuteCounts {
    /// Adds the counts of `other`; the minute stays.
    pub fn add(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.expired += other.expired;
        self.warm += other.warm;
        self.cold += other.cold;
        self.load_ms += other.load_ms;
        self.run_ms += other.run_ms;
        self.started += other.started;
        self.wait_ms += other.wait_ms;
        self.swaps_avoided += other.swaps_avoided;
    }
}

impl History<'_> {
    /// Returns the minutes in which jobs of each app ended, from minute `first` on, in no order.
    /// Minutes that another version wrote are omitted.
    pub async fn of(self, apps: &[AppId], first: u64) -> Result<Vec<Vec<MinuteCounts>>, Error> {
        let mut histories = Vec::with_capacity(apps.len());
        for app in apps {
            let key = self.keys.history(app);
            let ring: HashMap<u64, String> = self.connection.clone().hgetall(key).await?;
            let minutes = ring
                .values()
                .filter_map(|text| serde_json::from_str(text).ok());
            let recent = minutes.filter(|counts: &MinuteCounts| counts.minute >= first);
            histories.push(recent.collect());
        }
        Ok(histories)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_counts_are_zero_and_minutes_add_up() {
        let text = r#"{"minute": 7, "succeeded": 2, "wait_ms": 30}"#;
        let mut counts: MinuteCounts = serde_json::from_str(text).unwrap();
        assert_eq!((counts.minute, counts.succeeded, counts.failed), (7, 2, 0));
        let other = MinuteCounts {
            minute: 8,
            ..counts
        };
        counts.add(&other);
        assert_eq!(
            (counts.minute, counts.succeeded, counts.wait_ms),
            (7, 4, 60)
        );
    }
}
