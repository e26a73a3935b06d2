//! Decides what follows when a device is out of memory: a pure function.

use super::eviction::CachedModel;

/// Models that one job may evict because the device is out of memory. Each costs another attempt
/// of the job.
pub const MAX_EVICTIONS: u32 = 4;

/// What precedes the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy<'a> {
    /// Return unused memory to the device.
    ReleaseUnused,
    /// Evict this model.
    Evict(&'a str),
    /// There is no next attempt: other models are loaded, but enough were evicted.
    GiveUp,
    /// There is no next attempt: no other model is loaded, apart from pinned ones.
    ExceedsDevice,
}

/// Returns what follows the `failures`-th failure, counted from 1, of an attempt with the model
/// `name`: first memory that nothing uses is released, then the least recently used other model is
/// evicted, one before each further attempt. The model itself and pinned ones stay loaded.
pub fn remedy<'a>(failures: u32, name: &str, held: &[CachedModel<'a>]) -> Remedy<'a> {
    if failures <= 1 {
        return Remedy::ReleaseUnused;
    }
    let others = held
        .iter()
        .filter(|model| model.name != name && !model.pinned);
    match others.min_by_key(|model| model.last_used) {
        None => Remedy::ExceedsDevice,
        Some(_) if failures > MAX_EVICTIONS + 1 => Remedy::GiveUp,
        Some(oldest) => Remedy::Evict(oldest.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

    /// Applies the remedies to models last used at these times, until the attempt with the first
    /// one succeeds beside at most `room` others. Returns the others left, the evicted, the number
    /// of attempts and the last remedy.
    fn run(uses: &[u64], room: usize) -> (usize, Vec<u64>, u32, Option<Remedy<'static>>) {
        let mut held: Vec<CachedModel<'static>> = uses
            .iter()
            .zip(NAMES)
            .map(|(&last_used, name)| CachedModel {
                name,
                bytes: 1,
                last_used,
                pinned: false,
            })
            .collect();
        let (mut evicted, mut attempts, mut last) = (Vec::new(), 1, None);
        while held.len() - 1 > room || room == usize::MAX {
            let next = remedy(attempts, NAMES[0], &held);
            last = Some(next);
            match next {
                Remedy::ReleaseUnused => {}
                Remedy::Evict(victim) => {
                    let index = held.iter().position(|model| model.name == victim).unwrap();
                    evicted.push(held.remove(index).last_used);
                }
                Remedy::GiveUp | Remedy::ExceedsDevice => break,
            }
            attempts += 1;
        }
        (held.len() - 1, evicted, attempts, last)
    }

    #[test]
    fn unused_memory_goes_first_and_then_the_least_recently_used_model() {
        assert_eq!(run(&[5, 3, 1, 2], 3), (3, vec![], 1, None));
        let last = Some(Remedy::Evict("d"));
        assert_eq!(run(&[5, 3, 1, 2], 1), (1, vec![1, 2], 4, last));
    }

    #[test]
    fn a_job_that_exceeds_the_device_alone_keeps_its_model() {
        // `usize::MAX`: no attempt succeeds.
        let last = Some(Remedy::ExceedsDevice);
        assert_eq!(run(&[5], usize::MAX), (0, vec![], 2, last));
        assert_eq!(run(&[5, 1], usize::MAX), (0, vec![1], 3, last));
    }

    #[test]
    fn a_pinned_model_is_not_evicted() {
        let model = |name, pinned| CachedModel {
            name,
            bytes: 1,
            last_used: 1,
            pinned,
        };
        let held = [model("a", false), model("b", true)];
        assert_eq!(remedy(2, "a", &held), Remedy::ExceedsDevice);
    }

    proptest! {
        #[test]
        fn no_more_go_than_it_takes_and_never_more_than_the_bound(
            uses in prop::collection::vec(0u64..100, 1..8), room in 0usize..8,
        ) {
            let others = uses.len() - 1;
            let (left, evicted, attempts, last) = run(&uses, room);
            prop_assert!(evicted.len() <= MAX_EVICTIONS as usize);
            prop_assert!(attempts <= MAX_EVICTIONS + 2);
            prop_assert!(evicted.is_sorted());
            prop_assert_eq!(left + evicted.len(), others);
            let needed = others.saturating_sub(room);
            prop_assert_eq!(evicted.len(), needed.min(MAX_EVICTIONS as usize));
            prop_assert_eq!(last == Some(Remedy::GiveUp), needed > MAX_EVICTIONS as usize);
        }

        #[test]
        fn an_attempt_that_never_succeeds_ends(uses in prop::collection::vec(0u64..100, 1..8)) {
            let (left, _, attempts, last) = run(&uses, usize::MAX);
            prop_assert!(attempts <= MAX_EVICTIONS + 2);
            let is_alone = left == 0;
            let expected = if is_alone { Remedy::ExceedsDevice } else { Remedy::GiveUp };
            prop_assert_eq!(last, Some(expected));
        }
    }
}
