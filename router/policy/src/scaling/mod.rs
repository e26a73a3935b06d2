//! How many runners an app needs, and which ones to end first. Pure: times come in with each
//! observation.
//!
//! | module | content |
//! | --- | --- |
//! | this one | the wanted number of runners |
//! | `startup_time` | how long new runners take to appear |
//! | `least_useful` | the order in which runners are ended |
//!
//! The need of a moment is the number of runners that work off the waiting jobs within the target;
//! at least the busy ones, at most one per job besides them. New runners contribute once they
//! appear, so the target is at least twice the time that this takes. The wanted number is the
//! greatest need of the last `keep_alive`: it grows at once, and falls only after the difference
//! was not needed for that long.

mod least_useful;
#[cfg(test)]
mod proptests;
mod startup_time;

use std::collections::VecDeque;

pub use least_useful::{Activity, Candidate, least_useful};
use startup_time::StartupTime;

/// Bounds and times of an app's number of runners.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScalingRule {
    /// Number of runners wanted without any work.
    pub min: usize,
    /// Maximum number of wanted runners; at least `min`.
    pub max: usize,
    /// How long runners that are no longer needed stay, s.
    pub keep_alive_s: f64,
    /// Time in which the waiting jobs are to be worked off, s.
    pub target_s: f64,
}

/// The work and the runners of an app at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Workload {
    /// Number of jobs that no runner has started.
    pub waiting_jobs: usize,
    /// Time that these jobs will occupy runners, s.
    pub pending_s: f64,
    /// Number of runners that take jobs.
    pub runners: usize,
    /// Those of them that are idle.
    pub idle: usize,
    /// Number of further runners, which take no jobs until their self-test passes.
    pub faulty: usize,
}

/// Decides the wanted number of runners of one app.
#[derive(Debug, Clone)]
pub struct Scaler {
    rule: ScalingRule,
    /// Needs of the last `keep_alive`, with their times: each exceeds the later ones.
    needs: VecDeque<(f64, usize)>,
    startup_time: StartupTime,
}

impl Scaler {
    /// Returns a scaler without observations.
    pub fn new(rule: ScalingRule) -> Self {
        Self {
            rule,
            needs: VecDeque::new(),
            startup_time: StartupTime::default(),
        }
    }

    /// Takes an observation, at a time not before the last one, and returns the wanted number of
    /// runners. The runners of the first observation count as needed.
    pub fn wanted(&mut self, now_s: f64, workload: Workload) -> usize {
        let Self { rule, needs, .. } = self;
        let startup_s = self.startup_time.expected_s(now_s, workload.runners);
        let mut need = need(rule, startup_s, workload);
        if needs.is_empty() {
            let present = workload.runners.saturating_add(workload.faulty);
            need = need.max(present.min(rule.max));
        }
        while needs.back().is_some_and(|(_, earlier)| *earlier <= need) {
            needs.pop_back();
        }
        needs.push_back((now_s, need));
        while needs.len() > 1 && needs[0].0 + rule.keep_alive_s <= now_s {
            needs.pop_front();
        }
        let wanted = needs[0].1;
        (self.startup_time).request(now_s, workload.runners, wanted);
        wanted
    }
}

/// Returns the number of runners that an app needs. `startup_s`: time that a new runner takes to
/// appear.
fn need(rule: &ScalingRule, startup_s: f64, workload: Workload) -> usize {
    let Workload {
        waiting_jobs,
        pending_s,
        runners,
        idle,
        ..
    } = workload;
    let target_s = rule.target_s.max(2.0 * startup_s);
    let present_s = runners as f64 * target_s;
    let for_work = match pending_s > present_s {
        true => runners as f64 + (pending_s - present_s) / (target_s - startup_s),
        false => pending_s / target_s,
    };
    let busy = runners.saturating_sub(idle);
    let at_least = busy.max(usize::from(waiting_jobs > 0));
    let at_most = busy.saturating_add(waiting_jobs);
    let for_work = (for_work.ceil() as usize).clamp(at_least, at_most);
    for_work.clamp(rule.min, rule.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: ScalingRule = ScalingRule {
        min: 0,
        max: 10,
        keep_alive_s: 300.0,
        target_s: 30.0,
    };

    fn jobs(waiting_jobs: usize, pending_s: f64) -> Workload {
        Workload {
            waiting_jobs,
            pending_s,
            ..Workload::default()
        }
    }

    fn runners(runners: usize, idle: usize) -> Workload {
        Workload {
            runners,
            idle,
            ..Workload::default()
        }
    }

    #[test]
    fn from_zero_there_are_as_many_runners_as_finish_the_work_in_time() {
        for (workload, expected) in [
            (jobs(0, 0.0), 0),
            (jobs(1, 0.5), 1),
            (jobs(1, 600.0), 1),
            (jobs(2, 600.0), 2),
            // After 10 s, each works for 20 s.
            (jobs(30, 60.0), 3),
            (jobs(1000, 9000.0), 10),
        ] {
            assert_eq!(need(&RULE, 10.0, workload), expected, "{workload:?}");
        }
    }

    #[test]
    fn work_that_present_runners_finish_in_time_needs_no_others() {
        let with_work = |pending_s| Workload {
            waiting_jobs: 50,
            pending_s,
            ..runners(2, 0)
        };
        assert_eq!(need(&RULE, 10.0, with_work(20.0)), 2);
        assert_eq!(need(&RULE, 10.0, with_work(60.0)), 2);
        assert_eq!(need(&RULE, 10.0, with_work(61.0)), 3);
        assert_eq!(need(&RULE, 10.0, with_work(100.0)), 4);
        // The two finish 240 s of work before a third would have helped for long.
        assert_eq!(need(&RULE, 60.0, with_work(240.0)), 2);
        assert_eq!(need(&RULE, 60.0, with_work(290.0)), 3);
    }

    #[test]
    fn the_bounds_hold_and_busy_runners_are_needed() {
        let rule = ScalingRule {
            min: 2,
            max: 3,
            ..RULE
        };
        assert_eq!(need(&rule, 10.0, jobs(0, 0.0)), 2);
        assert_eq!(need(&rule, 10.0, runners(8, 3)), 3);
        assert_eq!(need(&RULE, 10.0, runners(8, 3)), 5);
        assert_eq!(need(&RULE, 10.0, jobs(3, f64::NAN)), 1);
        assert_eq!(need(&RULE, 10.0, jobs(300, f64::INFINITY)), 10);
    }

    #[test]
    fn runners_stay_for_keep_alive_after_they_were_needed() {
        let mut scaler = Scaler::new(RULE);
        assert_eq!(scaler.wanted(0.0, jobs(30, 60.0)), 3);
        assert_eq!(scaler.wanted(10.0, runners(3, 0)), 3);
        assert_eq!(scaler.wanted(20.0, runners(3, 2)), 3);
        assert_eq!(scaler.wanted(309.0, runners(3, 2)), 3);
        assert_eq!(scaler.wanted(310.0, runners(3, 2)), 1);
        assert_eq!(scaler.wanted(311.0, runners(1, 1)), 1);
        assert_eq!(scaler.wanted(609.0, runners(1, 1)), 1);
        assert_eq!(scaler.wanted(610.0, runners(1, 1)), 0);
    }

    #[test]
    fn a_new_leader_keeps_the_runners_that_it_finds() {
        let mut scaler = Scaler::new(RULE);
        assert_eq!(scaler.wanted(1000.0, runners(4, 4)), 4);
        assert_eq!(scaler.wanted(1299.0, runners(4, 4)), 4);
        assert_eq!(scaler.wanted(1300.0, runners(4, 4)), 0);
        assert_eq!(Scaler::new(RULE).wanted(0.0, runners(40, 40)), 10);
    }
}
