//! The order in which runners are ended: faulty ones, idle ones, busy ones; of each kind, the one
//! whose models are worth least; of equals, the one that registered last.
//!
//! A model is worth its recent arrivals divided by the number of its copies, as in an eviction.

use std::collections::HashMap;

use warmq_types::hint::Hint;

/// Arrivals that every model counts at least: without any, copies still differ.
const MIN_ARRIVALS: f64 = 1e-9;

/// What a runner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// It takes no jobs until its self-test passes.
    Faulty,
    /// It can be claimed.
    Idle,
    /// It has a job, or changes its models.
    Busy,
}

/// A runner that may be ended.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// What it does.
    pub activity: Activity,
    /// Models in its memory.
    pub models: &'a [Hint],
    /// Time of its registration, Unix ms.
    pub since_ms: u64,
}

/// Returns the indices of the `count` least useful candidates, the least useful first.
/// `arrivals`: a model's recent arrivals.
pub fn least_useful(
    candidates: &[Candidate<'_>],
    count: usize,
    arrivals: impl Fn(&Hint) -> f64,
) -> Vec<usize> {
    let mut copies: HashMap<&Hint, (f64, u32)> = HashMap::new();
    for model in candidates.iter().flat_map(|candidate| candidate.models) {
        let (_, copies) = copies.entry(model).or_insert_with(|| (arrivals(model), 0));
        *copies += 1;
    }
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let worth = |candidate: &Candidate<'_>| -> f64 {
            let models = candidate.models.iter();
            let known = models.filter_map(|model| copies.get(model));
            known
                .map(|(arrivals, copies)| arrivals.max(MIN_ARRIVALS) / f64::from(*copies))
                .sum()
        };
        let least = left.iter().enumerate().min_by(|(_, a), (_, b)| {
            let (a, b) = (&candidates[**a], &candidates[**b]);
            let by_worth = || worth(a).total_cmp(&worth(b));
            let latest_first = || b.since_ms.cmp(&a.since_ms);
            (a.activity.cmp(&b.activity))
                .then_with(by_worth)
                .then_with(latest_first)
        });
        let Some((position, _)) = least else { break };
        let index = left.remove(position);
        for model in candidates[index].models {
            if let Some((_, copies)) = copies.get_mut(model) {
                *copies -= 1;
            }
        }
        chosen.push(index);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(names: &[&str]) -> Vec<Hint> {
        let hints = names.iter().map(|name| Hint::parse(name).unwrap());
        hints.collect()
    }

    /// Returns the order of runners with these models, all idle since 0, 1, 2 … ms.
    fn order(models: &[&[&str]], arrivals: impl Fn(&str) -> f64) -> Vec<usize> {
        let models: Vec<Vec<Hint>> = models.iter().map(|names| hints(names)).collect();
        let candidates: Vec<Candidate<'_>> = models
            .iter()
            .zip(0..)
            .map(|(models, since_ms)| Candidate {
                activity: Activity::Idle,
                models,
                since_ms,
            })
            .collect();
        let order = least_useful(&candidates, 9, |hint| arrivals(hint.as_str()));
        assert_eq!(
            order[..1],
            least_useful(&candidates, 1, |hint| arrivals(hint.as_str()))
        );
        order
    }

    #[test]
    fn the_last_copy_of_a_model_in_demand_stays_longest() {
        let rates = |model: &str| match model {
            "hot" => 10.0,
            "warm" => 4.0,
            _ => 0.0,
        };
        // Three hot copies are worth 3.3 each, two 5, one 10.
        let models: &[&[&str]] = &[&["hot"], &["hot"], &["warm"], &["hot"], &["unused"], &[]];
        assert_eq!(order(models, rates), [5, 4, 3, 2, 1, 0]);
    }

    #[test]
    fn without_demand_models_with_other_copies_go_first_and_of_equals_the_latest() {
        assert_eq!(order(&[&["a"], &["b"], &["b"]], |_| 0.0), [2, 1, 0]);
        assert_eq!(order(&[&["b"], &["b"], &["a"]], |_| 0.0), [1, 2, 0]);
        assert_eq!(order(&[&[], &[], &[]], |_| 0.0), [2, 1, 0]);
    }

    #[test]
    fn faulty_runners_go_before_idle_ones_and_busy_ones_last() {
        let of = |activity| Candidate {
            activity,
            models: &[],
            since_ms: 0,
        };
        let candidates = [Activity::Busy, Activity::Idle, Activity::Faulty].map(of);
        assert_eq!(least_useful(&candidates, 2, |_| 0.0), [2, 1]);
        assert_eq!(least_useful(&candidates, 5, |_| 0.0), [2, 1, 0]);
        assert_eq!(least_useful(&[], 1, |_| 0.0), [0; 0]);
    }
}
