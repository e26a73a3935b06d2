//! How long a runner waits for Redis before it continues without.

use std::time::Duration;

/// Timeout of the first call: covers a restart or a short network failure.
const FIRST_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of further calls during an outage, so that jobs are not delayed again and again.
const REPEATED_TIMEOUT: Duration = Duration::from_millis(300);

/// The grace that a runner grants Redis.
#[derive(Debug, Default)]
pub struct RedisGrace {
    is_exhausted: bool,
}

impl RedisGrace {
    /// Returns whether the last call exceeded the grace.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted
    }

    /// Awaits a call to Redis. Returns `None` if it did not finish within the grace.
    pub async fn limit<T>(&mut self, call: impl Future<Output = T>) -> Option<T> {
        let timeout = if self.is_exhausted {
            REPEATED_TIMEOUT
        } else {
            FIRST_TIMEOUT
        };
        let done = tokio::time::timeout(timeout, call).await.ok();
        self.is_exhausted = done.is_none();
        done
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_the_first_call_of_an_outage_waits_for_the_full_grace() {
        let mut grace = RedisGrace::default();
        let mut waits = Vec::new();
        for is_back in [false, false, true, false] {
            let since = Instant::now();
            let answer = async {
                if !is_back {
                    pending::<()>().await;
                }
            };
            assert_eq!(grace.limit(answer).await.is_some(), is_back);
            waits.push(since.elapsed());
        }
        assert_eq!(
            waits,
            [
                FIRST_TIMEOUT,
                REPEATED_TIMEOUT,
                Duration::ZERO,
                FIRST_TIMEOUT
            ]
        );
    }
}
