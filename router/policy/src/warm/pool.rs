//! Sets of runners to draw from at random. Every operation costs O(1).
//!
//! Most models have few holders, and a large fleet has many models: what is asked of each event then costs what it takes to
//! fetch those sets from memory. So a small set stands in one place, without pointers, and is searched from end to end.

use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use super::dice::Dice;
use super::event::{Avoid, Runner};

/// Members that are searched from end to end: half a cache line.
const FEW: usize = 8;

/// A set of runners.
#[derive(Debug, Clone)]
pub enum Pool {
    /// At most [`FEW`].
    Few(SmallVec<[Runner; FEW]>),
    /// More, or lately more.
    Many(Box<IndexSet<Runner, FxBuildHasher>>),
}

impl Default for Pool {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl Pool {
    /// How many members it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.len(),
            Self::Many(many) => many.len(),
        }
    }

    /// It has no member outside `but`.
    pub fn is_empty_but_for(&self, but: Avoid) -> bool {
        self.iter().all(|member| but.contains(member))
    }

    /// Its members.
    pub fn iter(&self) -> impl Iterator<Item = Runner> + use<'_> {
        (0..self.len()).filter_map(|index| self.at(index))
    }

    fn at(&self, index: usize) -> Option<Runner> {
        match self {
            Self::Few(few) => few.get(index).copied(),
            Self::Many(many) => many.get_index(index).copied(),
        }
    }

    /// Makes the runner a member, or not.
    pub fn put(&mut self, runner: Runner, member: bool) {
        match member {
            true => self.insert(runner),
            false => self.remove(runner),
        }
    }

    fn insert(&mut self, runner: Runner) {
        match self {
            Self::Few(few) if few.contains(&runner) => {}
            Self::Few(few) if few.len() < FEW => few.push(runner),
            Self::Few(few) => {
                let many = few.iter().copied().chain([runner]).collect();
                *self = Self::Many(Box::new(many));
            }
            Self::Many(many) => {
                many.insert(runner);
            }
        }
    }

    fn remove(&mut self, runner: Runner) {
        match self {
            Self::Few(few) => {
                if let Some(index) = few.iter().position(|member| *member == runner) {
                    few.swap_remove(index);
                }
            }
            Self::Many(many) => {
                many.swap_remove(&runner);
                // Well below the size at which it grew: a set that is now larger, now smaller is not rebuilt each time.
                if many.len() <= FEW / 2 {
                    *self = Self::Few(many.iter().copied().collect());
                }
            }
        }
    }

    /// Up to `count` members outside `but`: all of them, or consecutive ones from a random place.
    pub fn sample(
        &self,
        count: usize,
        but: Avoid,
        dice: &mut Dice,
    ) -> impl Iterator<Item = Runner> + use<'_> {
        let all = self.len();
        let start = match all > count {
            true => dice.below(all),
            false => 0,
        };
        let around = (start..all).chain(0..start);
        around
            .filter_map(|index| self.at(index))
            .filter(move |member| !but.contains(*member))
            .take(count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_was_put_in_however_large_it_was(
            changes in prop::collection::vec((0_u32..24, any::<bool>()), 0..200),
            coin in any::<u64>(),
        ) {
            let (mut pool, mut expected) = (Pool::default(), BTreeSet::new());
            for (runner, member) in changes {
                pool.put(Runner(runner), member);
                match member {
                    true => expected.insert(Runner(runner)),
                    false => expected.remove(&Runner(runner)),
                };
                prop_assert_eq!(pool.len(), expected.len());
                prop_assert_eq!(pool.iter().collect::<BTreeSet<_>>(), expected.clone());
                let but: Avoid = expected.iter().copied().take(2).collect();
                prop_assert_eq!(pool.is_empty_but_for(but), expected.len() <= 2);
                let sample: Vec<_> = pool.sample(3, but, &mut Dice::new(coin)).collect();
                let distinct: BTreeSet<_> = sample.iter().copied().collect();
                prop_assert_eq!(distinct.len(), sample.len());
                prop_assert!(distinct.is_subset(&expected));
                prop_assert!(!distinct.iter().any(|runner| but.contains(*runner)));
                prop_assert_eq!(sample.len(), expected.len().saturating_sub(2).min(3));
            }
        }
    }
}
