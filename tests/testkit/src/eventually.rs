//! Bounded waiting for a condition.

use std::time::{Duration, Instant};

/// Interval of probes.
const INTERVAL: Duration = Duration::from_millis(25);

/// The condition did not become true in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("waited {} s in vain: {what}", timeout.as_secs_f64())]
pub struct TimedOut {
    /// The condition.
    pub what: String,
    /// The timeout.
    pub timeout: Duration,
}

/// Calls `probe` until it returns a value, and returns that. Calls it at least once, also with a
/// zero timeout, and once more if the deadline passed during a call.
///
/// # Errors
/// `probe` returned nothing within `timeout`; the message contains `what`, best a claim: "the job
/// is running".
pub async fn eventually<T>(
    what: &str,
    timeout: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    let deadline = Instant::now() + timeout;
    loop {
        let last_chance = Instant::now() >= deadline;
        if let Some(found) = probe().await {
            return Ok(found);
        }
        if last_chance {
            return Err(TimedOut {
                what: what.to_owned(),
                timeout,
            });
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_returns_what_the_probe_found_at_last() {
        let mut calls = 0;
        let found = eventually("the third call", Duration::from_secs(1), async || {
            calls += 1;
            (calls == 3).then_some(calls)
        });
        assert_eq!(found.await, Ok(3));
    }

    #[tokio::test]
    async fn a_condition_that_never_holds_is_named() {
        let never = eventually("pigs fly", Duration::ZERO, async || None::<()>).await;
        assert_eq!(
            never.unwrap_err().to_string(),
            "waited 0 s in vain: pigs fly"
        );
    }
}
