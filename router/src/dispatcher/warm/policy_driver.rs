//! Translates deliveries, runner events and cancellations into the policy's events, one at a time.

use std::collections::VecDeque;

use tokio::time::Instant;
use warmq_broker::{acknowledgement, has_returned};
use warmq_policy::warm::{
    Arrival, Command, Constants, Event, HoldCommand, Owner, OwnerTerms, Runner, SendCommand, Warm,
    Why,
};
use warmq_policy::work::HeldWork;
use warmq_store::RunnerEvent;
use warmq_types::ids::{JobId, RunnerId};
use warmq_types::tier::Tier;

use super::super::Dispatcher;
use super::super::dispatch_loop::Placer;
use super::super::lanes::{JobDelivery, LaneLimits};
use super::super::maintenance::IDLE_INTERVAL;
use super::super::sending::{Destination, PlacedJob, RunnerGone};
use super::clock::{Clock, seconds};
use super::command_executor::{CommandExecutor, PendingSend};
use super::hints::Hints;
use super::owners::Owners;
use super::runner_tracker::RunnerTracker;
use super::statistics::Statistics;
use super::waiting_jobs::WaitingJobs;
use crate::session_error::SessionError;

/// Candidates that a decision lists.
const MAX_CANDIDATES: usize = 8;

/// The dispatcher's state in one session.
pub(super) struct PolicyDriver<'a> {
    dispatcher: &'a Dispatcher,
    clock: Clock,
    policy: Warm,
    /// Whether jobs wait for models that no runner has listed. A change starts another session.
    awaits_models: bool,
    tracker: RunnerTracker,
    hints: Hints,
    owners: Owners,
    statistics: Statistics<'a>,
    executor: CommandExecutor<'a>,
    /// Whether an event occurred since the last tick.
    is_active: bool,
    /// Time of the last comparison of all runners.
    compared: Instant,
}

impl Placer for PolicyDriver<'_> {
    const LIMITS: LaneLimits = LaneLimits {
        prefetch: 1000,
        max_unconfirmed: 256,
        placer_holds: true,
    };

    async fn arrived(&mut self, delivered: JobDelivery) -> Result<(), SessionError> {
        self.is_active = true;
        tracing::debug!(job.id = %delivered.job.id, "a job arrived at the dispatcher");
        let returned = has_returned(&delivered.delivery);
        self.place(delivered, returned).await
    }

    fn placed(&mut self) -> &mut Vec<PlacedJob> {
        &mut self.executor.placed
    }

    async fn runner_gone(&mut self, gone: RunnerGone) -> Result<(), SessionError> {
        let RunnerGone {
            delivered,
            runner,
            epoch,
        } = gone;
        self.runner_event(RunnerEvent::Gone { runner, epoch })
            .await?;
        self.place(delivered, true).await
    }

    async fn runner_event(&mut self, event: RunnerEvent) -> Result<(), SessionError> {
        self.is_active = true;
        let events = self.tracker.event(event, &mut self.hints);
        self.apply_all(events).await
    }

    /// A held job leaves at once.
    async fn cancelled(&mut self, id: JobId) -> Result<(), SessionError> {
        let number = self.executor.waiting_jobs.number(id);
        if number.is_some_and(|job| self.executor.concerns_job(job)) {
            self.execute().await?;
        }
        // A job that was sent meanwhile does not start.
        if let Some(job) = self.executor.waiting_jobs.number(id) {
            self.apply(Event::Cancelled { job }).await?;
            self.executor.withdraw(job, Destination::Discard);
        }
        Ok(())
    }

    fn pending(&self) -> usize {
        self.executor.batch.len()
    }

    async fn execute(&mut self) -> Result<(), SessionError> {
        while !self.executor.batch.is_empty() {
            let events = self.executor.execute().await?;
            self.apply_all(events).await?;
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadline_s = self.policy.next_deadline_s();
        let deadline = deadline_s.map(|deadline_s| self.clock.instant(deadline_s));
        let record_holds_at = self.executor.record_holds_at;
        deadline.into_iter().chain(record_holds_at).min()
    }

    async fn due(&mut self) -> Result<(), SessionError> {
        self.is_active = true;
        self.apply(Event::Due).await?;
        let record_holds_at = self.executor.record_holds_at;
        if record_holds_at.is_some_and(|at| at <= Instant::now()) {
            let events = self.executor.record_holds().await?;
            self.apply_all(events).await?;
        }
        Ok(())
    }

    /// Compares runners while events occur or a job waits, otherwise every [`IDLE_INTERVAL`].
    async fn tick(&mut self) -> Result<(), SessionError> {
        // Redis counts the runners of pending claims as idle.
        self.execute().await?;
        let was_active = std::mem::take(&mut self.is_active);
        if was_active || self.policy.held() > 0 || self.compared.elapsed() >= IDLE_INTERVAL {
            self.compare().await?;
        }
        for terms in self.owners.changed() {
            self.apply(Event::Terms(terms)).await?;
        }
        self.return_oldest().await?;
        self.save_statistics().await
    }

    fn held_work(&self) -> HeldWork {
        self.policy.held_work()
    }

    fn holds(&self, job: JobId) -> bool {
        self.executor.waiting_jobs.number(job).is_some()
    }
}

impl<'a> PolicyDriver<'a> {
    /// Restores the state from Redis.
    pub(super) async fn open(dispatcher: &'a Dispatcher) -> Result<Self, SessionError> {
        let (app, store) = (&dispatcher.app, &dispatcher.shared.store);
        let config = dispatcher.shared.apps.config(app);
        let constants = Constants {
            prior_run_s: config.prior_run.as_secs_f64(),
            prior_load_s: config.prior_load.as_secs_f64(),
            ..Constants::default()
        };
        let clock = Clock::new(store.now_ms().await?);
        let mut driver = Self {
            dispatcher,
            clock,
            policy: Warm::new(constants),
            awaits_models: config.wait_for_model.is_some(),
            tracker: RunnerTracker::default(),
            hints: Hints::default(),
            owners: Owners::new(dispatcher.shared.keys.clone()),
            statistics: Statistics::new(app, store),
            executor: CommandExecutor {
                app,
                store,
                metrics: &dispatcher.metrics,
                rerouter: dispatcher.rerouter(),
                clock,
                waiting_jobs: WaitingJobs::default(),
                placed: Vec::new(),
                batch: Vec::new(),
                record_holds_at: None,
            },
            is_active: true,
            compared: Instant::now(),
        };
        (driver.statistics)
            .restore(&mut driver.policy, &mut driver.hints)
            .await?;
        driver.compare().await?;
        Ok(driver)
    }

    /// Passes a job to the policy. `returned`: a runner had it before.
    async fn place(&mut self, delivered: JobDelivery, returned: bool) -> Result<(), SessionError> {
        let now_s = self.clock.now_s();
        let max_warm_wait_s = self.max_warm_wait_s(&delivered, now_s);
        let spec = &delivered.job;
        let (priority, since_s) = (spec.priority, seconds(spec.created_ms));
        let (owner, terms) = self.owners.number(spec.owner.as_ref());
        let model = spec.hint.as_ref().map(|hint| self.hints.number(hint));
        if let Some(model) = model.filter(|_| self.awaits_models) {
            // Otherwise any runner would report it as unknown.
            self.policy.add_known_model(model);
        }
        let avoid = (delivered.avoid.iter())
            .map(|runner| self.tracker.reserve(runner))
            .collect();
        if let Some(terms) = terms {
            self.apply(Event::Terms(terms)).await?;
        }
        let (job, older) = self.executor.waiting_jobs.insert(delivered, now_s);
        if let Some(older) = older {
            // A duplicate message, for example of a submission that was published twice: one is
            // enough.
            acknowledgement::ack(&older.delivery.acker).await?;
            return Ok(());
        }
        let arrival = Arrival {
            job,
            model,
            priority,
            owner,
            since_s,
            max_warm_wait_s,
            returned,
            avoid,
        };
        self.apply(Event::Arrived(arrival)).await
    }

    /// Returns the bound on a job's hold, s from now; infinite without one.
    fn max_warm_wait_s(&self, delivered: &JobDelivery, now_s: f64) -> f64 {
        let Dispatcher { shared, app, .. } = self.dispatcher;
        let spec = &delivered.job;
        let created_s = seconds(spec.created_ms);
        // Time on hold before this delivery counts towards the bound.
        let held_since_s = match delivered.delivery.redelivered {
            true => created_s,
            false => now_s,
        };
        let app_wait = || Some(shared.apps.config(app).max_warm_wait?.as_secs_f64());
        let wait_s = spec.max_warm_wait_ms.map(seconds).or_else(app_wait);
        let until_s = wait_s.map_or(f64::INFINITY, |wait_s| held_since_s + wait_s);
        // A hint never blocks a job: half of its start timeout is left for any runner.
        let start_s = spec.start_timeout_ms.map(seconds);
        let half_s = start_s.map_or(f64::INFINITY, |start_s| created_s + start_s / 2.0);
        until_s.min(half_s) - now_s
    }

    /// Compares all runners with the policy's view: events may have been missed.
    async fn compare(&mut self) -> Result<(), SessionError> {
        let Dispatcher { shared, app, .. } = self.dispatcher;
        self.compared = Instant::now();
        let availabilities = shared.store.runner_feed().availability(app).await?;
        let policy = &self.policy;
        let (unclear, lost) = self
            .tracker
            .compare(&availabilities, |runner| policy.is_idle(runner));
        self.apply_all(lost).await?;
        for runner in unclear {
            // Read only now: a previous event may have sent a job to this runner.
            if let Some((now, is_idle)) = shared.store.runner_feed().runner(app, &runner).await? {
                let number = self.tracker.number(&runner);
                let policy_idle = number.is_some_and(|number| self.policy.is_idle(number));
                let mut events = self
                    .tracker
                    .state(now, is_idle, policy_idle, &mut self.hints);
                if let Some(Event::Found(found)) = events.last_mut()
                    && let Some((owner, terms)) = self.owner_on(&runner).await?
                {
                    found.owner = Some(owner);
                    events.splice(0..0, terms.map(Event::Terms));
                }
                self.apply_all(events).await?;
            }
        }
        Ok(())
    }

    /// Returns the owner of a busy runner's job, with its terms if they are new.
    async fn owner_on(
        &mut self,
        runner: &RunnerId,
    ) -> Result<Option<(Owner, Option<OwnerTerms>)>, SessionError> {
        let Dispatcher { shared, app, .. } = self.dispatcher;
        let Some(job) = shared.store.runner_feed().current_job(app, runner).await? else {
            return Ok(None);
        };
        match shared.store.jobs().head_of(app, job).await {
            Ok(Some(head)) => Ok(Some(self.owners.number(head.record.spec.owner.as_ref()))),
            Ok(None) => Ok(None),
            // Its end will show.
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns the jobs held for `longest_held` to their lanes.
    async fn return_oldest(&mut self) -> Result<(), SessionError> {
        let longest_s = self.dispatcher.shared.longest_held.as_secs_f64();
        let latest_s = self.clock.now_s() - longest_s;
        for job in self.executor.waiting_jobs.older_than(latest_s) {
            self.apply(Event::Cancelled { job }).await?;
            if let Some(waiting) = self.executor.waiting_jobs.remove(job) {
                waiting.delivered.return_to_lane().await?;
            }
        }
        Ok(())
    }

    pub(super) async fn save_statistics(&mut self) -> Result<(), SessionError> {
        let now_s = self.clock.now_s();
        (self.statistics)
            .save(&mut self.policy, &mut self.hints, now_s)
            .await
    }

    async fn apply_all(&mut self, events: Vec<Event>) -> Result<(), SessionError> {
        for event in events {
            self.apply(event).await?;
        }
        Ok(())
    }

    /// Passes an event to the policy and adds its commands to the batch. Events and commands that
    /// concern a runner or job of the batch follow its execution.
    async fn apply(&mut self, event: Event) -> Result<(), SessionError> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            if runner_of(&event).is_some_and(|runner| self.executor.concerns_runner(runner)) {
                events.push_front(event);
                prepend(&mut events, self.executor.execute().await?);
                continue;
            }
            self.statistics.note(&event);
            let holders = self.idle_holders(&event);
            for command in self.policy.on(self.clock.now_s(), event, rand::random()) {
                let (Command::Hold(HoldCommand { job, .. })
                | Command::Send(SendCommand { job, .. })) = command;
                if self.executor.concerns_job(job) {
                    events.extend(self.executor.execute().await?);
                }
                match command {
                    Command::Hold(command) => self.executor.hold(&command),
                    Command::Send(command) => match self.tracker.name(command.runner).cloned() {
                        Some(runner) => self.executor.batch.push(PendingSend {
                            candidates: self.candidates(&command, &holders),
                            command,
                            runner,
                        }),
                        None => {
                            tracing::error!(?command, "the policy chose an unknown runner");
                            let runner = command.runner;
                            events.push_back(Event::Refused { runner });
                        }
                    },
                }
            }
        }
        Ok(())
    }

    /// Returns some of the idle runners with an arriving job's model.
    fn idle_holders(&self, event: &Event) -> Vec<Runner> {
        match event {
            Event::Arrived(Arrival {
                model: Some(model), ..
            }) => self.policy.idle_holders(*model, MAX_CANDIDATES),
            _ => Vec::new(),
        }
    }

    /// Returns the names of the idle runners that had the model loaded. The policy picks any of
    /// many `holders`; the decision lists some.
    fn candidates(&self, send: &SendCommand, holders: &[Runner]) -> Vec<RunnerId> {
        let named = |runner: &Runner| self.tracker.name(*runner).cloned();
        match send.why {
            Why::WarmAndIdle | Why::AnotherRunner => holders.iter().filter_map(named).collect(),
            _ if send.tier == Tier::Device => named(&send.runner).into_iter().collect(),
            _ => Vec::new(),
        }
    }
}

/// Returns the runner that an event is about, if it is about one that can have a claim.
fn runner_of(event: &Event) -> Option<Runner> {
    match event {
        Event::Freed(freed) => Some(freed.runner),
        Event::Found(found) => Some(found.runner),
        Event::Joined { runner, .. }
        | Event::Taken { runner }
        | Event::Lost { runner }
        | Event::Refused { runner }
        | Event::ClaimVoid { runner } => Some(*runner),
        Event::Terms(_) | Event::Arrived(_) | Event::Cancelled { .. } | Event::Due => None,
    }
}

/// Adds events before the others, in their order.
fn prepend(events: &mut VecDeque<Event>, earlier: Vec<Event>) {
    for event in earlier.into_iter().rev() {
        events.push_front(event);
    }
}
