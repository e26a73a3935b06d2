//! Resolves the target of a submission: an app, named directly or chosen by a route, or a flow
//! along a route.

use std::collections::BTreeMap;

use serde_json::Value;
use warmq_rules::{Draw, Resolved, Route, RouteRequest};
use warmq_store::Store;
use warmq_types::ids::{AppId, IdempotencyKey, KeyId};
use warmq_types::job::JobSpec;
use warmq_types::route::{Hop, RouteKind};

use super::SubmitError;
use super::build_job::{Draft, Prepared};
use super::model::require_listed;
use super::request::Request;
use crate::apps::{App, AppDirectory};
use crate::large_json::LargeJsonPermit;
use crate::routing_config::RoutingConfig;

/// Target of a submission.
pub(crate) enum SubmissionTarget {
    /// An app.
    App(Box<TargetApp>),
    /// A flow along a route.
    Flow(FlowTarget),
}

/// The app of a job, with the routes passed.
pub(crate) struct TargetApp {
    pub(super) id: AppId,
    pub(super) app: App,
    pub(super) hops: Vec<Hop>,
}

/// The route of a flow, with the routes passed.
pub(crate) struct FlowTarget {
    pub(super) route: AppId,
    pub(super) kind: RouteKind,
    /// Number of declared steps.
    pub(super) of: u32,
    pub(super) hops: Vec<Hop>,
}

impl SubmissionTarget {
    /// Validates an input for a path of an app, and converts whole numbers to the schema's
    /// representation.
    ///
    /// # Errors
    /// The input does not match the app's schema.
    pub(crate) fn validate(&self, path: &str, input: &mut Value) -> Result<(), SubmitError> {
        let problems = match self {
            Self::App(target) => target.app.check(path, input),
            Self::Flow(_) => Vec::new(),
        };
        match problems.is_empty() {
            true => Ok(()),
            false => Err(SubmitError::InvalidInput(problems)),
        }
    }
}

/// A cheap handle for resolving targets.
#[derive(Clone)]
pub(crate) struct TargetResolver {
    apps: AppDirectory,
    store: Store,
}

impl TargetResolver {
    pub(super) fn new(apps: AppDirectory, store: Store) -> Self {
        Self { apps, store }
    }

    /// Builds a job for the target app, whose runners must list its model.
    ///
    /// # Errors
    /// The hint in its input is invalid, or no runner lists it; Redis is unreachable.
    pub(crate) async fn job(
        &self,
        target: &TargetApp,
        draft: Draft,
    ) -> Result<Prepared, SubmitError> {
        let mut prepared = Prepared::job(target, draft)?;
        let job = &mut prepared.job;
        if job
            .hint
            .as_ref()
            .is_some_and(|model| !target.app.lists(model))
        {
            // What is known of the app may be older than its newest runner.
            let listed = self.store.published().all_models(&target.id).await?;
            require_listed(job, &target.app, listed.as_ref())?;
        }
        Ok(prepared)
    }

    /// Resolves the target of a submission. A known one keeps its target, even if the declarations
    /// changed since.
    ///
    /// # Errors
    /// A route cannot be resolved, the app does not exist, or Redis is unreachable.
    pub(super) async fn resolve(
        &self,
        request: &Request,
        routing: &RoutingConfig,
        permit: &LargeJsonPermit,
    ) -> Result<SubmissionTarget, SubmitError> {
        let job = &request.draft.job;
        if routing.routes.get(&job.app).is_none() {
            let (app, hops) = (job.app.clone(), Vec::new());
            return self.find(routing, Resolved { app, hops }).await;
        }
        if request.has_own_id
            && let Some(known) = self.store.jobs().job(job.id).await?
            && *known.spec.submitted_to() == job.app
        {
            let (app, hops) = (known.spec.app, known.spec.route);
            return self.find(routing, Resolved { app, hops }).await;
        }
        let id = job.id.to_string();
        let key = request.key.as_ref();
        let route_request = RouteRequest {
            input: &job.input,
            headers: &request.draft.headers,
            key: job.owner.as_ref().map_or("", KeyId::as_str),
            draw: Draw::Job(key.map_or(id.as_str(), IdempotencyKey::as_str)),
            apps: &BTreeMap::new(),
            steps: &BTreeMap::new(),
        };
        let resolved = (self.follow_routes(&job.app, routing, route_request, permit)).await?;
        let resolved = match key {
            Some(key) => self.stick(job, key, routing, resolved).await?,
            None => resolved,
        };
        self.find(routing, resolved).await
    }

    /// Resolves `name` by the rules of its routes, with the current load of the apps.
    ///
    /// # Errors
    /// A route cannot be resolved, or Redis is unreachable.
    pub(crate) async fn follow_routes(
        &self,
        name: &AppId,
        routing: &RoutingConfig,
        request: RouteRequest<'_>,
        permit: &LargeJsonPermit,
    ) -> Result<Resolved, SubmitError> {
        let apps = self.apps.loads.in_conditions(routing, name).await?;
        let request = RouteRequest {
            apps: &apps,
            ..request
        };
        Ok(permit.run(|| warmq_rules::resolve(&routing.routes, name, &request))?)
    }

    /// Replaces the target by that of the first submission with this idempotency key.
    async fn stick(
        &self,
        job: &JobSpec,
        key: &IdempotencyKey,
        routing: &RoutingConfig,
        resolved: Resolved,
    ) -> Result<Resolved, SubmitError> {
        let retention_s = routing.config(&resolved.app).retention.as_secs();
        let holder = (job.owner.as_ref(), key);
        let routes = self.store.route_choices();
        let first = (routes.choose(&job.app, holder, &resolved.app, retention_s)).await?;
        if first == resolved.app {
            return Ok(resolved);
        }
        let route = routing.routes.get(&job.app);
        let hop = Hop {
            kind: route.map_or(RouteKind::Switch, Route::kind),
            route: job.app.clone(),
            to: first.clone(),
            reason: "the first submission with its idempotency key had this target".to_owned(),
        };
        Ok(Resolved {
            app: first,
            hops: vec![hop],
        })
    }

    /// Finds a resolved target: a route of flows, or an existing app.
    ///
    /// # Errors
    /// The app does not exist, or Redis is unreachable.
    pub(crate) async fn find(
        &self,
        routing: &RoutingConfig,
        Resolved { app: name, hops }: Resolved,
    ) -> Result<SubmissionTarget, SubmitError> {
        if let Some(flow) = routing.routes.flow(&name) {
            return Ok(SubmissionTarget::Flow(FlowTarget {
                kind: flow.kind,
                of: u32::try_from(flow.steps.len()).unwrap_or(u32::MAX),
                route: name,
                hops,
            }));
        }
        match self.apps.find(routing, &name).await? {
            Some(app) => {
                let target = TargetApp {
                    id: name,
                    app,
                    hops,
                };
                Ok(SubmissionTarget::App(Box::new(target)))
            }
            None => Err(SubmitError::UnknownApp(name)),
        }
    }
}
