//! What the leader of an app has learned about its models, kept for the next leader and for whoever asks.

use std::collections::BTreeMap;

use redis::AsyncCommands;

use super::{Error, Store};
use crate::hint::Hint;
use crate::ids::AppId;

/// The field of the app's averages: no hint is empty.
const APP: &str = "";

impl Store {
    /// What is known about each model, and under `None` about the app as a whole: JSON, whose shape is the leader's.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn stats(&self, app: &AppId) -> Result<BTreeMap<Option<Hint>, String>, Error> {
        let fields: Vec<(String, String)> = self
            .connection
            .clone()
            .hgetall(self.keys.stats(app))
            .await?;
        Ok(fields
            .into_iter()
            .map(|(name, json)| (Hint::parse(&name).ok(), json))
            .collect())
    }

    /// What is known about the app as a whole: the leader's JSON; `None` before it learned anything.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn stats_of_app(&self, app: &AppId) -> Result<Option<String>, Error> {
        let key = self.keys.stats(app);
        Ok(self.connection.clone().hget(key, APP).await?)
    }

    /// Keeps `learned` and drops what is known about `forgotten`.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn save_stats(
        &self,
        app: &AppId,
        learned: &[(Option<Hint>, String)],
        forgotten: &[Hint],
    ) -> Result<(), Error> {
        let key = self.keys.stats(app);
        let mut pipeline = redis::pipe();
        if !learned.is_empty() {
            let fields: Vec<(&str, &str)> = learned
                .iter()
                .map(|(hint, json)| (hint.as_ref().map_or(APP, Hint::as_str), json.as_str()))
                .collect();
            pipeline.hset_multiple(&key, &fields).ignore();
        }
        for hint in forgotten {
            pipeline.hdel(&key, hint.as_str()).ignore();
        }
        Ok(pipeline.query_async(&mut self.connection.clone()).await?)
    }
}
