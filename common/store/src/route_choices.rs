//! Choices of routes for submissions with an idempotency key. The key is scoped to an app, so a
//! repeated submission must reach the same app even if the route has changed.

use redis::{AsyncCommands, ExistenceCheck, SetExpiry, SetOptions};
use warmq_types::ids::{AppId, IdempotencyKey, KeyId};

use super::jobs::LONGEST_LIFE_S;
use super::{Error, RouteChoices};

impl RouteChoices<'_> {
    /// Stores that `route` chose `app` for an owner's key, unless a choice exists; returns the
    /// choice that counts. It is kept as long as the key: `retention_s` after the longest life of a
    /// job.
    pub async fn choose(
        self,
        route: &AppId,
        (owner, key): (Option<&KeyId>, &IdempotencyKey),
        app: &AppId,
        retention_s: u64,
    ) -> Result<AppId, Error> {
        let mut connection = self.connection.clone();
        let name = self.keys.route_choice(route, owner, key);
        let kept_s = LONGEST_LIFE_S + retention_s;
        let first = SetOptions::default()
            .conditional_set(ExistenceCheck::NX)
            .with_expiration(SetExpiry::EX(kept_s));
        let is_first: bool = connection.set_options(&name, app.as_str(), first).await?;
        if is_first {
            return Ok(app.clone());
        }
        // `None`: it lapsed at this moment, and its job with it.
        let chosen: Option<String> = connection.get_ex(&name, redis::Expiry::EX(kept_s)).await?;
        match chosen {
            Some(chosen) => AppId::parse(&chosen).map_err(|error| Error::damaged(&name, error)),
            None => Ok(app.clone()),
        }
    }
}
