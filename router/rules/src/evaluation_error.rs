//! Errors of routes at submission, and of steps' inputs.

use warmq_types::ids::AppId;

use crate::expression::Expression;

/// An expression of a route has no value for a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route {route}, {place}{}: {reason}", in_brackets(expression))]
pub struct Error {
    /// Route of the expression.
    pub route: AppId,
    /// Location in the route: `rule 2`, `by`, `step upscale, input.image_url`.
    pub place: String,
    /// Expression; empty if no single one failed.
    pub expression: String,
    /// Reason.
    pub reason: String,
}

/// An [`Error`] without its route.
#[derive(Debug)]
pub(crate) struct EvaluationError {
    pub(crate) place: String,
    pub(crate) expression: String,
    pub(crate) reason: String,
}

impl EvaluationError {
    /// Returns an error of an expression without its place.
    pub(crate) fn with(expression: &Expression, reason: String) -> Self {
        Self {
            place: String::new(),
            expression: expression.source().to_owned(),
            reason,
        }
    }

    /// Prefixes the place.
    #[must_use]
    pub(crate) fn within(mut self, place: &str) -> Self {
        self.place.insert_str(0, place);
        self
    }
}

impl From<String> for EvaluationError {
    /// Returns an error of no single expression.
    fn from(reason: String) -> Self {
        Self {
            place: String::new(),
            expression: String::new(),
            reason,
        }
    }
}

/// Returns ` (…)`; an empty text stays empty.
fn in_brackets(expression: &str) -> String {
    match expression.is_empty() {
        true => String::new(),
        false => format!(" ({expression})"),
    }
}
