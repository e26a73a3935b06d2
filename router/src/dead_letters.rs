//! Administration of dead letters: list, redrive, drop.
//!
//! Browsing takes up to [`MAX_BROWSED`] letters from the head of a queue without an ack; closing
//! the connection returns them to their places. RabbitMQ remains the only storage, so nothing can
//! be lost or diverge; but while one router browses a queue, another sees only the rest.

use std::sync::Arc;

use lapin::options::BasicGetOptions;
use lapin::{Acker, Channel, Connection};
use tokio::sync::Mutex;
use warmq_broker::dead_letter::RefusedSubmission;
use warmq_broker::{DeadLetter, Message, Publisher, Topology, acknowledgement};
use warmq_store::{AdmissionRules, Store};
use warmq_types::ids::{AppId, JobId};
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::server_url::ServerUrl;
use warmq_types::state::JobState;

use crate::session_error::SessionError;

/// Letters of a queue that can be listed; those behind them follow once these are gone.
pub const MAX_BROWSED: usize = 1000;

/// A dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterQueue {
    /// An app's: quarantined jobs and refused submissions.
    App(AppId),
    /// Refused submissions to unknown apps.
    Submissions,
}

impl std::fmt::Display for DeadLetterQueue {
    /// `owner/name` or `_/submissions`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::App(app) => app.fmt(f),
            Self::Submissions => f.write_str("_/submissions"),
        }
    }
}

/// Why a letter is not redriven.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// It does not exist, or no longer.
    #[error("dead letter not found")]
    Missing,
    /// It is not a job.
    #[error("the dead letter cannot be read as a job, so it cannot be redriven: drop it")]
    NoJob,
    /// Its job has ended.
    #[error("its job has ended ({0}): drop the dead letter")]
    Ended(JobState),
    /// Its input was deleted with its end (`X-Fal-Store-IO: 0`).
    #[error(
        "its input was forgotten with its end (X-Fal-Store-IO: 0), so it cannot be tried again; drop the letter and submit the \
         job again"
    )]
    Forgotten,
    /// A server failed.
    #[error(transparent)]
    SessionError(#[from] SessionError),
}

/// A cheap handle on the dead-letter queues.
#[derive(Clone)]
pub struct DeadLetters {
    amqp_url: ServerUrl,
    topology: Topology,
    publisher: Publisher,
    store: Store,
    /// One browse at a time: two would hide letters from each other.
    browsing: Arc<Mutex<()>>,
}

/// Unacknowledged letters and their connection; they return to the queue once it is closed.
struct Browse {
    letters: Vec<(DeadLetter, Acker)>,
    // Kept open: dropping it earlier would race with closing the connection.
    _channel: Channel,
    connection: Connection,
}

impl DeadLetters {
    /// Returns a handle on the queues of `topology`.
    pub fn new(
        amqp_url: ServerUrl,
        topology: Topology,
        publisher: Publisher,
        store: Store,
    ) -> Self {
        Self {
            amqp_url,
            topology,
            publisher,
            store,
            browsing: Arc::default(),
        }
    }

    /// Lists a queue, the oldest letter first, [`MAX_BROWSED`] at most.
    ///
    /// # Errors
    /// RabbitMQ is unreachable.
    pub async fn list(&self, queue: &DeadLetterQueue) -> Result<Vec<DeadLetter>, SessionError> {
        let _alone = self.browsing.lock().await;
        let browse = self.browse(queue).await?;
        let letters = browse.letters.iter().map(|(letter, _)| letter.clone());
        let letters = letters.collect();
        browse.put_back().await?;
        Ok(letters)
    }

    /// Drops a letter. Returns false if it does not exist.
    ///
    /// # Errors
    /// RabbitMQ is unreachable.
    pub async fn drop_letter(
        &self,
        queue: &DeadLetterQueue,
        id: JobId,
    ) -> Result<bool, SessionError> {
        let _alone = self.browsing.lock().await;
        let browse = self.browse(queue).await?;
        let found = browse.letters.iter().any(|(letter, _)| letter.id == id);
        browse.remove(id).await?;
        Ok(found)
    }

    /// Redrives a letter, and removes it once the publish is confirmed. A quarantined job keeps its
    /// id and has all its attempts again; a refused submission is submitted again unchanged,
    /// without its reply address. Returns the job's id.
    ///
    /// # Errors
    /// See [`RedriveError`]; the letter stays.
    pub async fn redrive(&self, queue: &DeadLetterQueue, id: JobId) -> Result<JobId, RedriveError> {
        let _alone = self.browsing.lock().await;
        let browse = self.browse(queue).await?;
        match self.redrive_letter(&browse, id).await {
            Ok(job) => {
                browse.remove(id).await?;
                Ok(job)
            }
            Err(error) => {
                browse.put_back().await?;
                Err(error)
            }
        }
    }

    async fn redrive_letter(&self, browse: &Browse, id: JobId) -> Result<JobId, RedriveError> {
        // Duplicate letters stand for one job.
        let letter = browse.letters.iter().find(|(letter, _)| letter.id == id);
        let (letter, _) = letter.ok_or(RedriveError::Missing)?;
        let job = match &letter.submission {
            Some(submission) => self.submit_again(letter, submission).await?,
            None => self.run_again(letter).await?,
        };
        tracing::info!(job.id = %job, reason = letter.reason, "a dead letter is tried again");
        Ok(job)
    }

    async fn submit_again(
        &self,
        letter: &DeadLetter,
        submission: &RefusedSubmission,
    ) -> Result<JobId, RedriveError> {
        let given = submission.message_id.as_deref();
        let message = Message {
            // Without an id of its own, the letter's id makes a repeated redrive idempotent.
            message_id: Some(given.map_or_else(|| letter.id.to_string(), str::to_owned)),
            headers: submission.headers.clone(),
            ..Message::new(letter.body.clone())
        };
        let exchange = self.topology.jobs_exchange();
        let published = self
            .publisher
            .publish(&exchange, &submission.routing_key, &message);
        published.await.map_err(SessionError::from)?;
        Ok(given.and_then(|id| id.parse().ok()).unwrap_or(letter.id))
    }

    async fn run_again(&self, letter: &DeadLetter) -> Result<JobId, RedriveError> {
        let Ok(mut again) = JobMessage::decode(&letter.body) else {
            return Err(RedriveError::NoJob);
        };
        // Faults are reset like attempts; the avoid list stays.
        again.faults.clear();
        let job = &again.job;
        if job.no_store && job.stored_input.is_some() {
            return Err(RedriveError::Forgotten);
        }
        let revived = self.store.attempts().redrive(&job.app, job.id).await;
        if !revived.map_err(SessionError::from)? {
            let state = self.store.jobs().state_of(&job.app, job.id).await;
            match state.map_err(SessionError::from)? {
                Some(state) if state.is_terminal() => return Err(RedriveError::Ended(state)),
                // Redriven before, but perhaps never published.
                Some(_) => {}
                // Its record has expired: it is recorded anew.
                None => {
                    let admitted = self
                        .store
                        .jobs()
                        .admit(job, AdmissionRules::default())
                        .await;
                    admitted.map_err(SessionError::from)?;
                }
            }
        }
        let failures = self
            .store
            .attempts()
            .failure_history(&job.app, job.id)
            .await;
        let again = again.with(failures.map_err(SessionError::from)?);
        let job = &again.job;
        let message = Message {
            message_id: Some(job.id.to_string()),
            // Encoding cannot fail: string keys, no I/O.
            ..Message::new(again.encode().unwrap_or_default())
        };
        let exchange = self.topology.dispatch_exchange();
        let key = self.topology.lane_key(&job.app, job.priority);
        let published = self.publisher.publish(&exchange, &key, &message);
        published.await.map_err(SessionError::from)?;
        Ok(job.id)
    }

    async fn browse(&self, queue: &DeadLetterQueue) -> Result<Browse, SessionError> {
        let connection = warmq_broker::connect(&self.amqp_url, "warmq-router dead letters").await?;
        let channel = connection.create_channel().await?;
        let queue = self.queue(&channel, queue).await?;
        let mut letters = Vec::new();
        for _ in 0..MAX_BROWSED {
            let next = channel.basic_get(queue.as_str().into(), BasicGetOptions::default());
            let Some(message) = next.await? else { break };
            let delivery = message.delivery;
            // A message without an id is not ours and stays in place.
            let letter = DeadLetter::read(&delivery.properties, delivery.data);
            letters.extend(letter.map(|letter| (letter, delivery.acker)));
        }
        Ok(Browse {
            letters,
            _channel: channel,
            connection,
        })
    }

    /// Declares the queue and returns its name.
    async fn queue(
        &self,
        channel: &Channel,
        queue: &DeadLetterQueue,
    ) -> Result<String, SessionError> {
        Ok(match queue {
            DeadLetterQueue::App(app) => {
                self.topology.declare_app(channel, app).await?;
                self.topology.dead_queue(app)
            }
            DeadLetterQueue::Submissions => self.topology.dead_submissions_queue(),
        })
    }
}

impl Browse {
    /// Acks the letters with this id; the others return to the queue.
    async fn remove(self, id: JobId) -> Result<(), SessionError> {
        for (letter, acker) in &self.letters {
            if letter.id == id {
                acknowledgement::ack(acker).await?;
            }
        }
        self.put_back().await
    }

    async fn put_back(self) -> Result<(), SessionError> {
        Ok(self.connection.close(200, "done".into()).await?)
    }
}
