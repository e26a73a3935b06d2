//! Private RabbitMQ and Redis of one benchmark, so that their processor time is counted alone.

use warmq_testkit::{PrivateRabbit, PrivateRedis};

use super::processor_time::{Part, Process};

/// A RabbitMQ without plugins, with a scheduler per core, and a Redis that syncs each write to
/// disk.
#[derive(Debug)]
pub struct Servers {
    /// RabbitMQ.
    pub rabbitmq: PrivateRabbit,
    /// Redis.
    pub redis: PrivateRedis,
}

impl Servers {
    /// Starts both.
    ///
    /// # Errors
    /// One is not installed or does not get ready.
    pub async fn start() -> anyhow::Result<Self> {
        Ok(Self {
            rabbitmq: PrivateRabbit::start_on_all_cores(&[]).await?,
            redis: PrivateRedis::start().await?,
        })
    }

    /// Returns their processes.
    pub fn processes(&self) -> [(Part, Process); 2] {
        [
            (Part::RabbitMq, Process::Tree(self.rabbitmq.pid())),
            (Part::Redis, Process::Tree(self.redis.pid())),
        ]
    }
}
