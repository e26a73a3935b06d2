//! The way of a submission, from the name that it was submitted to, hop by hop, to an app or a flow.

use warmq_common::ids::AppId;
use warmq_common::route::Hop;

use crate::asked::Asked;
use crate::declaration::{Route, Routes};
use crate::expression::{Expression, Scene};

/// Where a submission goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The app that runs it, or the route whose flow it becomes.
    pub app: AppId,
    /// The routes that it went through; none if the app itself was named.
    pub hops: Vec<Hop>,
}

/// A route can not say where a submission goes, or what a step is given: the values do not fit its expressions.
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

impl Routes {
    /// Where a submission to `name` goes. What is no route is an app, and goes to itself; so does a route whose submissions become
    /// flows.
    ///
    /// # Errors
    /// A route on its way can not decide about it.
    pub fn resolve(&self, name: &AppId, asked: &Asked<'_>) -> Result<Resolved, Error> {
        let mut hops: Vec<Hop> = Vec::new();
        let mut at = name;
        let mut scene = None;
        // Checked routes hold no cycle, so this ends.
        while let Some(route) = self.get(at) {
            let scene = scene.get_or_insert_with(|| Scene::new(asked));
            let chosen = match route {
                Route::Switch(switch) => switch.choose(scene),
                Route::Split(split) => split.choose(at, asked.draw, scene),
                Route::Sequence(_) | Route::Fallback(_) => break,
            };
            let (to, reason) = chosen.map_err(|trouble| Error {
                route: at.clone(),
                place: trouble.place,
                expression: trouble.expression,
                reason: trouble.reason,
            })?;
            hops.push(Hop {
                route: at.clone(),
                kind: route.kind(),
                to: to.clone(),
                reason,
            });
            at = to;
        }
        Ok(Resolved {
            app: at.clone(),
            hops,
        })
    }
}

/// ` (…)`; nothing around nothing.
fn in_brackets(expression: &str) -> String {
    match expression.is_empty() {
        true => String::new(),
        false => format!(" ({expression})"),
    }
}
