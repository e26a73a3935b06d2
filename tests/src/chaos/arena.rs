//! Where a run takes place: servers of its own, routers and workers on them, all in one folder.

use std::path::Path;
use std::sync::Arc;

use warmq_testkit::{Cluster, PrivateRabbit, PrivateRedis, free_port};
use warmq_types::queue_type::QueueType;

use super::orders;
use super::plan::{Role, Victim};
use super::subject::Subject;

/// Everything that runs, and may suffer.
pub struct Arena {
    /// The namespace on the servers, reached without any proxy.
    pub cluster: Arc<Cluster>,
    /// The routers' URLs, which they keep.
    pub routers: Vec<String>,
    /// Whoever may suffer; in an order in which they can be dropped, servers last.
    pub subjects: Vec<Subject>,
}

impl Arena {
    /// Starts everything, with data and logs in `folder`.
    ///
    /// # Errors
    /// A program is missing, or did not get ready.
    pub async fn open(folder: &Path, queue_type: QueueType) -> anyhow::Result<Self> {
        let (redis, rabbitmq) = (folder.join("redis"), folder.join("rabbitmq"));
        let redis = PrivateRedis::start_in(&redis).await?;
        let rabbitmq = PrivateRabbit::start_in(&rabbitmq, &[]).await?;
        let cluster = Cluster::builder()
            .folder(folder)
            .redis_url(redis.url().expose())
            .amqp_url(rabbitmq.url().expose())
            .queue_type(queue_type)
            .config(orders::config())
            .start()
            .await?;
        let cluster = Arc::new(cluster);
        let (mut routers, mut subjects) = (Vec::new(), Vec::new());
        for victim in Victim::of(Role::Worker) {
            subjects.push(Subject::worker(victim, Arc::clone(&cluster)).await?);
        }
        for victim in Victim::of(Role::Router) {
            let address = format!("127.0.0.1:{}", free_port()?);
            routers.push(format!("http://{address}"));
            subjects.push(Subject::router(victim, Arc::clone(&cluster), address).await?);
        }
        subjects.push(Subject::redis(redis));
        subjects.push(Subject::rabbitmq(rabbitmq));
        Ok(Self {
            cluster,
            routers,
            subjects,
        })
    }
}
