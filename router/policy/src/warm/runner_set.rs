//! Sets of runners to draw from at random. Every operation costs O(1).
//!
//! Most models have few holders, and a large fleet has many models, so the cost of an event is
//! dominated by fetching these sets from memory. A small set is therefore stored inline and
//! searched linearly.

use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::event::{Avoid, Runner};
use super::rng::SplitMix64;

/// Members of an inline set: half a cache line.
const MAX_INLINE: usize = 8;

/// A set of runners.
#[derive(Debug, Clone)]
pub enum RunnerSet {
    /// At most [`MAX_INLINE`] members.
    Inline(SmallVec<[Runner; MAX_INLINE]>),
    /// More members, now or recently.
    Indexed(Box<IndexSet<Runner, FxBuildHasher>>),
}

impl Default for RunnerSet {
    fn default() -> Self {
        Self::Inline(SmallVec::new())
    }
}

impl RunnerSet {
    /// Returns the number of members.
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(inline) => inline.len(),
            Self::Indexed(indexed) => indexed.len(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Runner> + use<'_> {
        (0..self.len()).filter_map(|index| self.at(index))
    }

    fn at(&self, index: usize) -> Option<Runner> {
        match self {
            Self::Inline(inline) => inline.get(index).copied(),
            Self::Indexed(indexed) => indexed.get_index(index).copied(),
        }
    }

    /// Adds or removes a runner.
    pub fn put(&mut self, runner: Runner, member: bool) {
        match member {
            true => self.insert(runner),
            false => self.remove(runner),
        }
    }

    fn insert(&mut self, runner: Runner) {
        match self {
            Self::Inline(inline) if inline.contains(&runner) => {}
            Self::Inline(inline) if inline.len() < MAX_INLINE => inline.push(runner),
            Self::Inline(inline) => {
                let indexed = inline.iter().copied().chain([runner]).collect();
                *self = Self::Indexed(Box::new(indexed));
            }
            Self::Indexed(indexed) => {
                indexed.insert(runner);
            }
        }
    }

    fn remove(&mut self, runner: Runner) {
        match self {
            Self::Inline(inline) => {
                if let Some(index) = inline.iter().position(|member| *member == runner) {
                    inline.swap_remove(index);
                }
            }
            Self::Indexed(indexed) => {
                indexed.swap_remove(&runner);
                // Well below the size at which it grew, so that a set of varying size is not
                // rebuilt each time.
                if indexed.len() <= MAX_INLINE / 2 {
                    *self = Self::Inline(indexed.iter().copied().collect());
                }
            }
        }
    }

    /// Returns up to `count` members outside `except`: all of them, or consecutive ones from a
    /// random index.
    pub fn sample(
        &self,
        count: usize,
        except: Avoid,
        rng: &mut SplitMix64,
    ) -> impl Iterator<Item = Runner> + use<'_> {
        self.around(self.len() > count, except, rng).take(count)
    }

    /// Returns all members outside `except`, from a random index if `is_random`.
    pub fn around(
        &self,
        is_random: bool,
        except: Avoid,
        rng: &mut SplitMix64,
    ) -> impl Iterator<Item = Runner> + use<'_> {
        let all = self.len();
        let start = match is_random {
            true => rng.below(all),
            false => 0,
        };
        let around = (start..all).chain(0..start);
        around
            .filter_map(|index| self.at(index))
            .filter(move |member| !except.contains(*member))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_contains_what_was_put_in_at_any_size(
            changes in prop::collection::vec((0_u32..24, any::<bool>()), 0..200),
            coin in any::<u64>(),
        ) {
            let (mut pool, mut expected) = (RunnerSet::default(), BTreeSet::new());
            for (runner, member) in changes {
                pool.put(Runner(runner), member);
                match member {
                    true => expected.insert(Runner(runner)),
                    false => expected.remove(&Runner(runner)),
                };
                prop_assert_eq!(pool.len(), expected.len());
                prop_assert_eq!(pool.iter().collect::<BTreeSet<_>>(), expected.clone());
                let except: Avoid = expected.iter().copied().take(2).collect();
                let sample: Vec<_> = pool.sample(3, except, &mut SplitMix64::new(coin)).collect();
                let distinct: BTreeSet<_> = sample.iter().copied().collect();
                prop_assert_eq!(distinct.len(), sample.len());
                prop_assert!(distinct.is_subset(&expected));
                prop_assert!(!distinct.iter().any(|runner| except.contains(*runner)));
                prop_assert_eq!(sample.len(), expected.len().saturating_sub(2).min(3));
            }
        }
    }
}
