//! Attempts that began or ended during an outage of Redis, recorded afterwards.

use warmq_types::attempt::Lease;
use warmq_types::ids::{Epoch, RunnerId};
use warmq_types::job::JobSpec;
use warmq_types::message::DeferredResult;

use super::{
    Error, Finish, Finished, OutageAttempts, RunnerReport, Start, StartSource, Unavailable,
};

/// Epoch of no incarnation: a result stored with it does not change its runner, which has continued
/// since.
const NO_EPOCH: Epoch = Epoch(0);

/// An attempt that began without Redis.
#[derive(Debug, Clone, Copy)]
pub struct OutageStart<'a> {
    /// The job.
    pub job: &'a JobSpec,
    /// The runner.
    pub runner: &'a RunnerId,
    /// The runner's incarnation.
    pub epoch: Epoch,
    /// Time since its begin, ms.
    pub ago_ms: u64,
    /// Duration of its lease, ms.
    pub lease_ms: u64,
}

impl OutageAttempts<'_> {
    /// Records that an attempt began. `None`: its job ended or belongs to another attempt, so this
    /// one does not count.
    pub async fn begin(self, start: &OutageStart<'_>) -> Result<Option<Lease>, Error> {
        let OutageStart { job, runner, .. } = *start;
        let source = StartSource::StartedDuringOutage {
            ago_ms: start.ago_ms,
        };
        loop {
            let begun = self.attempts().start(
                &job.app,
                job.id,
                runner,
                start.epoch,
                start.lease_ms,
                source,
            );
            match begun.await? {
                Start::Started(lease) => return Ok(Some(lease)),
                Start::Unavailable(Unavailable::Missing) => {
                    self.jobs().create(job).await?;
                }
                Start::Unavailable(Unavailable::Lost) => {
                    self.attempts().mark_lost(&job.app, job.id).await?;
                }
                // The job ended, and its retention is over.
                Start::Unavailable(_) | Start::Claimed | Start::Draining | Start::Stale => {
                    return Ok(None);
                }
            }
        }
    }

    /// Stores a deferred result. Returns whether it was accepted; it is refused if the job ended or
    /// belongs to another attempt.
    pub async fn end(self, end: &DeferredResult, ago_ms: u64) -> Result<bool, Error> {
        let start = OutageStart {
            job: &end.job,
            runner: &end.runner,
            epoch: end.epoch,
            ago_ms,
            lease_ms: 1000,
        };
        if let Some(lease) = end.lease
            && self.store_end(end, lease).await?
        {
            return Ok(true);
        }
        // Without a lease, or if Redis lost it: the result counts if no other attempt runs.
        match self.begin(&start).await? {
            Some(lease) => self.store_end(end, lease).await,
            None => Ok(false),
        }
    }

    async fn store_end(self, end: &DeferredResult, lease: Lease) -> Result<bool, Error> {
        let finished = self
            .attempts()
            .finish(&Finish {
                app: &end.job.app,
                job: end.job.id,
                runner: &end.runner,
                epoch: NO_EPOCH,
                fence: lease.fence,
                outcome: &end.outcome,
                timings: end.timings,
                reported: &[],
                report: &RunnerReport::default(),
                ran: None,
                idle: false,
            })
            .await?;
        Ok(finished != Finished::Refused)
    }
}
