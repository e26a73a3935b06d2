//! Resolves the target of a submission, hop by hop: an app or a flow.

use warmq_types::ids::AppId;
use warmq_types::route::Hop;

use crate::declaration::{Route, Routes};
use crate::evaluation_error::Error;
use crate::expression::Variables;
use crate::request::RouteRequest;

/// Target of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// App that runs it, or route of its flow.
    pub app: AppId,
    /// Routes passed; none for a submission to the app itself.
    pub hops: Vec<Hop>,
}

/// Resolves the target of a submission to `name`. An app, or a route whose submissions become
/// flows, is its own target.
///
/// # Errors
/// A route on the way has no value for the request.
pub fn resolve(
    routes: &Routes,
    name: &AppId,
    request: &RouteRequest<'_>,
) -> Result<Resolved, Error> {
    let mut hops: Vec<Hop> = Vec::new();
    let mut target = name;
    let mut variables = None;
    // Checked routes contain no cycle.
    while let Some(route) = routes.get(target) {
        let variables = variables.get_or_insert_with(|| Variables::new(request));
        let chosen = match route {
            Route::Switch(switch) => switch.choose(variables),
            Route::Split(split) => split.choose(target, request.draw, variables),
            Route::Sequence(_) | Route::Fallback(_) => break,
        };
        let (to, reason) = chosen.map_err(|error| Error {
            route: target.clone(),
            place: error.place,
            expression: error.expression,
            reason: error.reason,
        })?;
        hops.push(Hop {
            route: target.clone(),
            kind: route.kind(),
            to: to.clone(),
            reason,
        });
        target = to;
    }
    Ok(Resolved {
        app: target.clone(),
        hops,
    })
}
