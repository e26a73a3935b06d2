//! Counts the models that a budget holds at once: a pure function.

/// Returns how many models fit together: the loaded ones, and then the largest ones of the
/// `others`, until the next one no longer fits.
///
/// The largest come first because the next load may be of any other model: as long as fewer than
/// this number are loaded, a load of any of them evicts nothing.
pub fn slots(loaded: &[u64], others: impl IntoIterator<Item = u64>, budget_bytes: u64) -> u32 {
    let mut largest_first: Vec<u64> = others.into_iter().collect();
    largest_first.sort_unstable_by(|one, other| other.cmp(one));
    // Wider than the sizes, so that the sum cannot overflow.
    let mut total: u128 = loaded.iter().copied().map(u128::from).sum();
    let further = largest_first.into_iter().take_while(|bytes| {
        total += u128::from(*bytes);
        total <= u128::from(budget_bytes)
    });
    u32::try_from(loaded.len() + further.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_cache::eviction::{CachedModel, victims};
    use proptest::prelude::*;

    #[test]
    fn the_loaded_models_count_and_then_the_largest_others() {
        assert_eq!(slots(&[], [4, 4, 4], 10), 2);
        assert_eq!(slots(&[4], [4, 4], 10), 2);
        assert_eq!(slots(&[4, 4], [4], 10), 2);
        assert_eq!(slots(&[2], [2, 7], 10), 2);
        assert_eq!(slots(&[2], [2, 9], 10), 1, "the 9 would evict the 2");
        assert_eq!(slots(&[1, 1], [], 10), 2, "there are no others to hold");
        assert_eq!(slots(&[], [], 10), 0);
        assert_eq!(slots(&[u64::MAX], [u64::MAX], u64::MAX), 1);
    }

    /// Loads models in this order, as the cache does; returns the sizes held and the number of
    /// evictions.
    fn load(loaded: &[u64], loads: &[u64], budget: u64) -> (Vec<u64>, usize) {
        let names: Vec<String> = (0..loaded.len() + loads.len())
            .map(|i| i.to_string())
            .collect();
        let mut held: Vec<CachedModel<'_>> = Vec::new();
        let mut evictions = 0;
        for (last_used, (&bytes, name)) in loaded.iter().chain(loads).zip(&names).enumerate() {
            let victims = victims(&held, bytes, budget).unwrap();
            evictions += victims.len();
            held.retain(|model| !victims.contains(&model.name));
            held.push(CachedModel {
                name,
                bytes,
                last_used: last_used as u64,
                pinned: false,
            });
        }
        (held.iter().map(|model| model.bytes).collect(), evictions)
    }

    proptest! {
        #[test]
        fn loads_of_any_others_up_to_the_slots_evict_nothing(
            first in prop::collection::vec(1u64..60, 0..4),
            others in prop::collection::vec(1u64..100, 0..8).prop_shuffle(),
            budget in 100u64..300,
        ) {
            let (loaded, _) = load(&[], &first, budget);
            let slots = slots(&loaded, others.iter().copied(), budget) as usize;
            prop_assert!(slots >= loaded.len());
            prop_assert!(slots <= loaded.len() + others.len());
            let (held, evictions) = load(&loaded, &others[..slots - loaded.len()], budget);
            prop_assert_eq!(evictions, 0);
            prop_assert_eq!(held.len(), slots);
            prop_assert!(held.iter().sum::<u64>() <= budget);
        }

        #[test]
        fn one_load_beyond_the_slots_evicts_if_the_largest_are_loaded(
            mut others in prop::collection::vec(1u64..100, 1..8), budget in 100u64..300,
        ) {
            others.sort_unstable_by(|one, other| other.cmp(one));
            let slots = slots(&[], others.iter().copied(), budget) as usize;
            if slots < others.len() {
                let (_, evictions) = load(&[], &others[..=slots], budget);
                prop_assert!(evictions > 0);
            }
        }
    }
}
