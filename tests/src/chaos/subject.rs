//! One that may suffer: a worker or router with its own proxies to both servers, or a server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use warmq_testkit::{
    Cluster, PrivateRabbit, PrivateRedis, Process, Proxy, Router, Worker, WorkerOptions,
};

use warmq_types::ids::JobId;

use super::plan::Victim;
use crate::stage::TIMED;

/// A lost message is looked for so soon; in earnest it is a minute.
pub const RECONCILE_AFTER: &str = "10s";

/// How long a process may take for SIGTERM: a worker finishes its job, RabbitMQ closes its queues.
const GOODBYE: Duration = Duration::from_secs(60);

/// Between two tries to start a process whose servers are away.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// Doors to the servers that can be shut for one process alone.
struct Links {
    redis: Proxy,
    rabbitmq: Proxy,
}

impl Links {
    async fn to(cluster: &Cluster) -> anyhow::Result<Self> {
        Ok(Self {
            redis: Proxy::of(cluster.redis_url()).await?,
            rabbitmq: Proxy::of(cluster.amqp_url()).await?,
        })
    }

    fn flags(&self) -> [String; 2] {
        [
            format!("--redis-url={}", self.redis.url().expose()),
            format!("--amqp-url={}", self.rabbitmq.url().expose()),
        ]
    }
}

/// A victim and what it is made of.
pub struct Subject {
    /// Which one.
    pub victim: Victim,
    body: Body,
}

enum Body {
    Worker {
        worker: Worker,
        options: WorkerOptions,
        links: Links,
        cluster: Arc<Cluster>,
    },
    Router {
        router: Router,
        address: String,
        links: Links,
        cluster: Arc<Cluster>,
    },
    Redis(PrivateRedis),
    RabbitMq(PrivateRabbit),
}

impl Subject {
    /// A running worker.
    pub async fn worker(victim: Victim, cluster: Arc<Cluster>) -> anyhow::Result<Self> {
        let links = Links::to(&cluster).await?;
        let options = WorkerOptions::timed(&victim.to_string(), TIMED).args(links.flags());
        let worker = cluster.worker(options.clone()).await?;
        let body = Body::Worker {
            worker,
            options,
            links,
            cluster,
        };
        Ok(Self { victim, body })
    }

    /// A running router at `address`, which it keeps.
    pub async fn router(
        victim: Victim,
        cluster: Arc<Cluster>,
        address: String,
    ) -> anyhow::Result<Self> {
        let links = Links::to(&cluster).await?;
        let router = start_router(&cluster, &address, &links).await?;
        let body = Body::Router {
            router,
            address,
            links,
            cluster,
        };
        Ok(Self { victim, body })
    }

    /// The Redis.
    pub fn redis(redis: PrivateRedis) -> Self {
        Self {
            victim: Victim::REDIS,
            body: Body::Redis(redis),
        }
    }

    /// The RabbitMQ.
    pub fn rabbitmq(rabbitmq: PrivateRabbit) -> Self {
        Self {
            victim: Victim::RABBITMQ,
            body: Body::RabbitMq(rabbitmq),
        }
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        match &mut self.body {
            Body::Worker { worker, .. } => worker,
            Body::Router { router, .. } => router,
            Body::Redis(redis) => redis,
            Body::RabbitMq(rabbitmq) => rabbitmq,
        }
    }

    /// Its door to Redis; a server has none.
    pub fn link_to_redis(&self) -> Option<&Proxy> {
        self.links().map(|links| &links.redis)
    }

    /// Its door to RabbitMQ; a server has none.
    pub fn link_to_rabbitmq(&self) -> Option<&Proxy> {
        self.links().map(|links| &links.rabbitmq)
    }

    fn links(&self) -> Option<&Links> {
        match &self.body {
            Body::Worker { links, .. } | Body::Router { links, .. } => Some(links),
            Body::Redis(_) | Body::RabbitMq(_) => None,
        }
    }

    /// The job that it runs; only a worker does. Not known while Redis is away.
    pub async fn job(&self) -> Option<JobId> {
        let Body::Worker {
            worker, cluster, ..
        } = &self.body
        else {
            return None;
        };
        let runners = cluster.store().fleet().runners(worker.app()).await.ok()?;
        let mut runners = runners.into_iter();
        runners.find(|runner| runner.id == *worker.runner())?.job
    }

    /// Asks it to stop, and waits for that.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let process = self.process();
        process.terminate()?;
        process.wait(GOODBYE).await?;
        Ok(())
    }

    /// Starts it again where it ended, and waits until it is ready. As a supervisor does, it goes on trying while a server
    /// that the process needs is away; a server itself has one try.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        match &mut self.body {
            Body::Worker {
                worker,
                options,
                cluster,
                ..
            } => loop {
                if let Ok(started) = cluster.worker(options.clone()).await {
                    *worker = started;
                    return Ok(());
                }
                tokio::time::sleep(RESTART_PAUSE).await;
            },
            Body::Router {
                router,
                address,
                links,
                cluster,
            } => loop {
                if let Ok(started) = start_router(cluster, address, links).await {
                    *router = started;
                    return Ok(());
                }
                tokio::time::sleep(RESTART_PAUSE).await;
            },
            Body::Redis(redis) => redis.restart().await.context("Redis did not come back"),
            Body::RabbitMq(rabbitmq) => rabbitmq
                .restart()
                .await
                .context("RabbitMQ did not come back"),
        }
    }
}

async fn start_router(
    cluster: &Cluster,
    address: &str,
    links: &Links,
) -> Result<Router, warmq_testkit::Error> {
    let [redis, rabbitmq] = links.flags();
    let args = [&redis, &rabbitmq, "--reconcile-after", RECONCILE_AFTER];
    cluster.router_at(address, &args).await
}
