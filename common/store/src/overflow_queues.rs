//! The overflow queues of an app. A queue is listed before its first message and until it is
//! deleted, so that the next leader consumes what a dead one left there.

use redis::AsyncCommands;
use warmq_types::ids::AppId;
use warmq_types::owner_lane::OwnerLane;

use super::{Error, OverflowQueues};

impl OverflowQueues<'_> {
    /// Returns the app's overflow queues that may exist.
    pub async fn all(self, app: &AppId) -> Result<Vec<OwnerLane>, Error> {
        let key = self.keys.overflow_queues(app);
        let names: Vec<String> = self.connection.clone().smembers(key).await?;
        let queues = names.iter().filter_map(|name| OwnerLane::parse(name));
        Ok(queues.collect())
    }

    /// Lists queues.
    pub async fn add(self, app: &AppId, queues: &[OwnerLane]) -> Result<(), Error> {
        if queues.is_empty() {
            return Ok(());
        }
        let key = self.keys.overflow_queues(app);
        let names: Vec<String> = queues.iter().map(ToString::to_string).collect();
        Ok(self.connection.clone().sadd(key, names).await?)
    }

    /// Removes a queue that was deleted.
    pub async fn remove(self, app: &AppId, queue: &OwnerLane) -> Result<(), Error> {
        let key = self.keys.overflow_queues(app);
        Ok(self.connection.clone().srem(key, queue.to_string()).await?)
    }
}
