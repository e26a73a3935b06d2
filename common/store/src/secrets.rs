//! Secrets that all routers of a namespace share, created by the first one that needs them.

use redis::AsyncCommands;

use super::{Error, Secrets};

/// Purpose of a secret. Each purpose has its own secret, so none can be misused for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secret {
    /// Signs the URLs of files (HMAC-SHA-256).
    SignedUrls,
    /// Signs webhooks (seed of an ED25519 key).
    Webhooks,
    /// Identifies the namespace of this Redis in the storage.
    Installation,
}

impl Secret {
    fn name(self) -> &'static str {
        match self {
            Self::SignedUrls => "signed-urls",
            Self::Webhooks => "webhooks",
            Self::Installation => "installation",
        }
    }
}

impl Secrets<'_> {
    /// Returns the 32 bytes of a secret. `fresh`: random bytes, which become the secret if none
    /// exists.
    ///
    /// # Errors
    /// Redis is unreachable, or contains something else there.
    pub async fn secret(self, secret: Secret, fresh: [u8; 32]) -> Result<[u8; 32], Error> {
        let key = self.keys.secret(secret.name());
        let mut connection = self.connection.clone();
        // Read first: a full Redis accepts no writes.
        let found: Option<Vec<u8>> = connection.get(&key).await?;
        let found = match found {
            Some(found) => found,
            None => {
                connection.set_nx::<_, _, ()>(&key, &fresh[..]).await?;
                connection.get(&key).await?
            }
        };
        let length = found.len();
        <[u8; 32]>::try_from(found)
            .map_err(|_| Error::damaged(&key, format_args!("{length} bytes, not 32")))
    }
}
