//! Keys of those who submit: one hash for all of them, which every router reads every other second.

use std::time::Duration;

use redis::AsyncCommands;
use warmq_types::access::{Rate, StoredKey};
use warmq_types::ids::KeyId;

use super::record::json;
use super::{Error, Store};

/// What became of a new key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyCreation {
    /// It is known from now on.
    Yes,
    /// There is one of that id.
    Taken,
    /// There would be keys, and nobody who may manage them.
    NoAdmin,
}

/// What became of the wish to revoke a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRevocation {
    /// It is known no more.
    Yes,
    /// It was not known.
    Unknown,
    /// It is the last one that may manage the others.
    LastAdmin,
}

impl Store {
    /// All keys; of one that this build can not read, only that it is there.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn api_keys(&self) -> Result<Vec<Result<StoredKey, Error>>, Error> {
        let key = self.keys.api_keys();
        let all: Vec<(String, String)> = self.connection.clone().hgetall(&key).await?;
        Ok(all.iter().map(|(id, text)| read(&key, id, text)).collect())
    }

    /// One key; `None` when there is none of that id.
    ///
    /// # Errors
    /// Redis is away, or it is not what this build writes.
    pub async fn api_key(&self, id: &KeyId) -> Result<Option<StoredKey>, Error> {
        let key = self.keys.api_keys();
        let text: Option<String> = self.connection.clone().hget(&key, id.as_str()).await?;
        text.map(|text| read(&key, id.as_str(), &text)).transpose()
    }

    /// Keeps a new key. `rooted`: there is an admin by setting, so none is needed among the kept.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn keep_api_key(&self, key: &StoredKey, rooted: bool) -> Result<KeyCreation, Error> {
        let answer: String = self
            .scripts
            .create_key
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

    /// Forgets a key. `rooted`: as in [`Store::keep_api_key`].
    ///
    /// # Errors
    /// Redis is away.
    pub async fn revoke_api_key(&self, id: &KeyId, rooted: bool) -> Result<KeyRevocation, Error> {
        let answer: String = self
            .scripts
            .revoke_key
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

    /// Counts one more submission under a key, if that is within its rate, whichever router it came to; else says after how
    /// long one is.
    ///
    /// # Errors
    /// Redis is away.
    pub async fn throttle(&self, key: &KeyId, rate: Rate) -> Result<Result<(), Duration>, Error> {
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
