//! The cost of a run, and the comparison of two runs.

use std::cmp::Ordering;

use warmq_cli::time;
use warmq_types::table::Table;

use crate::plan;
use crate::routing::Routing;
use crate::snapshot::{Submitted, records};

/// Assumed load time of a checkpoint of real size, ms, for the extrapolation.
const REAL_LOAD_MS: u64 = 10_000;

/// Totals of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Costs {
    /// Cold jobs.
    pub swaps: u64,
    /// Total load time, ms.
    pub loading_ms: u64,
    /// Total run time without loads, ms.
    pub running_ms: u64,
    /// Total time from the submission of each wave to its last picture, ms. Starting a runner
    /// between waves does not count.
    pub wall_ms: u64,
    /// Mean time from a job's submission to its end, ms.
    pub mean_latency_ms: u64,
}

impl Costs {
    /// Sums up `jobs`: all of the plan, in its order.
    pub fn of(jobs: &[Submitted]) -> Self {
        let mut costs = Self::default();
        let mut latencies_ms = 0;
        for wave in plan::waves() {
            let jobs = jobs.get(wave).unwrap_or_default();
            let (mut begin_ms, mut end_ms) = (u64::MAX, 0);
            for (_, record) in records(jobs) {
                let created_ms = record.spec.created_ms;
                let finished_ms = record.finished_ms.unwrap_or(created_ms);
                begin_ms = begin_ms.min(created_ms);
                end_ms = end_ms.max(finished_ms);
                latencies_ms += finished_ms.saturating_sub(created_ms);
                let timings = record.timings.unwrap_or_default();
                costs.swaps += u64::from(!timings.warm);
                costs.loading_ms += timings.load_ms;
                costs.running_ms += timings.run_ms;
            }
            costs.wall_ms += end_ms.saturating_sub(begin_ms);
        }
        let count = u64::try_from(jobs.len()).unwrap_or(u64::MAX);
        costs.mean_latency_ms = latencies_ms.checked_div(count).unwrap_or(0);
        costs
    }
}

/// Formats both runs, one line each.
pub fn table(warm: &Costs, shared: &Costs) -> Table {
    let header = [
        "POLICY",
        "SWAPS",
        "LOADING",
        "RUNNING",
        "WALL TIME",
        "MEAN LATENCY",
    ];
    let mut table = Table::new(header).right(1..header.len());
    for (routing, costs) in [(Routing::Warm, warm), (Routing::Shared, shared)] {
        table.row([
            routing.as_str().to_owned(),
            costs.swaps.to_string(),
            time::duration(costs.loading_ms),
            time::duration(costs.running_ms),
            time::duration(costs.wall_ms),
            time::duration(costs.mean_latency_ms),
        ]);
    }
    table
}

/// Interprets the numbers; one remark per line.
pub fn remarks(warm: &Costs, shared: &Costs) -> Vec<String> {
    let loads = warm.swaps + shared.swaps;
    let load_ms = (warm.loading_ms + shared.loading_ms)
        .checked_div(loads)
        .unwrap_or(0);
    let compared = match warm.swaps.cmp(&shared.swaps) {
        Ordering::Less => format!(
            "{} fewer with policy warm.",
            counted(shared.swaps - warm.swaps)
        ),
        Ordering::Equal => "The same number of loads with both policies this time.".to_owned(),
        Ordering::Greater => format!(
            "{} more with policy warm, this time.",
            counted(warm.swaps - shared.swaps)
        ),
    };
    let mut remarks = vec![
        compared,
        format!(
            "These models are tiny: a load took {} on average, so there is little time to save. A real checkpoint takes 2 \
             to 60 s.",
            time::duration(load_ms)
        ),
        "RUNNING is the same work in both runs; it differs by the other load on the cores."
            .to_owned(),
    ];
    let fewer = shared.swaps.saturating_sub(warm.swaps);
    if fewer > 0 {
        remarks.push(format!(
            "Extrapolated, not measured: at {} a load, {} fewer would save {} of runner time.",
            time::duration(REAL_LOAD_MS),
            counted(fewer),
            time::duration(fewer * REAL_LOAD_MS)
        ));
    }
    remarks
}

fn counted(loads: u64) -> String {
    match loads {
        1 => "1 load".to_owned(),
        loads => format!("{loads} loads"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::jobs;

    #[test]
    fn the_costs_add_up() {
        let expected = Costs {
            swaps: 8,
            loading_ms: 8 * 150,
            running_ms: 24 * 230,
            wall_ms: 7 * 300,
            mean_latency_ms: 300,
        };
        assert_eq!(Costs::of(&jobs()), expected);
        assert_eq!(Costs::of(&[]), Costs::default());
    }

    #[test]
    fn only_fewer_swaps_are_extrapolated() {
        let costs = |swaps| Costs {
            swaps,
            loading_ms: swaps * 150,
            ..Costs::default()
        };
        let fewer = remarks(&costs(5), &costs(9));
        assert_eq!(fewer[0], "4 loads fewer with policy warm.");
        assert!(fewer[1].contains("150 ms on average"), "{}", fewer[1]);
        assert!(
            fewer[3].contains("4 loads fewer would save 40.0 s"),
            "{}",
            fewer[3]
        );
        assert_eq!(remarks(&costs(5), &costs(5)).len(), 3);
        let more = remarks(&costs(6), &costs(5));
        assert_eq!(more[0], "1 load more with policy warm, this time.");
        assert_eq!(more.len(), 3);
    }

    #[test]
    fn the_table_has_a_line_per_run() {
        let costs = Costs::default();
        assert_eq!(table(&costs, &costs).to_string().lines().count(), 3);
    }
}
