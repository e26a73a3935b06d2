//! Times and their quantiles.

use serde::Serialize;

use crate::simulator::quantile;

/// Times, ms.
#[derive(Debug, Clone, Default)]
pub struct Times(Vec<f64>);

/// Quantiles, ms; 0 if there are no times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantiles {
    /// Number of times.
    pub count: usize,
    /// The median.
    pub p50_ms: f64,
    /// The 95th percentile.
    pub p95_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
}

impl Times {
    /// Adds a time.
    pub fn push(&mut self, ms: f64) {
        self.0.push(ms);
    }

    /// Returns the quantiles.
    pub fn quantiles(&self) -> Quantiles {
        let mut sorted_ms = self.0.clone();
        sorted_ms.sort_by(f64::total_cmp);
        Quantiles {
            count: sorted_ms.len(),
            p50_ms: quantile(&sorted_ms, 0.50),
            p95_ms: quantile(&sorted_ms, 0.95),
            p99_ms: quantile(&sorted_ms, 0.99),
        }
    }
}

impl Extend<f64> for Times {
    fn extend<T: IntoIterator<Item = f64>>(&mut self, times_ms: T) {
        self.0.extend(times_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank_in_any_order() {
        let mut times = Times::default();
        times.extend((1..=100).rev().map(f64::from));
        let Quantiles {
            count,
            p50_ms,
            p95_ms,
            p99_ms,
        } = times.quantiles();
        assert_eq!((count, p50_ms, p95_ms, p99_ms), (100, 50.0, 95.0, 99.0));
    }
}
