//! The way of a submission, from the name that it was submitted to, hop by hop, to an app or a
//! flow.

use warmq_types::ids::AppId;
use warmq_types::route::Hop;

use crate::declaration::{Route, Routes};
use crate::error::Error;
use crate::expression::Scene;
use crate::request::RouteRequest;

/// Where a submission goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The app that runs it, or the route whose flow it becomes.
    pub app: AppId,
    /// The routes that it went through; none if the app itself was named.
    pub hops: Vec<Hop>,
}

impl Routes {
    /// Where a submission to `name` goes. What is no route is an app, and goes to itself; so does a
    /// route whose submissions become flows.
    ///
    /// # Errors
    /// A route on its way cannot decide about it.
    pub fn resolve(&self, name: &AppId, request: &RouteRequest<'_>) -> Result<Resolved, Error> {
        let mut hops: Vec<Hop> = Vec::new();
        let mut at = name;
        let mut scene = None;
        // Checked routes hold no cycle, so this ends.
        while let Some(route) = self.get(at) {
            let scene = scene.get_or_insert_with(|| Scene::new(request));
            let chosen = match route {
                Route::Switch(switch) => switch.choose(scene),
                Route::Split(split) => split.choose(at, request.draw, scene),
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
