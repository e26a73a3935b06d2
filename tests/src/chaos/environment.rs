//! Where a run takes place: servers of its own, routers and workers on them, all in one folder.

use std::path::Path;
use std::sync::Arc;

use warmq_testkit::{PrivateRabbit, PrivateRedis, Testbed, free_port};
use warmq_types::queue_type::QueueType;

use super::plan::{Role, Victim};
use super::target::Target;
use super::workload;

/// Everything that runs, and may suffer.
pub struct Environment {
    /// The namespace on the servers, reached without any proxy.
    pub testbed: Arc<Testbed>,
    /// The routers' URLs, which they keep.
    pub routers: Vec<String>,
    /// Whoever may suffer; in an order in which they can be dropped, servers last.
    pub targets: Vec<Target>,
}

impl Environment {
    /// Starts everything, with data and logs in `folder`.
    ///
    /// # Errors
    /// A program is missing, or did not get ready.
    pub async fn open(folder: &Path, queue_type: QueueType) -> anyhow::Result<Self> {
        let (redis, rabbitmq) = (folder.join("redis"), folder.join("rabbitmq"));
        let redis = PrivateRedis::start_in(&redis).await?;
        let rabbitmq = PrivateRabbit::start_in(&rabbitmq, &[]).await?;
        let testbed = Testbed::builder()
            .folder(folder)
            .redis_url(redis.url().expose())
            .amqp_url(rabbitmq.url().expose())
            .queue_type(queue_type)
            .config(workload::config())
            .start()
            .await?;
        let testbed = Arc::new(testbed);
        let (mut routers, mut targets) = (Vec::new(), Vec::new());
        for victim in Victim::of(Role::Worker) {
            targets.push(Target::worker(victim, Arc::clone(&testbed)).await?);
        }
        for victim in Victim::of(Role::Router) {
            let address = format!("127.0.0.1:{}", free_port()?);
            routers.push(format!("http://{address}"));
            targets.push(Target::router(victim, Arc::clone(&testbed), address).await?);
        }
        targets.push(Target::redis(redis));
        targets.push(Target::rabbitmq(rabbitmq));
        Ok(Self {
            testbed,
            routers,
            targets,
        })
    }
}
