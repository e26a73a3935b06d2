//! Trying again, as a careful user does: soon, then less often, and not for ever.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause; each one is twice as long.
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);

/// The longest pause.
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// How long one try may take: who is frozen does not answer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Calls `attempt` until it returns something, and returns that; `None` if it returned nothing until `deadline`. A try that
/// takes too long is given up.
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
