//! How far a job's webhook is told. Its end may be announced more than once and the message of an attempt may come twice; so
//! attempts are counted here, and only one is made at a time.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::ids::{AppId, JobId};

use super::script_reply::{number, words};
use super::{Error, Store};

/// Attempts made once there is to be no other.
const ALL: u32 = u32::MAX;

/// What there is to tell of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookDelivery {
    /// That it ended at `end_ms`.
    Of {
        /// The receiver's URL.
        webhook: String,
        /// Unix ms.
        end_ms: u64,
    },
    /// Nothing (yet): it has not ended, or nobody asked for it.
    Nothing,
    /// Nothing any more: its record was kept long enough.
    Gone,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptSlot {
    /// Now, and nobody else makes one meanwhile.
    Now,
    /// After this time: somebody is at it, or it is not due yet.
    After(Duration),
    /// Never: it was made, or the job has another end by now.
    Never,
}

/// What follows an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAttempt {
    /// Another one, after this time.
    Again(Duration),
    /// Nothing.
    Over,
}

impl Store {
    /// What there is to tell of a job, and whom.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn delivery(&self, app: &AppId, job: JobId) -> Result<WebhookDelivery, Error> {
        let key = self.keys.job(app, job);
        let fields = ["state", "webhook", "finished_ms"];
        let (state, webhook, end_ms): (Option<String>, Option<String>, Option<u64>) =
            self.connection.clone().hmget(key, &fields).await?;
        Ok(match (state, webhook, end_ms) {
            (None, ..) => WebhookDelivery::Gone,
            (_, Some(webhook), Some(end_ms)) => WebhookDelivery::Of { webhook, end_ms },
            _ => WebhookDelivery::Nothing,
        })
    }

    /// Takes the turn to make attempt number `attempt` (from 1) to tell of the end at `end_ms` (Unix ms). Who took it and dies
    /// keeps others from it for `lease`.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn begin_delivery(
        &self,
        app: &AppId,
        job: JobId,
        (attempt, end_ms): (u32, u64),
        lease: Duration,
    ) -> Result<AttemptSlot, Error> {
        let reply: Vec<String> = self
            .scripts
            .begin_delivery
            .key(self.keys.webhook(app, job))
            .key(self.keys.job(app, job))
            .arg(attempt)
            .arg(end_ms)
            .arg(ms(lease))
            .invoke_async(&mut self.connection.clone())
            .await?;
        match words(&reply).as_slice() {
            ["go"] => Ok(AttemptSlot::Now),
            ["wait", left_ms] => Ok(AttemptSlot::After(Duration::from_millis(number(left_ms)?))),
            ["over"] => Ok(AttemptSlot::Never),
            other => Err(Error::damaged(
                "a script's reply",
                format_args!("{other:?} is unknown"),
            )),
        }
    }

    /// Notes that attempt number `attempt` was made, what follows it, and what the job's owner reads of it: level and sentence.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn end_delivery(
        &self,
        app: &AppId,
        job: JobId,
        (attempt, end_ms): (u32, u64),
        then: AfterAttempt,
        (level, line): (&str, &str),
    ) -> Result<(), Error> {
        let (made, wait) = match then {
            AfterAttempt::Again(wait) => (attempt, wait),
            AfterAttempt::Over => (ALL, Duration::ZERO),
        };
        Ok(self
            .scripts
            .end_delivery
            .key(self.keys.webhook(app, job))
            .key(self.keys.job(app, job))
            .key(self.keys.log(app, job))
            .arg(end_ms)
            .arg(made)
            .arg(ms(wait))
            .arg(level)
            .arg(line)
            .invoke_async(&mut self.connection.clone())
            .await?)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
