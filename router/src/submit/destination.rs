//! Where a submission goes: to the app that it names, or the one that the route it names chooses.

use std::collections::BTreeMap;

use serde_json::Value;
use warmq_common::ids::{AppId, IdempotencyKey, JobId, KeyId};
use warmq_common::route::Hop;
use warmq_routes::{Asked, Draw, Route};

use super::{Submission, SubmitError, Submitter};
use crate::apps::App;
use crate::declared::Declared;

/// The app of a job, and its way there.
pub(super) struct Destination {
    pub(super) id: AppId,
    pub(super) app: App,
    pub(super) hops: Vec<Hop>,
}

/// What makes a submission the same as one before.
pub(super) struct Identity<'a> {
    pub(super) job: JobId,
    pub(super) key: Option<&'a IdempotencyKey>,
    pub(super) owner: Option<&'a KeyId>,
}

impl Submitter {
    /// The app of a submission to the route `name`. One that is known goes where it went, whatever was declared since.
    pub(super) async fn through(
        &self,
        (name, route): (AppId, &Route),
        declared: &Declared,
        (submission, input): (&Submission, &Value),
        Identity { job, key, owner }: Identity<'_>,
    ) -> Result<Destination, SubmitError> {
        if submission.id.is_some()
            && let Some(known) = self.store.job(job).await?
            && *known.spec.submitted_to() == name
        {
            return self.reach(known.spec.app, known.spec.route).await;
        }
        let id = job.to_string();
        let resolved = declared.routes.resolve(
            &name,
            &Asked {
                input,
                headers: &submission.headers,
                key: owner.map_or("", KeyId::as_str),
                apps: &BTreeMap::new(),
                steps: &BTreeMap::new(),
                draw: Draw::Job(key.map_or(id.as_str(), IdempotencyKey::as_str)),
            },
        )?;
        let Some(key) = key else {
            return self.reach(resolved.app, resolved.hops).await;
        };
        let retention_s = declared.config(&resolved.app).retention.as_secs();
        let settled = (self.store).settle_choice(&name, (owner, key), &resolved.app, retention_s);
        let settled = settled.await?;
        let hops = match settled == resolved.app {
            true => resolved.hops,
            false => vec![Hop {
                route: name,
                kind: route.kind(),
                to: settled.clone(),
                reason: "its idempotency key was seen before, and went there".to_owned(),
            }],
        };
        self.reach(settled, hops).await
    }

    /// An app, which must be known.
    pub(super) async fn reach(
        &self,
        id: AppId,
        hops: Vec<Hop>,
    ) -> Result<Destination, SubmitError> {
        match self.apps.find(&id).await? {
            Some(app) => Ok(Destination { id, app, hops }),
            None => Err(SubmitError::UnknownApp(id)),
        }
    }
}
