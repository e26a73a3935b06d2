//! Formatting of times and durations, and this machine's clock.

pub use warmq_explain::time::{duration, utc};

/// Returns Unix ms by this machine's clock.
pub fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
