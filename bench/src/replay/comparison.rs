//! Real beside predicted.

use serde::Serialize;

use super::case::{Case, Expected};
use super::measures::{Measures, Quarter};
use super::prediction::{Prediction, Spread};
use super::reality::{Pace, Reality};

/// The greatest difference, as a part of what is predicted.
const BOUND: f64 = 0.15;
/// The greatest difference of swaps per job that is no miss, however few are predicted.
const SWAPS_BOUND: f64 = 0.01;

/// A case's outcome.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Its name.
    pub case: String,
    /// The measures that are held to bounds; none if the case should collapse.
    pub measures: Vec<Measure>,
    /// The course of the run.
    pub quarters: Vec<Course>,
    /// Whether jobs piled up in the real system.
    pub collapsing: bool,
    /// Whether they did in the simulator: in how many of its seeds.
    pub collapsing_seeds: usize,
    /// Seeds of the simulator.
    pub seeds: usize,
    /// How well the plan was kept to.
    pub pace: Pace,
    /// All bounds are met, and both sides collapse or neither does, as expected.
    pub agrees: bool,
}

/// One measure on both sides.
#[derive(Debug, Serialize)]
pub struct Measure {
    /// Its name, with its unit.
    pub name: &'static str,
    /// The real system's.
    pub real: f64,
    /// The simulator's.
    pub predicted: Spread,
    /// Real minus predicted, as a part of predicted.
    pub difference: f64,
    /// Within bounds.
    pub within: bool,
}

/// A quarter on both sides.
#[derive(Debug, Serialize)]
pub struct Course {
    /// The real system's.
    pub real: Quarter,
    /// The simulator's median of the mean time, s.
    pub predicted_mean_s: f64,
    /// The simulator's median of the backlog, jobs.
    pub predicted_backlog: f64,
}

impl Comparison {
    /// Compares.
    pub fn new(case: &Case, real: &Reality, predicted: &Prediction) -> Self {
        let (seeds, collapsing_seeds) = (predicted.seeds(), predicted.collapsing());
        let collapsing = real.measures.collapsing();
        let compare = |name, bound, of: fn(&Measures) -> f64| {
            Measure::new(name, of(&real.measures), predicted.of(of), bound)
        };
        let (measures, as_expected) = match case.expected {
            Expected::Collapse => (Vec::new(), collapsing && collapsing_seeds == seeds),
            Expected::Agreement => (
                vec![
                    compare("mean s", 0.0, |run| run.mean_s),
                    compare("p95 s", 0.0, |run| run.p95_s),
                    compare("swaps/job", SWAPS_BOUND, |run| run.swaps_per_job),
                ],
                !collapsing && collapsing_seeds == 0,
            ),
        };
        Self {
            case: case.name(),
            agrees: as_expected && measures.iter().all(|measure| measure.within),
            measures,
            quarters: courses(&real.measures, predicted),
            collapsing,
            collapsing_seeds,
            seeds,
            pace: real.pace,
        }
    }
}

impl Measure {
    /// Within bounds if the difference is at most [`BOUND`] or `least_bound`, in the measure's own unit.
    fn new(name: &'static str, real: f64, predicted: Spread, least_bound: f64) -> Self {
        let difference = real - predicted.median;
        Self {
            name,
            real,
            predicted,
            difference: difference / predicted.median,
            within: difference.abs() <= (BOUND * predicted.median).max(least_bound),
        }
    }
}

fn courses(real: &Measures, predicted: &Prediction) -> Vec<Course> {
    let quarter = |(index, real): (usize, &Quarter)| {
        let of = |field: fn(&Quarter) -> f64| {
            let spread = predicted.of(|run| run.quarters.get(index).map_or(f64::NAN, field));
            spread.median
        };
        Course {
            real: *real,
            predicted_mean_s: of(|quarter| quarter.mean_s),
            predicted_backlog: of(|quarter| quarter.backlog as f64),
        }
    };
    real.quarters.iter().enumerate().map(quarter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64) -> Spread {
        Spread {
            median,
            least: median,
            greatest: median,
        }
    }

    #[test]
    fn a_measure_may_differ_by_15_percent_and_few_swaps_by_a_hundredth() {
        let within = |real, predicted, least_bound| {
            Measure::new("", real, spread(predicted), least_bound).within
        };
        assert!(within(1.14, 1.0, 0.0) && within(0.86, 1.0, 0.0));
        assert!(!within(1.16, 1.0, 0.0) && !within(0.84, 1.0, 0.0));
        assert!(within(0.0, 0.009, SWAPS_BOUND) && !within(0.02, 0.009, SWAPS_BOUND));
    }
}
