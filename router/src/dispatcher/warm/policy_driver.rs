//! Translates events for the policy and executes its commands, one at a time.

use std::collections::{BTreeSet, VecDeque};

use lapin::options::BasicAckOptions;
use tokio::time::Instant;
use warmq_broker::has_returned;
use warmq_policy::warm::{
    Arrival, Command, Constants, Event, FleetView, Job, Model, Runner, Warm, Why,
};
use warmq_store::{Claim, RunnerEvent};
use warmq_types::ids::JobId;
use warmq_types::job::Decision;

use super::super::Dispatcher;
use super::super::lanes::JobDelivery;
use super::super::maintenance::IDLE_INTERVAL;
use super::super::sending::{CLAIM_MS, Destination, RunnerGone};
use super::clock::{Clock, ms, seconds};
use super::decision_log::{self, PredictedHold};
use super::held_jobs::{HeldDelivery, HeldJobs};
use super::hints::Hints;
use super::runner_tracker::RunnerTracker;
use crate::session_error::SessionError;

/// Candidates that a decision lists.
const MAX_CANDIDATES: usize = 8;

/// The dispatcher's state in one session.
pub(super) struct PolicyDriver<'a> {
    dispatcher: &'a Dispatcher,
    clock: Clock,
    policy: Warm,
    tracker: RunnerTracker,
    hints: Hints,
    held_jobs: HeldJobs,
    /// Models with unsaved statistics; `None` stands for the app.
    learned: BTreeSet<Option<Model>>,
    /// Whether an event occurred since the last tick.
    pub(super) is_active: bool,
    /// Time of the last comparison of all runners.
    compared: Instant,
    /// Placed jobs, ready to be sent.
    pub(super) outbox: Vec<(JobDelivery, Destination)>,
}

/// A send command of the policy.
struct SendCommand {
    job: Job,
    runner: Runner,
    warm: bool,
    why: Why,
    fleet_view: FleetView,
}

impl<'a> PolicyDriver<'a> {
    /// Restores the state from Redis.
    pub(super) async fn open(dispatcher: &'a Dispatcher) -> Result<Self, SessionError> {
        let store = &dispatcher.shared.store;
        let config = dispatcher.shared.apps.config(&dispatcher.app);
        let constants = Constants {
            prior_run_s: config.prior_run.as_secs_f64(),
            prior_load_s: config.prior_load.as_secs_f64(),
            ..Constants::default()
        };
        let mut driver = Self {
            dispatcher,
            clock: Clock::new(store.now_ms().await?),
            policy: Warm::new(constants),
            tracker: RunnerTracker::default(),
            hints: Hints::default(),
            held_jobs: HeldJobs::default(),
            learned: BTreeSet::new(),
            is_active: true,
            compared: Instant::now(),
            outbox: Vec::new(),
        };
        for (hint, json) in store.stats().read(&dispatcher.app).await? {
            match serde_json::from_str(&json) {
                Ok(learned) => {
                    let model = hint.map(|hint| driver.hints.number(&hint));
                    driver.policy.learn(model, learned);
                }
                Err(error) => tracing::debug!(%error, "skipped statistics of another version"),
            }
        }
        for hint in store.fleet().models(&dispatcher.app).await? {
            driver.policy.add_known_model(driver.hints.number(&hint));
        }
        driver.compare().await?;
        Ok(driver)
    }

    /// Returns when [`PolicyDriver::due`] must be called.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadline_s = self.policy.next_deadline_s()?;
        Some(self.clock.instant(deadline_s))
    }

    /// Handles a delivered job.
    pub(super) async fn arrived(&mut self, held: JobDelivery) -> Result<(), SessionError> {
        self.is_active = true;
        let returned = has_returned(&held.delivery);
        self.place(held, returned).await
    }

    /// Passes a job to the policy. `returned`: a runner had it before.
    async fn place(&mut self, held: JobDelivery, returned: bool) -> Result<(), SessionError> {
        let config = self.dispatcher.shared.apps.config(&self.dispatcher.app);
        let spec = &held.job;
        let now_s = self.clock.now_s();
        // Time on hold before this delivery counts towards the bound.
        let held_since_s = match held.delivery.redelivered {
            true => seconds(spec.created_ms),
            false => now_s,
        };
        let max_warm_wait_s = match (spec.max_warm_wait_ms, config.max_warm_wait) {
            (Some(wait_ms), _) => held_since_s + seconds(wait_ms) - now_s,
            (None, Some(wait)) => held_since_s + wait.as_secs_f64() - now_s,
            (None, None) => f64::INFINITY,
        };
        // A hint never blocks a job: half of its start timeout is left for any runner.
        let max_warm_wait_s = match spec.start_timeout_ms {
            Some(timeout_ms) => {
                let half_s = seconds(spec.created_ms) + seconds(timeout_ms) / 2.0;
                max_warm_wait_s.min(half_s - now_s)
            }
            None => max_warm_wait_s,
        };
        let model = spec.hint.as_ref().map(|hint| self.hints.number(hint));
        let avoid = (held.avoid.iter())
            .map(|runner| self.tracker.reserve(runner))
            .collect();
        let (priority, since_s) = (spec.priority, seconds(spec.created_ms));
        let (job, older) = self.held_jobs.insert(held, now_s);
        if let Some(older) = older {
            // A duplicate message, for example of a submission that was published twice: one is
            // enough.
            older.delivery.ack(BasicAckOptions::default()).await?;
            return Ok(());
        }
        self.learned.extend(model.map(Some));
        let arrival = Arrival {
            job,
            model,
            priority,
            since_s,
            max_warm_wait_s,
            returned,
            avoid,
        };
        self.apply(Event::Arrived(arrival)).await
    }

    /// Handles a send whose runner's queue is gone.
    pub(super) async fn runner_gone(&mut self, gone: RunnerGone) -> Result<(), SessionError> {
        let RunnerGone {
            held,
            runner,
            epoch,
        } = gone;
        self.changed(RunnerEvent::Gone { runner, epoch }).await?;
        self.place(held, true).await
    }

    pub(super) fn held(&self) -> usize {
        self.policy.held()
    }

    pub(super) fn holds(&self, job: JobId) -> bool {
        self.held_jobs.number(job).is_some()
    }

    /// Handles an event of a runner.
    pub(super) async fn changed(&mut self, change: RunnerEvent) -> Result<(), SessionError> {
        self.is_active = true;
        self.dispatcher.metrics.runner_event(&change);
        let events = self.tracker.changed(change, &mut self.hints);
        self.apply_all(events).await
    }

    /// Handles a job that was ended elsewhere: a held one leaves at once.
    pub(super) async fn ended(&mut self, id: JobId) -> Result<(), SessionError> {
        let Some(job) = self.held_jobs.number(id) else {
            return Ok(());
        };
        let held = self.withdraw(job).await?;
        self.outbox
            .extend(held.map(|held| (held, Destination::Discard)));
        Ok(())
    }

    /// Removes a job here and from the policy.
    async fn withdraw(&mut self, job: Job) -> Result<Option<JobDelivery>, SessionError> {
        self.apply(Event::Cancelled { job }).await?;
        Ok(self.held_jobs.remove(job).map(|waiting| waiting.held))
    }

    /// Handles a passed deadline.
    pub(super) async fn due(&mut self) -> Result<(), SessionError> {
        self.is_active = true;
        self.apply(Event::Due).await
    }

    /// Runs every second. Compares runners while events occur or a job waits, otherwise every
    /// [`IDLE_INTERVAL`].
    pub(super) async fn tick(&mut self) -> Result<(), SessionError> {
        let was_active = std::mem::take(&mut self.is_active);
        if was_active || self.held() > 0 || self.compared.elapsed() >= IDLE_INTERVAL {
            self.compare().await?;
        }
        self.return_oldest().await?;
        self.save_learned().await
    }

    pub(super) async fn close(&mut self) -> Result<(), SessionError> {
        self.save_learned().await
    }

    /// Compares all runners with the policy's view: events may have been missed.
    async fn compare(&mut self) -> Result<(), SessionError> {
        let Dispatcher { shared, app, .. } = self.dispatcher;
        self.compared = Instant::now();
        let availabilities = shared.store.runner_feed().availability(app).await?;
        let policy = &self.policy;
        let (unclear, lost) = self
            .tracker
            .compared(&availabilities, |runner| policy.is_idle(runner));
        self.apply_all(lost).await?;
        for runner in unclear {
            // Read only now: a previous event may have sent a job to this runner.
            if let Some((now, is_idle)) = shared.store.runner_feed().runner(app, &runner).await? {
                let number = self.tracker.number(&runner);
                let thought_idle = number.is_some_and(|number| self.policy.is_idle(number));
                let events = self
                    .tracker
                    .seen(now, is_idle, thought_idle, &mut self.hints);
                self.apply_all(events).await?;
            }
        }
        Ok(())
    }

    async fn return_oldest(&mut self) -> Result<(), SessionError> {
        let longest_s = self.dispatcher.shared.longest_held.as_secs_f64();
        let latest_s = self.clock.now_s() - longest_s;
        for job in self.held_jobs.older_than(latest_s) {
            if let Some(held) = self.withdraw(job).await? {
                held.return_to_lane().await?;
            }
        }
        Ok(())
    }

    async fn save_learned(&mut self) -> Result<(), SessionError> {
        let now_s = self.clock.now_s();
        let policy = &mut self.policy;
        let forgotten = self.hints.sweep(|model| policy.forget(model, now_s));
        let mut fields = Vec::new();
        for model in std::mem::take(&mut self.learned) {
            let hint = match model {
                Some(model) => match self.hints.name(model) {
                    Some(hint) => Some(hint.clone()),
                    None => continue,
                },
                None => None,
            };
            // Encoding cannot fail: string keys, finite numbers.
            let json = serde_json::to_string(&self.policy.learned(model)).unwrap_or_default();
            fields.push((hint, json));
        }
        if !fields.is_empty() || !forgotten.is_empty() {
            let Dispatcher { shared, app, .. } = self.dispatcher;
            shared.store.stats().save(app, &fields, &forgotten).await?;
        }
        Ok(())
    }

    async fn apply_all(&mut self, events: Vec<Event>) -> Result<(), SessionError> {
        for event in events {
            self.apply(event).await?;
        }
        Ok(())
    }

    /// Passes an event to the policy and executes its commands. A refused claim becomes another
    /// event.
    async fn apply(&mut self, event: Event) -> Result<(), SessionError> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if let Event::Freed(freed) = &event
                && let Some(ran) = freed.ran
            {
                self.learned.extend([Some(ran.model), None]);
            }
            // The policy picks any of many idle runners with the model; the decision lists some.
            let candidates = match &event {
                Event::Arrived(arrival) => arrival
                    .model
                    .map(|model| self.policy.idle_holders(model, MAX_CANDIDATES))
                    .unwrap_or_default(),
                _ => Vec::new(),
            };
            let now_s = self.clock.now_s();
            for command in self.policy.on(now_s, event, rand::random()) {
                match command {
                    Command::Send {
                        job,
                        runner,
                        warm,
                        why,
                        fleet_view,
                    } => {
                        let command = SendCommand {
                            job,
                            runner,
                            warm,
                            why,
                            fleet_view,
                        };
                        events.extend(self.claim(&command, &candidates).await?);
                    }
                    Command::Hold {
                        job,
                        until_s,
                        bounded,
                        wait_s,
                        for_another,
                        fleet_view,
                    } => {
                        let expected = PredictedHold {
                            until_s,
                            bounded,
                            wait_s,
                            for_another,
                            fleet_view,
                        };
                        events.extend(self.hold(job, &expected).await?);
                    }
                }
            }
        }
        Ok(())
    }

    /// Claims the runner for the job. Returns the policy's next event if the claim fails.
    async fn claim(
        &mut self,
        command: &SendCommand,
        candidates: &[Runner],
    ) -> Result<Option<Event>, SessionError> {
        let SendCommand { job, runner, .. } = *command;
        let (Some(name), Some(mut waiting)) = (
            self.tracker.name(runner).cloned(),
            self.held_jobs.remove(job),
        ) else {
            tracing::error!(?job, ?runner, "the policy sent a job that is not held");
            return Ok(Some(Event::ClaimVoid { runner }));
        };
        let named = |runner: &Runner| self.tracker.name(*runner).cloned();
        let candidates = match command.why {
            Why::WarmAndIdle | Why::AnotherRunner => candidates.iter().filter_map(named).collect(),
            _ if command.warm => vec![name.clone()],
            _ => Vec::new(),
        };
        let Dispatcher {
            shared,
            app,
            metrics,
            ..
        } = self.dispatcher;
        let hint = waiting.held.job.hint.as_ref();
        let decision = Decision {
            refused_claims: waiting.refused_claims,
            ..decision_log::sent(
                &name,
                hint,
                command.warm,
                command.why,
                command.fleet_view,
                candidates,
            )
        };
        let decision = self.after_hold(&waiting, decision);
        loop {
            let id = waiting.held.job.id;
            let claim = shared
                .store
                .placement()
                .claim(app, id, &name, CLAIM_MS, &decision);
            match claim.await? {
                Claim::Won(epoch) => {
                    metrics.dispatched(hint, &decision);
                    let destination = Destination::Runner(name, epoch);
                    self.outbox.push((waiting.held, destination));
                    return Ok(None);
                }
                Claim::Refused => {
                    metrics.refused(hint);
                    waiting.refused_claims += 1;
                    self.held_jobs.put_back(job, waiting);
                    return Ok(Some(Event::Refused { runner }));
                }
                Claim::Unavailable(reason) => {
                    let reroute = self.dispatcher.reroute(&waiting.held, reason).await?;
                    if let Some(destination) = reroute {
                        self.outbox.push((waiting.held, destination));
                        return Ok(Some(Event::ClaimVoid { runner }));
                    }
                }
            }
        }
    }

    /// Records a hold. Returns the policy's next event if the job must not be held.
    async fn hold(
        &mut self,
        job: Job,
        expected: &PredictedHold,
    ) -> Result<Option<Event>, SessionError> {
        let now_s = self.clock.now_s();
        let Some(waiting) = self.held_jobs.get_mut(job) else {
            return Ok(None);
        };
        let spec = &waiting.held.job;
        let mut hold = decision_log::held(spec.hint.as_ref(), now_s, expected);
        if let Some(earlier) = &waiting.hold {
            let held_ms = hold.since_ms.saturating_sub(earlier.since_ms);
            hold.predicted_wait_ms = hold.predicted_wait_ms.map(|wait_ms| held_ms + wait_ms);
            hold.since_ms = earlier.since_ms;
        }
        let Dispatcher { shared, app, .. } = self.dispatcher;
        while let Some(reason) = shared.store.placement().hold(app, spec.id, &hold).await? {
            if let Some(destination) = self.dispatcher.reroute(&waiting.held, reason).await? {
                self.outbox.extend(
                    (self.held_jobs.remove(job)).map(|waiting| (waiting.held, destination)),
                );
                return Ok(Some(Event::Cancelled { job }));
            }
        }
        waiting.hold = Some(hold);
        Ok(None)
    }

    /// Adds the predicted and the actual wait of an earlier hold to a decision.
    fn after_hold(&self, waiting: &HeldDelivery, decision: Decision) -> Decision {
        match &waiting.hold {
            Some(hold) => Decision {
                predicted_wait_ms: hold.predicted_wait_ms,
                // At least 1, since 0 means that it was not held.
                held_ms: ms(self.clock.now_s()).saturating_sub(hold.since_ms).max(1),
                ..decision
            },
            None => decision,
        }
    }
}
