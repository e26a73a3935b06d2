//! What ended jobs used: bodies of `/v1/usage`.

use std::ops::AddAssign;

use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{AppId, KeyId};

/// Sums over ended jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct UsageTotals {
    /// Jobs that succeeded.
    pub succeeded: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that were cancelled.
    pub cancelled: u64,
    /// Jobs that expired.
    pub expired: u64,
    /// Pictures of the succeeded jobs: the entries of `images` of their outputs, else their
    /// `image`.
    pub pictures: u64,
    /// How long the jobs occupied runners, ms: loads and runs of the attempts that ended them, and
    /// for jobs that were cancelled while they ran, the time until then. Attempts that failed by a
    /// fault of their runner are not included.
    pub gpu_ms: u64,
    /// The loads among them, ms.
    pub load_ms: u64,
}

impl AddAssign for UsageTotals {
    fn add_assign(&mut self, other: Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.expired += other.expired;
        self.pictures += other.pictures;
        self.gpu_ms += other.gpu_ms;
        self.load_ms += other.load_ms;
    }
}

/// What the lines of a report are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UsageGroup {
    /// One line per day.
    Day,
    /// One line per API key.
    Key,
    /// One line per app.
    App,
}

impl UsageGroup {
    /// All of them, in the order of a report's columns.
    pub const ALL: [Self; 3] = [Self::Day, Self::Key, Self::App];

    /// Returns the name in requests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Key => "key",
            Self::App => "app",
        }
    }
}

/// What ended jobs used from one day to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    /// The first day, UTC.
    #[schema(value_type = String, format = Date, example = "2026-11-01")]
    pub from: NaiveDate,
    /// The last day, UTC; included.
    #[schema(value_type = String, format = Date, example = "2026-11-30")]
    pub to: NaiveDate,
    /// What a line is about.
    pub by: Vec<UsageGroup>,
    /// The lines, in order of day, key and app.
    pub usage: Vec<UsageLine>,
    /// Sums of all lines.
    pub total: UsageTotals,
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageLine {
    /// The day on which the jobs ended, UTC; absent unless grouped by day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Date, example = "2026-11-30")]
    pub day: Option<NaiveDate>,
    /// Id of the API key that submitted them; empty for jobs without a key; absent unless grouped
    /// by key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The app that ran them, or the route of flows; absent unless grouped by app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    /// The sums.
    #[serde(flatten)]
    pub totals: UsageTotals,
}

/// What the jobs of one key and app used that ended on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DailyUsage {
    /// The day, UTC.
    pub day: NaiveDate,
    /// The API key; `None` for jobs without one.
    pub key: Option<KeyId>,
    /// The app.
    pub app: AppId,
    /// The sums.
    pub totals: UsageTotals,
}
