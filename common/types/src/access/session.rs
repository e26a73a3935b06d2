//! Sessions of browsers: a login with an API key, kept under a random token in a cookie.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::SecretHash;
use crate::ids::KeyId;

/// Length of a token's random part, bytes.
const TOKEN_BYTES: usize = 32;

/// The secret of a session, as its cookie contains it. Its `Debug` output omits it.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionToken(String);

/// A text that is not a token. The text is omitted: it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the session's token is malformed")]
pub struct InvalidToken;

impl SessionToken {
    /// Returns the token of these random bytes.
    pub fn new(random: [u8; TOKEN_BYTES]) -> Self {
        Self(hex::encode(random))
    }

    /// Returns the token for its browser only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Returns the name under which the session is stored: a hash, so that a copy of the store
    /// contains no token.
    pub fn stored_name(&self) -> String {
        hex::encode(Sha256::digest(&self.0))
    }
}

impl FromStr for SessionToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let mut bytes = [0; TOKEN_BYTES];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidToken)?;
        Ok(Self::new(bytes))
    }
}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(***)")
    }
}

/// A session as stored: the key of the login, with the hash of its secret at that time, so that a
/// revoked or replaced key ends its sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The key.
    pub key: KeyId,
    /// Hash of the key's secret.
    pub secret_sha256: SecretHash,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_is_written_and_never_printed() {
        let token = SessionToken::new([7; TOKEN_BYTES]);
        assert_eq!(token.expose().parse(), Ok(token.clone()));
        assert_eq!(format!("{token:?}"), "SessionToken(***)");
        assert!(!token.stored_name().contains("0707"));
        for text in ["", "07", "x", &"0".repeat(65), &"é".repeat(32)] {
            assert_eq!(text.parse::<SessionToken>(), Err(InvalidToken), "{text}");
        }
    }
}
