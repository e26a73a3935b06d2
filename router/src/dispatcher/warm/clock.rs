//! The policy's clock: Redis' time, which stamps the jobs, continued by this process' monotonic
//! clock.

use std::time::Duration;

use tokio::time::Instant;

/// Seconds since 1970 by Redis' clock at the start of the session; monotonic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start_s: f64,
    started: Instant,
}

impl Clock {
    /// Starts at `now_ms` (Unix ms).
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            start_s: seconds(now_ms),
            started: Instant::now(),
        }
    }

    /// Returns the current time, s.
    pub(super) fn now_s(&self) -> f64 {
        self.start_s + self.started.elapsed().as_secs_f64()
    }

    /// Returns the instant at which the clock reads `time_s`; the start if that is in the past.
    pub(super) fn instant(&self, time_s: f64) -> Instant {
        let ahead = (time_s - self.start_s).max(0.0);
        // Later than any deadline if it is out of range.
        let ahead = Duration::try_from_secs_f64(ahead).unwrap_or(Duration::from_secs(1 << 30));
        self.started + ahead
    }
}

/// Converts Unix ms to seconds.
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// Converts seconds to Unix ms.
pub(super) fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
