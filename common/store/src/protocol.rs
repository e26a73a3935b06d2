//! The protocol versions of live routers and workers, so that a build that cannot work with them
//! refuses to start. Processes of equal versions share one entry, under a lease that each renews.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::protocol::{Incompatible, Protocol};

use super::{Error, Protocols, ms};

/// Lifetime of an entry that no process renews.
const LEASE: Duration = Duration::from_secs(15);

/// Interval of renewals.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);

/// Interval of checks while the entry of other versions may lapse.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

impl Protocols<'_> {
    /// Checks that this build can work with all live routers and workers, and writes nothing. The
    /// entry of stopped ones lapses within 15 s and is awaited; that of live ones is renewed.
    ///
    /// # Errors
    /// [`Error::Incompatible`] if a live process cannot work with this build.
    pub async fn check(self, ours: Protocol) -> Result<(), Error> {
        let mut first: Option<(Protocol, u64)> = None;
        loop {
            let live = self.live().await?;
            let conflict = (live.into_iter()).find(|(theirs, _)| !ours.is_compatible(*theirs));
            let Some((theirs, until_ms)) = conflict else {
                return Ok(());
            };
            match first {
                Some((known, first_until_ms)) if known == theirs => {
                    if until_ms > first_until_ms {
                        return Err(Incompatible { ours, theirs }.into());
                    }
                }
                _ => {
                    tracing::info!(
                        "routers or workers speak version {} of the protocol, and this build cannot work with them: \
                         waiting whether they are stopped",
                        theirs.speaks
                    );
                    first = Some((theirs, until_ms));
                }
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }

    /// Renews the entry of this build's versions forever. An outage of Redis does no harm: all
    /// entries lapse, and come back with it.
    pub async fn renew(self, ours: Protocol) {
        loop {
            if let Err(error) = self.renew_once(ours).await {
                tracing::debug!(%error, "could not renew the protocol version");
            }
            tokio::time::sleep(RENEWAL_INTERVAL).await;
        }
    }

    async fn renew_once(self, ours: Protocol) -> Result<(), Error> {
        let (key, now_ms) = (self.keys.protocols(), self.now_ms().await?);
        let lease = i64::try_from(ms(LEASE)).unwrap_or(i64::MAX);
        Ok(redis::pipe()
            .atomic()
            .zrembyscore(&key, "-inf", now_ms)
            .zadd(&key, ours.to_string(), now_ms + ms(LEASE))
            .pexpire(&key, lease)
            .query_async(&mut self.connection.clone())
            .await?)
    }

    /// Returns the versions of live processes, each with the end of its lease, Unix ms. Entries
    /// that this build cannot read are none.
    async fn live(self) -> Result<Vec<(Protocol, u64)>, Error> {
        let now_ms = self.now_ms().await?;
        let key = self.keys.protocols();
        let mut connection = self.connection.clone();
        let entries: Vec<(String, u64)> = connection
            .zrangebyscore_withscores(key, format!("({now_ms}"), "+inf")
            .await?;
        let live = (entries.into_iter())
            .filter_map(|(versions, until_ms)| Some((versions.parse().ok()?, until_ms)));
        Ok(live.collect())
    }
}
