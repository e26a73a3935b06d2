//! What the leader looks after: jobs whose message may be lost, and what lost runners left behind.

use std::time::Duration;

use redis::AsyncCommands;

use super::{Error, Store, ms};
use crate::ids::{AppId, Epoch, JobId, RunnerId};

/// What the broker's queues can still hold, as seen just now.
#[derive(Debug, Clone, Copy)]
pub struct Depths {
    /// Nothing waits in the app's backlog.
    pub backlog_empty: bool,
    /// Nothing waits in its shared queue.
    pub shared_empty: bool,
}

impl Store {
    /// Jobs of which nothing may have been heard for `quiet`: those that wait longest, and those whose runner was lost. At
    /// most `limit` of each.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn suspects(
        &self,
        app: &AppId,
        quiet: Duration,
        limit: isize,
    ) -> Result<Vec<JobId>, Error> {
        let before_ms = self.now_ms().await?.saturating_sub(ms(quiet));
        let (waiting, suspected): (Vec<String>, Vec<String>) = redis::pipe()
            .zrangebyscore_limit(self.keys.queued(app), "-inf", before_ms, 0, limit)
            .zrangebyscore_limit(self.keys.suspects(app), "-inf", before_ms, 0, limit)
            .query_async(&mut self.connection.clone())
            .await?;
        let ids = waiting.iter().chain(&suspected);
        Ok(ids.filter_map(|id| id.parse().ok()).collect())
    }

    /// Whether a suspected job's message is to be published again; then not again before `quiet` has passed.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn reconcile(
        &self,
        app: &AppId,
        job: JobId,
        quiet: Duration,
        depths: Depths,
    ) -> Result<bool, Error> {
        Ok(self
            .scripts
            .reconcile
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .key(self.keys.suspects(app))
            .arg(job.to_string())
            .arg(ms(quiet))
            .arg(u8::from(depths.backlog_empty))
            .arg(u8::from(depths.shared_empty))
            .invoke_async(&mut self.connection.clone())
            .await?)
    }

    /// Incarnations that ended at least `ago` ago and may have left a queue behind.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn ended_incarnations(
        &self,
        app: &AppId,
        ago: Duration,
    ) -> Result<Vec<(RunnerId, Epoch)>, Error> {
        let before_ms = self.now_ms().await?.saturating_sub(ms(ago));
        let members: Vec<String> = self
            .connection
            .clone()
            .zrangebyscore(self.keys.ended(app), "-inf", before_ms)
            .await?;
        let incarnation = |member: &String| {
            let (runner, epoch) = member.split_once(' ')?;
            Some((RunnerId::parse(runner).ok()?, Epoch(epoch.parse().ok()?)))
        };
        Ok(members.iter().filter_map(incarnation).collect())
    }

    /// An ended incarnation left nothing behind any more.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn forget_incarnation(
        &self,
        app: &AppId,
        runner: &RunnerId,
        epoch: Epoch,
    ) -> Result<(), Error> {
        let member = format!("{runner} {epoch}");
        Ok(self
            .connection
            .clone()
            .zrem(self.keys.ended(app), member)
            .await?)
    }
}
