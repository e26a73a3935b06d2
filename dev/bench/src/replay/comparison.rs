//! Compares real and predicted measures.

use serde::Serialize;

use super::case::{Case, Expected};
use super::measures::{Measures, Quarter};
use super::overheads::Overheads;
use super::prediction::{Prediction, Spread};
use super::reality::Reality;

/// Maximum difference, as a fraction of the prediction.
const BOUND: f64 = 0.15;
/// Maximum difference of swaps per job, however few are predicted.
const SWAPS_BOUND: f64 = 0.01;

/// The comparison of a case.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// Its name.
    pub case: String,
    /// The measures that have bounds; empty if the case is expected to collapse.
    pub measures: Vec<Measure>,
    /// The quarters of the run.
    pub quarters: Vec<QuarterComparison>,
    /// Whether jobs piled up in the real system.
    pub collapsing: bool,
    /// Number of the simulator's seeds in which jobs piled up.
    pub collapsing_seeds: usize,
    /// Number of the simulator's seeds.
    pub seeds: usize,
    /// Time in the real system other than waiting, loading and running.
    pub overheads: Overheads,
    /// Whether all bounds are met, and both sides collapse or neither, as expected.
    pub agrees: bool,
}

/// A measure on both sides.
#[derive(Debug, Serialize)]
pub struct Measure {
    /// Its name, with its unit.
    pub name: &'static str,
    /// The real system's.
    pub real: f64,
    /// The simulator's, with the real system's overhead per job and its delay until the dispatcher
    /// notices an idle runner.
    pub predicted: Spread,
    /// The simulator's without overheads.
    pub ideal: f64,
    /// Real minus predicted.
    pub difference: f64,
    /// The result against the bounds.
    pub closeness: Closeness,
}

/// How close real and predicted are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Closeness {
    /// Within bounds.
    Within,
    /// Beyond the bounds, but within the range of the simulator's seeds: one run cannot decide.
    InRange,
    /// Bounds missed.
    Missed,
}

/// A quarter on both sides.
#[derive(Debug, Serialize)]
pub struct QuarterComparison {
    /// The real system's.
    pub real: Quarter,
    /// The simulator's median of the mean time, s.
    pub predicted_mean_s: f64,
    /// The simulator's median of the backlog, jobs.
    pub predicted_backlog: f64,
}

impl Comparison {
    /// Compares the real run with the predictions. `ideal`: the prediction without overheads.
    pub fn new(case: &Case, real: &Reality, predicted: &Prediction, ideal: &Prediction) -> Self {
        let (seeds, collapsing_seeds) = (predicted.seeds(), predicted.collapsing());
        let collapsing = real.measures.collapsing();
        let compare = |name, bound, of: fn(&Measures) -> f64| {
            let ideal = ideal.of(of).median;
            Measure::new(name, of(&real.measures), predicted.of(of), ideal, bound)
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
            agrees: as_expected
                && measures
                    .iter()
                    .all(|measure| measure.closeness != Closeness::Missed),
            measures,
            quarters: job_runs(&real.measures, predicted),
            collapsing,
            collapsing_seeds,
            seeds,
            overheads: real.overheads,
        }
    }
}

impl Measure {
    /// Compares one measure. The bound is [`BOUND`], or `least_bound` in the measure's unit if that
    /// is larger.
    fn new(name: &'static str, real: f64, predicted: Spread, ideal: f64, least_bound: f64) -> Self {
        let difference = real - predicted.median;
        Self {
            name,
            real,
            predicted,
            ideal,
            difference,
            closeness: if difference.abs() <= (BOUND * predicted.median).max(least_bound) {
                Closeness::Within
            } else if (predicted.least..=predicted.greatest).contains(&real) {
                Closeness::InRange
            } else {
                Closeness::Missed
            },
        }
    }
}

fn job_runs(real: &Measures, predicted: &Prediction) -> Vec<QuarterComparison> {
    let quarter = |(index, real): (usize, &Quarter)| {
        let of = |field: fn(&Quarter) -> f64| {
            let spread = predicted.of(|run| run.quarters.get(index).map_or(f64::NAN, field));
            spread.median
        };
        QuarterComparison {
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

    fn closeness(real: f64, least_bound: f64) -> Closeness {
        let predicted = Spread {
            median: 1.0,
            least: 0.9,
            greatest: 1.5,
        };
        Measure::new("", real, predicted, 1.0, least_bound).closeness
    }

    #[test]
    fn a_measure_may_differ_by_15_percent_or_by_its_own_bound() {
        assert_eq!(
            [1.14, 0.86].map(|real| closeness(real, 0.0)),
            [Closeness::Within; 2]
        );
        assert_eq!(closeness(0.84, 0.0), Closeness::Missed);
        assert_eq!(closeness(0.84, 0.2), Closeness::Within);
    }

    #[test]
    fn a_deviation_within_the_seeds_of_the_simulator_is_not_a_miss() {
        assert_eq!(closeness(1.4, 0.0), Closeness::InRange);
        assert_eq!(closeness(1.6, 0.0), Closeness::Missed);
    }
}
