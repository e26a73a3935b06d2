//! Names of exchanges and queues, and routing keys.

use warmq_types::ids::{AppId, Epoch, Namespace, RunnerId};
use warmq_types::job::{JobSpec, Priority};
use warmq_types::owner_lane::OwnerLane;
use warmq_types::retry_tier::RetryTier;
use warmq_types::state::JobState;

/// Suffix of the keys of events with a webhook, and the key of repeated deliveries.
pub(super) const WEBHOOK: &str = "webhook";

/// Part of the keys of events for the reply role.
pub(super) const REPLY: &str = "reply";

/// Suffix of the keys of events that advance a flow.
pub(super) const FLOW: &str = "flow";

/// Names of one namespace.
#[derive(Debug, Clone)]
pub struct Names {
    namespace: Namespace,
}

impl Names {
    pub(super) fn new(namespace: Namespace) -> Self {
        Self { namespace }
    }

    pub(super) fn name(&self, rest: impl std::fmt::Display) -> String {
        format!("{}.{rest}", self.namespace)
    }

    /// Returns the exchange of AMQP submissions.
    pub fn jobs_exchange(&self) -> String {
        self.name("jobs")
    }

    /// Returns the exchange of the apps' lanes.
    pub fn dispatch_exchange(&self) -> String {
        self.name("dispatch")
    }

    /// Returns the exchange of events.
    pub fn events_exchange(&self) -> String {
        self.name("jobs.events")
    }

    /// Returns the exchange whose messages return to `dispatch` after the tier's delay.
    pub fn retry_exchange(&self, tier: RetryTier) -> String {
        self.name(format_args!("retry.{}", tier.label()))
    }

    /// Returns the queue of AMQP submissions.
    pub fn submissions_queue(&self) -> String {
        self.name("submissions")
    }

    /// Returns an app's lane.
    pub fn lane_queue(&self, app: &AppId, lane: Priority) -> String {
        self.name(format_args!("jobs.{}", self.lane_key(app, lane)))
    }

    /// Returns the overflow queue of an owner's jobs in an app's lane. Unambiguous, since an app's
    /// name contains no dot.
    pub fn overflow_queue(&self, app: &AppId, jobs: &OwnerLane) -> String {
        self.name(format_args!("overflow.{app}.{jobs}"))
    }

    /// Returns an app's shared queue.
    pub fn shared_queue(&self, app: &AppId) -> String {
        self.name(format_args!("shared.{app}"))
    }

    /// Returns the queue of one incarnation of a runner.
    pub fn runner_queue(&self, runner: &RunnerId, epoch: Epoch) -> String {
        self.name(format_args!("runner.{runner}.{epoch}"))
    }

    /// Returns an app's dead-letter queue.
    pub fn dead_queue(&self, app: &AppId) -> String {
        self.name(format_args!("dead.{app}"))
    }

    /// Returns the dead-letter queue of submissions without a valid app. No app's queue, since an
    /// app's name contains a slash.
    pub fn dead_submissions_queue(&self) -> String {
        self.name("dead.submissions")
    }

    /// Returns the queue of messages for apps without queues.
    pub fn unroutable_queue(&self) -> String {
        self.name("unroutable")
    }

    /// Returns the queue of deferred results.
    pub fn deferred_results_queue(&self) -> String {
        self.name("deferred_results")
    }

    /// Returns the queue of ended jobs with a reply.
    pub fn reply_events_queue(&self) -> String {
        self.name("events.reply")
    }

    /// Returns the queue of ended jobs with a webhook.
    pub fn webhook_events_queue(&self) -> String {
        self.name("events.webhook")
    }

    /// Returns the queue of events that advance flows.
    pub fn flow_events_queue(&self) -> String {
        self.name("events.flow")
    }

    /// Returns the routing key on the retry exchanges (and then on `dispatch`) of
    /// [`Self::webhook_events_queue`]. No app's key, since an app's name contains a slash.
    pub fn webhook_key(&self) -> &'static str {
        WEBHOOK
    }

    /// Returns the routing key on `dispatch` (and on the retry exchanges) of an app's lane.
    pub fn lane_key(&self, app: &AppId, lane: Priority) -> String {
        match lane {
            Priority::Normal => app.to_string(),
            Priority::Low => format!("{app}.low"),
        }
    }

    /// Returns the routing key on `jobs.events` of the event that a job ended; `None` if no role
    /// needs it. Replies need those of jobs with a reply address or an input to delete, webhooks
    /// those of jobs with a webhook, flows those of steps, which have no webhooks: their flows have
    /// them. `has_reply_address`: the job has one, or may have.
    pub fn event_key(
        &self,
        job: &JobSpec,
        state: JobState,
        has_reply_address: bool,
    ) -> Option<String> {
        let forgets_input = job.no_store && job.stored_input.is_some();
        let words = [
            (REPLY, has_reply_address || forgets_input),
            (FLOW, job.step_of.is_some()),
            (WEBHOOK, job.step_of.is_none() && job.webhook.is_some()),
        ];
        let needed: String = (words.iter().filter(|(_, needs_it)| *needs_it))
            .map(|(word, _)| format!(".{word}"))
            .collect();
        (!needed.is_empty()).then(|| format!("{state}.{}{needed}", job.app))
    }

    /// Returns the routing key on `jobs.events` of an accepted flow.
    pub fn flow_accepted_key(&self, flow: &JobSpec) -> String {
        format!("{}.{}.{FLOW}", JobState::Queued, flow.app)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_types::flow::StepOf;

    fn names() -> Names {
        Names::new(Namespace::parse("test").unwrap())
    }

    #[test]
    fn an_events_key_names_the_roles_that_need_it() {
        let names = names();
        let mut job = JobSpec::new(AppId::parse("a/b").unwrap(), serde_json::Value::Null);
        let key = |job: &JobSpec| names.event_key(job, JobState::Failed, false);
        assert_eq!(key(&job), None);
        job.webhook = Some("https://example.com/".to_owned());
        assert_eq!(key(&job).unwrap(), "failed.a/b.webhook");
        let with_reply = names.event_key(&job, JobState::Failed, true);
        assert_eq!(with_reply.unwrap(), "failed.a/b.reply.webhook");
        job.step_of = Some(StepOf {
            route: job.app.clone(),
            flow: job.id,
            index: 0,
        });
        assert_eq!(key(&job).unwrap(), "failed.a/b.flow");
        assert_eq!(names.flow_accepted_key(&job), "queued.a/b.flow");
    }

    #[test]
    fn names_carry_the_namespace() {
        let names = names();
        let app = AppId::parse("warmq/diffusion").unwrap();
        assert_eq!(
            names.lane_queue(&app, Priority::Low),
            "test.jobs.warmq/diffusion.low"
        );
        let overflow = OwnerLane::parse("low.alice-1").unwrap();
        assert_eq!(
            names.overflow_queue(&app, &overflow),
            "test.overflow.warmq/diffusion.low.alice-1"
        );
        assert_eq!(
            names.runner_queue(&RunnerId::parse("gpu-1").unwrap(), Epoch(7)),
            "test.runner.gpu-1.7"
        );
    }
}
