//! What workers publish about their apps: models and the schema of the input.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::AsyncCommands;
use serde_json::Value;
use warmq_types::hint::Hint;
use warmq_types::ids::AppId;

use super::{Error, Published};

/// Stands for any model among those of an app: no hint is empty.
const ANY_MODEL: &str = "";

/// Time that a model stays known after a runner listed it. Its jobs wait so long for another
/// runner.
const MODELS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Maximum number of apps per command.
const CHUNK: usize = 250;

impl Published<'_> {
    /// Adds these models of a runner, [`ANY_MODEL`] if it lists none, to those of the app, and
    /// forgets those not listed for [`MODELS_KEPT`]. To be repeated well within that time.
    pub async fn remember_models(self, app: &AppId, models: &[Hint]) -> Result<(), Error> {
        let now_ms = self.now_ms().await?;
        let key = self.keys.models(app);
        let oldest_ms = now_ms.saturating_sub(MODELS_KEPT.as_millis() as u64);
        let mut pipeline = redis::pipe();
        pipeline.zrembyscore(&key, "-inf", oldest_ms).ignore();
        if models.is_empty() {
            pipeline.zadd(&key, ANY_MODEL, now_ms).ignore();
        }
        for model in models {
            pipeline.zadd(&key, model.as_str(), now_ms).ignore();
        }
        let mut connection = self.connection.clone();
        let _: () = pipeline.query_async(&mut connection).await?;
        Ok(())
    }

    /// Returns the models that a runner of the app can load, or recently could.
    pub async fn models(self, app: &AppId) -> Result<Vec<Hint>, Error> {
        let names = self.model_names(app).await?;
        let names = names.iter().filter_map(|name| Hint::parse(name).ok());
        Ok(names.collect())
    }

    /// Returns the models as [`Self::models`] does; `None` if a runner can load any, or recently
    /// could, or no runner has registered.
    pub async fn all_models(self, app: &AppId) -> Result<Option<BTreeSet<Hint>>, Error> {
        let names = self.model_names(app).await?;
        if names.is_empty() || names.iter().any(|name| name == ANY_MODEL) {
            return Ok(None);
        }
        let names = names.iter().filter_map(|name| Hint::parse(name).ok());
        Ok(Some(names.collect()))
    }

    /// Returns the names of the models, [`ANY_MODEL`] among them.
    async fn model_names(self, app: &AppId) -> Result<Vec<String>, Error> {
        let key = self.keys.models(app);
        Ok(self.connection.clone().zrange(key, 0, -1).await?)
    }

    /// Returns whether a runner of the app can load the model, or recently could.
    pub async fn is_model_known(self, app: &AppId, model: &Hint) -> Result<bool, Error> {
        let key = self.keys.models(app);
        let since: Option<u64> = (self.connection.clone())
            .zscore(key, model.as_str())
            .await?;
        Ok(since.is_some())
    }

    /// Returns the JSON Schema of the app's input, as its workers published it; `None` before the
    /// first worker.
    ///
    /// # Errors
    /// Redis is unreachable, or the schema is not JSON.
    pub async fn schema(self, app: &AppId) -> Result<Option<Value>, Error> {
        let key = self.keys.schema(app);
        let schema: Option<String> = self.connection.clone().get(&key).await?;
        schema
            .map(|text| serde_json::from_str(&text).map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }

    /// Returns the schemas of those of `apps` that have one.
    ///
    /// # Errors
    /// Redis is unreachable, or a schema is not JSON.
    pub async fn schemas(self, apps: &[AppId]) -> Result<Vec<(AppId, Value)>, Error> {
        let mut found = Vec::new();
        for chunk in apps.chunks(CHUNK) {
            let keys: Vec<String> = chunk.iter().map(|app| self.keys.schema(app)).collect();
            let mut connection = self.connection.clone();
            let texts: Vec<Option<String>> = connection.mget(&keys).await?;
            for ((app, key), text) in chunk.iter().zip(&keys).zip(texts) {
                if let Some(text) = text {
                    let schema = serde_json::from_str(&text);
                    found.push((
                        app.clone(),
                        schema.map_err(|error| Error::damaged(key, error))?,
                    ));
                }
            }
        }
        Ok(found)
    }
}
