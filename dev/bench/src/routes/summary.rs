//! All measures, and the bounds of routes.

use std::time::Duration;

use serde::Serialize;

use super::baseline::BaselineRun;
use super::gaps::GapQuantiles;
use super::latency::LatencyRun;
use super::targets::Target;
use super::throughput::{Rates, Round};
use super::times::{Quantiles, Times};
use crate::sweep::median;

/// Bound of what a route adds to the median response time of a submission, ms.
pub const SUBMIT_MS: f64 = 5.0;

/// Bound of the median time from the end of a step to the record of the next one, ms.
pub const BETWEEN_STEPS_MS: f64 = 10.0;

/// Bound of the throughput of a split, as a fraction of that of apps.
pub const THROUGHPUT: f64 = 0.9;

/// All measures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Submissions and steps, by number of background flows.
    pub latency: Vec<LatencySummary>,
    /// The same steps, submitted by clients.
    pub baseline: BaselineSummary,
    /// The rounds of the throughput.
    pub rounds: Vec<Round>,
    /// Ratio of submissions accepted through the split and to the apps: the median of the rounds.
    pub accepted: Ratio,
    /// The same ratio of ended jobs.
    pub ended: Ratio,
}

/// Measures with some background flows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LatencySummary {
    /// Number of flows.
    pub flows: u32,
    /// Mean run time of their steps, ms.
    pub step_ms: u64,
    /// Their ended steps per second.
    pub steps_per_s: f64,
    /// Submissions, the baseline first.
    pub submissions: Vec<Submission>,
    /// Times between steps.
    pub gaps: GapQuantiles,
    /// Times from record to start of jobs submitted to their app.
    pub direct_sent: Quantiles,
}

/// Measures of clients that submit the steps themselves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BaselineSummary {
    /// Number of clients.
    pub clients: u32,
    /// Their ended steps per second.
    pub steps_per_s: f64,
    /// Times from the end of a step to the record of the next one.
    pub between: Quantiles,
}

/// Submissions to one target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Submission {
    /// Target.
    pub target: Target,
    /// Response times.
    pub answered: Quantiles,
    /// Difference of the median from the baseline's, ms.
    pub added_ms: f64,
}

/// A ratio over all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// The median.
    pub median: f64,
    /// The minimum.
    pub least: f64,
    /// The maximum.
    pub greatest: f64,
}

impl Summary {
    /// Summarises the measurements.
    pub fn of(latency: &[LatencyRun], baseline: &BaselineRun, rounds: &[Round]) -> Self {
        Self {
            latency: latency.iter().map(LatencySummary::of).collect(),
            baseline: BaselineSummary {
                clients: baseline.clients.count,
                steps_per_s: per_s(baseline.steps, baseline.lasted),
                between: baseline.between.quantiles(),
            },
            rounds: rounds.to_vec(),
            accepted: Ratio::of(rounds, |rates| rates.accepted_per_s),
            ended: Ratio::of(rounds, |rates| rates.ended_per_s),
        }
    }
}

impl LatencySummary {
    fn of(run: &LatencyRun) -> Self {
        let answered = |target| {
            let times = run.answered.get(&target);
            times.map_or_else(|| Times::default().quantiles(), Times::quantiles)
        };
        let baseline = answered(Target::Direct);
        let submissions = Target::ALL.map(|target| {
            let answered = answered(target);
            Submission {
                target,
                answered,
                added_ms: answered.p50_ms - baseline.p50_ms,
            }
        });
        Self {
            flows: run.flows.count,
            step_ms: run.flows.step_ms,
            steps_per_s: per_s(run.gaps.steps(), run.lasted),
            submissions: submissions.to_vec(),
            gaps: run.gaps.quantiles(),
            direct_sent: run.sent.quantiles(),
        }
    }
}

fn per_s(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

impl Ratio {
    fn of(rounds: &[Round], rate: impl Fn(&Rates) -> f64) -> Self {
        let ratios = || {
            rounds
                .iter()
                .map(|round| rate(&round.split) / rate(&round.direct))
        };
        Self {
            median: median(ratios()),
            least: ratios().fold(f64::INFINITY, f64::min),
            greatest: ratios().fold(0.0, f64::max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::background_load::BackgroundLoad;

    const NO_LOAD: BackgroundLoad = BackgroundLoad {
        count: 0,
        step_ms: 5,
    };

    fn round(direct_per_s: f64, split_per_s: f64) -> Round {
        let rates = |per_s| Rates {
            accepted_per_s: per_s,
            ended_per_s: per_s / 2.0,
        };
        Round {
            direct: rates(direct_per_s),
            split: rates(split_per_s),
        }
    }

    #[test]
    fn rounds_are_compared_each_by_itself() {
        let rounds = [round(100.0, 80.0), round(200.0, 190.0), round(50.0, 55.0)];
        let summary = Summary::of(&[], &BaselineRun::new(NO_LOAD), &rounds);
        let Ratio {
            median,
            least,
            greatest,
        } = summary.accepted;
        assert_eq!((median, least, greatest), (0.95, 0.8, 1.1));
        assert_eq!(summary.ended, summary.accepted);
    }

    #[test]
    fn a_target_is_compared_with_the_app_itself() {
        let mut run = LatencyRun::new(NO_LOAD);
        for (target, ms) in [(Target::Direct, 2.0), (Target::Chain, 2.5)] {
            run.answered.entry(target).or_default().push(ms);
        }
        let summary = LatencySummary::of(&run);
        let added = |target| {
            let mut all = summary.submissions.iter();
            all.find(|one| one.target == target).unwrap().added_ms
        };
        assert_eq!((added(Target::Direct), added(Target::Chain)), (0.0, 0.5));
    }
}
