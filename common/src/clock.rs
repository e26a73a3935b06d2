//! This machine's clock. Records carry Redis' own; this is for what is told while Redis is away, and for names.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, Unix ms; 0 if the clock stands before 1970.
pub fn unix_ms() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
