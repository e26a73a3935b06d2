//! The outbox: ended jobs whose event may not be published yet, because the process that stored the
//! result crashed or RabbitMQ lost the message. Scripts write the entry together with the end; the
//! publisher of the event removes it.

use std::time::Duration;

use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::JobRecord;

use super::{Error, Outbox, ms};

/// Maximum number of jobs per call.
const MAX_BATCH: isize = 1000;

/// How long removals are collected. None is urgent: the leader publishes an event again whose entry
/// is 10 s old.
const REMOVAL_INTERVAL: Duration = Duration::from_millis(100);

/// Maximum number of removals that wait, or go in one command. Further ones are left to the leader.
const MAX_REMOVALS: usize = 4096;

/// Timeout of [`Outbox::flush`].
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl Outbox<'_> {
    /// Returns the jobs of the app that ended at least `ago` ago and are still in the outbox.
    pub async fn entries(self, app: &AppId, ago: Duration) -> Result<Vec<JobId>, Error> {
        let before_ms = self.now_ms().await?.saturating_sub(ms(ago));
        let ids: Vec<String> = self
            .connection
            .clone()
            .zrangebyscore_limit(self.keys.outbox(app), "-inf", before_ms, 0, MAX_BATCH)
            .await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Returns an ended job's record without input and output, for its event. `None`: there is
    /// nothing to publish, since its retention is over, it was redriven, or its record is
    /// unreadable; the entry is then removed.
    pub async fn record(self, app: &AppId, job: JobId) -> Result<Option<JobRecord>, Error> {
        let found = match self.jobs().summary(app, job).await {
            Err(error) if error.is_damage() => {
                tracing::error!(job.id = %job, %error, "a job's end cannot be announced");
                None
            }
            found => found?,
        };
        let found = found.filter(|record| record.state.is_terminal());
        if found.is_none() {
            self.remove(app, job);
        }
        Ok(found)
    }

    /// Removes a job whose event was published, within a moment: many removals share a command. If
    /// Redis is unreachable then, the leader publishes the event again and removes it.
    pub fn remove(self, app: &AppId, job: JobId) {
        let entry = (self.keys.outbox(app), job.to_string());
        self.removals.send(Request::Remove(entry));
    }

    /// Waits until earlier removals are done, at most a second: for processes that stop.
    pub async fn flush(self) {
        let (done, flushed) = oneshot::channel();
        self.removals.send(Request::Flush(done));
        let _ = timeout(FLUSH_TIMEOUT, flushed).await;
    }
}

/// Key and member of an entry.
type Entry = (String, String);

enum Request {
    Remove(Entry),
    Flush(oneshot::Sender<()>),
}

/// Removals of entries that wait to be sent; clones share them.
#[derive(Clone)]
pub(super) struct Removals(mpsc::Sender<Request>);

impl Removals {
    /// Starts to remove, until all clones are dropped.
    pub(super) fn start(connection: ConnectionManager) -> Self {
        let (sender, requests) = mpsc::channel(MAX_REMOVALS);
        tokio::spawn(remove_all(connection, requests));
        Self(sender)
    }

    fn send(&self, request: Request) {
        if self.0.try_send(request).is_err() {
            tracing::debug!("the leader will remove an entry of the outbox: too many wait");
        }
    }
}

async fn remove_all(mut connection: ConnectionManager, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.recv().await {
        let batch = collected(first, &mut requests).await;
        let mut pipeline = redis::pipe();
        let mut flushes = Vec::new();
        for request in batch {
            match request {
                Request::Remove((key, member)) => {
                    pipeline.zrem(key, member).ignore();
                }
                Request::Flush(done) => flushes.push(done),
            }
        }
        if !pipeline.is_empty()
            && let Err(error) = pipeline.query_async::<()>(&mut connection).await
        {
            tracing::debug!(%error, "could not note that jobs' ends were announced");
        }
        for done in flushes {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
    }
}

/// Collects requests for [`REMOVAL_INTERVAL`], or until one wants the others done.
async fn collected(first: Request, requests: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let until = Instant::now() + REMOVAL_INTERVAL;
    let mut batch = vec![first];
    while batch.len() < MAX_REMOVALS && !matches!(batch.last(), Some(Request::Flush(_))) {
        match timeout_at(until, requests.recv()).await {
            Ok(Some(request)) => batch.push(request),
            Ok(None) | Err(_) => break,
        }
    }
    batch
}
