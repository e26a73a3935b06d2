//! Numbers and terms of owners, as the policy uses them.

use std::collections::HashMap;

use warmq_policy::warm::{Owner, OwnerTerms};
use warmq_types::ids::KeyId;

use crate::access::Keyring;

pub(super) struct Owners {
    keys: Keyring,
    known: HashMap<KeyId, OwnerTerms>,
}

impl Owners {
    pub(super) fn new(keys: Keyring) -> Self {
        Self {
            keys,
            known: HashMap::new(),
        }
    }

    /// Returns an owner's number, and its terms if they are new. Jobs without an owner share the
    /// default one, without a limit.
    pub(super) fn number(&mut self, owner: Option<&KeyId>) -> (Owner, Option<OwnerTerms>) {
        let Some(owner) = owner else {
            return (Owner::default(), None);
        };
        if let Some(terms) = self.known.get(owner) {
            return (terms.owner, None);
        }
        // 0 is the default one.
        let number = Owner(self.known.len() as u32 + 1);
        let terms = terms(&self.keys, owner, number);
        self.known.insert(owner.clone(), terms);
        (number, Some(terms))
    }

    /// Returns the terms that have changed since the last call.
    pub(super) fn changed(&mut self) -> Vec<OwnerTerms> {
        let mut changed = Vec::new();
        for (owner, known) in &mut self.known {
            let now = terms(&self.keys, owner, known.owner);
            if now != *known {
                *known = now;
                changed.push(now);
            }
        }
        changed
    }
}

fn terms(keys: &Keyring, owner: &KeyId, number: Owner) -> OwnerTerms {
    let limits = keys.limits_of(owner);
    let max_running = limits.max_running();
    OwnerTerms {
        owner: number,
        weight: limits.weight(),
        max_running: max_running.map(|jobs| usize::try_from(jobs).unwrap_or(usize::MAX)),
    }
}
