//! Delays between attempts: exponential, with jitter, on the `backoff` crate. The only file that
//! names that crate, which is no longer maintained upstream (deny.toml records the advisory).

use std::future::Future;
use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Number of further attempts at a webhook, as in fal.
pub const WEBHOOK_RETRIES: u32 = 10;

/// An endless series of growing delays.
#[derive(Debug)]
pub struct Delays(ExponentialBackoff);

impl Delays {
    /// Returns delays for a lost connection: 100 ms, doubling up to 5 s, each ± 50 %, so that a
    /// fleet does not reconnect in step.
    pub fn reconnect() -> Self {
        Self(ExponentialBackoff {
            current_interval: Duration::from_millis(100),
            initial_interval: Duration::from_millis(100),
            multiplier: 2.0,
            max_interval: Duration::from_secs(5),
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// Returns delays between self-tests of a faulty runner: 500 ms, doubling up to 30 s, each ± 50
    /// %.
    pub fn self_test() -> Self {
        Self(ExponentialBackoff {
            current_interval: Duration::from_millis(500),
            initial_interval: Duration::from_millis(500),
            multiplier: 2.0,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// Returns delays between calls of a scale hook that fails: 1 s, doubling up to a minute, each
    /// ± 50 %.
    pub fn scale_hook() -> Self {
        Self(ExponentialBackoff {
            current_interval: Duration::from_secs(1),
            initial_interval: Duration::from_secs(1),
            multiplier: 2.0,
            max_interval: Duration::from_secs(60),
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// Returns the next delay.
    pub fn next_delay(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// Restarts the series after a success.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

/// Returns the delay before the next attempt of a job, after attempt `attempt` (from 1) of
/// `max_attempts` lost its runner or took too long: none after the first, which took its time
/// already; then 2 s, doubling up to 10 min. `None` after the last one. No jitter: the broker's
/// retry tiers, to which delays are rounded up, would absorb it.
pub fn before_next(attempt: u32, max_attempts: u32) -> Option<Duration> {
    if attempt >= max_attempts {
        return None;
    }
    let mut delays = Delays(ExponentialBackoff {
        current_interval: Duration::from_secs(2),
        initial_interval: Duration::from_secs(2),
        randomization_factor: 0.0,
        multiplier: 2.0,
        max_interval: Duration::from_secs(10 * 60),
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    });
    // The maximum is reached long before.
    Some((1..attempt.min(64)).fold(Duration::ZERO, |_, _| delays.next_delay()))
}

/// Returns the delay after attempt `attempt` (from 1) at a webhook failed: 7 s, doubling up to an
/// hour, so that ten further attempts take two hours in all. `None` after the last one.
pub fn before_next_webhook_attempt(attempt: u32) -> Option<Duration> {
    if !(1..=WEBHOOK_RETRIES).contains(&attempt) {
        return None;
    }
    let mut delays = Delays(ExponentialBackoff {
        current_interval: Duration::from_secs(7),
        initial_interval: Duration::from_secs(7),
        randomization_factor: 0.0,
        multiplier: 2.0,
        max_interval: Duration::from_secs(3600),
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    });
    (0..attempt).map(|_| delays.next_delay()).last()
}

/// Calls `operation` until it succeeds, with [`Delays::reconnect`] between attempts. The series
/// restarts after an operation that ran for longer than the previous delay, so a connection that
/// held for hours is reopened at once. Returns `None` on shutdown. Each failure is logged as
/// `what`.
pub async fn until_success<T, E, F>(
    what: &str,
    shutdown: &CancellationToken,
    mut operation: impl FnMut() -> F,
) -> Option<T>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    until_known(what, shutdown, || {
        let result = operation();
        async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => Ok(None),
                result = result => result.map(Some),
            }
        }
    })
    .await
    .flatten()
}

/// Retries as [`until_success`] does, but a running operation is always awaited: for operations
/// whose effect must be known, shutdown or not.
pub async fn until_known<T, E, F>(
    what: &str,
    shutdown: &CancellationToken,
    mut operation: impl FnMut() -> F,
) -> Option<T>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut delays = Delays::reconnect();
    let mut delay = Duration::ZERO;
    loop {
        if shutdown.is_cancelled() {
            return None;
        }
        let began = Instant::now();
        let error = match operation().await {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        if began.elapsed() > delay {
            delays.reset();
        }
        delay = delays.next_delay();
        tracing::warn!(%error, retry_in_ms = delay.as_millis() as u64, "{what} failed");
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(delay) => {}
        }
    }
}

/// Interval of log lines about an unavailable server.
const REMINDER: Duration = Duration::from_secs(60);

/// Calls `operation`, which needs a server, until it succeeds, so that servers may start later than
/// their clients. Returns `None` on shutdown. The reason is logged at once, when it changes, and
/// every minute.
///
/// # Errors
/// The first error for which `is_final` holds.
pub async fn until_available<T, E, F>(
    shutdown: &CancellationToken,
    is_final: impl Fn(&E) -> bool,
    mut operation: impl FnMut() -> F,
) -> Result<Option<T>, E>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let mut delays = Delays::reconnect();
    let mut logged: Option<(Instant, String)> = None;
    loop {
        let result = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(None),
            result = operation() => result,
        };
        let error = match result {
            Ok(value) => {
                if logged.is_some() {
                    tracing::info!("the server that was waited for is there");
                }
                return Ok(Some(value));
            }
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => error.to_string(),
        };
        let is_news = (logged.as_ref())
            .is_none_or(|(when, text)| *text != error || when.elapsed() >= REMINDER);
        if is_news {
            tracing::warn!("waiting: {error}");
            logged = Some((Instant::now(), error));
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(delays.next_delay().min(LONGEST_WAIT)) => {}
        }
    }
}

/// Interval of attempts to reach a server at start.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_in_vain_doubles_the_wait_up_to_ten_minutes() {
        let waits: Vec<u64> = (1..=6)
            .filter_map(|attempt| Some(before_next(attempt, 10)?.as_secs()))
            .collect();
        assert_eq!(waits, [0, 2, 4, 8, 16, 32]);
        let longest = before_next(u32::MAX - 1, u32::MAX);
        assert_eq!(longest, Some(Duration::from_secs(600)));
        assert_eq!(before_next(10, 10), None);
    }

    #[test]
    fn a_webhook_is_retried_ten_times_within_two_hours() {
        let waits: Vec<u64> = (1..)
            .map_while(|attempt| Some(before_next_webhook_attempt(attempt)?.as_secs()))
            .collect();
        assert_eq!(waits, [7, 14, 28, 56, 112, 224, 448, 896, 1792, 3584]);
        let all: u64 = waits.iter().sum();
        assert!((7000..7200).contains(&all), "{all}");
        assert_eq!(before_next_webhook_attempt(0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_is_awaited_unless_its_error_is_final() {
        let stop = CancellationToken::new();
        let tries = std::cell::Cell::new(0);
        let come_up = async || {
            tries.set(tries.get() + 1);
            if tries.get() < 9 { Err("away") } else { Ok(7) }
        };
        let available = until_available(&stop, |error| *error == "wrong", come_up);
        assert_eq!(available.await, Ok(Some(7)));
        assert_eq!(tries.get(), 9);
        let refused = async || Err::<(), _>("wrong");
        let available = until_available(&stop, |error| *error == "wrong", refused);
        assert_eq!(available.await, Err("wrong"));
        stop.cancel();
        let away = async || Err::<(), _>("away");
        assert_eq!(until_available(&stop, |_| false, away).await, Ok(None));
    }

    #[tokio::test(start_paused = true)]
    async fn the_series_starts_over_after_an_operation_that_held() {
        let shutdown = CancellationToken::new();
        let mut failures = 0;
        let mut last = Instant::now();
        let mut waits = Vec::new();
        until_known("testing", &shutdown, || {
            waits.push(last.elapsed());
            failures += 1;
            // Six connections that fail at once, one that holds for a while, and one more.
            let holds = match failures {
                7 => Duration::from_secs(20),
                _ => Duration::ZERO,
            };
            last = Instant::now() + holds;
            async move {
                tokio::time::sleep(holds).await;
                if failures == 9 {
                    Ok(())
                } else {
                    Err("it broke")
                }
            }
        })
        .await;
        assert!(waits[6] >= Duration::from_millis(1600), "{waits:?}");
        assert!(waits[7] <= Duration::from_millis(150), "{waits:?}");
        assert!(waits[8] > waits[7].mul_f64(0.5), "{waits:?}");
    }

    #[test]
    fn delays_grow_to_five_seconds_and_never_end() {
        let mut delays = Delays::reconnect();
        let series: Vec<Duration> = (0..40).map(|_| delays.next_delay()).collect();
        assert!(series[0] <= Duration::from_millis(150));
        assert!(
            series
                .iter()
                .all(|delay| *delay <= Duration::from_millis(7_500))
        );
        assert!(
            series[30..]
                .iter()
                .all(|delay| *delay >= Duration::from_millis(2_500))
        );
    }
}
