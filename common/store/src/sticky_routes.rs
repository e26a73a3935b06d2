//! Where routes sent what is submitted again under an idempotency key. Keys are the apps', so the app must stay the same,
//! whatever became of the route meanwhile.

use redis::{AsyncCommands, ExistenceCheck, SetExpiry, SetOptions};
use warmq_types::ids::{AppId, IdempotencyKey, KeyId};

use super::jobs::LONGEST_LIFE_S;
use super::{Error, Store};

impl Store {
    /// Notes that `route` chose `app` for this key of its owner's, unless it chose before: the app that counts. It is remembered as long as
    /// the key itself, `retention_s` after the longest life of a job.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn stick_to_route(
        &self,
        route: &AppId,
        (owner, key): (Option<&KeyId>, &IdempotencyKey),
        app: &AppId,
        retention_s: u64,
    ) -> Result<AppId, Error> {
        let mut connection = self.connection.clone();
        let name = self.keys.sticky_route(route, owner, key);
        let kept_s = LONGEST_LIFE_S + retention_s;
        let first = SetOptions::default()
            .conditional_set(ExistenceCheck::NX)
            .with_expiration(SetExpiry::EX(kept_s));
        let is_first: bool = connection.set_options(&name, app.as_str(), first).await?;
        if is_first {
            return Ok(app.clone());
        }
        // None: it lapsed in this moment, and its job with it.
        let chosen: Option<String> = connection.get_ex(&name, redis::Expiry::EX(kept_s)).await?;
        match chosen {
            Some(chosen) => AppId::parse(&chosen).map_err(|error| Error::damaged(&name, error)),
            None => Ok(app.clone()),
        }
    }
}
