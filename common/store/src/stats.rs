//! Statistics of an app's models, written by the leader for its successors and for readers.

use std::collections::BTreeMap;

use redis::AsyncCommands;
use warmq_types::hint::Hint;
use warmq_types::ids::AppId;

use super::{Error, Stats};

/// Field of the app's averages: no hint is empty.
pub(super) const STATS_OF_APP: &str = "";

impl Stats<'_> {
    /// Returns the statistics of each model, and under `None` those of the app: JSON in the
    /// leader's format.
    pub async fn read(self, app: &AppId) -> Result<BTreeMap<Option<Hint>, String>, Error> {
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

    /// Stores `statistics` and removes those of the models in `removed`.
    pub async fn save(
        self,
        app: &AppId,
        statistics: &[(Option<Hint>, String)],
        removed: &[Hint],
    ) -> Result<(), Error> {
        let key = self.keys.stats(app);
        let mut pipeline = redis::pipe();
        if !statistics.is_empty() {
            let fields: Vec<(&str, &str)> = statistics
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
        for hint in removed {
            pipeline.hdel(&key, hint.as_str()).ignore();
        }
        Ok(pipeline.query_async(&mut self.connection.clone()).await?)
    }
}
