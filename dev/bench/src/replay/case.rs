//! The replayed cases: N = 8 runners, K = 3 models each, S = 0.2 s, L = 1 s, Poisson arrivals, Zipf
//! 0.9, a cold fleet.

use warmq_policy::warm::Constants;

use crate::args::{Options, PolicyName};
use crate::workload::{self, Planned, Workload};

/// Runners (N).
pub const RUNNERS: u32 = 8;
/// Models that a runner holds (K).
pub const SLOTS: u32 = 3;
/// Mean run time (S), s.
pub const RUN_S: f64 = 0.2;
/// Load time (L), s.
pub const LOAD_S: f64 = 1.0;

/// A policy and a workload.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// `warm` or `fal`.
    pub policy: PolicyName,
    /// Models that jobs ask for (M).
    pub models: u32,
    /// Arrivals per second, in units of N / S.
    pub load: f64,
    /// What the simulator and the real system must show.
    pub expected: Expected,
}

/// The expected outcome of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// All jobs end, in about the same times.
    Agreement,
    /// Jobs arrive faster than they end. The run stops at the last arrival: the backlog would never
    /// drain.
    Collapse,
}

/// Returns the cases, in order.
pub fn all() -> Vec<Case> {
    let case = |policy, models, load, expected| Case {
        policy,
        models,
        load,
        expected,
    };
    vec![
        case(PolicyName::Warm, 12, 0.5, Expected::Agreement),
        case(PolicyName::Warm, 12, 0.7, Expected::Agreement),
        case(PolicyName::Warm, 24, 0.5, Expected::Agreement),
        case(PolicyName::Warm, 24, 0.7, Expected::Agreement),
        case(PolicyName::Fal, 12, 0.15, Expected::Agreement),
        case(PolicyName::Fal, 12, 0.5, Expected::Collapse),
    ]
}

impl Case {
    /// Returns the name: `warm M=12 load .50`.
    pub fn name(&self) -> String {
        let hundredths = self.load * 100.0;
        format!(
            "{} M={} load .{hundredths:02.0}",
            self.policy(),
            self.models
        )
    }

    /// Returns the name as a folder's name.
    pub fn slug(&self) -> String {
        self.name().replace([' ', '.', '='], "-")
    }

    /// Returns the policy's name in `warmq.toml`.
    pub fn policy(&self) -> String {
        format!("{:?}", self.policy).to_lowercase()
    }

    /// Returns the jobs, in order of arrival. Run times are whole ms, as the real engine's.
    ///
    /// # Errors
    /// The parameters are invalid.
    pub fn plan(&self, jobs: usize, seed: u64) -> Result<Vec<Planned>, workload::Error> {
        let workload = Workload::of(&self.options(jobs, seed))?;
        let whole_ms = |planned: Planned| Planned {
            run_s: (planned.run_s * 1000.0).round().max(1.0) / 1000.0,
            ..planned
        };
        Ok(workload.map(whole_ms).collect())
    }

    /// Returns the end of the run, s: its last arrival if it collapses, otherwise the end of all
    /// jobs.
    pub fn until_s(&self, plan: &[Planned]) -> f64 {
        match self.expected {
            Expected::Agreement => f64::INFINITY,
            Expected::Collapse => plan.last().map_or(0.0, |last| last.at_s),
        }
    }

    /// Returns the simulator's options.
    pub fn options(&self, jobs: usize, seed: u64) -> Options {
        Options {
            policy: self.policy,
            runners: RUNNERS,
            slots: SLOTS,
            models: self.models,
            rho: self.load,
            load_ratio: LOAD_S / RUN_S,
            ram_slots: 0,
            ram_load_ratio: 0.0,
            ignore_tiers: false,
            zipf: 0.9,
            jobs,
            seed,
            service_s: RUN_S,
            drop: 0.25,
            mmpp: false,
            batch: 1,
            drift_s: None,
            mtbf_s: None,
            repair_s: 0.0,
            view_delay_ms: 0.0,
            closed: false,
            trace: None,
            json: false,
        }
    }

    /// Returns policy `warm`'s constants under [`Case::toml`].
    pub fn constants(&self) -> Constants {
        Constants {
            prior_run_s: RUN_S,
            prior_load_s: LOAD_S,
            ..Constants::default()
        }
    }

    /// Returns the router's configuration.
    pub fn toml(&self, app: &str) -> String {
        let priors = match self.policy {
            PolicyName::Warm => format!("prior_run = {RUN_S:?}\nprior_load = {LOAD_S:?}\n"),
            _ => String::new(),
        };
        format!("[apps.\"{app}\"]\npolicy = \"{}\"\n{priors}", self.policy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_cases_apart() {
        let names: Vec<String> = all().iter().map(Case::name).collect();
        assert_eq!(names[0], "warm M=12 load .50");
        assert_eq!(names[4], "fal M=12 load .15");
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
    }

    #[test]
    fn a_plan_is_in_order_and_in_whole_milliseconds() {
        let plan = all()[0].plan(500, 1).unwrap();
        assert_eq!(plan.len(), 500);
        assert!(plan.is_sorted_by_key(|planned| planned.at_s));
        for planned in plan {
            let ms = planned.run_s * 1000.0;
            assert!(ms >= 1.0 && (ms - ms.round()).abs() < 1e-9, "{ms}");
        }
    }
}
