//! Why a route cannot decide about a submission, or give a step its input.

use warmq_types::ids::AppId;

use crate::expression::Expression;

/// A route cannot say where a submission goes, or what a step is given: the values do not fit its
/// expressions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route {route}, {place}{}: {reason}", in_brackets(expression))]
pub struct Error {
    /// The route.
    pub route: AppId,
    /// Which of its expressions: `rule 2`, `by`, `step upscale, input.image_url`.
    pub place: String,
    /// The expression; empty if it is no single one's fault.
    pub expression: String,
    /// What is wrong.
    pub reason: String,
}

/// An [`Error`] whose route is still to be named.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) place: String,
    pub(crate) expression: String,
    pub(crate) reason: String,
}

impl Trouble {
    /// With an expression, wherever it stands.
    pub(crate) fn with(expression: &Expression, reason: String) -> Self {
        Self {
            place: String::new(),
            expression: expression.source().to_owned(),
            reason,
        }
    }

    /// The same, of something within which this place is.
    #[must_use]
    pub(crate) fn within(mut self, place: &str) -> Self {
        self.place.insert_str(0, place);
        self
    }
}

impl From<String> for Trouble {
    /// No single expression's.
    fn from(reason: String) -> Self {
        Self {
            place: String::new(),
            expression: String::new(),
            reason,
        }
    }
}

/// ` (…)`; nothing around nothing.
fn in_brackets(expression: &str) -> String {
    match expression.is_empty() {
        true => String::new(),
        false => format!(" ({expression})"),
    }
}
