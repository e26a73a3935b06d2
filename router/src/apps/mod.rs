//! Existing apps, their settings and input schemas.
//!
//! An app exists once the file names it or a worker has registered it. Workers publish the JSON
//! Schema of their input, so that the router rejects a bad input at once. The declarations may be
//! replaced while jobs arrive ([`crate::reload`]), so a submission uses one snapshot of them.

mod load_estimates;
mod schema;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Mutex, watch};
use warmq_config::{AppConfig, HintFrom};
use warmq_store::{Error, Store};
use warmq_types::hint::Hint;
use warmq_types::hint_path::HintPath;
use warmq_types::ids::AppId;
use warmq_types::job::FieldError;

use crate::routing_config::RoutingConfig;
pub(crate) use load_estimates::AppLoads;
use schema::InputSchemas;

/// How long app data from Redis is cached.
const CACHE_TTL: Duration = Duration::from_secs(2);

/// A cheap handle on the apps.
#[derive(Clone)]
pub struct AppDirectory {
    store: Store,
    routing: watch::Sender<Arc<RoutingConfig>>,
    known: Arc<Mutex<HashMap<AppId, Known>>>,
    pub(crate) loads: AppLoads,
}

/// What the workers of an app published, with the time of the read.
type Known = (Instant, Published);

/// What the workers of an app published.
#[derive(Clone, Default)]
struct Published {
    schemas: Option<Arc<InputSchemas>>,
    /// The models that they list; `None` if they may load any.
    models: Option<Arc<BTreeSet<Hint>>>,
}

/// An app.
#[derive(Clone)]
pub struct App {
    /// Settings of the app.
    pub config: AppConfig,
    published: Published,
}

impl AppDirectory {
    /// Returns a directory of the apps in the file and in Redis.
    pub fn new(store: Store, routing: Arc<RoutingConfig>) -> Self {
        Self {
            loads: AppLoads::new(store.clone()),
            store,
            routing: watch::Sender::new(routing),
            known: Arc::default(),
        }
    }

    /// Returns the current declarations.
    pub fn routing(&self) -> Arc<RoutingConfig> {
        self.routing.borrow().clone()
    }

    /// Replaces the declarations.
    pub fn set_routing(&self, routing: Arc<RoutingConfig>) {
        self.routing.send_replace(routing);
    }

    /// Returns once an app's settings differ from `config`.
    pub async fn differs(&self, app: &AppId, config: &AppConfig) {
        let mut routing = self.routing.subscribe();
        let changed = routing.wait_for(|routing| routing.config(app) != *config);
        // The sender is owned by this handle, so the channel is open.
        let _ = changed.await;
    }

    /// Returns an app by `routing`; `None` if neither that nor a worker declares it.
    pub async fn find(&self, routing: &RoutingConfig, id: &AppId) -> Result<Option<App>, Error> {
        let app = |published| App {
            config: routing.config(id),
            published,
        };
        if let Some((read, published)) = self.known.lock().await.get(id)
            && read.elapsed() < CACHE_TTL
        {
            return Ok(Some(app(published.clone())));
        }
        let configured = routing.apps.names().any(|name| name == id);
        if !configured && !self.store.apps_in_use().is_known(id).await? {
            return Ok(None);
        }
        let schema = self.store.published().schema(id).await?;
        let models = self.store.published().all_models(id).await?;
        let published = Published {
            schemas: schema.and_then(InputSchemas::compile).map(Arc::new),
            models: models.map(Arc::new),
        };
        let entry = (Instant::now(), published.clone());
        self.known.lock().await.insert(id.clone(), entry);
        Ok(Some(app(published)))
    }

    /// Returns all apps of the file and of Redis.
    pub async fn all(&self) -> Result<BTreeSet<AppId>, Error> {
        let mut apps = self.store.apps_in_use().known().await?;
        apps.extend(self.routing().apps.names().cloned());
        Ok(apps)
    }

    /// Returns an app's settings: the file's, or the defaults.
    pub fn config(&self, id: &AppId) -> AppConfig {
        self.routing.borrow().config(id)
    }
}

impl App {
    /// Converts the whole numbers of `input`, to a path of the app, to the schema's representation,
    /// and returns the mistakes of `input`; none before the app's first worker has registered.
    pub fn check(&self, path: &str, input: &mut Value) -> Vec<FieldError> {
        match &self.published.schemas {
            Some(schemas) => schemas.check(path, input),
            None => Vec::new(),
        }
    }

    /// Returns whether a runner of the app lists the model, or may load any.
    pub fn lists(&self, model: &Hint) -> bool {
        let models = self.published.models.as_deref();
        models.is_none_or(|models| models.contains(model))
    }

    /// Returns an app without workers.
    #[cfg(test)]
    pub(crate) fn for_tests(config: AppConfig) -> Self {
        Self {
            config,
            published: Published::default(),
        }
    }

    /// Returns the input field that is the hint: that of the settings, otherwise of the schema;
    /// `None` if only the header counts.
    pub fn hint_path(&self) -> Option<&HintPath> {
        match &self.config.hint_from {
            HintFrom::Schema => self.published.schemas.as_ref()?.hint(),
            HintFrom::Field(path) => Some(path),
            HintFrom::Header => None,
        }
    }
}
