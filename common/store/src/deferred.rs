//! Attempts that began, and perhaps ended, while Redis was away: recorded once it is back.

use warmq_types::attempt::Lease;
use warmq_types::ids::{Epoch, RunnerId};
use warmq_types::job::JobSpec;
use warmq_types::message::DeferredResult;

use super::{Error, Finish, RunnerReport, Start, StartSource, Store, Unavailable};

/// No incarnation has it: an end that is stored with it says nothing of its runner, who has gone on since.
const NO_EPOCH: Epoch = Epoch(0);

/// An attempt that began without Redis.
#[derive(Debug, Clone, Copy)]
pub struct DeferredStart<'a> {
    /// What runs.
    pub job: &'a JobSpec,
    /// Who runs it.
    pub runner: &'a RunnerId,
    /// In which incarnation.
    pub epoch: Epoch,
    /// How long ago it began, ms.
    pub ago_ms: u64,
    /// How long its lease is to last, ms.
    pub lease_ms: u64,
}

impl Store {
    /// Notes that an attempt began. `None`: its job ended or is somebody else's, so the attempt counts for nothing.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn begin_late(&self, start: &DeferredStart<'_>) -> Result<Option<Lease>, Error> {
        let DeferredStart { job, runner, .. } = *start;
        let ground = StartSource::BegunWithout {
            ago_ms: start.ago_ms,
        };
        loop {
            let begun = self.start(
                &job.app,
                job.id,
                runner,
                start.epoch,
                start.lease_ms,
                ground,
            );
            match begun.await? {
                Start::Started(lease) => return Ok(Some(lease)),
                Start::Unavailable(Unavailable::Missing) => {
                    self.create(job).await?;
                }
                Start::Unavailable(Unavailable::Lost) => {
                    self.mark_lost(&job.app, job.id).await?;
                }
                // Gone: it ended, and its record was kept long enough.
                Start::Unavailable(_) | Start::Claimed | Start::Stale => return Ok(None),
            }
        }
    }

    /// Stores how an attempt ended. False: the result was refused, since the job ended or is somebody else's by now.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn end_late(&self, end: &DeferredResult, ago_ms: u64) -> Result<bool, Error> {
        let start = DeferredStart {
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
        // It had no lease, or Redis lost its record, or it was given up for lost: the result counts if nobody else is at it.
        match self.begin_late(&start).await? {
            Some(lease) => self.store_end(end, lease).await,
            None => Ok(false),
        }
    }

    async fn store_end(&self, end: &DeferredResult, lease: Lease) -> Result<bool, Error> {
        self.finish(&Finish {
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
        .await
    }
}
