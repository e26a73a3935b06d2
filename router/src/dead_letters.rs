//! Dead letters, for those who look after them: look, try again, throw away.
//!
//! A queue is browsed by taking up to [`MAX_BROWSED`] letters from its head without acknowledging
//! them; when the connection closes, they are back in their places. So nothing can get lost here,
//! and no second account of them can go wrong; but while one router browses a queue, another sees
//! only what is left in it.

use std::sync::Arc;

use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::{Acker, Channel, Connection};
use tokio::sync::Mutex;
use warmq_broker::dead_letter::RefusedSubmission;
use warmq_broker::{DeadLetter, Message, Publisher, Topology};
use warmq_store::{AdmissionRules, Store};
use warmq_types::ids::{AppId, JobId};
use warmq_types::message::{JobMessage, Versioned};
use warmq_types::server_url::ServerUrl;
use warmq_types::state::JobState;

use crate::session_error::SessionError;

/// Letters of one queue that can be seen; those behind them come up when these are gone.
pub const MAX_BROWSED: usize = 1000;

/// Which dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterQueue {
    /// An app's: quarantined jobs, and what was submitted to it in vain.
    App(AppId),
    /// Submissions for apps that do not exist.
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

/// Why a letter is not tried again.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// It is not there (any more).
    #[error("dead letter not found")]
    Missing,
    /// It is nobody's job.
    #[error("the dead letter cannot be read as a job, so it cannot be redriven: drop it")]
    NoJob,
    /// Its job needs nothing any more.
    #[error("its job has ended ({0}): drop the dead letter")]
    Ended(JobState),
    /// Its input was deleted with its end, as its submitter asked.
    #[error(
        "its input was forgotten with its end (X-Fal-Store-IO: 0), so it cannot be tried again; drop the letter and submit the \
         job again"
    )]
    Forgotten,
    /// A server is away.
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
    /// One look at a time: two would hide letters from each other.
    browsing: Arc<Mutex<()>>,
}

/// Letters in our hands, and the connection that they hang on: back in the queue once it is closed.
struct Browse {
    letters: Vec<(DeadLetter, Acker)>,
    // Dropped before, it would close by itself, and get in the way of the connection's end.
    _channel: Channel,
    connection: Connection,
}

impl DeadLetters {
    /// The queues of `topology`.
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

    /// What is on a shelf, the oldest first: [`MAX_BROWSED`] letters at most.
    ///
    /// # Errors
    /// RabbitMQ is away.
    pub async fn list(&self, queue: &DeadLetterQueue) -> Result<Vec<DeadLetter>, SessionError> {
        let _alone = self.browsing.lock().await;
        let browse = self.browse(queue).await?;
        let letters = browse.letters.iter().map(|(letter, _)| letter.clone());
        let letters = letters.collect();
        browse.put_back().await?;
        Ok(letters)
    }

    /// Throws a letter away. False: it is not there.
    ///
    /// # Errors
    /// RabbitMQ is away.
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

    /// Tries a letter's job again, and takes the letter away once that is confirmed. A quarantined
    /// job keeps its id and has all its attempts again; a refused submission is submitted again as
    /// it was, but nobody waits for its reply any more. The id of the job.
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
        // One that was written twice stands for one job.
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
            // The letter's own id, else: tried again twice, it is one job.
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
        // They count anew, like attempts; the runners on which it failed are still avoided.
        again.faults.clear();
        let job = &again.job;
        if job.no_store && job.stored_input.is_some() {
            return Err(RedriveError::Forgotten);
        }
        let revived = self.store.redrive(&job.app, job.id).await;
        if !revived.map_err(SessionError::from)? {
            let state = self.store.state_of(&job.app, job.id).await;
            match state.map_err(SessionError::from)? {
                Some(state) if state.is_terminal() => return Err(RedriveError::Ended(state)),
                // Revived before, but perhaps never published.
                Some(_) => {}
                // Its record was kept long enough: it runs anew, since a person wants that.
                None => {
                    let admitted = self.store.admit(job, AdmissionRules::default()).await;
                    admitted.map_err(SessionError::from)?;
                }
            }
        }
        let setbacks = self.store.setbacks(&job.app, job.id).await;
        let again = again.with(setbacks.map_err(SessionError::from)?);
        let job = &again.job;
        let message = Message {
            message_id: Some(job.id.to_string()),
            // Encoding has no way to fail: string keys, no I/O.
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
            // What somebody else put there has no id, and stays where it is.
            let letter = DeadLetter::read(&delivery.properties, delivery.data);
            letters.extend(letter.map(|letter| (letter, delivery.acker)));
        }
        Ok(Browse {
            letters,
            _channel: channel,
            connection,
        })
    }

    /// The shelf's queue, which exists from now on.
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
    /// Takes away what has this id; the rest goes back.
    async fn remove(self, id: JobId) -> Result<(), SessionError> {
        for (letter, acker) in &self.letters {
            if letter.id == id {
                acker.ack(BasicAckOptions::default()).await?;
            }
        }
        self.put_back().await
    }

    async fn put_back(self) -> Result<(), SessionError> {
        Ok(self.connection.close(200, "done".into()).await?)
    }
}
