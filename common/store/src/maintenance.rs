//! The leader's maintenance: jobs whose message may be lost, and remains of lost runners.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::ids::{AppId, Epoch, JobId, KeyId, RunnerId};
use warmq_types::owner_lane::OwnerLane;

use super::{Error, Maintenance, ms};

/// Progress of the broker's queues, at one moment.
#[derive(Debug, Clone)]
pub struct QueueDepths {
    /// All messages published to the normal lane before this time have been delivered, Unix ms.
    pub normal_passed_ms: u64,
    /// All messages published to the low lane before this time have been delivered, Unix ms.
    pub low_passed_ms: u64,
    /// Whether the app's shared queue is empty.
    pub shared_empty: bool,
    /// The overflow queues, each with the time before which all of its messages have been
    /// delivered, Unix ms.
    pub overflows: Vec<(OwnerLane, u64)>,
}

/// Position in the list of waiting jobs, which is read in parts, round after round.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueuedCursor {
    /// Creation time of the next job, Unix ms.
    from_ms: u64,
    /// Number of jobs of that time that were read.
    skip: isize,
}

impl Maintenance<'_> {
    /// Returns jobs without activity for `quiet`: the next part of the waiting ones, and those
    /// whose runner was lost; at most `limit` of each.
    pub async fn possibly_lost(
        self,
        app: &AppId,
        quiet: Duration,
        limit: isize,
        walk: &mut QueuedCursor,
    ) -> Result<Vec<JobId>, Error> {
        let before_ms = self.now_ms().await?.saturating_sub(ms(quiet));
        let QueuedCursor { from_ms, skip } = *walk;
        let (waiting, suspected): (Vec<(String, u64)>, Vec<String>) = redis::pipe()
            .zrangebyscore_limit_withscores(self.keys.queued(app), from_ms, before_ms, skip, limit)
            .zrangebyscore_limit(self.keys.lost_runner_jobs(app), "-inf", before_ms, 0, limit)
            .query_async(&mut self.connection.clone())
            .await?;
        *walk = match waiting.last() {
            Some((_, last_ms)) if waiting.len() as isize >= limit => {
                let of_that_moment = waiting.iter().filter(|(_, at_ms)| at_ms == last_ms).count();
                let before = if *last_ms == from_ms { skip } else { 0 };
                QueuedCursor {
                    from_ms: *last_ms,
                    skip: before + of_that_moment as isize,
                }
            }
            _ => QueuedCursor::default(),
        };
        let ids = waiting.iter().map(|(id, _)| id).chain(&suspected);
        Ok(ids.filter_map(|id| id.parse().ok()).collect())
    }

    /// Returns at most `limit` jobs that ran on lost runners.
    pub async fn jobs_of_lost_runners(
        self,
        app: &AppId,
        limit: isize,
    ) -> Result<Vec<JobId>, Error> {
        let mut connection = self.connection.clone();
        let ids: Vec<String> = connection
            .zrange(self.keys.lost_runner_jobs(app), 0, limit - 1)
            .await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Removes a job from those of lost runners: its record is unusable.
    pub async fn forget_job_of_lost_runner(self, app: &AppId, job: JobId) -> Result<(), Error> {
        let key = self.keys.lost_runner_jobs(app);
        Ok(self.connection.clone().zrem(key, job.to_string()).await?)
    }

    /// Returns whether the job's message must be published again; then not again within `quiet`.
    pub async fn reconcile(
        self,
        app: &AppId,
        job: JobId,
        quiet: Duration,
        depths: &QueueDepths,
    ) -> Result<bool, Error> {
        let mut invocation = self.scripts.reconcile.prepare_invoke();
        invocation
            .key(self.keys.job(app, job))
            .key(self.keys.queued(app))
            .key(self.keys.lost_runner_jobs(app))
            .arg(job.to_string())
            .arg(ms(quiet))
            .arg(depths.normal_passed_ms)
            .arg(depths.low_passed_ms)
            .arg(u8::from(depths.shared_empty));
        for (jobs, passed_ms) in &depths.overflows {
            let owner = jobs.owner.as_ref().map_or("", KeyId::as_str);
            invocation.arg(jobs.lane.as_str()).arg(owner).arg(passed_ms);
        }
        let mut connection = self.connection.clone();
        Ok(invocation.invoke_async(&mut connection).await?)
    }

    /// Returns the incarnations that ended at least `ago` ago and whose queue may remain.
    pub async fn ended_incarnations(
        self,
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

    /// Removes an ended incarnation, of which nothing remains.
    pub async fn forget_incarnation(
        self,
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
