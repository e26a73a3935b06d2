//! The policy's clock: Redis' time, which stamps the jobs, carried on by this process' own steady clock.

use std::time::Duration;

use tokio::time::Instant;

/// Seconds since 1970 by Redis' clock at the start of the session; never runs backwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    start_s: f64,
    started: Instant,
}

impl Clock {
    /// A clock that shows `now_ms` (Unix ms) now.
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            start_s: seconds(now_ms),
            started: Instant::now(),
        }
    }

    /// Now, s.
    pub(super) fn now_s(&self) -> f64 {
        self.start_s + self.started.elapsed().as_secs_f64()
    }

    /// When the clock shows `time_s`; at once if it has.
    pub(super) fn instant(&self, time_s: f64) -> Instant {
        let ahead = (time_s - self.start_s).max(0.0);
        // Beyond any deadline if it can not be told.
        let ahead = Duration::try_from_secs_f64(ahead).unwrap_or(Duration::from_secs(1 << 30));
        self.started + ahead
    }
}

/// Seconds of Unix ms.
pub(super) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// Unix ms of seconds.
pub(super) fn ms(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
