//! Everything that was measured, beside the bounds that routes are held to.

use std::time::Duration;

use serde::Serialize;

use super::baseline::BaselineRun;
use super::gaps::GapQuantiles;
use super::latency::LatencyRun;
use super::targets::Target;
use super::throughput::{Rates, Round};
use super::times::{Quantiles, Times};
use crate::sweep::median;

/// A route adds less to the median time of a submission, ms.
pub const SUBMIT_MS: f64 = 5.0;

/// Less lies between the end of a step and the record of the next one, at the median, ms.
pub const BETWEEN_STEPS_MS: f64 = 10.0;

/// A split takes at least this part of the submissions that apps take.
pub const THROUGHPUT: f64 = 0.9;

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Submissions and steps, by how many flows were under way.
    pub latency: Vec<LatencySummary>,
    /// The same steps, taken by clients.
    pub baseline: BaselineSummary,
    /// Each round of the throughput.
    pub rounds: Vec<Round>,
    /// Accepted through the split, in parts of those to the apps: the median of the rounds.
    pub accepted: Ratio,
    /// The same of the jobs that ended.
    pub ended: Ratio,
}

/// What was measured with some flows under way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LatencySummary {
    /// How many flows.
    pub flows: u32,
    /// How long their steps ran on average, ms.
    pub step_ms: u64,
    /// Their steps that ended, per second.
    pub steps_per_s: f64,
    /// Submissions, the peer first.
    pub submissions: Vec<Submission>,
    /// Between steps.
    pub gaps: GapQuantiles,
    /// From record to start of jobs that were submitted to their app.
    pub direct_sent: Quantiles,
}

/// What was measured of clients that take the steps themselves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BaselineSummary {
    /// How many.
    pub clients: u32,
    /// Their steps that ended, per second.
    pub steps_per_s: f64,
    /// From the end of a step to the record of the next one.
    pub between: Quantiles,
}

/// Submissions to one target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Submission {
    /// To what.
    pub target: Target,
    /// How long the door took.
    pub answered: Quantiles,
    /// The median less that of the peer, ms.
    pub added_ms: f64,
}

/// A ratio over all rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// The median.
    pub median: f64,
    /// The least of all rounds.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Summary {
    /// What these come to.
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
        let peer = answered(Target::Direct);
        let submissions = Target::ALL.map(|target| {
            let answered = answered(target);
            Submission {
                target,
                answered,
                added_ms: answered.p50_ms - peer.p50_ms,
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
