//! Deletes everything of a namespace on both servers.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use redis::AsyncCommands;
use warmq_broker::{Publisher, Topology};
use warmq_store::Store;
use warmq_types::ids::{AppId, Epoch, Namespace, RunnerId};
use warmq_types::job::Priority;
use warmq_types::queue_type::QueueType;
use warmq_types::retry_tier::RetryTier;
use warmq_types::server_url::ServerUrl;

use crate::error::Error;

/// Keys per SCAN.
const SCAN_COUNT: u32 = 1000;

/// Timeout of the cleanup of a testbed that was dropped without [`Testbed::cleanup`].
const DROP_TIMEOUT: Duration = Duration::from_secs(10);

/// What a testbed may have left on the servers. Has its own connections, since the testbed's may be
/// gone.
#[derive(Debug, Clone)]
pub(crate) struct Remains {
    pub(crate) namespace: Namespace,
    pub(crate) amqp_url: ServerUrl,
    pub(crate) redis_url: ServerUrl,
    /// Apps that Redis may have lost.
    pub(crate) apps: BTreeSet<AppId>,
    /// Incarnations of runners that Redis may have lost.
    pub(crate) runners: Vec<(RunnerId, Epoch)>,
}

impl Remains {
    /// Deletes the namespace's queues, exchanges and keys.
    pub(crate) async fn delete(self) -> Result<(), Error> {
        let store = Store::connect(&self.redis_url, self.namespace.clone()).await?;
        let topology = Topology::new(self.namespace.clone(), QueueType::default());
        let mut apps = store.apps_in_use().known().await?;
        apps.extend(self.apps.iter().cloned());
        let mut queues = base_queues(&topology);
        for app in &apps {
            queues.extend(app_queues(&topology, app));
            for overflow in store.overflow_queues().all(app).await? {
                queues.push(topology.overflow_queue(app, &overflow));
            }
            for runner in store.runners().list(app).await? {
                queues.push(topology.runner_queue(&runner.id, runner.epoch));
            }
        }
        for (runner, epoch) in &self.runners {
            queues.push(topology.runner_queue(runner, *epoch));
        }
        let publisher = Publisher::new(self.amqp_url.clone(), "warmq-cleanup");
        let channel = publisher.channel().await?;
        // RabbitMQ ignores the deletion of what does not exist.
        for queue in queues {
            channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await?;
        }
        for exchange in exchanges(&topology) {
            channel
                .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
                .await?;
        }
        self.delete_keys().await
    }

    /// As [`Remains::delete`], from synchronous code in any thread.
    pub(crate) fn delete_blocking(self) {
        let namespace = self.namespace.clone();
        // A runtime cannot be started within a thread of another one.
        let thread = std::thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().map_err(|e| e.to_string())?;
            runtime.block_on(async {
                match tokio::time::timeout(DROP_TIMEOUT, self.delete()).await {
                    Ok(deleted) => deleted.map_err(|error| error.to_string()),
                    Err(_) => Err("the servers do not answer".to_owned()),
                }
            })
        });
        if let Ok(Err(reason)) = thread.join() {
            eprintln!("namespace {namespace} is not cleaned up: {reason}");
        }
    }

    async fn delete_keys(&self) -> Result<(), Error> {
        let client = redis::Client::open(self.redis_url.expose())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let pattern = format!("{}:*", self.namespace);
        let mut cursor = 0u64;
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(SCAN_COUNT)
                .query_async(&mut connection)
                .await?;
            if !keys.is_empty() {
                let _: () = connection.unlink(&keys).await?;
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }
}

fn base_queues(topology: &Topology) -> Vec<String> {
    let mut queues = vec![
        topology.submissions_queue(),
        topology.dead_submissions_queue(),
        topology.deferred_results_queue(),
        topology.unroutable_queue(),
        topology.reply_events_queue(),
        topology.webhook_events_queue(),
        topology.flow_events_queue(),
    ];
    queues.extend(RetryTier::ALL.map(|tier| topology.retry_exchange(tier)));
    queues
}

fn app_queues(topology: &Topology, app: &AppId) -> [String; 4] {
    [
        topology.lane_queue(app, Priority::Normal),
        topology.lane_queue(app, Priority::Low),
        topology.shared_queue(app),
        topology.dead_queue(app),
    ]
}

fn exchanges(topology: &Topology) -> Vec<String> {
    let mut exchanges = vec![
        topology.jobs_exchange(),
        topology.dispatch_exchange(),
        topology.events_exchange(),
        topology.unroutable_queue(),
    ];
    exchanges.extend(RetryTier::ALL.map(|tier| topology.retry_exchange(tier)));
    exchanges
}
