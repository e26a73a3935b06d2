//! Which hints get a label of their own. Submitters write hints as they like, so their number must
//! not decide how many series there are: a hint earns its label when a runner has run it, and only
//! so many do.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use warmq_types::hint::Hint;

/// Hints of an app with a label of their own.
pub(super) const OWN_LABELS: usize = 100;

/// The label of all other hints.
const OTHER: &str = "other";

/// The label of jobs without hint. Prometheus takes it for no label.
const NONE: &str = "";

/// The hints of one app that have a label of their own.
#[derive(Debug, Default)]
pub(super) struct Labels(Mutex<HashSet<Hint>>);

impl Labels {
    /// A runner has run the hint: it gets a label of its own if one is left.
    pub(super) fn earned(&self, hint: &Hint) {
        let mut own = self.own();
        if own.len() < OWN_LABELS && !own.contains(hint) {
            own.insert(hint.clone());
        }
    }

    /// The label's value.
    pub(super) fn of(&self, hint: Option<&Hint>) -> String {
        match hint {
            None => NONE.to_owned(),
            Some(hint) if self.own().contains(hint) => escaped(hint),
            Some(_) => OTHER.to_owned(),
        }
    }

    fn own(&self) -> MutexGuard<'_, HashSet<Hint>> {
        // A set of names is sound whatever happened to who held it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exporter escapes quotes and newlines, but takes a backslash in front of a quote or another
/// backslash for an escape that was made already; two hints could become one. Doubled here, every
/// backslash is one to it.
fn escaped(hint: &Hint) -> String {
    hint.as_str().replace('\\', r"\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(text: &str) -> Hint {
        Hint::parse(text).unwrap()
    }

    #[test]
    fn only_so_many_hints_have_a_label_and_only_once_they_ran() {
        let labels = Labels::default();
        assert_eq!(labels.of(Some(&hint("h0"))), "other");
        for number in 0..2 * OWN_LABELS {
            labels.earned(&hint(&format!("h{number}")));
            labels.earned(&hint("h0"));
        }
        assert_eq!(labels.of(Some(&hint("h0"))), "h0");
        assert_eq!(labels.of(Some(&hint("h99"))), "h99");
        assert_eq!(labels.of(Some(&hint("h100"))), "other");
        assert_eq!(labels.of(None), "");
    }
}
