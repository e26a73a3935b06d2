//! State of a job's webhook delivery. Events may repeat and an attempt's message may be delivered
//! twice, so attempts are counted here, and one is made at a time.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::ids::{AppId, JobId};

use super::script_reply::{number, words};
use super::{Error, WebhookDeliveries};

/// Attempt count that excludes further ones.
const ALL: u32 = u32::MAX;

/// The pending delivery of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookDelivery {
    /// Deliver the end at `end_ms`.
    Of {
        /// The receiver's URL.
        webhook: String,
        /// End of the job, Unix ms.
        end_ms: u64,
    },
    /// Nothing (yet): the job has not ended, or has no webhook.
    Nothing,
    /// Nothing any more: the job's retention is over.
    Gone,
}

/// Whether an attempt may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptSlot {
    /// Now; the slot is reserved.
    Now,
    /// After this time: another attempt is running, or this one is not due.
    After(Duration),
    /// Never: it was made, or the job has another end by now.
    Never,
}

/// Continuation after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterAttempt {
    /// Another attempt after this time.
    Again(Duration),
    /// None.
    Over,
}

impl WebhookDeliveries<'_> {
    /// Returns the pending delivery of a job.
    pub async fn pending(self, app: &AppId, job: JobId) -> Result<WebhookDelivery, Error> {
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

    /// Reserves attempt number `attempt` (from 1) at the end of `end_ms` (Unix ms). If the
    /// reserving process crashes, others may retry after `lease`.
    pub async fn begin(
        self,
        app: &AppId,
        job: JobId,
        (attempt, end_ms): (u32, u64),
        lease: Duration,
    ) -> Result<AttemptSlot, Error> {
        let reply: Vec<String> = self
            .scripts
            .begin_webhook_attempt
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

    /// Records attempt number `attempt`, its continuation, and a line for the job's log: level and
    /// sentence.
    pub async fn end(
        self,
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
            .end_webhook_attempt
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
