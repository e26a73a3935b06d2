//! How owners share the runners' time: by weight, in seconds of runners, loads included.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, 1996), with runners instead of a link: each
//! owner has a virtual time, the runners' seconds that its jobs took over its weight, and the owner
//! with the least one comes first. An owner whose jobs return after a pause continues at the
//! virtual time of those that have jobs, so that unused time is neither saved nor owed.
//!
//! A runner that comes free stays for a while with the owner that used it, if that is not ahead and
//! its next job is likely to come soon (`pick::kept_until_s`): loading it for another owner, and
//! back, would take longer.
//!
//! Where a free runner is cold for the owner that comes first, and warm for another one, either a
//! load is due now or the share is late. [`Shares::may_swap`] bounds the loads: all together take
//! at most [`SWAP_PART`] of the time that runners spent on jobs, and each is charged to the owner
//! it is for, which must be so far behind that it stays behind.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::event::{Owner, OwnerTerms, Runner};
use super::window::micros;

/// Part of the runners' time that loads for the sake of shares may take, in the long run. A load
/// counts twice: the model that it evicts is loaded again some day.
pub const SWAP_PART: f64 = 0.05;

/// Loads that may be saved up, per runner.
const SAVED_LOADS: f64 = 0.25;

/// An owner's account.
#[derive(Debug, Clone, Copy)]
struct Account {
    weight: f64,
    max_running: usize,
    running: usize,
    /// Virtual time: runners' seconds over weight.
    time_s: f64,
    /// The part of it that is estimated: for the jobs on runners.
    estimated_s: f64,
}

impl Account {
    /// Returns the virtual time when the first of the jobs on runners started, about.
    fn started_s(&self) -> f64 {
        self.time_s - self.estimated_s
    }
}

impl Default for Account {
    fn default() -> Self {
        Self {
            weight: 1.0,
            max_running: usize::MAX,
            running: 0,
            time_s: 0.0,
            estimated_s: 0.0,
        }
    }
}

/// A charge for a job on a runner: an estimate until the runner is free.
#[derive(Debug, Clone, Copy)]
struct Charge {
    owner: Owner,
    since_s: f64,
    /// Estimated time over the owner's weight, s.
    estimated_s: f64,
}

/// The last job of a free runner.
#[derive(Debug, Clone, Copy)]
pub struct Last {
    /// Its owner.
    pub owner: Owner,
    /// Its end, s.
    pub ended_s: f64,
    /// Since when the runner is kept idle for the owner, s.
    kept_since_s: Option<f64>,
}

/// The accounts of all owners.
#[derive(Debug, Clone)]
pub struct Shares {
    /// By the owner's number.
    accounts: Vec<Account>,
    /// By the runner's number.
    charges: Vec<Option<Charge>>,
    /// The last job of each runner, by its number.
    last: Vec<Option<Last>>,
    /// The highest virtual time of any owner, without estimates.
    latest_s: f64,
    /// Runners' seconds that loads for the sake of shares may take now.
    saved_s: f64,
    /// When idle runners are no longer kept, s, by that time in µs, rounded down.
    kept: BTreeMap<(u64, Runner), f64>,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            accounts: Vec::new(),
            charges: Vec::new(),
            last: Vec::new(),
            latest_s: 0.0,
            // The first report of a runner limits it.
            saved_s: f64::INFINITY,
            kept: BTreeMap::new(),
        }
    }
}

impl Shares {
    fn get(&self, owner: Owner) -> Account {
        let account = self.accounts.get(owner.0 as usize);
        account.copied().unwrap_or_default()
    }

    fn get_mut(&mut self, owner: Owner) -> &mut Account {
        let index = owner.0 as usize;
        if index >= self.accounts.len() {
            self.accounts.resize_with(index + 1, Account::default);
        }
        &mut self.accounts[index]
    }

    /// Sets an owner's weight and limit. Returns whether it may run more jobs than before.
    pub fn set(&mut self, terms: OwnerTerms) -> bool {
        let account = self.get_mut(terms.owner);
        let before = std::mem::replace(
            &mut account.max_running,
            terms.max_running.unwrap_or(usize::MAX),
        );
        account.weight = terms.weight.max(f64::MIN_POSITIVE);
        account.max_running > before
    }

    /// Returns whether as many of the owner's jobs run as may.
    pub fn is_at_limit(&self, owner: Owner) -> bool {
        let account = self.get(owner);
        account.running >= account.max_running
    }

    /// Returns whether the owner has a limit.
    pub fn has_limit(&self, owner: Owner) -> bool {
        self.get(owner).max_running < usize::MAX
    }

    /// Returns how many more jobs of the owner may run; `None` without a limit.
    pub fn room(&self, owner: Owner) -> Option<usize> {
        let account = self.get(owner);
        let has_limit = self.has_limit(owner);
        has_limit.then(|| account.max_running.saturating_sub(account.running))
    }

    /// Compares two owners: the one that comes first is less.
    pub fn compare(&self, owner: Owner, other: Owner) -> Ordering {
        self.get(owner).time_s.total_cmp(&self.get(other).time_s)
    }

    /// Returns how far an owner is behind another one, in runners' seconds of the former.
    pub fn behind_s(&self, owner: Owner, other: Owner) -> f64 {
        let account = self.get(owner);
        (self.get(other).time_s - account.time_s) * account.weight
    }

    /// Continues the account of an owner whose job arrives while none of its jobs waits: at the
    /// least virtual time of the owners in `waiting`, which have jobs waiting, without their jobs
    /// on runners. If its jobs run, it may be `credit_s` behind that, in runners' seconds.
    pub fn resume(&mut self, owner: Owner, waiting: impl Iterator<Item = Owner>, credit_s: f64) {
        let times = waiting.map(|other| self.get(other).started_s());
        let least_s = times.min_by(f64::total_cmp).unwrap_or(self.latest_s);
        let account = self.get_mut(owner);
        let credit_s = match account.running {
            0 => 0.0,
            _ => credit_s / account.weight,
        };
        account.time_s = account.time_s.max(least_s - credit_s);
    }

    /// Charges a job that is sent to a runner, with its estimated load and run.
    pub fn sent(&mut self, owner: Owner, runner: Runner, now_s: f64, estimated_s: f64) {
        self.release(runner);
        self.forget_last(runner, now_s);
        let index = runner.0 as usize;
        if index >= self.charges.len() {
            self.charges.resize(index + 1, None);
        }
        let account = self.get_mut(owner);
        let estimated_s = estimated_s / account.weight;
        account.running += 1;
        account.time_s += estimated_s;
        account.estimated_s += estimated_s;
        self.charges[index] = Some(Charge {
            owner,
            since_s: now_s,
            estimated_s,
        });
    }

    /// Takes back the charge of a job that the runner did not run. Returns its owner.
    pub fn unsent(&mut self, runner: Runner) -> Option<Owner> {
        Some(self.release(runner)?.owner)
    }

    /// Replaces the estimate by the time that the runner, now free or lost, took for its job.
    /// Returns the job's owner. `most_saved_s`: loads that may be saved up, in runners' seconds.
    pub fn ended(&mut self, runner: Runner, now_s: f64, most_saved_s: f64) -> Option<Owner> {
        let charge = self.release(runner)?;
        let took_s = (now_s - charge.since_s).max(0.0);
        self.charge(charge.owner, took_s);
        self.saved_s = (self.saved_s + SWAP_PART * took_s).min(most_saved_s);
        let index = runner.0 as usize;
        if index >= self.last.len() {
            self.last.resize(index + 1, None);
        }
        self.last[index] = Some(Last {
            owner: charge.owner,
            ended_s: now_s,
            kept_since_s: None,
        });
        Some(charge.owner)
    }

    /// Returns the last job of a runner that is free.
    pub fn last(&self, runner: Runner) -> Option<Last> {
        self.last.get(runner.0 as usize).copied().flatten()
    }

    /// Keeps an idle runner for the owner of its last job until `until_s`. The owner is charged for
    /// the time.
    pub fn keep(&mut self, runner: Runner, until_s: f64, now_s: f64) {
        if let Some(Some(last)) = self.last.get_mut(runner.0 as usize) {
            last.kept_since_s.get_or_insert(now_s);
            self.kept.insert((micros(until_s), runner), until_s);
        }
    }

    /// Returns when the first runner is no longer kept, s.
    pub fn next_kept_s(&self) -> Option<f64> {
        self.kept.values().next().copied()
    }

    /// Removes a runner that is no longer kept at `now_s`.
    pub fn pop_kept(&mut self, now_s: f64) -> Option<Runner> {
        let (&(until_us, runner), _) = self.kept.first_key_value()?;
        if until_us > micros(now_s) {
            return None;
        }
        self.kept.pop_first();
        Some(runner)
    }

    /// Returns whether a load of `load_s` for an owner pays while the runner is warm for `other`.
    pub fn may_swap(&self, owner: Owner, other: Owner, load_s: f64) -> bool {
        2.0 * load_s <= self.saved_s && self.behind_s(owner, other) > load_s
    }

    /// Notes such a load.
    pub fn swapped(&mut self, load_s: f64) {
        self.saved_s -= 2.0 * load_s;
    }

    /// Forgets the last job of a runner that is sent another one, or lost.
    fn forget_last(&mut self, runner: Runner, now_s: f64) {
        let last = self.last.get_mut(runner.0 as usize).and_then(Option::take);
        if let Some(last) = last
            && let Some(since_s) = last.kept_since_s
        {
            self.charge(last.owner, (now_s - since_s).max(0.0));
            self.kept.retain(|(_, kept), _| *kept != runner);
        }
    }

    fn charge(&mut self, owner: Owner, runner_s: f64) {
        let account = self.get_mut(owner);
        account.time_s += runner_s / account.weight;
        let started_s = account.started_s();
        self.latest_s = self.latest_s.max(started_s);
    }

    /// Takes back the estimate for a runner's job.
    fn release(&mut self, runner: Runner) -> Option<Charge> {
        let charge = self.charges.get_mut(runner.0 as usize)?.take()?;
        let account = self.get_mut(charge.owner);
        account.running = account.running.saturating_sub(1);
        account.time_s -= charge.estimated_s;
        account.estimated_s -= charge.estimated_s;
        if account.running == 0 {
            // Without the rounding errors.
            account.estimated_s = 0.0;
        }
        Some(charge)
    }
}

/// Returns the loads that `runners` may save up for the sake of shares, in runners' seconds.
pub fn saved_loads_s(runners: usize, load_s: f64) -> f64 {
    2.0 * load_s * (SAVED_LOADS * runners as f64).max(1.0)
}
