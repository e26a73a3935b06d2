//! An overview of runners and queues for people who watch them.
//!
//! | module | content |
//! | --- | --- |
//! | `snapshot` | the state at one moment, and changes between two: pure |
//! | `backlog` | what waits in an app's queue |
//!
//! All viewers of a process share one snapshot, which is read again at most once a second, and only
//! while there are viewers: twenty open dashboards cost as much as one.

mod backlog;
mod snapshot;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use warmq_store::{Error, Store};
use warmq_types::ids::{AppId, JobId};

use crate::apps::AppDirectory;
use backlog::Backlog;
pub(crate) use snapshot::{OverviewChanges, Snapshot};
use snapshot::{QueueOverview, RunnerOverview, RunningOverview};

/// Interval of reads while there are viewers.
pub(crate) const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// A cheap handle on the overview of this process.
#[derive(Clone)]
pub(crate) struct Overview {
    store: Store,
    apps: AppDirectory,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    latest: Option<(Instant, Arc<Snapshot>)>,
    backlogs: BTreeMap<AppId, Backlog>,
}

impl Overview {
    pub(crate) fn new(store: Store, apps: AppDirectory) -> Self {
        Self {
            store,
            apps,
            state: Arc::default(),
        }
    }

    /// Returns the latest snapshot, at most [`REFRESH_INTERVAL`] old. One caller reads it, and the
    /// others wait for the same one.
    ///
    /// # Errors
    /// Redis is unreachable, or the configuration of an app is damaged.
    pub(crate) async fn now(&self) -> Result<Arc<Snapshot>, Error> {
        let mut state = self.state.lock().await;
        let before = state.latest.clone();
        if let Some((read, snapshot)) = &before
            && read.elapsed() < REFRESH_INTERVAL
        {
            return Ok(snapshot.clone());
        }
        let before = before.map(|(_, snapshot)| snapshot);
        let begun = Instant::now();
        let snapshot = self.read(&mut state.backlogs, before.as_deref()).await?;
        let snapshot = Arc::new(snapshot);
        state.latest = Some((begun, snapshot.clone()));
        Ok(snapshot)
    }

    async fn read(
        &self,
        backlogs: &mut BTreeMap<AppId, Backlog>,
        before: Option<&Snapshot>,
    ) -> Result<Snapshot, Error> {
        let apps: Vec<AppId> = self.apps.all().await?.into_iter().collect();
        let at_ms = self.store.now_ms().await?;
        let runners = self.runners(&apps).await?;
        let queues = self.queues(apps, backlogs).await?;
        Ok(Snapshot::new(at_ms, runners, queues, before))
    }

    async fn runners(&self, apps: &[AppId]) -> Result<Vec<RunnerOverview>, Error> {
        let records = self.store.runners().list_of(apps).await?;
        let jobs = records.iter();
        let jobs: Vec<(AppId, JobId)> = jobs
            .filter_map(|runner| Some((runner.app.clone(), runner.job?)))
            .collect();
        let running = self.store.waiting().running(&jobs).await?.into_iter();
        let mut running: HashMap<JobId, RunningOverview> = running
            .map(|job| {
                let running = RunningOverview {
                    state: job.state,
                    hint: job.hint,
                    started_ms: job.started_ms,
                    progress: job.progress,
                };
                (job.id, running)
            })
            .collect();
        let runners = records.into_iter().map(|record| RunnerOverview {
            running: record.job.and_then(|job| running.remove(&job)),
            record,
        });
        Ok(runners.collect())
    }

    async fn queues(
        &self,
        apps: Vec<AppId>,
        backlogs: &mut BTreeMap<AppId, Backlog>,
    ) -> Result<Vec<QueueOverview>, Error> {
        let routing = self.apps.routing();
        let loads = self.apps.loads.of(&routing, apps).await?;
        let mut queues = Vec::with_capacity(loads.len());
        backlogs.retain(|app, _| loads.contains_key(app));
        for (app, load) in loads {
            match load.queued {
                0 => drop(backlogs.remove(&app)),
                _ => {
                    let backlog = backlogs.entry(app.clone()).or_default();
                    backlog.refresh(&self.store, &app).await?;
                }
            }
            let policy = routing.config(&app).policy;
            let none = Backlog::default();
            let backlog = backlogs.get(&app).unwrap_or(&none);
            queues.push(backlog.overview(app, policy, &load));
        }
        Ok(queues)
    }
}
