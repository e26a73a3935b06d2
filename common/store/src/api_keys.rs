//! API keys: one hash, which every router reads every two seconds.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::access::{Limits, Rate, StoredKey};
use warmq_types::ids::KeyId;

use super::record::json;
use super::{ApiKeys, Error};

/// Outcome of creating a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCreation {
    /// The key exists from now on.
    Yes,
    /// A key of that id exists.
    Taken,
    /// Refused: keys would exist without an admin key.
    NoAdmin,
}

/// Outcome of revoking a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRevocation {
    /// The key no longer exists.
    Yes,
    /// The key did not exist.
    Unknown,
    /// Refused: it is the last admin key.
    LastAdmin,
}

impl ApiKeys<'_> {
    /// Returns all keys; for one that this build cannot read, its id only.
    pub async fn all(self) -> Result<Vec<Result<StoredKey, Error>>, Error> {
        let key = self.keys.api_keys();
        let all: Vec<(String, String)> = self.connection.clone().hgetall(&key).await?;
        Ok(all.iter().map(|(id, text)| read(&key, id, text)).collect())
    }

    /// Returns a key, if it exists.
    ///
    /// # Errors
    /// Redis is unreachable, or the key was written by another version.
    pub async fn get(self, id: &KeyId) -> Result<Option<StoredKey>, Error> {
        let key = self.keys.api_keys();
        let text: Option<String> = self.connection.clone().hget(&key, id.as_str()).await?;
        text.map(|text| read(&key, id.as_str(), &text)).transpose()
    }

    /// Creates a key. `rooted`: an admin key is configured, so none is needed in Redis.
    pub async fn create(self, key: &StoredKey, rooted: bool) -> Result<KeyCreation, Error> {
        let answer: String = self
            .scripts
            .create_api_key
            .key(self.keys.api_keys())
            .arg(key.key.id.as_str())
            .arg(json(key))
            .arg(u8::from(rooted))
            .invoke_async(&mut self.connection.clone())
            .await?;
        match answer.as_str() {
            "created" => Ok(KeyCreation::Yes),
            "taken" => Ok(KeyCreation::Taken),
            "locked" => Ok(KeyCreation::NoAdmin),
            other => Err(Error::damaged("a script's reply", other)),
        }
    }

    /// Replaces the limits of a key, except those of a newer build; of concurrent calls the last
    /// one counts. Returns the key, `None` if it does not exist or is revoked meanwhile.
    ///
    /// # Errors
    /// Redis is unreachable, or the key was written by another version.
    pub async fn set_limits(self, id: &KeyId, limits: Limits) -> Result<Option<StoredKey>, Error> {
        let keys = self.keys.api_keys();
        let stored: Option<String> = self.connection.clone().hget(&keys, id.as_str()).await?;
        let Some(stored) = stored else {
            return Ok(None);
        };
        // The other fields of a key never change, so none is lost by writing all of it.
        let changed = StoredKey::with_limits(&stored, &limits)
            .map_err(|error| Error::damaged(&format!("{keys}, {id}"), error))?;
        let key = read(&keys, id.as_str(), &changed)?;
        let answer: String = self
            .scripts
            .replace_api_key
            .key(&keys)
            .arg(id.as_str())
            .arg(changed)
            .invoke_async(&mut self.connection.clone())
            .await?;
        match answer.as_str() {
            "replaced" => Ok(Some(key)),
            "unknown" => Ok(None),
            other => Err(Error::damaged("a script's reply", other)),
        }
    }

    /// Revokes a key. `rooted`: as in [`ApiKeys::create`].
    pub async fn revoke(self, id: &KeyId, rooted: bool) -> Result<KeyRevocation, Error> {
        let answer: String = self
            .scripts
            .revoke_api_key
            .key(self.keys.api_keys())
            .arg(id.as_str())
            .arg(u8::from(rooted))
            .invoke_async(&mut self.connection.clone())
            .await?;
        match answer.as_str() {
            "revoked" => Ok(KeyRevocation::Yes),
            "unknown" => Ok(KeyRevocation::Unknown),
            "locked" => Ok(KeyRevocation::LastAdmin),
            other => Err(Error::damaged("a script's reply", other)),
        }
    }

    /// Counts a submission against a key's rate, over all routers; otherwise returns the time until
    /// the next one is allowed.
    pub async fn throttle(self, key: &KeyId, rate: Rate) -> Result<Result<(), Duration>, Error> {
        let wait_ms: u64 = self
            .scripts
            .throttle
            .key(self.keys.rate(key))
            .arg(rate.per_second())
            .arg(rate.burst())
            .invoke_async(&mut self.connection.clone())
            .await?;
        Ok(match wait_ms {
            0 => Ok(()),
            ms => Err(Duration::from_millis(ms)),
        })
    }
}

fn read(key: &str, id: &str, text: &str) -> Result<StoredKey, Error> {
    serde_json::from_str(text).map_err(|error| Error::damaged(&format!("{key}, {id}"), error))
}
