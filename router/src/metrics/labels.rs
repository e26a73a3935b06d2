//! Which hints have a label of their own. Submitters choose hints freely, so the number of series
//! must not depend on theirs: the first [`OWN_LABELS`] hints that a runner has run get one.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use warmq_types::hint::Hint;

/// Maximum number of hints of an app with a label of their own.
pub(super) const OWN_LABELS: usize = 100;

/// The label of all other hints.
const OTHER: &str = "other";

/// The label of jobs without hint; for Prometheus the same as no label.
const NONE: &str = "";

/// The hints of one app that have a label of their own.
#[derive(Debug, Default)]
pub(super) struct Labels(Mutex<HashSet<Hint>>);

impl Labels {
    /// Gives a hint that a runner has run a label of its own, if one is left.
    pub(super) fn add(&self, hint: &Hint) {
        let mut own = self.own();
        if own.len() < OWN_LABELS && !own.contains(hint) {
            own.insert(hint.clone());
        }
    }

    /// Returns the label's value.
    pub(super) fn of(&self, hint: Option<&Hint>) -> String {
        match hint {
            None => NONE.to_owned(),
            Some(hint) if self.own().contains(hint) => escape(hint),
            Some(_) => OTHER.to_owned(),
        }
    }

    fn own(&self) -> MutexGuard<'_, HashSet<Hint>> {
        // A panic leaves the set usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Doubles backslashes. The exporter escapes quotes and newlines, but regards a backslash before a
/// quote or another backslash as an existing escape, so two hints could get the same label.
fn escape(hint: &Hint) -> String {
    hint.as_str().replace('\\', r"\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(text: &str) -> Hint {
        Hint::parse(text).unwrap()
    }

    #[test]
    fn a_limited_number_of_hints_have_a_label_and_only_once_they_ran() {
        let labels = Labels::default();
        assert_eq!(labels.of(Some(&hint("h0"))), "other");
        for number in 0..2 * OWN_LABELS {
            labels.add(&hint(&format!("h{number}")));
            labels.add(&hint("h0"));
        }
        assert_eq!(labels.of(Some(&hint("h0"))), "h0");
        assert_eq!(labels.of(Some(&hint("h99"))), "h99");
        assert_eq!(labels.of(Some(&hint("h100"))), "other");
        assert_eq!(labels.of(None), "");
    }
}
