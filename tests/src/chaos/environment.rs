//! The environment of a run: private servers, routers and workers, in one folder.

use std::path::Path;
use std::sync::Arc;

use warmq_testkit::{PrivateRabbit, PrivateRedis, Testbed, free_port};
use warmq_types::queue_type::QueueType;

use super::plan::{Role, Victim};
use super::target::Target;
use super::workload;

/// All processes, each a target of faults.
pub struct Environment {
    /// The namespace on the servers, connected without a proxy.
    pub testbed: Arc<Testbed>,
    /// The routers' fixed URLs.
    pub routers: Vec<String>,
    /// In an order in which they can be dropped: servers last.
    pub targets: Vec<Target>,
}

impl Environment {
    /// Starts all processes, with data and logs in `folder`.
    ///
    /// # Errors
    /// A program is missing, or did not get ready.
    pub async fn start(folder: &Path, queue_type: QueueType) -> anyhow::Result<Self> {
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
