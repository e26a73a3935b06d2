//! A target of faults: a worker or router with its own proxies to both servers, or a server.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use warmq_testkit::{
    PrivateRabbit, PrivateRedis, Process, Proxy, Router, Testbed, Worker, WorkerOptions,
};

use warmq_types::ids::JobId;

use super::plan::Victim;
use crate::system::TIMED;

/// Lost messages are republished after this time; the default is a minute.
pub const RECONCILE_AFTER: &str = "10s";

/// Timeout for SIGTERM: a worker finishes its job, RabbitMQ closes its queues.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// Interval of attempts to start a process whose servers are away.
const RESTART_INTERVAL: Duration = Duration::from_millis(500);

/// One process' own proxies to the servers.
struct Links {
    redis: Proxy,
    rabbitmq: Proxy,
}

impl Links {
    async fn to(testbed: &Testbed) -> anyhow::Result<Self> {
        Ok(Self {
            redis: Proxy::of(testbed.redis_url()).await?,
            rabbitmq: Proxy::of(testbed.amqp_url()).await?,
        })
    }

    fn flags(&self) -> [String; 2] {
        [
            format!("--redis-url={}", self.redis.url().expose()),
            format!("--amqp-url={}", self.rabbitmq.url().expose()),
        ]
    }
}

/// A victim and its process.
pub struct Target {
    /// Identity of the target.
    pub victim: Victim,
    body: Body,
}

enum Body {
    Worker {
        worker: Worker,
        options: WorkerOptions,
        links: Links,
        testbed: Arc<Testbed>,
    },
    Router {
        router: Router,
        address: String,
        links: Links,
        testbed: Arc<Testbed>,
    },
    Redis(PrivateRedis),
    RabbitMq(PrivateRabbit),
}

impl Target {
    /// Starts a worker.
    pub async fn worker(victim: Victim, testbed: Arc<Testbed>) -> anyhow::Result<Self> {
        let links = Links::to(&testbed).await?;
        let options = WorkerOptions::timed(&victim.to_string(), TIMED).args(links.flags());
        let worker = testbed.worker(options.clone()).await?;
        let body = Body::Worker {
            worker,
            options,
            links,
            testbed,
        };
        Ok(Self { victim, body })
    }

    /// Starts a router at `address`, which it keeps.
    pub async fn router(
        victim: Victim,
        testbed: Arc<Testbed>,
        address: String,
    ) -> anyhow::Result<Self> {
        let links = Links::to(&testbed).await?;
        let router = start_router(&testbed, &address, &links).await?;
        let body = Body::Router {
            router,
            address,
            links,
            testbed,
        };
        Ok(Self { victim, body })
    }

    /// The private Redis.
    pub fn redis(redis: PrivateRedis) -> Self {
        Self {
            victim: Victim::REDIS,
            body: Body::Redis(redis),
        }
    }

    /// The private RabbitMQ.
    pub fn rabbitmq(rabbitmq: PrivateRabbit) -> Self {
        Self {
            victim: Victim::RABBITMQ,
            body: Body::RabbitMq(rabbitmq),
        }
    }

    /// The process of the target.
    pub fn process(&mut self) -> &mut Process {
        match &mut self.body {
            Body::Worker { worker, .. } => worker,
            Body::Router { router, .. } => router,
            Body::Redis(redis) => redis,
            Body::RabbitMq(rabbitmq) => rabbitmq,
        }
    }

    /// Its proxy to Redis; servers have none.
    pub fn link_to_redis(&self) -> Option<&Proxy> {
        self.links().map(|links| &links.redis)
    }

    /// Its proxy to RabbitMQ; servers have none.
    pub fn link_to_rabbitmq(&self) -> Option<&Proxy> {
        self.links().map(|links| &links.rabbitmq)
    }

    fn links(&self) -> Option<&Links> {
        match &self.body {
            Body::Worker { links, .. } | Body::Router { links, .. } => Some(links),
            Body::Redis(_) | Body::RabbitMq(_) => None,
        }
    }

    /// Returns the job that a worker runs; `None` for other roles and while Redis is away.
    pub async fn job(&self) -> Option<JobId> {
        let Body::Worker {
            worker, testbed, ..
        } = &self.body
        else {
            return None;
        };
        let runners = testbed.store().runners().list(worker.app()).await.ok()?;
        let mut runners = runners.into_iter();
        runners.find(|runner| runner.id == *worker.runner())?.job
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.process().stop(STOP_TIMEOUT).await?;
        Ok(())
    }

    /// Restarts the ended process and waits until it is ready. Retries while a server that the
    /// process needs is away, as a supervisor does; a server has one attempt.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        match &mut self.body {
            Body::Worker {
                worker,
                options,
                testbed,
                ..
            } => loop {
                if let Ok(started) = testbed.worker(options.clone()).await {
                    *worker = started;
                    return Ok(());
                }
                tokio::time::sleep(RESTART_INTERVAL).await;
            },
            Body::Router {
                router,
                address,
                links,
                testbed,
            } => loop {
                if let Ok(started) = start_router(testbed, address, links).await {
                    *router = started;
                    return Ok(());
                }
                tokio::time::sleep(RESTART_INTERVAL).await;
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
    testbed: &Testbed,
    address: &str,
    links: &Links,
) -> Result<Router, warmq_testkit::Error> {
    let [redis, rabbitmq] = links.flags();
    let args = [&redis, &rabbitmq, "--reconcile-after", RECONCILE_AFTER];
    testbed.router_at(address, &args).await
}
