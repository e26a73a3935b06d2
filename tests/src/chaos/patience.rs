//! Trying again, as a careful user does: soon, then less often, and not for ever.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause; each one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long one try may take: who is frozen does not answer.
const TRY: Duration = Duration::from_secs(5);

/// Calls `attempt` until it returns something, and returns that; `None` if it returned nothing until `deadline`. A try that
/// takes too long is given up.
pub(super) async fn persist<T>(
    deadline: Instant,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> Option<T> {
    let mut pause = FIRST_PAUSE;
    while Instant::now() < deadline {
        if let Ok(Some(found)) = tokio::time::timeout(TRY, attempt()).await {
            return Some(found);
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_until_it_works_and_gives_up_what_hangs() {
        let mut tries = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        let found = persist(deadline, async || {
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
        assert_eq!(persist(deadline, async || None::<()>).await, None);
        assert!(Instant::now() < deadline + LONGEST_PAUSE);
    }
}
