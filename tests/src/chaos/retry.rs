//! Retries with exponential backoff up to a deadline.

use std::time::Duration;

use tokio::time::Instant;

/// Doubled after each attempt.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);

const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Timeout of an attempt: a frozen process does not respond.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls `attempt` until it returns a value, or returns `None` after `deadline`. Hung attempts are
/// abandoned.
pub(super) async fn retry_until<T>(
    deadline: Instant,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let mut pause = INITIAL_BACKOFF;
    while Instant::now() < deadline {
        if let Ok(Some(found)) = tokio::time::timeout(ATTEMPT_TIMEOUT, attempt()).await {
            return Some(found);
        }
        tokio::time::sleep(pause).await;
        pause = MAX_BACKOFF.min(pause * 2);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_retries_until_success_and_abandons_hung_attempts() {
        let mut tries = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        let found = retry_until(deadline, async || {
            tries += 1;
            match tries {
                1 => None,
                2 => std::future::pending().await,
                tries => Some(tries),
            }
        });
        assert_eq!(found.await, Some(3));
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_at_the_deadline() {
        let deadline = Instant::now() + Duration::from_secs(3);
        assert_eq!(retry_until(deadline, async || None::<()>).await, None);
        assert!(Instant::now() < deadline + MAX_BACKOFF);
    }
}
