//! Resolves the target of a submission: an app, named directly or chosen by a route, or a flow
//! along a route.

use std::collections::BTreeMap;

use serde_json::Value;
use warmq_rules::{Draw, RouteRequest};
use warmq_types::ids::{AppId, IdempotencyKey, JobId, KeyId};
use warmq_types::route::{Hop, RouteKind};

use super::{Submission, SubmitError, Submitter};
use crate::apps::App;
use crate::large_json::LargeJsonPermit;
use crate::routing_config::RoutingConfig;

/// Target of a submission.
pub(super) enum Target {
    /// An app.
    App(TargetApp),
    /// A flow along a route.
    Flow(FlowRoute),
}

/// The app of a job, with the routes that led to it.
pub(super) struct TargetApp {
    pub(super) id: AppId,
    pub(super) app: App,
    pub(super) hops: Vec<Hop>,
}

impl TargetApp {
    /// Validates an input, and converts whole numbers to the schema's representation.
    ///
    /// # Errors
    /// The input does not match the app's schema.
    pub(super) fn takes(&self, input: &mut Value) -> Result<(), SubmitError> {
        match self.app.check(input) {
            problems if problems.is_empty() => Ok(()),
            problems => Err(SubmitError::InvalidInput(problems)),
        }
    }
}

/// The route of a flow, with the routes that led to it.
pub(super) struct FlowRoute {
    pub(super) route: AppId,
    pub(super) kind: RouteKind,
    /// Number of declared steps.
    pub(super) of: u32,
    pub(super) hops: Vec<Hop>,
}

/// What identifies a repeated submission.
pub(super) struct RequestIdentity<'a> {
    pub(super) job: JobId,
    pub(super) key: Option<&'a IdempotencyKey>,
    pub(super) owner: Option<&'a KeyId>,
}

impl Submitter {
    /// Resolves the route `name`. A known submission keeps its target, whatever was declared since.
    pub(super) async fn resolve_route(
        &self,
        name: AppId,
        declared: &RoutingConfig,
        (submission, input, permit): (&Submission, &Value, &LargeJsonPermit),
        RequestIdentity { job, key, owner }: RequestIdentity<'_>,
    ) -> Result<Target, SubmitError> {
        if submission.id.is_some()
            && let Some(known) = self.store.jobs().job(job).await?
            && *known.spec.submitted_to() == name
        {
            let (app, hops) = (known.spec.app, known.spec.route);
            return self.target_of(declared, app, hops).await;
        }
        let id = job.to_string();
        let apps = self.apps.loads.in_conditions(declared, &name).await?;
        let request = RouteRequest {
            input,
            headers: &submission.headers,
            key: owner.map_or("", KeyId::as_str),
            draw: Draw::Job(key.map_or(id.as_str(), IdempotencyKey::as_str)),
            apps: &apps,
            steps: &BTreeMap::new(),
        };
        let resolved = permit.run(|| warmq_rules::resolve(&declared.routes, &name, &request))?;
        let Some(key) = key else {
            return (self.target_of(declared, resolved.app, resolved.hops)).await;
        };
        let retention_s = declared.config(&resolved.app).retention.as_secs();
        let settled =
            (self.store)
                .sticky_routes()
                .choose(&name, (owner, key), &resolved.app, retention_s);
        let settled = settled.await?;
        let hops = match settled == resolved.app {
            true => resolved.hops,
            false => vec![Hop {
                kind: declared
                    .routes
                    .get(&name)
                    .map_or(RouteKind::Switch, |route| route.kind()),
                route: name,
                to: settled.clone(),
                reason: "its idempotency key was seen before, and went there".to_owned(),
            }],
        };
        self.target_of(declared, settled, hops).await
    }

    /// Returns the target `name`: a route of flows, or a known app.
    pub(super) async fn target_of(
        &self,
        declared: &RoutingConfig,
        name: AppId,
        hops: Vec<Hop>,
    ) -> Result<Target, SubmitError> {
        match declared.routes.flow(&name) {
            Some(flow) => Ok(Target::Flow(FlowRoute {
                kind: flow.kind,
                of: u32::try_from(flow.steps.len()).unwrap_or(u32::MAX),
                route: name,
                hops,
            })),
            None => Ok(Target::App(self.find_app(declared, name, hops).await?)),
        }
    }

    /// Returns a known app.
    pub(super) async fn find_app(
        &self,
        declared: &RoutingConfig,
        id: AppId,
        hops: Vec<Hop>,
    ) -> Result<TargetApp, SubmitError> {
        match self.apps.find_in(declared, &id).await? {
            Some(app) => Ok(TargetApp { id, app, hops }),
            None => Err(SubmitError::UnknownApp(id)),
        }
    }
}
