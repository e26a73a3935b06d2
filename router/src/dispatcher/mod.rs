//! Sends every job of every app to a runner. One leader per app among all routers.
//!
//! ```text
//! Dispatchers ── one task per app ──> leader::follow ── while it leads ──> leader::dispatch, by the app's policy
//!
//! jobs.<app> ──> lanes ──> holding (policy warm) | at_once (policy fal) ── claim ──> sending ──> runner.<id>.<epoch>
//!                      └─> blind (no Redis) ───────────────────────────────────────────────┴──> shared.<app>
//! ```

mod at_once;
mod blind;
mod holding;
mod lanes;
mod leader;
mod passed;
mod quarantine;
mod sending;
mod session;
mod upkeep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warmq_common::amqp::{Publisher, Topology};
use warmq_common::config::ServerUrl;
use warmq_common::ids::{AppId, JobId};
use warmq_common::retry;
use warmq_common::store::Store;

use crate::apps::AppDirectory;
use crate::ending::Endings;
use crate::metrics::{AppMetrics, Metrics};
use passed::Passed;

/// How often new apps are looked for: the first job of a new app waits for it.
const RESCAN: Duration = Duration::from_millis(500);

/// All dispatchers of this process.
#[derive(Clone)]
pub struct Dispatchers {
    /// The fleet, and the jobs' records.
    pub store: Store,
    /// RabbitMQ.
    pub amqp_url: ServerUrl,
    /// Its names.
    pub topology: Topology,
    /// For sends to runners.
    pub publisher: Publisher,
    /// For jobs that do not start in time.
    pub endings: Endings,
    /// Which apps there are.
    pub apps: AppDirectory,
    /// How long nothing must have been heard of a job before its message counts as lost.
    pub reconcile_after: Duration,
    /// A job that is held longer is handed back to the broker, which delivers it again at once: it closes the channel of a
    /// consumer that keeps a message too long.
    pub longest_held: Duration,
    /// Where they count.
    pub metrics: Metrics,
}

impl Dispatchers {
    /// Dispatches until `shutdown`; apps that appear later are found within [`RESCAN`].
    ///
    /// # Errors
    /// Never; a broken connection is made again.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut served: BTreeSet<AppId> = BTreeSet::new();
        let mut tasks = JoinSet::new();
        while let Some(apps) =
            retry::until_success("looking for apps", &shutdown, || self.apps.all()).await
        {
            for app in apps {
                if served.insert(app.clone()) {
                    let dispatcher = Dispatcher {
                        shared: self.clone(),
                        metrics: self.metrics.app(&app),
                        passed: Arc::default(),
                        name: format!("router-{}", JobId::generate()),
                        app,
                    };
                    tasks.spawn(leader::follow(dispatcher, shutdown.clone()));
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = tokio::time::sleep(RESCAN) => {}
            }
        }
        tasks.join_all().await;
        Ok(())
    }
}

/// One app's dispatcher in this process: it leads, or stands by.
#[derive(Clone)]
struct Dispatcher {
    shared: Dispatchers,
    app: AppId,
    metrics: AppMetrics,
    /// How far the lanes have come.
    passed: Arc<Passed>,
    /// Who it is in the leader lease.
    name: String,
}
