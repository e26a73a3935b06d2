//! Policy `warm`: a job waits a bounded time for a runner that holds its model, and a model gets
//! another copy where that pays. Pure: time and random bits come in with each event, commands go
//! out; the dispatcher and the simulator in `dev/bench/` drive the same [`Warm`].
//!
//! | module | content |
//! | --- | --- |
//! | `event` | input events and output commands |
//! | `constants` | theta, tb, delta, D, R |
//! | `estimates` | S(m), L(m), lam(m), measured from events |
//! | `fleet`, `holders`, `runner_set` | runners: idle sets, holders, predicted caches; sampling |
//! | `window` | held jobs: by owner, age, model, deadline |
//! | `view` | read-only state of a decision |
//! | `wait` | W(m), the wait for a warm runner |
//! | `eviction_cost` | cost of an eviction; the bar that a wait must exceed |
//! | `pick` | which runner for a job, which job for a runner |
//! | `shares` | how owners share the runners' time |
//! | `rng` | reproducible choices among equals |
//!
//! With R runners of K models each and H held jobs of T owners, an event costs O(K T log(R H)) plus
//! constant-size samples.
//!
//! A job is sent at once if a runner with its model is idle, or if no runner holds its model and
//! any is idle, or if its wait W(m) would exceed the bar of the cheapest idle runner. Otherwise it
//! is held. A freed runner takes the oldest job that it is warm for; failing that, a job that no
//! holder will reach in time; failing that, it stays idle. A job without hint is warm everywhere:
//! it goes to the idle runner with the lowest eviction cost, otherwise it waits in order of age.
//!
//! Until its patience is over (theta · L, sooner if the job has a bound), a job goes to a runner on
//! its avoid list only if no other live runner can load its model.
//!
//! Three guards bound a job's wait. Past its deadline (theta · L, sooner if the job has a bound)
//! any idle runner takes it. Past its own bound, which the submitter or the app set, it precedes
//! all jobs that a freed runner is warm for, in order of those bounds. Past age D the oldest job
//! does the same; as all jobs may be past D, this forces a swap at most once in R per runner,
//! unless a bound forces one anyway. So, within a lane and among runners that may serve it:
//!
//! * a job past its bound is passed only by jobs that were due before it;
//! * a job without hint is passed only by jobs that were accepted or due before it;
//! * the job that was due first starts within R · L, a load and a run.
//!
//! All of this is within the jobs of one owner. Of several owners with jobs for a free runner, the
//! one furthest behind its share comes first (`shares`): of those that the runner is warm for or
//! that have a job due; one that is behind these gets a load if that pays. An owner with as many
//! jobs on runners as it may have waits.
//!
//! A job is due at its bound or at acceptance + D, whichever is first; without hint, when accepted.

mod catalogs;
mod constants;
mod estimates;
mod event;
mod eviction_cost;
mod fleet;
mod holders;
mod pick;
#[cfg(test)]
mod proptests;
mod rng;
mod runner_set;
mod shares;
#[cfg(test)]
mod tests;
mod view;
mod wait;
mod window;

pub use constants::Constants;
pub use estimates::Statistics;
pub use event::{
    Arrival, Avoid, Command, Event, FleetView, Found, Freed, HoldCommand, Job, Memory, Model,
    Owner, OwnerTerms, RunObservation, Runner, SendCommand, Why,
};

use estimates::Estimates;
use fleet::Fleet;
use pick::{any_idle, job_for, kept_until_s, runner_for, waits_for_another};
use rng::SplitMix64;
use shares::{Shares, saved_loads_s};
use view::View;
use wait::wait_s;
use warmq_types::job::Priority;
use warmq_types::tier::Tier;
use window::{Backlog, HeldJob, LANES, Window};

use crate::work::HeldWork;

/// State of the policy for one app.
#[derive(Debug, Clone)]
pub struct Warm {
    constants: Constants,
    estimates: Estimates,
    fleet: Fleet,
    window: Window,
    shares: Shares,
}

/// Context of one event: its time, its random bits, the commands so far.
struct EventContext {
    now_s: f64,
    rng: SplitMix64,
    commands: Vec<Command>,
}

impl Warm {
    /// Returns a policy without runners and jobs.
    pub fn new(constants: Constants) -> Self {
        Self {
            constants,
            estimates: Estimates::new(&constants),
            fleet: Fleet::default(),
            window: Window::default(),
            shares: Shares::default(),
        }
    }

    /// Handles an event at `now_s` (s, on any monotonic clock that starts at or after 0) and
    /// returns the commands. `coin`: random bits for choices among equals.
    pub fn on(&mut self, now_s: f64, event: Event, coin: u64) -> Vec<Command> {
        let mut ctx = EventContext {
            now_s,
            rng: SplitMix64::new(coin),
            commands: Vec::new(),
        };
        match event {
            Event::Joined { runner, catalog } => self.fleet.catalogs.set(runner, catalog),
            Event::Terms(terms) => {
                if self.shares.set(terms) {
                    self.below_limit(terms.owner, &mut ctx);
                }
            }
            Event::Arrived(arrival) => self.arrived(&arrival, &mut ctx),
            Event::Freed(freed) => self.freed(freed, &mut ctx),
            Event::Found(found) => {
                let run_s = self.estimates.any_run_s();
                if let Some(owner) = found.owner {
                    self.shares.sent(owner, found.runner, now_s, run_s);
                }
                self.fleet.freed(found.runner, &found.memory);
                self.fleet.taken(found.runner, now_s + run_s, run_s);
            }
            Event::Taken { runner } => {
                let owner = self.ended(runner, now_s);
                let run_s = self.estimates.any_run_s();
                self.fleet.taken(runner, now_s + run_s, run_s);
                self.released(owner, &mut ctx);
            }
            Event::Lost { runner } => self.lost(runner, &mut ctx),
            Event::Refused { runner } => {
                let run_s = self.estimates.any_run_s();
                self.shares.unsent(runner);
                if let Some(held) = self.fleet.refused(runner, now_s + run_s, run_s) {
                    self.place_or_hold(held, &mut ctx);
                }
            }
            Event::ClaimVoid { runner } => {
                let owner = self.shares.unsent(runner);
                self.fleet.unsent(runner);
                if self.fleet.is_idle(runner) {
                    self.offer(runner, &mut ctx);
                }
                self.released(owner, &mut ctx);
            }
            Event::Cancelled { job } => {
                self.window.remove(job);
            }
            Event::Due => self.due(&mut ctx),
        }
        ctx.commands
    }

    /// Returns when [`Event::Due`] is due, s; `None` without a deadline ahead.
    pub fn next_deadline_s(&self) -> Option<f64> {
        let deadlines = [self.window.next_deadline_s(), self.shares.next_kept_s()];
        deadlines.into_iter().flatten().min_by(f64::total_cmp)
    }

    /// Returns the number of held jobs.
    pub fn held(&self) -> usize {
        self.window.len()
    }

    /// Returns the work in the held jobs, by the estimates: their runs, and a load of each model
    /// that no runner has on its device. Jobs beyond the limits of their owners are no work yet:
    /// further runners would not help them.
    pub fn held_work(&self) -> HeldWork {
        let mut work = HeldWork::empty(self.estimates.any_run_s());
        for (model, count) in self.window.counts() {
            let (run_s, load_s) = match model {
                Some(model) if self.fleet.copies(model) == 0 => {
                    (self.estimates.run_s(model), self.estimates.load_s(model))
                }
                Some(model) => (self.estimates.run_s(model), 0.0),
                None => (self.estimates.any_run_s(), 0.0),
            };
            work.jobs += count;
            work.total_s += count as f64 * run_s + load_s;
        }
        let beyond_limits: usize = self.beyond_limits().sum();
        if beyond_limits > 0 {
            work.total_s *= 1.0 - beyond_limits as f64 / work.jobs as f64;
        }
        work
    }

    /// Returns, for each owner with a limit, how many of its held jobs exceed it.
    fn beyond_limits(&self) -> impl Iterator<Item = usize> {
        let counts = self.window.counts_of_owners();
        counts.filter_map(|(owner, held)| {
            let room = self.shares.room(owner)?;
            Some(held.saturating_sub(room))
        })
    }

    /// Returns whether a runner is idle in the policy's view.
    pub fn is_idle(&self, runner: Runner) -> bool {
        self.fleet.is_idle(runner)
    }

    /// Returns at most `count` idle runners that hold a model.
    pub fn idle_holders(&self, model: Model, count: usize) -> Vec<Runner> {
        self.fleet.idle_holders(model, count)
    }

    /// Returns the statistics of a model, or with `None` of the app, for the next leader.
    pub fn statistics(&self, model: Option<Model>) -> Statistics {
        self.estimates.statistics(model)
    }

    /// Restores the statistics of an earlier leader.
    pub fn restore(&mut self, model: Option<Model>, statistics: Statistics) {
        self.estimates.restore(model, statistics);
    }

    /// Registers a model that some runner could load earlier: its jobs wait for a runner that can.
    pub fn add_known_model(&mut self, model: Model) {
        self.fleet.catalogs.add_known(model);
    }

    /// Forgets a model without holders and recent jobs, so that its number can be reused. Returns
    /// false if it is in use.
    pub fn forget(&mut self, model: Model, now_s: f64) -> bool {
        let unused = self.fleet.copies(model) == 0
            && self.fleet.ram_holders.count(model) == 0
            && !self.fleet.catalogs.is_known(model)
            // Behind a low job are those of both lanes.
            && self.window.queued(Priority::Low, model) == 0;
        unused && self.estimates.forget(model, now_s)
    }

    fn view(&self, now_s: f64) -> View<'_> {
        View {
            constants: &self.constants,
            estimates: &self.estimates,
            fleet: &self.fleet,
            window: &self.window,
            shares: &self.shares,
            only: None,
            now_s,
        }
    }

    fn arrived(&mut self, arrival: &Arrival, ctx: &mut EventContext) {
        if !self.window.has_jobs_of(arrival.owner) {
            let waiting = LANES.iter().flat_map(|lane| self.window.owners(*lane));
            let credit_s = self.saved_loads_s();
            self.shares.resume(arrival.owner, waiting, credit_s);
        }
        if let Some(model) = arrival.model
            && !arrival.returned
        {
            self.estimates.arrived(model, ctx.now_s);
        }
        let view = self.view(ctx.now_s);
        // A returned job is not held for warmth again.
        let bound_s = match arrival.returned {
            true => ctx.now_s,
            false => ctx.now_s + arrival.max_warm_wait_s.max(0.0),
        };
        let patience_s = match (arrival.model, arrival.avoid.is_empty()) {
            (None, true) => 0.0,
            _ => view.constants.theta * view.load_s(arrival.model),
        };
        let overdue_s = view.overdue_s(arrival.model);
        // With an avoid list, a job waits for another runner whatever its age.
        let latest_s = match arrival.avoid.is_empty() {
            true => bound_s.min(arrival.since_s + overdue_s),
            false => ctx.now_s + arrival.max_warm_wait_s,
        };
        let held = HeldJob {
            job: arrival.job,
            model: arrival.model,
            priority: arrival.priority,
            owner: arrival.owner,
            since_s: arrival.since_s,
            deadline_s: (ctx.now_s + patience_s).min(latest_s).max(ctx.now_s),
            bound_s,
            avoid: arrival.avoid,
            position: self.window.next_position(arrival.since_s),
        };
        self.place_or_hold(held, ctx);
    }

    /// Sends a job that is not in the window, or holds it.
    fn place_or_hold(&mut self, held: HeldJob, ctx: &mut EventContext) {
        loop {
            let view = self.view(ctx.now_s);
            let Some((runner, why)) = runner_for(&view, &held, &mut ctx.rng) else {
                self.hold(held, false, ctx);
                return;
            };
            if self.is_kept_from(runner, &held, ctx.now_s) {
                self.hold(held, true, ctx);
                return;
            }
            // A low-priority job takes no runner that a normal one is waiting for.
            if held.priority == Priority::Low && self.offer_lane(runner, Priority::Normal, ctx) {
                continue;
            }
            self.send(held, runner, why, ctx);
            return;
        }
    }

    /// `is_kept`: as in [`HoldCommand`].
    fn hold(&mut self, mut held: HeldJob, is_kept: bool, ctx: &mut EventContext) {
        held.deadline_s = held.deadline_s.max(ctx.now_s);
        let view = self.view(ctx.now_s);
        let wait_s = match held.model {
            Some(model) => wait_s(&view, model, held.priority, None, &mut ctx.rng),
            None => f64::INFINITY,
        };
        let for_another = waits_for_another(&view, &held);
        let is_bounded = held.bound_s <= held.deadline_s && held.priority == Priority::Normal;
        ctx.commands.push(Command::Hold(HoldCommand {
            job: held.job,
            until_s: held.deadline_s,
            // A low-priority job waits for normal ones regardless of its bound.
            bounded: is_bounded && !for_another,
            wait_s,
            for_another,
            at_limit: view.shares.is_at_limit(held.owner),
            is_kept,
            fleet_view: view.fleet_view(held.model),
        }));
        self.window.insert(held);
    }

    fn send(&mut self, held: HeldJob, runner: Runner, why: Why, ctx: &mut EventContext) {
        let view = self.view(ctx.now_s);
        let fleet_view = view.fleet_view(held.model);
        let target = view.fleet.get(runner);
        let tier = held.model.map_or(Tier::Device, |model| target.tier(model));
        let run_s = view.run_s(held.model);
        let load_s = (held.model).map_or(0.0, |model| view.load_on_s(runner, model));
        let ends_s = ctx.now_s + load_s + run_s;
        self.window.remove(held.job);
        self.shares
            .sent(held.owner, runner, ctx.now_s, load_s + run_s);
        if let Why::BehindShare { .. } = why {
            self.shares.swapped(load_s);
        }
        self.fleet.sent(runner, held, ctx.now_s, ends_s, run_s);
        ctx.commands.push(Command::Send(SendCommand {
            job: held.job,
            runner,
            tier,
            why,
            fleet_view,
        }));
    }

    fn freed(&mut self, freed: Freed, ctx: &mut EventContext) {
        if let Some(ran) = freed.ran {
            self.estimates.ran(ran.model, ran.run_s);
            match ran.load_s {
                Some(load_s) if ran.from_ram => self.estimates.loaded_from_ram(ran.model, load_s),
                Some(load_s) => self.estimates.loaded(ran.model, load_s),
                None => {}
            }
        }
        let owner = self.ended(freed.runner, ctx.now_s);
        self.fleet.freed(freed.runner, &freed.memory);
        self.offer(freed.runner, ctx);
        self.released(owner, ctx);
    }

    /// Notes that a runner has ended its job. Returns the job's owner.
    fn ended(&mut self, runner: Runner, now_s: f64) -> Option<Owner> {
        let most_s = self.saved_loads_s();
        self.shares.ended(runner, now_s, most_s)
    }

    /// Returns the loads that the fleet may save up for the sake of shares, in runners' seconds.
    fn saved_loads_s(&self) -> f64 {
        saved_loads_s(self.fleet.live_count(), self.estimates.any_load_s())
    }

    /// Places jobs of an owner with a limit after one of its jobs has left a runner: they may have
    /// waited for that although other runners are idle.
    fn released(&mut self, owner: Option<Owner>, ctx: &mut EventContext) {
        if let Some(owner) = owner.filter(|owner| self.shares.has_limit(*owner)) {
            self.below_limit(owner, ctx);
        }
    }

    /// Places jobs of an owner on idle runners up to its limit.
    fn below_limit(&mut self, owner: Owner, ctx: &mut EventContext) {
        while let Some(idle) = self.idle_for(owner, ctx) {
            if !self.offer(idle, ctx) {
                return;
            }
        }
    }

    /// Returns an idle runner for one of the oldest held jobs of an owner.
    fn idle_for(&self, owner: Owner, ctx: &mut EventContext) -> Option<Runner> {
        let view = self.view(ctx.now_s);
        let oldest = LANES.iter().flat_map(|&priority| {
            let jobs = self.window.oldest_first(Backlog { priority, owner });
            jobs.take(view.constants.scan)
        });
        let mut found = oldest.filter_map(|held| runner_for(&view, held, &mut ctx.rng));
        found.next().map(|(idle, _)| idle)
    }

    /// Gives an idle runner a held job, normal priority first. Returns whether there is one for it.
    fn offer(&mut self, runner: Runner, ctx: &mut EventContext) -> bool {
        self.offer_lane(runner, Priority::Normal, ctx)
            || self.offer_lane(runner, Priority::Low, ctx)
    }

    fn offer_lane(&mut self, runner: Runner, lane: Priority, ctx: &mut EventContext) -> bool {
        let view = self.view(ctx.now_s);
        match job_for(&view, runner, lane, &mut ctx.rng) {
            Some((held, why))
                if !matches!(why, Why::BehindShare { .. })
                    && self.is_kept_from(runner, &held, ctx.now_s) =>
            {
                false
            }
            Some((held, why)) => {
                self.send(held, runner, why, ctx);
                true
            }
            None => false,
        }
    }

    fn lost(&mut self, runner: Runner, ctx: &mut EventContext) {
        let owner = self.ended(runner, ctx.now_s);
        let models = self.fleet.lost(runner);
        for held in self.stranded(&models, ctx.now_s) {
            let view = self.view(ctx.now_s);
            if let Some((idle, _)) = runner_for(&view, &held, &mut ctx.rng) {
                self.offer(idle, ctx);
            }
        }
        self.released(owner, ctx);
    }

    /// Returns the held jobs that have lost the runner they waited for: the last copy of one of
    /// `models` is gone, or the last runner not on their avoid list. Of a model, the oldest of each
    /// owner in each lane.
    fn stranded(&self, models: &[Model], now_s: f64) -> Vec<HeldJob> {
        let view = self.view(now_s);
        let backlogs = LANES.iter().flat_map(|lane| view.backlogs(*lane));
        let gone = models
            .iter()
            .filter(|model| self.fleet.copies(**model) == 0);
        let heads = |backlog| {
            let heads = gone.clone();
            heads.filter_map(move |model| self.window.of_model(backlog, *model).next())
        };
        let avoiding = |backlog| self.window.avoiding(backlog);
        let avoiding = backlogs.clone().flat_map(avoiding);
        let alone = avoiding.filter(|held| !waits_for_another(&view, held));
        backlogs.flat_map(heads).chain(alone).copied().collect()
    }

    /// Returns whether an idle runner is kept for another owner than that of the job.
    fn is_kept_from(&mut self, runner: Runner, held: &HeldJob, now_s: f64) -> bool {
        let until_s = kept_until_s(&self.view(now_s), runner, held);
        if let Some(until_s) = until_s {
            self.shares.keep(runner, until_s, now_s);
        }
        until_s.is_some()
    }

    fn due(&mut self, ctx: &mut EventContext) {
        while let Some(runner) = self.shares.pop_kept(ctx.now_s) {
            if self.fleet.is_idle(runner) {
                self.offer(runner, ctx);
            }
        }
        while let Some(held) = self.window.pop_due(ctx.now_s) {
            if self.shares.is_at_limit(held.owner) {
                continue;
            }
            while let Some(runner) = any_idle(&self.view(ctx.now_s), &held, &mut ctx.rng) {
                if held.priority == Priority::Low && self.offer_lane(runner, Priority::Normal, ctx)
                {
                    continue;
                }
                if self.is_kept_from(runner, &held, ctx.now_s) {
                    break;
                }
                let why = match held.bound_s <= ctx.now_s {
                    true => Why::BoundPassed,
                    false => Why::PatienceOver,
                };
                self.send(held, runner, why, ctx);
                break;
            }
        }
    }
}
