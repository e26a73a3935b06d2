//! Finds a place for one job: read the idle runners, ask the policy, claim. A refused claim is decided again.

use lapin::message::Delivery;
use lapin::options::BasicAckOptions;
use warmq_common::amqp::{Message, PublishError, RetryTier};
use warmq_common::ids::RunnerId;
use warmq_common::job::{JobSpec, Target};
use warmq_common::store::{Claim, Unavailable};

use super::Dispatcher;
use crate::broken::Broken;
use crate::policy;

/// How long a claim keeps a runner from being claimed again, ms. The runner's queue gives the job back long before.
const CLAIM_MS: u64 = 10_000;

/// A job between its backlog and its runner.
pub(super) struct Held {
    pub(super) job: JobSpec,
    pub(super) delivery: Delivery,
}

/// What to do with a job's message now.
pub(super) enum Next {
    /// Publish it there, then acknowledge the backlog's copy.
    Send(Destination),
    /// It needs nothing any more: acknowledge.
    Drop,
}

/// A queue that takes the job.
pub(super) enum Destination {
    /// The claimed runner's own.
    Runner { queue: String, runner: RunnerId },
    /// The app's shared one.
    Shared,
    /// A retry tier: somebody holds the job's lease, perhaps a dead one. Never dropped, it may be the only copy.
    Parked(RetryTier),
}

impl Dispatcher {
    /// Decides where a job goes and reserves the place.
    pub(super) async fn place(&self, job: &JobSpec) -> Result<Next, Broken> {
        let store = &self.shared.store;
        let policy = self.shared.apps.config(&self.app).policy;
        let mut refused_claims = 0;
        loop {
            let candidates = store.candidates(&self.app, job.hint.as_ref()).await?;
            let decision = policy::decide(policy, job, candidates, refused_claims);
            let unavailable = match &decision.target {
                Target::Runner { runner } => {
                    let claim = store.claim(&self.app, job.id, runner, CLAIM_MS, &decision);
                    match claim.await? {
                        Claim::Won(epoch) => {
                            return Ok(Next::Send(Destination::Runner {
                                queue: self.shared.topology.runner_queue(runner, epoch),
                                runner: runner.clone(),
                            }));
                        }
                        Claim::Refused => {
                            refused_claims += 1;
                            continue;
                        }
                        Claim::Unavailable(reason) => reason,
                    }
                }
                Target::Shared => match store.share(&self.app, job.id, &decision).await? {
                    None => return Ok(Next::Send(Destination::Shared)),
                    Some(reason) => reason,
                },
            };
            match unavailable {
                Unavailable::Terminal(_) => return Ok(Next::Drop),
                Unavailable::Leased { remaining_ms } => {
                    let delay = std::time::Duration::from_millis(remaining_ms);
                    let tier = RetryTier::at_most(delay);
                    return Ok(Next::Send(Destination::Parked(tier)));
                }
                // Redis lost the record (a restart without persistence); the message holds the whole job.
                Unavailable::Missing => {
                    tracing::warn!(job.id = %job.id, "recorded a job again that Redis had lost");
                    store.create(job).await?;
                }
            }
        }
    }

    /// Publishes a job to its place, as it came, and waits for the broker's confirm.
    async fn send(&self, held: &Held, to: &Destination) -> Result<(), PublishError> {
        let topology = &self.shared.topology;
        let (exchange, key) = match to {
            Destination::Runner { queue, .. } => (String::new(), queue.clone()),
            Destination::Shared => (String::new(), topology.shared_queue(&self.app)),
            Destination::Parked(tier) => (
                topology.retry_exchange(*tier),
                topology.lane_key(&self.app, held.job.priority),
            ),
        };
        let message = Message {
            message_id: Some(held.job.id.to_string()),
            ..Message::new(held.delivery.data.clone())
        };
        self.shared
            .publisher
            .publish(&exchange, &key, &message)
            .await
    }

    /// Sends a held job where `next` says and acknowledges its backlog copy. Gives the job back when its runner's queue
    /// is gone: then it is to be placed again.
    pub(super) async fn carry_out(&self, held: Held, next: Next) -> Result<Option<Held>, Broken> {
        if let Next::Send(destination) = next {
            match self.send(&held, &destination).await {
                Ok(()) => {}
                Err(PublishError::Returned { .. }) => {
                    if let Destination::Runner { runner, .. } = &destination {
                        tracing::info!(job.id = %held.job.id, runner = %runner, "the chosen runner is gone; deciding again");
                    }
                    return Ok(Some(held));
                }
                Err(error) => return Err(error.into()),
            }
        }
        held.delivery.ack(BasicAckOptions::default()).await?;
        Ok(None)
    }
}
