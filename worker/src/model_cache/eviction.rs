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
}

/// The model exceeds the whole budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it needs {needed_bytes} bytes and the memory budget is {budget_bytes} bytes")]
pub struct DoesNotFit {
    /// The model's size, bytes.
    pub needed_bytes: u64,
    /// The memory budget, bytes.
    pub budget_bytes: u64,
}

/// Returns the models to evict, in this order, before `needed_bytes` more fit into `budget_bytes`:
/// the least recently used ones, and no more than necessary.
///
/// # Errors
/// `needed_bytes` alone exceeds the budget; nothing is evicted.
pub fn victims<'a>(
    held: &[CachedModel<'a>],
    needed_bytes: u64,
    budget_bytes: u64,
) -> Result<Vec<&'a str>, DoesNotFit> {
    if needed_bytes > budget_bytes {
        return Err(DoesNotFit {
            needed_bytes,
            budget_bytes,
        });
    }
    let mut oldest_first = held.to_vec();
    oldest_first.sort_by_key(|model| model.last_used);
    // Wider than the sizes, so that the sum cannot overflow.
    let mut total = held
        .iter()
        .map(|model| u128::from(model.bytes))
        .sum::<u128>()
        + u128::from(needed_bytes);
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
        models
            .iter()
            .zip(NAMES)
            .map(|(&(bytes, last_used), name)| CachedModel {
                name,
                bytes,
                last_used,
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

    proptest! {
        #[test]
        fn the_budget_holds_unless_the_model_alone_is_over_it(
            models in prop::collection::vec((0u64..100, 0u64..1000), 0..8), needed in 0u64..200, budget in 0u64..300,
        ) {
            let held = held(&models);
            match victims(&held, needed, budget) {
                Ok(victims) => prop_assert!(sum(&held, &victims) + needed <= budget),
                Err(refused) => {
                    prop_assert!(needed > budget);
                    prop_assert_eq!(refused, DoesNotFit { needed_bytes: needed, budget_bytes: budget });
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
