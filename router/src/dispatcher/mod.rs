//! Places every job of every app. Each app has one leader among all routers; an idle app has none
//! (`roster`).
//!
//! ```text
//! served_apps ── a task per app in use ─> leader ── one session at a time ─> dispatch_loop
//!
//! jobs.<app> ─> lanes ─┬─> warm (policy warm) ─────┐
//!                      ├─> immediate (policy fal) ─┴─ claim ─> sending ─> runner.<id>.<epoch>
//!                      └─> without_redis; fal without a match ─> sending ─> shared.<app>
//! ```
//!
//! `overflow` moves jobs of an owner that fills a lane to a queue of their own, which the lanes
//! consume as well.
//!
//! Beside the loop, `maintenance` and `reconcile` look after lost runners, jobs and messages, and
//! `scaling` after the number of runners.

mod bid_batches;
mod dispatch_loop;
mod immediate;
mod lane_progress;
mod lanes;
mod leadership;
mod loop_reports;
mod maintenance;
mod overflow;
mod pending_work;
mod quarantine;
mod reconcile;
mod rerouting;
mod roster;
mod scaling;
mod sending;
mod served_apps;
mod session;
mod warm;
mod without_redis;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use warmq_broker::{Connections, Publisher, Topology};
use warmq_config::CommandLine;
use warmq_store::Store;
use warmq_traces::Traces;
use warmq_types::ids::AppId;

use crate::access::Keyring;
use crate::apps::AppDirectory;
use crate::finalizer::Finalizer;
use crate::metrics::{AppMetrics, Metrics};
use crate::readiness::BrokerLimits;
use bid_batches::BidBatches;
use lane_progress::LaneProgress;
use pending_work::PendingWork;
use quarantine::Quarantine;
use rerouting::Rerouter;
use sending::JobSender;
use served_apps::ServedApps;

/// Channels that one session may need at once.
pub(crate) const CHANNELS_PER_SESSION: usize = 8;

/// All dispatchers of this process.
#[derive(Clone)]
pub struct Dispatchers {
    pub(crate) store: Store,
    pub(crate) connections: Connections,
    pub(crate) topology: Topology,
    pub(crate) publisher: Publisher,
    pub(crate) finalizer: Finalizer,
    pub(crate) keys: Keyring,
    pub(crate) apps: AppDirectory,
    /// Republish a job whose message shows no activity for this long.
    pub reconcile_after: Duration,
    /// Forget an app after this time without runners, jobs and dead letters.
    pub forget_apps_after: Duration,
    /// Command that starts runners of apps with `max`.
    pub scale_hook: Option<CommandLine>,
    /// Jobs held longer return to their lane for redelivery: the broker closes the channel of a
    /// consumer that keeps a message longer than `consumer_timeout`.
    pub longest_held: Duration,
    /// Records a limit of the broker that differs from the expected one.
    pub limits: BrokerLimits,
    pub(crate) metrics: Metrics,
    pub(crate) traces: Traces,
}

impl Dispatchers {
    /// Dispatches every app in use until `shutdown`; detects an app that comes into use within half
    /// a second.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        ServedApps::new(self, shutdown).run().await;
        Ok(())
    }
}

/// One app's dispatcher in this process: leader or follower.
struct Dispatcher {
    shared: Dispatchers,
    bids: BidBatches,
    /// Wakes its maintenance.
    pending: PendingWork,
    app: AppId,
    metrics: AppMetrics,
    lane_progress: LaneProgress,
    /// Candidate name in the leader lease.
    name: String,
}

impl Dispatcher {
    fn sender(&self) -> JobSender<'_> {
        JobSender {
            app: &self.app,
            topology: &self.shared.topology,
            publisher: &self.shared.publisher,
            traces: &self.shared.traces,
        }
    }

    fn quarantine(&self) -> Quarantine<'_> {
        Quarantine {
            app: &self.app,
            store: &self.shared.store,
            finalizer: &self.shared.finalizer,
            sender: self.sender(),
        }
    }

    fn rerouter(&self) -> Rerouter<'_> {
        Rerouter {
            app: &self.app,
            store: &self.shared.store,
            finalizer: &self.shared.finalizer,
            quarantine: self.quarantine(),
            sender: self.sender(),
        }
    }
}
