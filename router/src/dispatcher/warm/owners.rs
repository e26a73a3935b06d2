//! Numbers and terms of owners, as the policy uses them.

use std::collections::HashMap;

use warmq_policy::warm::{Owner, OwnerTerms};
use warmq_types::ids::KeyId;

use crate::access::Keyring;

pub(super) struct Owners {
    keys: Keyring,
    numbers: HashMap<Option<KeyId>, OwnerTerms>,
}

impl Owners {
    pub(super) fn new(keys: Keyring) -> Self {
        Self {
            keys,
            numbers: HashMap::new(),
        }
    }

    /// Returns an owner's number, and its terms if they are new. Jobs without an owner share a
    /// number.
    pub(super) fn number(&mut self, owner: Option<&KeyId>) -> (Owner, Option<OwnerTerms>) {
        let owner = owner.cloned();
        if let Some(terms) = self.numbers.get(&owner) {
            return (terms.owner, None);
        }
        let number = Owner(self.numbers.len() as u32);
        let terms = self.terms(number, owner.as_ref());
        self.numbers.insert(owner, terms);
        (number, Some(terms))
    }

    /// Returns the terms that have changed since the last call.
    pub(super) fn changed(&mut self) -> Vec<OwnerTerms> {
        let mut changed = Vec::new();
        for (owner, terms) in &self.numbers {
            let now = self.terms(terms.owner, owner.as_ref());
            if now != *terms {
                changed.push((owner.clone(), now));
            }
        }
        for (owner, terms) in &changed {
            self.numbers.insert(owner.clone(), *terms);
        }
        changed.into_iter().map(|(_, terms)| terms).collect()
    }

    fn terms(&self, number: Owner, owner: Option<&KeyId>) -> OwnerTerms {
        let limits = owner.map(|owner| self.keys.limits_of(owner));
        let limits = limits.unwrap_or_default();
        let max_running = limits.max_running();
        OwnerTerms {
            owner: number,
            weight: limits.weight(),
            max_running: max_running.map(|jobs| usize::try_from(jobs).unwrap_or(usize::MAX)),
        }
    }
}
