//! How apps are scaled, as their leaders record it for readers.

use redis::AsyncCommands;
use warmq_types::ids::AppId;
use warmq_types::scaling::ScalingState;

use super::record::json;
use super::{Error, Scaling};

/// Lifetime of a record, s: an app without a leader has none.
const KEPT_S: u64 = 90;

impl Scaling<'_> {
    /// Records the state of an app. To be repeated well within 90 s.
    pub async fn record(self, app: &AppId, state: &ScalingState) -> Result<(), Error> {
        let key = self.keys.scaling(app);
        let mut connection = self.connection.clone();
        Ok(connection.set_ex(key, json(state), KEPT_S).await?)
    }

    /// Returns the state of an app; `None` without a leader that scales it.
    ///
    /// # Errors
    /// Redis is unreachable, or the record is not JSON.
    pub async fn read(self, app: &AppId) -> Result<Option<ScalingState>, Error> {
        let key = self.keys.scaling(app);
        let text: Option<String> = self.connection.clone().get(&key).await?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| Error::damaged(&key, error)))
            .transpose()
    }
}
