//! `/openapi.json`. The routes are built from the documented handlers (`routes!`), so none can be
//! missing; errors that many calls share are components ([`refusals`]); each registered app has
//! paths of its own with the input schema that its workers published ([`apps`]).

mod apps;
mod refusals;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Method};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;
use warmq_types::ids::AppId;

use super::Api;
use super::auth::Identifier;
use crate::access::Caller;
pub(super) use refusals::{
    Changing, Creating, Finding, InvalidInput, Listing, Outcome, Proxied, Querying, Refusal,
    Running, Submitting, Uploading,
};

/// What is the same for all routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "warmq",
        description = "A queue for image-generation jobs that sends each to the runner that already has its model. \
            `/queue` and `/run` speak fal's protocol, so that fal's own clients work; `/v1` is warmq's own."
    ),
    components(schemas(Refusal, InvalidInput)),
    tags(
        (name = QUEUE, description = "fal's queue protocol: submit a job, ask for it, fetch its result, cancel it"),
        (name = RUN, description = "Submit a job and wait for its result"),
        (name = FILES, description = "Files that jobs made, and those that are brought for them"),
        (name = OPERATE, description = "Jobs with all that is known of them, apps, runners, dead letters, keys"),
        (name = WATCH, description = "For those who watch over the process"),
    ),
    security((), ("Key" = []))
)]
struct Base;

pub(super) const QUEUE: &str = "queue";
pub(super) const RUN: &str = "run";
pub(super) const FILES: &str = "files";
pub(super) const OPERATE: &str = "operate";
pub(super) const WATCH: &str = "watch";

/// The document of all routes, without the apps' own paths. A cheap handle.
#[derive(Clone)]
pub(super) struct Document(Arc<Value>);

impl Document {
    /// The document of `routes`, as their handlers document it, below `public_url`.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub(super) fn of(
        routes: utoipa::openapi::OpenApi,
        public_url: &str,
    ) -> Result<Self, serde_json::Error> {
        let mut document = serde_json::to_value(Base::openapi().merge_from(routes))?;
        document["servers"] = json!([{"url": public_url}]);
        document["components"]["responses"] = refusals::components();
        document["components"]["headers"] = job_headers();
        document["components"]["securitySchemes"]["Key"] = json!({
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`Key` or `Bearer`, a space, and the key: `Key id:secret`. Without keys in its settings, \
                a router takes any.",
        });
        if let Some(Value::Object(paths)) = document.get_mut("paths") {
            *paths = std::mem::take(paths).into_iter().map(finished).collect();
        }
        Ok(Self(Arc::new(document)))
    }

    fn with_apps(&self, apps: Vec<(AppId, Value)>) -> Value {
        let mut document = self.0.as_ref().clone();
        for (app, schema) in apps {
            apps::add(&mut document, &app, schema);
        }
        document
    }
}

/// Returns this document: the API, and each app's own paths with the schema of its input. If keys
/// are required, only apps that the request's key may submit to or watch.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = WATCH,
    responses((status = 200, description = "An OpenAPI 3.1 document", body = Value))
)]
pub(super) async fn show(
    State(api): State<Api>,
    Extension(document): Extension<Document>,
    headers: HeaderMap,
) -> Json<Value> {
    let identifier = Identifier::of(&api);
    let caller = identifier.caller(&Method::GET, &headers).await.ok();
    let apps = known_apps(&api, caller.as_ref())
        .await
        .unwrap_or_else(|error| {
            tracing::warn!(%error, "could not list the apps in the documentation");
            Vec::new()
        });
    Json(document.with_apps(apps))
}

async fn known_apps(
    api: &Api,
    caller: Option<&Caller>,
) -> Result<Vec<(AppId, Value)>, warmq_store::Error> {
    let Some(caller) = caller else {
        return Ok(Vec::new());
    };
    let mut all: Vec<AppId> = api.apps.all().await?.into_iter().collect();
    all.retain(|app| caller.knows(app));
    let mut found = api.store.published().schemas(&all).await?;
    // The input of a route depends on its target.
    let routing = api.apps.routing();
    let routes = routing.routes.iter().map(|(name, _)| name);
    let routes = routes.filter(|route| caller.knows(route));
    found.extend(routes.map(|route| (route.clone(), json!({}))));
    Ok(found)
}

/// Converts a path to OpenAPI, which has no parameter of several segments: `{*key}` becomes a
/// parameter of one segment, and its description mentions the others.
fn finished((path, mut item): (String, Value)) -> (String, Value) {
    if let Some(operations) = item.as_object_mut() {
        // A handler of several methods has one id, which must name one operation.
        let ids: Vec<Value> = operations
            .values()
            .map(|operation| operation["operationId"].clone())
            .collect();
        let is_shared = ids.iter().skip(1).any(|id| *id == ids[0]);
        for (method, operation) in operations.iter_mut() {
            if is_shared && let Some(id) = operation["operationId"].as_str() {
                operation["operationId"] = format!("{id}_{method}").into();
            }
            add_job_headers(operation);
        }
    }
    (path.replace("{*", "{"), item)
}

/// Whatever a call about a job answers carries the job's headers.
fn add_job_headers(operation: &mut Value) {
    let tags = operation["tags"].as_array();
    let is_about_a_job = tags.is_some_and(|tags| tags.iter().any(|tag| tag == QUEUE || tag == RUN));
    let Some(responses) = operation["responses"].as_object_mut() else {
        return;
    };
    let answers = responses.iter_mut();
    for (_, response) in answers.filter(|(status, _)| is_about_a_job && status.starts_with('2')) {
        let headers = job_headers();
        let names = headers.as_object().into_iter().flat_map(Map::keys);
        response["headers"] = names
            .map(|name| {
                let reference = json!({"$ref": format!("#/components/headers/{name}")});
                (name.clone(), reference)
            })
            .collect();
    }
}

/// What [`with_job_headers`](super::job_result::with_job_headers) adds.
fn job_headers() -> Value {
    json!({
        "x-fal-request-id": {
            "description": "The job's id.",
            "schema": {"$ref": "#/components/schemas/JobId"},
        },
        "x-fal-served-from": {
            "description": "As `x-warmq-runner`, under fal's name.",
            "schema": {"$ref": "#/components/schemas/RunnerId"},
        },
        "x-warmq-runner": {
            "description": "The runner that has the job, or had it last; once that is known.",
            "schema": {"$ref": "#/components/schemas/RunnerId"},
        },
        "x-warmq-warm": {
            "description": "Whether the job's model was loaded already when it came; once the job has ended.",
            "schema": {"type": "string", "enum": ["0", "1"]},
        },
    })
}
