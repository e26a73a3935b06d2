//! Two clocks: this machine's, and Redis' as far as it is known here.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How far Redis' clock is ahead of this machine's, ms; 0 until it was read.
static AHEAD_MS: AtomicI64 = AtomicI64::new(0);

/// Now by this machine's clock, Unix ms; 0 if it stands before 1970. For what happens while Redis is away, and for names.
pub fn unix_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Now by Redis' clock, as it was read last, Unix ms: for times that several routers must agree on.
pub fn shared_ms() -> u64 {
    unix_ms().saturating_add_signed(AHEAD_MS.load(Ordering::Relaxed))
}

/// Takes in what Redis' clock shows now, Unix ms.
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
