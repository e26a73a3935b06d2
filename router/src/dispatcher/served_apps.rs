//! The apps of one router: the dispatchers of those in use, and the probes of the others.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use warmq_broker::Topology;
use warmq_process::retry;
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::Priority;

use super::bid_batches::BidBatches;
use super::lane_progress::LaneProgress;
use super::pending_work::PendingWork;
use super::roster::Roster;
use super::session::ticks;
use super::{Dispatcher, Dispatchers, leadership};
use crate::metrics::AppMetrics;
use crate::session_error::SessionError;

/// Interval of the scan for apps that came into use; an app's first job waits for it.
const SCAN_INTERVAL: Duration = Duration::from_millis(500);

/// Interval at which apps with a dispatcher are checked for use.
const REVIEW_INTERVAL: Duration = Duration::from_secs(5);

/// Interval of the scan for unused apps, and how long a forgotten app remains under observation.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Idle apps whose backlogs one probe checks.
const PROBE_BATCH: usize = 50;

/// All apps, with and without a dispatcher in this process.
pub(super) struct ServedApps {
    shared: Dispatchers,
    bids: BidBatches,
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

impl ServedApps {
    pub(super) fn new(shared: Dispatchers, shutdown: CancellationToken) -> Self {
        Self {
            bids: BidBatches::start(shared.store.clone()),
            pending: PendingWork::default(),
            shared,
            shutdown,
            roster: Roster::default(),
            served: HashMap::new(),
            tasks: JoinSet::new(),
            probing: false,
            forgotten: HashMap::new(),
        }
    }

    /// Dispatches every app in use until the shutdown.
    pub(super) async fn run(mut self) {
        let polling = tokio::spawn(self.pending.clone().poll(self.shared.store.clone()));
        let shutdown = self.shutdown.clone();
        let (mut scans, mut reviews) = (ticks(SCAN_INTERVAL), ticks(REVIEW_INTERVAL));
        let mut forgets = ticks(FORGET_INTERVAL.min(self.shared.forget_apps_after));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = self.tasks.join_next() => self.ended(ended),
                _ = scans.tick() => {
                    let scan = retry::until_success("scanning for apps", &shutdown, || {
                        scan(&self.shared, self.idle())
                    });
                    if let Some((all, in_use)) = scan.await {
                        self.scanned(all, &in_use).await;
                    }
                }
                _ = reviews.tick() => self.review().await,
                _ = forgets.tick() => {
                    if let Err(error) = self.forget().await {
                        tracing::warn!(%error, "unused apps cannot be forgotten now");
                    }
                }
            }
        }
        while self.tasks.join_next().await.is_some() {}
        polling.abort();
        self.shared.connections.close().await;
    }

    /// Applies the result of a scan, and starts the dispatchers and probes that are due.
    async fn scanned(&mut self, all: BTreeSet<AppId>, in_use: &[AppId]) {
        let now = Instant::now();
        self.roster.update(all, now);
        for app in in_use {
            if self.forgotten.contains_key(app)
                && self
                    .shared
                    .store
                    .apps_in_use()
                    .remember_app(app)
                    .await
                    .is_ok()
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
                (self.tasks).spawn(async move { TaskEnd::Probe(probe(&shared, due).await) });
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
        let dispatcher = Arc::new(Dispatcher {
            shared: self.shared.clone(),
            bids: self.bids.clone(),
            pending: self.pending.clone(),
            metrics: served.metrics.clone(),
            lane_progress: LaneProgress::default(),
            name: format!("router-{}", JobId::generate()),
            app: app.clone(),
        });
        let app = app.clone();
        self.tasks.spawn(async move {
            // A task of its own: if it panics, the app gets another dispatcher.
            if let Err(error) = tokio::spawn(leadership::follow(dispatcher, stop)).await {
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
            store, topology, ..
        } = &self.shared;
        let mut idle = self.roster.idle();
        let declared = self.shared.apps.routing();
        idle.retain(|app| !declared.apps.names().any(|name| name == app));
        store
            .apps_in_use()
            .record(&idle, &self.roster.served())
            .await?;
        let unused = store
            .apps_in_use()
            .unused_for(self.shared.forget_apps_after);
        for app in unused.await? {
            if !idle.contains(&app) {
                continue;
            }
            let letters = depth(&self.shared, &app, &[topology.dead_queue(&app)]).await?;
            if letters == 0 && store.apps_in_use().forget_app(&app).await? {
                tracing::info!(%app, "forgot an unused app");
                let connection = self.shared.connections.get().await?;
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
        let Ok(mut in_use) = self.shared.store.apps_in_use().in_use(&served).await else {
            return;
        };
        in_use.extend(
            served
                .into_iter()
                .filter(|app| wants_runners(&self.shared, app)),
        );
        for app in self.roster.review(&in_use, Instant::now()) {
            tracing::debug!(%app, "an app is idle: its dispatcher ends");
            if let Some(served) = self.served.get(&app) {
                served.stop.cancel();
            }
        }
    }

    fn ended(&mut self, ended: Result<TaskEnd, JoinError>) {
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

/// Reads the existing apps, and which of the `idle` ones need a dispatcher.
async fn scan(
    shared: &Dispatchers,
    idle: Vec<AppId>,
) -> Result<(BTreeSet<AppId>, Vec<AppId>), warmq_store::Error> {
    let mut in_use = shared.store.apps_in_use().in_use(&idle).await?;
    in_use.extend(idle.into_iter().filter(|app| wants_runners(shared, app)));
    Ok((shared.apps.all().await?, in_use))
}

/// Returns whether the app needs a leader without any job or runner, to start its first runners.
fn wants_runners(shared: &Dispatchers, app: &AppId) -> bool {
    let scaling = shared.apps.config(app).scaling;
    scaling.is_some_and(|scaling| scaling.min > 0)
}

/// Declares the queues of idle apps. Returns those that need a dispatcher for a while: with
/// backlogged jobs whose records Redis lost, or with queues of runners that ended.
async fn probe(shared: &Dispatchers, apps: Vec<AppId>) -> Vec<AppId> {
    // While Redis is unreachable the list stays empty; another probe follows.
    let left = shared.store.apps_in_use().with_ended_runners(&apps).await;
    let mut in_use = left.unwrap_or_default();
    for app in apps {
        let lanes = [Priority::Normal, Priority::Low];
        let lanes = lanes.map(|lane| shared.topology.lane_queue(&app, lane));
        match depth(shared, &app, &lanes).await {
            Ok(0) => {}
            Ok(_) => in_use.push(app),
            Err(error) => tracing::warn!(%app, %error, "the queues of an app cannot be declared"),
        }
    }
    in_use
}

/// Declares an app's queues. Returns the number of messages in some of them.
async fn depth(shared: &Dispatchers, app: &AppId, queues: &[String]) -> Result<u32, SessionError> {
    let connection = shared.connections.get().await?;
    // A channel of its own: the broker closes the channel of a declaration that it refuses.
    let channel = connection.create_channel().await?;
    shared.topology.declare_app(&channel, app).await?;
    let mut messages = 0;
    for queue in queues {
        messages += Topology::depth(&channel, queue).await?;
    }
    channel.close(200, "done".into()).await?;
    Ok(messages)
}
