//! Which jobs are listed.

use std::str::FromStr;

use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, JobId, KeyId};
use warmq_types::job::JobRecord;
use warmq_types::state::JobState;

/// Largest time in an id, Unix ms: 48 bits.
const MAX_MS: u64 = (1 << 48) - 1;

/// Which jobs to list: those that pass every filter. The default passes all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// In one of these states; in any, if empty.
    pub states: Vec<JobState>,
    /// Of this app, or flows of this route.
    pub app: Option<AppId>,
    /// With this hint.
    pub hint: Option<Hint>,
    /// Submitted with this key.
    pub owner: Option<KeyId>,
    /// Older than this.
    pub before: Option<Before>,
}

impl JobFilter {
    /// Returns whether the job passes all filters but `before`.
    pub(super) fn passes(&self, job: &JobRecord) -> bool {
        (self.states.is_empty() || self.states.contains(&job.state))
            && self.app.as_ref().is_none_or(|app| *app == job.spec.app)
            && (self.hint.is_none() || self.hint == job.spec.hint)
            && (self.owner.is_none() || self.owner == job.spec.owner)
    }
}

/// A position in the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// That of a job, which need not exist.
    Job(JobId),
    /// A time, Unix ms.
    TimeMs(u64),
}

impl Before {
    /// Returns the text that sorts after the ids of older jobs, and not after others.
    pub(super) fn bound(self) -> String {
        match self {
            Self::Job(job) => job.to_string(),
            // A UUIDv7 begins with its time: 8 and 4 hexadecimal digits.
            Self::TimeMs(ms) => {
                let ms = ms.min(MAX_MS);
                format!("{:08x}-{:04x}", ms >> 16, ms & 0xffff)
            }
        }
    }
}

/// A text that is no position in the list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither the id of a job nor a time in Unix ms")]
pub struct NotACursor(String);

impl FromStr for Before {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        let time = text.parse().map(Self::TimeMs);
        let job = text.parse().map(Self::Job);
        time.or(job)
            .map_err(|_| NotACursor(text.chars().take(120).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_sorts_between_the_ids_before_and_after_it() {
        let id: JobId = "01a20246-c1ed-705f-a519-4e83f0a3d2c9".parse().unwrap();
        let of = |text: &str| text.parse::<Before>().unwrap().bound();
        let ms = 0x01a2_0246_c1ed_u64;
        assert!(of(&ms.to_string()) < id.to_string());
        assert!(of(&(ms + 1).to_string()) > id.to_string());
        assert_eq!(of(&id.to_string()), id.to_string());
        assert_eq!(of(&u64::MAX.to_string()), "ffffffff-ffff");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "-1",
            "yesterday",
            "01a20246-c1ed-405f-a519-4e83f0a3d2c9",
        ] {
            assert!(text.parse::<Before>().is_err(), "{text}");
        }
    }
}
