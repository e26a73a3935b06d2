//! What the leader of an app has learned about its models, kept for the next leader and for whoever asks.

use std::collections::BTreeMap;

use redis::AsyncCommands;
use warmq_types::hint::Hint;
use warmq_types::ids::AppId;

use super::{Error, Store};

/// The field of the app's averages: no hint is empty.
pub(super) const STATS_OF_APP: &str = "";

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
                .map(|(hint, json)| {
                    (
                        hint.as_ref().map_or(STATS_OF_APP, Hint::as_str),
                        json.as_str(),
                    )
                })
                .collect();
            pipeline.hset_multiple(&key, &fields).ignore();
        }
        for hint in forgotten {
            pipeline.hdel(&key, hint.as_str()).ignore();
        }
        Ok(pipeline.query_async(&mut self.connection.clone()).await?)
    }
}
