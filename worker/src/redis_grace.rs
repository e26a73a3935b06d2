//! How long a runner waits for Redis before it goes on without.

use std::time::Duration;

/// For an outage that is none yet: a restart, a short cut.
const FIRST_TIMEOUT: Duration = Duration::from_secs(3);

/// Once it was away for so long: jobs do not wait for it again and again.
const REPEATED_TIMEOUT: Duration = Duration::from_millis(300);

/// A runner's patience with Redis.
#[derive(Debug, Default)]
pub struct RedisGrace {
    is_over: bool,
}

impl RedisGrace {
    /// What needs Redis, as long as the patience lasts; `None` once it is over.
    pub async fn with<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let patience = if self.is_over {
            REPEATED_TIMEOUT
        } else {
            FIRST_TIMEOUT
        };
        let done = tokio::time::timeout(patience, what).await.ok();
        self.is_over = done.is_none();
        done
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_outage_is_waited_for_once_and_then_no_more_until_it_is_over() {
        let mut patience = RedisGrace::default();
        let mut waits = Vec::new();
        for is_back in [false, false, true, false] {
            let since = Instant::now();
            let answer = async {
                if !is_back {
                    pending::<()>().await;
                }
            };
            assert_eq!(patience.with(answer).await.is_some(), is_back);
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
