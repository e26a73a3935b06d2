//! The writes that warmq's scripts do for a job that succeeds, in one pipeline.

use redis::aio::MultiplexedConnection;
use warmq_types::ids::JobId;

/// Retention of a record, s.
const RETENTION_S: &str = "86400";

/// A connection to Redis.
pub struct Writer {
    redis: MultiplexedConnection,
    /// The runner's name: the process.
    runner: String,
}

impl Writer {
    /// Connects.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn connect(url: &str) -> anyhow::Result<Self> {
        let client = redis::Client::open(url)?;
        Ok(Self {
            redis: client.get_multiplexed_async_connection().await?,
            runner: std::process::id().to_string(),
        })
    }

    /// Writes a job's record, log and place in the queue, and the runner's state.
    ///
    /// # Errors
    /// Redis is unreachable.
    pub async fn write(&self, id: JobId, input: &[u8]) -> anyhow::Result<()> {
        let id = &id.to_string();
        let input = &String::from_utf8_lossy(input);
        let mut pipeline = redis::pipe();
        for command in commands(id, &self.runner, input) {
            pipeline.cmd(&command[0]).arg(&command[1..]).ignore();
        }
        let mut redis = self.redis.clone();
        Ok(pipeline.query_async::<()>(&mut redis).await?)
    }
}

/// Returns the writes of `create.lua`, `claim.lua`, `start.lua`, `finish.lua` and of the outbox, in
/// order.
fn commands(id: &str, runner: &str, input: &str) -> Vec<Vec<String>> {
    let (job, log) = (&format!("bare:job:{id}"), &format!("bare:job:{id}:log"));
    let runner_key = &format!("bare:runner:{runner}");
    let decision = r#"{"target":{"runner":"a"},"warm":true,"reason":"idle","held_ms":0}"#;
    let line = r#"{"at_ms":1790000000000,"level":"INFO","message":"sent","runner":"a"}"#;
    let (output, now) = (r#"{"runner":"a","warm":true}"#, "1790000000000");
    let created = "state queued created_ms 0 app bench/noop hint m hint_source header max_attempts";
    let commands: [(&str, &[&str]); 24] = [
        ("HINCRBY bare:job submissions 1", &[]),
        ("HSET", &[job, "spec", created, "input", input]),
        ("DEL", &["bare:tombstone"]),
        ("ZADD bare:queued", &[now, id]),
        ("SREM bare:idle", &[runner]),
        ("HSET", &[runner_key, "claimed_until", now, "job", id]),
        (
            "HSET",
            &[
                job,
                "state",
                "dispatched",
                "runner",
                runner,
                "decision",
                decision,
            ],
        ),
        ("RPUSH", &[log, line]),
        ("HINCRBY", &[job, "attempt", "1"]),
        ("HINCRBY", &[job, "fence", "1"]),
        (
            "HSET",
            &[
                job,
                "state",
                "running",
                "epoch",
                "1",
                "started_ms",
                now,
                "lease_until",
                now,
            ],
        ),
        ("HDEL", &[job, "progress", "parked_until"]),
        ("RPUSH", &[log, line]),
        ("ZREM bare:queued", &[id]),
        ("HDEL", &[runner_key, "claimed_until"]),
        (
            "HSET",
            &[
                job,
                "state",
                "succeeded",
                "finished_ms",
                now,
                "output",
                output,
            ],
        ),
        ("ZADD bare:outbox", &[now, id]),
        ("HDEL", &[job, "progress", "lease_until"]),
        ("RPUSH", &[log, line]),
        ("EXPIRE", &[job, RETENTION_S]),
        ("EXPIRE", &[log, RETENTION_S]),
        ("SADD bare:idle", &[runner]),
        ("PUBLISH bare:runners", &[line]),
        ("ZREM bare:outbox", &[id]),
    ];
    let words = |(head, rest): &(&str, &[&str])| {
        let head = head.split(' ');
        head.chain(rest.iter().copied())
            .map(str::to_owned)
            .collect()
    };
    commands.iter().map(words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_with_spaces_stays_one_argument() {
        let commands = commands("1", "a", r#"{"run_ms": 0}"#);
        assert_eq!(commands[1].last().unwrap(), r#"{"run_ms": 0}"#);
        assert_eq!(commands[3], ["ZADD", "bare:queued", "1790000000000", "1"]);
    }
}
