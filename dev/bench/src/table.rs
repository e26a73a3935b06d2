//! Every row of the targets under each policy: measured, target, pooled bound.

use crate::args::{Options, PolicyName, TableOptions};
use crate::pooled_bound::{self, PooledBound};
use crate::simulator::Outcome;
use crate::sweep::{each, median, simulate_all};
use crate::targets::{Row, Wanted, rows};

/// The factor by which a single seed may exceed a target.
const SPREAD: f64 = 1.3;

/// A column of the table.
struct Measure {
    of: fn(&Outcome) -> f64,
    wanted: fn(&Wanted) -> Option<f64>,
    digits: usize,
    /// Whether the target is a minimum instead of a maximum.
    at_least: bool,
}

const MEASURES: [Measure; 4] = [
    Measure {
        of: |outcome| outcome.swaps_per_job,
        wanted: |wanted| wanted.swaps_per_job,
        digits: 4,
        at_least: false,
    },
    Measure {
        of: |outcome| outcome.mean_s,
        wanted: |wanted| wanted.mean_s,
        digits: 2,
        at_least: false,
    },
    Measure {
        of: |outcome| outcome.p99_s,
        wanted: |wanted| wanted.p99_s,
        digits: 1,
        at_least: false,
    },
    Measure {
        of: |outcome| outcome.throughput,
        wanted: |wanted| wanted.throughput,
        digits: 3,
        at_least: true,
    },
];

impl Measure {
    /// Formats `median (worst seed) / target`, prefixed by `!` if the target is missed.
    fn cell(&self, outcomes: &[Outcome], wanted: &Wanted) -> String {
        let values = || outcomes.iter().map(self.of);
        let middle = median(values());
        let (worst, met): (f64, &dyn Fn(f64) -> bool) = match self.at_least {
            true => {
                let worst = values().fold(f64::INFINITY, f64::min);
                (worst, &move |least| {
                    middle >= least && worst >= least / SPREAD
                })
            }
            false => {
                let worst = values().fold(0.0, f64::max);
                (worst, &move |most| middle <= most && worst <= most * SPREAD)
            }
        };
        let digits = self.digits;
        let wanted = (self.wanted)(wanted);
        let mark = if wanted.is_none_or(met) { ' ' } else { '!' };
        let wanted = wanted.map_or("-".to_owned(), |wanted| format!("{wanted:.digits$}"));
        format!("{mark}{middle:.digits$} ({worst:.digits$}) / {wanted}")
    }
}

/// Formats the bound of the row's target measure.
fn bound_cell(row: &Row, bounds: &[PooledBound]) -> String {
    match row.wanted.throughput {
        Some(_) => format!("{:.3}", median(bounds.iter().map(|bound| bound.throughput))),
        None => format!("{:.2} s", median(bounds.iter().map(|bound| bound.mean_s))),
    }
}

fn line(row: &Row, policy: PolicyName, outcomes: &[Outcome], bound: &str) -> String {
    let piled = outcomes.iter().filter(|outcome| !outcome.stable).count();
    let name = format!("{:<26} {:<9}", row.name, policy.name());
    if piled > 0 {
        let seeds = outcomes.len();
        return format!("{name} !jobs pile up in {piled} of {seeds} seeds");
    }
    let [swaps, mean, p99, throughput] =
        MEASURES.map(|measure| measure.cell(outcomes, &row.wanted));
    format!("{name} {swaps:<24} {mean:<22} {p99:<20} {throughput:<22} {bound}")
}

/// Simulates every row and prints, per measure, `median (worst seed) / target`; `!` if the target
/// is missed.
pub fn print(options: &TableOptions) -> anyhow::Result<()> {
    let rows: Vec<Row> = rows()
        .into_iter()
        .filter(|row| row.name.contains(&options.only))
        .collect();
    let seeds = || 1..=options.seeds;
    let runs: Vec<Options> = rows
        .iter()
        .flat_map(|row| options.policy.iter().map(move |policy| (row, *policy)))
        .flat_map(|(row, policy)| seeds().map(move |seed| row.options(policy, seed)))
        .collect();
    let outcomes = simulate_all("table", &runs)?;
    let workloads: Vec<Options> = rows
        .iter()
        .flat_map(|row| seeds().map(|seed| row.options(PolicyName::Warm, seed)))
        .collect();
    let bounds = each("pooled bound", &workloads, pooled_bound::pooled)?;

    println!(
        "{:<26} {:<9} {:<24} {:<22} {:<20} {:<22} pooled bound",
        "median (worst) / target", "policy", " swaps/job", " mean s", " p99 s", " throughput"
    );
    let per_row = options.seeds as usize;
    let mut outcomes = outcomes.chunks(per_row);
    for (row, bounds) in rows.iter().zip(bounds.chunks(per_row)) {
        let bound = bound_cell(row, bounds);
        for (&policy, outcomes) in options.policy.iter().zip(outcomes.by_ref()) {
            println!("{}", line(row, policy, outcomes, &bound));
        }
    }
    Ok(())
}
