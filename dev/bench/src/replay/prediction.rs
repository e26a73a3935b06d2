//! The simulator's prediction for a trace.

use rand::Rng;
use serde::Serialize;

use super::case::Case;
use super::measures::Measures;
use crate::args::Options;
use crate::workload::{Planned, Workload, stream};
use crate::{schemes, simulator};

/// Number of simulations of a trace, whose median is the prediction. Choices among equal runners
/// are random, in the real system as well, and near its limits a queue magnifies the smallest
/// difference: 1 ms decides which runner is idle when a job arrives, and so where models stay.
const SEEDS: u64 = 101;
/// Maximum jitter of a run time, s: a trace has whole ms, and real runs are no more precise.
const MAX_JITTER_S: f64 = 0.0005;

/// The measures of all seeds.
#[derive(Debug)]
pub struct Prediction(Vec<Measures>);

/// One measure over all seeds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    /// The prediction.
    pub median: f64,
    /// The minimum of the seeds.
    pub least: f64,
    /// The maximum.
    pub greatest: f64,
}

impl Prediction {
    /// Returns one measure over all seeds.
    pub fn of(&self, measure: impl Fn(&Measures) -> f64) -> Spread {
        let mut values: Vec<f64> = self.0.iter().map(measure).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Spread {
            median: at(values.len() / 2),
            least: at(0),
            greatest: at(values.len().saturating_sub(1)),
        }
    }

    /// Returns the number of seeds that collapse.
    pub fn collapsing(&self) -> usize {
        self.0.iter().filter(|run| run.collapsing()).count()
    }

    /// Returns the number of seeds.
    pub fn seeds(&self) -> usize {
        self.0.len()
    }
}

/// Overheads of the real system, as input of the simulator.
#[derive(Debug, Clone, Copy, Default)]
pub struct Delays {
    /// A job's time on its runner beyond load and run, s.
    pub per_job_s: f64,
    /// Delay until the policy notices an idle runner, s.
    pub notice_s: f64,
}

/// Simulates the jobs of a case with these delays.
pub fn predict(case: &Case, plan: &[Planned], delays: Delays) -> Prediction {
    let options = Options {
        view_delay_ms: delays.notice_s * 1000.0,
        ..case.options(plan.len(), 0)
    };
    let run = |seed| {
        let workload = Workload::planned(jittered(plan, seed, delays.per_job_s), case.models);
        let mut scheme = schemes::make(&options, workload.models(), &case.constants());
        let history = simulator::run(&options, workload, scheme.as_mut(), seed);
        Measures::of(&history.jobs, case.until_s(plan))
    };
    Prediction((0..SEEDS).map(run).collect())
}

fn jittered(plan: &[Planned], seed: u64, per_job_s: f64) -> Vec<Planned> {
    let mut rng = stream(seed, 3);
    let jittered = plan.iter().map(|planned| Planned {
        run_s: planned.run_s + per_job_s + rng.random_range(-MAX_JITTER_S..MAX_JITTER_S),
        ..*planned
    });
    jittered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::case::{self, Expected};

    #[test]
    fn only_the_cases_that_should_collapse_do() {
        for case in case::all() {
            let prediction = predict(&case, &case.plan(1000, 1).unwrap(), Delays::default());
            let expected = match case.expected {
                Expected::Agreement => 0,
                Expected::Collapse => prediction.seeds(),
            };
            assert_eq!(prediction.collapsing(), expected, "{}", case.name());
        }
    }
}
