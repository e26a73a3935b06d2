//! Many simulations at once, on all cores.

use indicatif::{ParallelProgressIterator, ProgressBar, ProgressStyle};
use rayon::prelude::*;

use crate::args::Options;
use crate::simulator::{Outcome, simulate};
use crate::workload::Error;

/// Creates a bar on standard error; hidden unless that is a terminal.
fn bar(count: usize, what: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} ({eta})");
    ProgressBar::new(count as u64)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(what.to_owned())
}

/// Maps inputs in parallel; results keep the order.
///
/// # Errors
/// The first error.
pub fn each<T: Sync, R: Send>(
    what: &str,
    inputs: &[T],
    act: impl Fn(&T) -> Result<R, Error> + Sync + Send,
) -> Result<Vec<R>, Error> {
    inputs
        .par_iter()
        .progress_with(bar(inputs.len(), what))
        .map(act)
        .collect()
}

/// Simulates all options.
pub fn simulate_all(what: &str, runs: &[Options]) -> Result<Vec<Outcome>, Error> {
    each(what, runs, simulate)
}

/// Returns the mean; 0 of none.
pub fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    sum / f64::from(count.max(1))
}

/// Returns the median: the greater of the two middle values of an even count; NaN of none.
pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
