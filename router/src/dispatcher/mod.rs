//! Places every job of every app. Each app has one leader among all routers; an idle app has none
//! (`roster`).
//!
//! ```text
//! Dispatchers ── a task per app in use ──> leader::follow ── while it leads ──> leader::dispatch
//!
//! jobs.<app> ─> lanes ─┬─> warm (policy warm) ─────┐
//!                      ├─> immediate (policy fal) ─┴─ claim ─> sending ─> runner.<id>.<epoch>
//!                      └─> without_redis ─────────────────────────────> shared.<app>
//! ```

mod connections;
mod elections;
mod immediate;
mod lane_progress;
mod lanes;
mod leader;
mod maintenance;
mod pending;
mod quarantine;
mod roster;
mod sending;
mod session;
mod warm;
mod without_redis;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_broker::{Publisher, Topology};
use warmq_process::retry;
use warmq_store::Store;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::Priority;

use crate::apps::AppDirectory;
use crate::finalizer::Finalizer;
use crate::metrics::{AppMetrics, Metrics};
use crate::readiness::BrokerLimits;
use crate::session_error::SessionError;
use elections::Elections;
use lane_progress::LaneProgress;
use pending::PendingWork;
use roster::Roster;
use session::ticks;

pub use connections::Connections;

/// Interval of the scan for apps that came into use; an app's first job waits for it.
const SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// Interval at which apps with a dispatcher are checked for use.
const REVIEW_INTERVAL: Duration = Duration::from_secs(5);

/// Interval of the scan for unused apps, and how long a forgotten app remains under observation.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Idle apps whose backlogs one probe checks.
const PROBE_BATCH: usize = 50;

/// All dispatchers of this process.
#[derive(Clone)]
pub struct Dispatchers {
    pub(crate) store: Store,
    pub(crate) connections: Connections,
    pub(crate) topology: Topology,
    pub(crate) publisher: Publisher,
    pub(crate) finalizer: Finalizer,
    pub(crate) apps: AppDirectory,
    /// Republish a job whose message shows no activity for this long.
    pub reconcile_after: Duration,
    /// Forget an app after this time without runners, jobs and dead letters.
    pub forget_apps_after: Duration,
    /// Jobs held longer return to their lane for redelivery: the broker closes the channel of a
    /// consumer that keeps a message longer than `consumer_timeout`.
    pub longest_held: Duration,
    /// Records a limit of the broker that differs from the expected one.
    pub limits: BrokerLimits,
    pub(crate) metrics: Metrics,
}

impl Dispatchers {
    /// Dispatches every app in use until `shutdown`; detects an app that comes into use within
    /// [`SCAN_INTERVAL`].
    ///
    /// # Errors
    /// Never; a broken connection is reopened.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let (elections, pending) = (Elections::start(self.store.clone()), PendingWork::default());
        let polling = tokio::spawn(pending.clone().poll(self.store.clone()));
        let mut apps = Apps {
            shared: self,
            elections,
            pending,
            shutdown: shutdown.clone(),
            roster: Roster::default(),
            served: HashMap::new(),
            tasks: JoinSet::new(),
            probing: false,
            forgotten: HashMap::new(),
        };
        let (mut scans, mut reviews) = (ticks(SCAN_INTERVAL), ticks(REVIEW_INTERVAL));
        let mut forgets = ticks(FORGET_INTERVAL.min(apps.shared.forget_apps_after));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = apps.tasks.join_next() => apps.ended(ended),
                _ = scans.tick() => {
                    let scan = retry::until_success("scanning for apps", &shutdown, || {
                        apps.shared.scan(apps.idle())
                    });
                    if let Some((all, in_use)) = scan.await {
                        apps.scanned(all, &in_use).await;
                    }
                }
                _ = reviews.tick() => apps.review().await,
                _ = forgets.tick() => {
                    if let Err(error) = apps.forget().await {
                        tracing::warn!(%error, "unused apps cannot be forgotten now");
                    }
                }
            }
        }
        while apps.tasks.join_next().await.is_some() {}
        polling.abort();
        apps.shared.connections.close().await;
        Ok(())
    }

    /// Reads the existing apps, and which of the `idle` ones are in use.
    async fn scan(
        &self,
        idle: Vec<AppId>,
    ) -> Result<(BTreeSet<AppId>, Vec<AppId>), warmq_store::Error> {
        Ok((
            self.apps.all().await?,
            self.store.usage().in_use(&idle).await?,
        ))
    }

    /// Declares the queues of idle apps. Returns those that need a dispatcher for a while: with
    /// backlogged jobs whose records Redis lost, or with queues of runners that ended.
    async fn probe(&self, apps: Vec<AppId>) -> Vec<AppId> {
        // While Redis is unreachable the list stays empty; another probe follows.
        let left = self.store.usage().with_ended_runners(&apps).await;
        let mut in_use = left.unwrap_or_default();
        for app in apps {
            match self.has_backlog(&app).await {
                Ok(true) => in_use.push(app),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%app, %error, "the queues of an app cannot be declared")
                }
            }
        }
        in_use
    }

    async fn has_backlog(&self, app: &AppId) -> Result<bool, SessionError> {
        let connection = self.connections.get().await?;
        // A channel of its own: the broker closes the channel of a declaration that it refuses.
        let channel = connection.create_channel().await?;
        self.topology.declare_app(&channel, app).await?;
        let mut jobs = 0;
        for lane in [Priority::Normal, Priority::Low] {
            let queue = self.topology.lane_queue(app, lane);
            jobs += Topology::depth(&channel, &queue).await?;
        }
        channel.close(200, "done".into()).await?;
        Ok(jobs > 0)
    }
}

/// The apps of one router: the dispatchers of those in use, and the probes of the others.
struct Apps {
    shared: Dispatchers,
    elections: Elections,
    pending: PendingWork,
    shutdown: CancellationToken,
    roster: Roster,
    served: HashMap<AppId, ServedApp>,
    tasks: JoinSet<TaskEnd>,
    /// A probe of idle apps is running.
    probing: bool,
    /// Recently forgotten apps, with the time: a job may have arrived at that moment.
    forgotten: HashMap<AppId, Instant>,
}

/// An app that has or had a dispatcher in this process.
struct ServedApp {
    /// Created once per process, since metric labels are never released.
    metrics: AppMetrics,
    stop: CancellationToken,
}

/// The end of a task.
enum TaskEnd {
    Dispatcher(AppId),
    /// A probe, with the apps that it found in use.
    Probe(Vec<AppId>),
}

impl Apps {
    /// Applies the result of a scan, and starts the dispatchers and probes that are due.
    async fn scanned(&mut self, all: BTreeSet<AppId>, in_use: &[AppId]) {
        let now = Instant::now();
        self.roster.update(all, now);
        for app in in_use {
            if self.forgotten.contains_key(app)
                && self.shared.store.usage().remember_app(app).await.is_ok()
            {
                self.forgotten.remove(app);
            }
            self.serve(app);
        }
        self.forgotten
            .retain(|_, when| now - *when < FORGET_INTERVAL);
        if !self.probing {
            let due = self.roster.due_probes(now, PROBE_BATCH);
            if !due.is_empty() {
                self.probing = true;
                let shared = self.shared.clone();
                (self.tasks).spawn(async move { TaskEnd::Probe(shared.probe(due).await) });
            }
        }
    }

    /// Starts the app's dispatcher, unless it has one.
    fn serve(&mut self, app: &AppId) {
        if !self.roster.serve(app) {
            return;
        }
        let stop = self.shutdown.child_token();
        let served = self.served.entry(app.clone()).or_insert_with(|| ServedApp {
            metrics: self.shared.metrics.app(app),
            stop: stop.clone(),
        });
        served.stop = stop.clone();
        let dispatcher = Dispatcher {
            shared: self.shared.clone(),
            elections: self.elections.clone(),
            pending: self.pending.clone(),
            metrics: served.metrics.clone(),
            lane_progress: Arc::default(),
            name: format!("router-{}", JobId::generate()),
            app: app.clone(),
        };
        let app = app.clone();
        self.tasks.spawn(async move {
            // A task of its own: if it panics, the app gets another dispatcher.
            if let Err(error) = tokio::spawn(leader::follow(dispatcher, stop)).await {
                tracing::error!(%app, %error, "a dispatcher panicked");
            }
            TaskEnd::Dispatcher(app)
        });
    }

    /// Returns the apps that may have come into use.
    fn idle(&self) -> Vec<AppId> {
        let mut idle = self.roster.idle();
        idle.extend(self.forgotten.keys().cloned());
        idle
    }

    /// Forgets the apps that exceeded `forget_apps_after` without use.
    async fn forget(&mut self) -> Result<(), SessionError> {
        let Dispatchers {
            store,
            topology,
            connections,
            ..
        } = &self.shared;
        let mut idle = self.roster.idle();
        let declared = self.shared.apps.declared();
        idle.retain(|app| !declared.apps.names().any(|name| name == app));
        store.usage().record(&idle, &self.roster.served()).await?;
        for app in store
            .usage()
            .unused_for(self.shared.forget_apps_after)
            .await?
        {
            if !idle.contains(&app) {
                continue;
            }
            let connection = connections.get().await?;
            let channel = connection.create_channel().await?;
            topology.declare_app(&channel, &app).await?;
            let letters = Topology::depth(&channel, &topology.dead_queue(&app)).await?;
            channel.close(200, "done".into()).await?;
            if letters == 0 && store.usage().forget_app(&app).await? {
                tracing::info!(%app, "forgot an unused app");
                topology.delete_app(&connection, &app).await?;
                self.forgotten.insert(app, Instant::now());
            }
        }
        Ok(())
    }

    /// Stops the dispatchers of apps that have been unused for a while.
    async fn review(&mut self) {
        let served = self.roster.served();
        // While Redis is unreachable, every dispatcher stays.
        let Ok(in_use) = self.shared.store.usage().in_use(&served).await else {
            return;
        };
        for app in self.roster.review(&in_use, Instant::now()) {
            tracing::debug!(%app, "an app is idle: its dispatcher ends");
            if let Some(served) = self.served.get(&app) {
                served.stop.cancel();
            }
        }
    }

    fn ended(&mut self, ended: Result<TaskEnd, tokio::task::JoinError>) {
        match ended {
            Ok(TaskEnd::Dispatcher(app)) => self.roster.ended(&app, Instant::now()),
            Ok(TaskEnd::Probe(in_use)) => {
                self.probing = false;
                for app in in_use {
                    self.serve(&app);
                }
            }
            Err(error) => tracing::error!(%error, "a probe of idle apps panicked"),
        }
    }
}

/// One app's dispatcher in this process: leader or follower.
#[derive(Clone)]
struct Dispatcher {
    shared: Dispatchers,
    elections: Elections,
    /// Wakes its maintenance.
    pending: PendingWork,
    app: AppId,
    metrics: AppMetrics,
    /// Progress of the lanes.
    lane_progress: Arc<LaneProgress>,
    /// Candidate name in the leader lease.
    name: String,
}
