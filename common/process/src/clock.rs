//! Two clocks: this machine's, and an estimate of Redis'.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Offset of Redis' clock from this machine's, ms; 0 before the first read.
static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

/// Returns this machine's time, Unix ms; 0 before 1970. For names, and while Redis is unavailable.
pub fn unix_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Returns Redis' time by the last read offset, Unix ms: for times that several routers must agree
/// on.
pub fn shared_ms() -> u64 {
    unix_ms().saturating_add_signed(AHEAD_MS.load(Ordering::Relaxed))
}

/// Stores the offset of Redis' clock, which shows `now_ms` (Unix ms).
pub fn set_shared(now_ms: u64) {
    let ahead_ms = i128::from(now_ms) - i128::from(unix_ms());
    AHEAD_MS.store(i64::try_from(ahead_ms).unwrap_or(0), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_clock_shows_what_redis_shows() {
        let ten_minutes_ms = 600_000;
        for redis_ms in [unix_ms() + ten_minutes_ms, unix_ms() - ten_minutes_ms] {
            set_shared(redis_ms);
            assert!(shared_ms().abs_diff(redis_ms) < 5_000);
        }
    }
}
