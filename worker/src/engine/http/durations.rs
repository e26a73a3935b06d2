//! Separates load and run time, which a server does not report. Pure.

use std::collections::HashMap;

use warmq_types::hint::Hint;
use warmq_types::job::Timings;

/// Number of hints whose warm runs are remembered.
const MAX_HINTS: usize = 256;

/// The latest warm run of each hint, ms.
#[derive(Debug, Default)]
pub(super) struct Durations(HashMap<Hint, u64>);

impl Durations {
    /// Returns the timings of a run of `total_ms`. What a cold run takes longer than the latest
    /// warm run of its hint is the load; before the first warm run, half of it.
    pub(super) fn timings(&self, hint: Option<&Hint>, warm: bool, total_ms: u64) -> Timings {
        let known_ms = hint.and_then(|hint| self.0.get(hint).copied());
        let run_ms = match warm {
            true => total_ms,
            false => known_ms.unwrap_or(total_ms / 2).min(total_ms),
        };
        Timings {
            warm,
            from_ram: false,
            load_ms: total_ms - run_ms,
            run_ms,
        }
    }

    /// Remembers a warm run that succeeded.
    pub(super) fn remember(&mut self, hint: &Hint, run_ms: u64) {
        if self.0.len() < MAX_HINTS || self.0.contains_key(hint) {
            self.0.insert(hint.clone(), run_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cold_run_is_compared_with_the_latest_warm_one() {
        let hint = Hint::parse("a").unwrap();
        let mut durations = Durations::default();
        let of = |durations: &Durations, warm, total_ms| {
            let timings = durations.timings(Some(&hint), warm, total_ms);
            (timings.load_ms, timings.run_ms)
        };
        assert_eq!(of(&durations, false, 1000), (500, 500));
        assert_eq!(of(&durations, true, 300), (0, 300));
        durations.remember(&hint, 300);
        assert_eq!(of(&durations, false, 1000), (700, 300));
        assert_eq!(of(&durations, false, 200), (0, 200));
        assert_eq!(durations.timings(None, true, 50).run_ms, 50);
    }
}
