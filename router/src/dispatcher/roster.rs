//! Which apps have a dispatcher in this process. Pure.
//!
//! An idle app, with neither runners nor jobs, has none and costs one key of a command for many
//! apps. Use is detected in Redis at the next scan; a backlogged message without a record is
//! detected by an occasional probe of the queue.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use warmq_types::ids::AppId;

/// Interval at which the backlog of an idle app is probed.
pub(super) const PROBE_INTERVAL: Duration = Duration::from_secs(60);

/// How long an app must be unused before its dispatcher stops.
const UNUSED_GRACE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Roster(BTreeMap<AppId, State>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing to dispatch.
    Idle { probe_at: Instant },
    /// A dispatcher runs.
    Served { unused_since: Option<Instant> },
    /// Its dispatcher is stopping.
    Ending,
}

impl Roster {
    /// Adds the existing apps, and removes idle apps that no longer exist.
    pub(super) fn update(&mut self, apps: BTreeSet<AppId>, now: Instant) {
        self.0
            .retain(|app, state| !matches!(state, State::Idle { .. }) || apps.contains(app));
        for app in apps {
            self.0.entry(app).or_insert(State::Idle { probe_at: now });
        }
    }

    /// Returns the apps without a dispatcher.
    pub(super) fn idle(&self) -> Vec<AppId> {
        self.named(|state| matches!(state, State::Idle { .. }))
    }

    /// Returns the apps with a dispatcher.
    pub(super) fn served(&self) -> Vec<AppId> {
        self.named(|state| matches!(state, State::Served { .. }))
    }

    /// Returns at most `most` idle apps whose backlog is due for a probe, and schedules their next
    /// one.
    pub(super) fn due_probes(&mut self, now: Instant, most: usize) -> Vec<AppId> {
        let mut due = Vec::new();
        for (app, state) in &mut self.0 {
            if let State::Idle { probe_at } = state
                && *probe_at <= now
                && due.len() < most
            {
                *probe_at = now + PROBE_INTERVAL;
                due.push(app.clone());
            }
        }
        due
    }

    /// Marks an app as served. Returns whether its dispatcher must be started.
    pub(super) fn serve(&mut self, app: &AppId) -> bool {
        match self.0.get_mut(app) {
            Some(state @ State::Idle { .. }) => {
                *state = State::Served { unused_since: None };
                true
            }
            _ => false,
        }
    }

    /// Applies which apps are in use. Returns those whose dispatchers must stop.
    pub(super) fn review(&mut self, in_use: &[AppId], now: Instant) -> Vec<AppId> {
        let in_use: BTreeSet<&AppId> = in_use.iter().collect();
        let mut ending = Vec::new();
        for (app, state) in &mut self.0 {
            let State::Served { unused_since } = state else {
                continue;
            };
            if in_use.contains(app) {
                *unused_since = None;
            } else if now - *unused_since.get_or_insert(now) >= UNUSED_GRACE {
                *state = State::Ending;
                ending.push(app.clone());
            }
        }
        ending
    }

    /// Marks an app as idle after its dispatcher ended.
    pub(super) fn ended(&mut self, app: &AppId, now: Instant) {
        let probe_at = now + PROBE_INTERVAL;
        self.0.insert(app.clone(), State::Idle { probe_at });
    }

    fn named(&self, is: impl Fn(&State) -> bool) -> Vec<AppId> {
        let apps = self.0.iter().filter(|(_, state)| is(state));
        apps.map(|(app, _)| app.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppId {
        AppId::parse(name).unwrap()
    }

    #[test]
    fn an_app_is_served_from_its_first_use_until_it_is_unused_for_a_while() {
        let (mut roster, start) = (Roster::default(), Instant::now());
        let a = app("t/a");
        roster.update([a.clone(), app("t/b")].into(), start);
        assert!(roster.serve(&a));
        assert!(!roster.serve(&a), "one dispatcher is enough");
        assert_eq!(
            (roster.idle(), roster.served()),
            (vec![app("t/b")], vec![a.clone()])
        );
        let later = |s| start + Duration::from_secs(s);
        assert!(roster.review(&[], later(0)).is_empty());
        assert!(
            roster
                .review(std::slice::from_ref(&a), later(20))
                .is_empty()
        );
        assert!(roster.review(&[], later(40)).is_empty());
        assert!(roster.review(&[], later(49)).is_empty());
        assert_eq!(roster.review(&[], later(50)), std::slice::from_ref(&a));
        assert!(!roster.serve(&a), "its dispatcher has not ended yet");
        roster.ended(&a, later(51));
        assert!(roster.serve(&a));
    }

    #[test]
    fn each_idle_app_is_probed_once_an_interval() {
        let (mut roster, start) = (Roster::default(), Instant::now());
        let apps = BTreeSet::from([app("t/a"), app("t/b"), app("t/c")]);
        roster.update(apps.clone(), start);
        assert_eq!(roster.due_probes(start, 2).len(), 2);
        assert_eq!(roster.due_probes(start, 2), [app("t/c")]);
        roster.update(apps, start);
        assert!(roster.due_probes(start, 2).is_empty());
        assert_eq!(roster.due_probes(start + PROBE_INTERVAL, 9).len(), 3);
    }

    #[test]
    fn an_app_that_no_longer_exists_is_removed_once_it_is_idle() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        roster.update([app("t/a"), app("t/b")].into(), now);
        roster.serve(&app("t/a"));
        roster.update(BTreeSet::new(), now);
        assert!(roster.idle().is_empty());
        assert_eq!(roster.served(), [app("t/a")]);
    }
}
