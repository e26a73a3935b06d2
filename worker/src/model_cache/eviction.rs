//! Chooses the models to evict so that another one fits: a pure function, least recently used
//! first.

/// A loaded model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedModel<'a> {
    /// Name.
    pub name: &'a str,
    /// Size, bytes.
    pub bytes: u64,
    /// A counter of the last use: larger is later.
    pub last_used: u64,
    /// Whether it is never evicted.
    pub pinned: bool,
}

/// The model exceeds the budget, or what pinned models leave of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "it needs {needed_bytes} bytes and the memory budget is {budget_bytes} bytes{}",
    beside(*pinned_bytes)
)]
pub struct DoesNotFit {
    /// The model's size, bytes.
    pub needed_bytes: u64,
    /// The memory budget, bytes.
    pub budget_bytes: u64,
    /// The part of the budget that pinned models occupy, bytes.
    pub pinned_bytes: u64,
}

fn beside(pinned_bytes: u64) -> String {
    match pinned_bytes {
        0 => String::new(),
        bytes => format!(", of which pinned models occupy {bytes}"),
    }
}

/// Returns the models to evict, in this order, before `needed_bytes` more fit into `budget_bytes`:
/// the least recently used ones that are not pinned, and no more than necessary.
///
/// # Errors
/// `needed_bytes` exceeds the budget beside the pinned models; nothing is evicted.
pub fn victims<'a>(
    held: &[CachedModel<'a>],
    needed_bytes: u64,
    budget_bytes: u64,
) -> Result<Vec<&'a str>, DoesNotFit> {
    // Wider than the sizes, so that sums cannot overflow.
    let sum = |models: &[CachedModel<'_>]| -> u128 {
        models.iter().map(|model| u128::from(model.bytes)).sum()
    };
    let (pinned, mut oldest_first): (Vec<_>, Vec<_>) =
        held.iter().copied().partition(|model| model.pinned);
    if sum(&pinned) + u128::from(needed_bytes) > u128::from(budget_bytes) {
        return Err(DoesNotFit {
            needed_bytes,
            budget_bytes,
            pinned_bytes: u64::try_from(sum(&pinned)).unwrap_or(u64::MAX),
        });
    }
    oldest_first.sort_by_key(|model| model.last_used);
    let mut total = sum(held) + u128::from(needed_bytes);
    let mut victims = Vec::new();
    for model in oldest_first {
        if total <= u128::from(budget_bytes) {
            break;
        }
        total -= u128::from(model.bytes);
        victims.push(model.name);
    }
    Ok(victims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

    fn held(models: &[(u64, u64)]) -> Vec<CachedModel<'static>> {
        let unpinned: Vec<(u64, u64, bool)> = models
            .iter()
            .map(|&(bytes, last_used)| (bytes, last_used, false))
            .collect();
        held_with_pins(&unpinned)
    }

    fn held_with_pins(models: &[(u64, u64, bool)]) -> Vec<CachedModel<'static>> {
        models
            .iter()
            .zip(NAMES)
            .map(|(&(bytes, last_used, pinned), name)| CachedModel {
                name,
                bytes,
                last_used,
                pinned,
            })
            .collect()
    }

    fn sum(held: &[CachedModel<'_>], without: &[&str]) -> u64 {
        held.iter()
            .filter(|model| !without.contains(&model.name))
            .map(|model| model.bytes)
            .sum()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let held = held(&[(4, 30), (4, 10), (4, 20)]);
        assert_eq!(victims(&held, 4, 12), Ok(vec!["b"]));
        assert_eq!(victims(&held, 8, 12), Ok(vec!["b", "c"]));
        assert_eq!(victims(&held, 0, 12), Ok(vec![]));
    }

    #[test]
    fn the_largest_sizes_do_not_overflow() {
        let held = held(&[(u64::MAX, 1), (u64::MAX, 2)]);
        assert_eq!(victims(&held, u64::MAX, u64::MAX), Ok(vec!["a", "b"]));
    }

    #[test]
    fn a_model_that_does_not_fit_beside_pinned_ones_is_refused_with_their_size() {
        let held = held_with_pins(&[(4, 1, true), (4, 2, false)]);
        assert_eq!(victims(&held, 6, 10), Ok(vec!["b"]));
        let refused = victims(&held, 7, 10).unwrap_err().to_string();
        assert_eq!(
            refused,
            "it needs 7 bytes and the memory budget is 10 bytes, of which pinned models occupy 4"
        );
    }

    proptest! {
        #[test]
        fn the_budget_holds_unless_the_model_beside_the_pinned_ones_is_over_it(
            models in prop::collection::vec((0u64..100, 0u64..1000, prop::bool::weighted(0.2)), 0..8),
            needed in 0u64..200, budget in 0u64..300,
        ) {
            let held = held_with_pins(&models);
            let pinned_bytes = models.iter().filter(|model| model.2).map(|model| model.0).sum();
            match victims(&held, needed, budget) {
                Ok(victims) => {
                    prop_assert!(sum(&held, &victims) + needed <= budget);
                    let is_pinned = |model: &&CachedModel<'_>| model.pinned;
                    prop_assert!(held.iter().filter(is_pinned).all(|model| !victims.contains(&model.name)));
                }
                Err(refused) => {
                    prop_assert!(needed + pinned_bytes > budget);
                    let (needed_bytes, budget_bytes) = (needed, budget);
                    prop_assert_eq!(refused, DoesNotFit { needed_bytes, budget_bytes, pinned_bytes });
                }
            }
        }

        #[test]
        fn no_more_go_than_it_takes_and_the_oldest_go(
            models in prop::collection::vec((0u64..100, 0u64..1000), 0..8), needed in 0u64..200, budget in 200u64..400,
        ) {
            let held = held(&models);
            let victims = victims(&held, needed, budget).unwrap();
            if let Some((_, all_but_last)) = victims.split_last() {
                prop_assert!(sum(&held, all_but_last) + needed > budget);
            }
            let used = |name: &&str| held.iter().find(|model| model.name == *name).unwrap().last_used;
            prop_assert!(victims.is_sorted_by_key(used));
            let newest_victim = victims.iter().map(used).max().unwrap_or(0);
            let kept = held.iter().filter(|model| !victims.contains(&model.name));
            prop_assert!(kept.map(|model| model.last_used).all(|used| used >= newest_victim));
        }
    }
}
