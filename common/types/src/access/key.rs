//! API keys: the public record, the stored record, and the admin key from the configuration.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{Credentials, Limits, Scope, SecretHash, limits};
use crate::ids::{KeyId, KeyName};
use crate::unknown::known_items;

/// Minimum length of an admin key's secret that a person chose, characters.
const SHORTEST_SECRET: usize = 32;

/// Request to create a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Purpose of the key; the key's id begins with it.
    pub name: KeyName,
    /// Permissions of its holder.
    #[schema(value_type = BTreeSet<String>, example = json!(["submit:warmq/*", "read"]))]
    pub scopes: BTreeSet<Scope>,
    /// Bounds on its use.
    #[serde(default)]
    pub limits: Limits,
}

/// Request to change a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyChange {
    /// Bounds on its use, instead of all earlier ones.
    pub limits: Limits,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// Identifier, part of the credentials.
    pub id: KeyId,
    /// Permissions of its holder. Unknown ones of a newer build grant nothing.
    #[serde(deserialize_with = "known_items")]
    #[schema(value_type = BTreeSet<String>, example = json!(["submit:warmq/*", "read"]))]
    pub scopes: BTreeSet<Scope>,
    /// Bounds on its use.
    #[serde(default, deserialize_with = "limits::known")]
    pub limits: Limits,
    /// Creation time, Unix ms; 0 for a key from the configuration.
    pub created_ms: u64,
}

impl ApiKey {
    /// Returns whether its holder may do everything.
    pub fn is_admin(&self) -> bool {
        self.scopes.contains(&Scope::Admin)
    }
}

/// A key as stored in Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredKey {
    /// The public part.
    #[serde(flatten)]
    pub key: ApiKey,
    /// Hash of the secret.
    pub secret_sha256: SecretHash,
}

impl StoredKey {
    /// Returns whether the credentials belong to this key.
    pub fn opens_with(&self, credentials: &Credentials) -> bool {
        self.key.id == credentials.id && self.secret_sha256 == credentials.hash()
    }

    /// Returns the stored key `text` with other limits. What a newer build stored remains: unknown
    /// fields, limits and scopes.
    ///
    /// # Errors
    /// The text is not a key.
    pub fn with_limits(text: &str, limits: &Limits) -> serde_json::Result<String> {
        let mut key: Map<String, Value> = serde_json::from_str(text)?;
        let stored = key.entry("limits").or_insert_with(|| Map::new().into());
        let Value::Object(stored) = stored else {
            return Err(serde_json::Error::custom("its limits are not an object"));
        };
        limits.replace_in(stored)?;
        serde_json::to_string(&key)
    }
}

/// An admin key from the configuration, `id:secret`: valid before any other key exists, and after
/// Redis lost them. Only the hash of the secret is kept in memory, so nothing can print the secret.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminKey(pub StoredKey);

impl FromStr for AdminKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let credentials: Credentials = text.parse().map_err(|_| {
            format!("it is written id:secret, with 1 to 64 characters of a-z 0-9 - _ for the id and at least {SHORTEST_SECRET} \
                     for the secret")
        })?;
        if credentials.secret_len() < SHORTEST_SECRET {
            return Err(format!(
                "its secret can be guessed: it must have {SHORTEST_SECRET} characters at least; `openssl rand -hex 32` makes one"
            ));
        }
        Ok(Self(StoredKey {
            secret_sha256: credentials.hash(),
            key: ApiKey {
                id: credentials.id,
                scopes: [Scope::Admin].into(),
                limits: Limits::default(),
                created_ms: 0,
            },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_key_holds_no_secret_and_is_read_as_it_was_written() {
        let credentials = Credentials::new("alice-1".parse().unwrap(), [7; 32]);
        let stored = StoredKey {
            secret_sha256: credentials.hash(),
            key: ApiKey {
                id: credentials.id.clone(),
                scopes: ["read".parse().unwrap(), "submit:a/*".parse().unwrap()].into(),
                limits: Limits::default(),
                created_ms: 5,
            },
        };
        let json = serde_json::to_string(&stored).unwrap();
        assert!(!json.contains("0707"), "{json}");
        assert!(json.contains(r#""scopes":["submit:a/*","read"]"#), "{json}");
        let again: StoredKey = serde_json::from_str(&json).unwrap();
        assert_eq!(again, stored);
        assert!(again.opens_with(&credentials));
        let guess = Credentials::new("alice-1".parse().unwrap(), [8; 32]);
        assert!(!again.opens_with(&guess));
        let other = Credentials::new("bob-1".parse().unwrap(), [7; 32]);
        assert!(!again.opens_with(&other));
    }

    #[test]
    fn an_admin_key_that_can_be_guessed_is_refused_without_being_repeated() {
        let error = "root:hunter2".parse::<AdminKey>().unwrap_err();
        assert!(
            error.contains("guessed") && !error.contains("hunter2"),
            "{error}"
        );
        let error = "hunter2".parse::<AdminKey>().unwrap_err();
        assert!(
            error.contains("id:secret") && !error.contains("hunter2"),
            "{error}"
        );
        let AdminKey(root) = format!("root:{}", "s".repeat(32)).parse().unwrap();
        assert!(root.key.is_admin());
        assert!(!format!("{root:?}").contains("ssss"));
    }
}
