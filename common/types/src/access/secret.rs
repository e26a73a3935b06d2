//! Credentials, and their verification against a stored hash.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::ids::KeyId;

/// A key as its holder presents it: `id:secret`. Its `Debug` output omits the secret.
#[derive(Clone)]
pub struct Credentials {
    /// The public part.
    pub id: KeyId,
    secret: String,
}

/// A text that is not a key. The text is omitted: it may be a key with a typing error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a key is written id:secret, as `warmq keys create` printed it")]
pub struct NoCredentials;

impl Credentials {
    /// Returns new credentials.
    pub fn new(id: KeyId, secret: [u8; 32]) -> Self {
        Self {
            id,
            secret: hex::encode(secret),
        }
    }

    /// Returns the hash of the secret.
    pub fn hash(&self) -> SecretHash {
        SecretHash::of(&self.secret)
    }

    /// Returns `id:secret`, for its holder only.
    pub fn expose(&self) -> String {
        format!("{}:{}", self.id, self.secret)
    }

    /// Returns the length of the secret, characters.
    pub(super) fn secret_len(&self) -> usize {
        self.secret.len()
    }
}

impl FromStr for Credentials {
    type Err = NoCredentials;

    fn from_str(text: &str) -> Result<Self, NoCredentials> {
        let (id, secret) = text.split_once(':').ok_or(NoCredentials)?;
        let id = KeyId::parse(id).map_err(|_| NoCredentials)?;
        let secret = secret.to_owned();
        Ok(Self { id, secret })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}:***)", self.id)
    }
}

/// SHA-256 of a secret. A slow hash is not needed: a secret is 256 random bits, which cannot be
/// guessed at any speed. Secrets that people may choose, those of an [`AdminKey`], are not stored.
///
/// [`AdminKey`]: super::AdminKey
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Hashes a secret.
    pub fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

/// Compares in constant time.
impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for SecretHash {}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(***)")
    }
}

impl TryFrom<String> for SecretHash {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Self, hex::FromHexError> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash)?;
        Ok(Self(hash))
    }
}

impl From<SecretHash> for String {
    fn from(hash: SecretHash) -> String {
        hex::encode(hash.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_is_written_and_prints_without_its_secret() {
        let key = Credentials::new("alice-1".parse().unwrap(), [7; 32]);
        let text = key.expose();
        assert_eq!(text, format!("alice-1:{}", "07".repeat(32)));
        let again: Credentials = text.parse().unwrap();
        assert!(again.hash() == key.hash() && again.id == key.id);
        assert!(!format!("{key:?} {:?}", key.hash()).contains("0707"));
    }

    #[test]
    fn an_invalid_key_is_not_repeated() {
        for text in ["", "any", "hunter2", ":x", "A b:x"] {
            let error = text.parse::<Credentials>().unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn one_wrong_character_is_a_stranger() {
        assert!(SecretHash::of("secret") == SecretHash::of("secret"));
        assert!(SecretHash::of("secret") != SecretHash::of("secres"));
        let known = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        assert_eq!(String::from(SecretHash::of("secret")), known);
    }
}
