//! Reports of the dispatch loop to maintenance, which runs beside it: held jobs and activity.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use warmq_policy::work::HeldWork;
use warmq_types::ids::JobId;

/// Reports in which a job must be missing before it counts as not held: it may have returned to its
/// lane just before the first one.
const MIN_REPORTS: u8 = 2;

/// What maintenance knows of the dispatch loop.
#[derive(Default)]
pub(super) struct LoopReports {
    query: Mutex<HeldQuery>,
    finished: Notify,
    woken: watch::Sender<()>,
}

#[derive(Default)]
struct HeldQuery {
    /// The work in the jobs that the loop holds.
    work: HeldWork,
    /// Queried jobs that the loop has not reported as held.
    jobs: Vec<JobId>,
    /// Reports still to come.
    reports_left: u8,
}

impl LoopReports {
    /// Reports the held jobs; called every second.
    pub(super) fn report_held(&self, work: HeldWork, holds: impl Fn(JobId) -> bool) {
        let mut query = self.query();
        // The gauges show it.
        if std::mem::replace(&mut query.work, work).jobs != work.jobs {
            self.wake();
        }
        if query.reports_left > 0 {
            query.jobs.retain(|job| !holds(*job));
            query.reports_left -= 1;
            if query.reports_left == 0 {
                self.finished.notify_one();
            }
        }
    }

    /// Reports activity: wakes maintenance within a second.
    pub(super) fn wake(&self) {
        self.woken.send_replace(());
    }

    /// Returns the work in the held jobs of the last report.
    pub(super) fn held_work(&self) -> HeldWork {
        self.query().work
    }

    /// Returns those of `jobs` that the session does not hold.
    pub(super) async fn not_held(&self, jobs: Vec<JobId>) -> Vec<JobId> {
        {
            let mut query = self.query();
            (query.jobs, query.reports_left) = (jobs, MIN_REPORTS);
        }
        self.finished.notified().await;
        std::mem::take(&mut self.query().jobs)
    }

    /// Returns a receiver that changes with each activity.
    pub(super) fn activity(&self) -> watch::Receiver<()> {
        self.woken.subscribe()
    }

    fn query(&self) -> MutexGuard<'_, HeldQuery> {
        self.query.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_jobs(jobs: usize) -> HeldWork {
        HeldWork {
            jobs,
            ..HeldWork::default()
        }
    }

    #[tokio::test]
    async fn a_job_missing_in_two_reports_is_not_held() {
        let reports = LoopReports::default();
        let [held, returned, lost] = [(); 3].map(|()| JobId::generate());
        let jobs = reports.not_held(vec![held, returned, lost]);
        let reported = async {
            tokio::task::yield_now().await;
            reports.report_held(held_jobs(2), |job| job == held);
            reports.report_held(held_jobs(2), |job| job == held || job == returned);
        };
        let (not_held, ()) = tokio::join!(jobs, reported);
        assert_eq!(not_held, [lost]);
        assert_eq!(reports.held_work().jobs, 2);
    }

    #[test]
    fn a_changed_number_of_held_jobs_wakes_maintenance() {
        let reports = LoopReports::default();
        reports.report_held(held_jobs(1), |_| true);
        let woken = reports.activity();
        reports.report_held(held_jobs(1), |_| true);
        assert!(!woken.has_changed().unwrap());
        reports.report_held(held_jobs(0), |_| true);
        assert!(woken.has_changed().unwrap());
    }
}
