//! Takes everything of a namespace off both servers.

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use redis::AsyncCommands;
use warmq_common::amqp::{RetryTier, Topology};
use warmq_common::ids::AppId;
use warmq_common::job::Priority;

use crate::cluster::Cluster;
use crate::error::Error;

/// Keys that one SCAN looks at.
const SCAN_COUNT: u32 = 1000;

impl Cluster {
    /// Deletes the namespace's queues, exchanges and keys. Stop its processes before: what lives declares them again.
    /// Queues of incarnations that this cluster does not know (a runner that registered anew) expire by themselves.
    ///
    /// # Errors
    /// A server is away.
    pub async fn cleanup(&self) -> Result<(), Error> {
        let apps = self.apps().await?;
        let channel = self.publisher().channel().await?;
        let topology = self.topology();
        let mut queues = base_queues(topology);
        for app in &apps {
            queues.extend(app_queues(topology, app));
            for runner in self.store().runners(app).await? {
                queues.push(topology.runner_queue(&runner.id, runner.epoch));
            }
        }
        for (runner, epoch) in self.incarnations() {
            queues.push(topology.runner_queue(&runner, epoch));
        }
        // Deleting what does not exist is no error for RabbitMQ.
        for queue in queues {
            channel
                .queue_delete(queue.into(), QueueDeleteOptions::default())
                .await?;
        }
        for exchange in exchanges(topology) {
            channel
                .exchange_delete(exchange.into(), ExchangeDeleteOptions::default())
                .await?;
        }
        self.delete_keys().await
    }

    async fn delete_keys(&self) -> Result<(), Error> {
        let client = redis::Client::open(self.redis_url().expose())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let pattern = format!("{}:*", self.namespace());
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
        topology.unroutable_queue(),
        topology.reply_events_queue(),
    ];
    queues.extend(RetryTier::ALL.map(|tier| topology.retry_exchange(tier)));
    queues
}

fn app_queues(topology: &Topology, app: &AppId) -> [String; 4] {
    [
        topology.backlog_queue(app, Priority::Normal),
        topology.backlog_queue(app, Priority::Low),
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
