//! Identifiers as types: a runner's id cannot be passed where a job's is expected.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// A text that is not a valid name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{given}' is not {what}: {rule}")]
pub struct InvalidName {
    given: String,
    what: &'static str,
    rule: &'static str,
}

/// Id of a job, and fal's `request_id`: a UUIDv7, so ids sort by time of submission.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
#[schema(value_type = String, format = "uuid")]
pub struct JobId(Uuid);

impl JobId {
    /// Returns a new id.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }

    /// Returns an id of the same millisecond whose other bits are those of `hash`.
    #[must_use]
    pub fn sibling(&self, hash: &[u8; 32]) -> Self {
        let mut bytes = *self.0.as_bytes();
        bytes[6..].copy_from_slice(&hash[..10]);
        let sibling = uuid::Builder::from_bytes(bytes);
        let sibling = sibling.with_version(uuid::Version::SortRand);
        Self(sibling.with_variant(uuid::Variant::RFC4122).into_uuid())
    }

    /// Returns its 128 bits, big-endian.
    pub fn to_bytes(&self) -> [u8; 16] {
        *self.0.as_bytes()
    }

    /// Returns the random low 64 bits: repeatable chance for choices about this job.
    pub fn coin(&self) -> u64 {
        self.0.as_u64_pair().1
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for JobId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match Uuid::try_parse(text) {
            Ok(uuid) if uuid.get_version_num() == 7 => Ok(Self(uuid)),
            _ => Err(InvalidName {
                given: text.to_owned(),
                what: "a job id",
                rule: "expected a UUID of version 7",
            }),
        }
    }
}

/// Declares a validated string newtype with `parse`, `as_str`, `Display`, `FromStr` and serde.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            #[doc = concat!("Accepts ", $what, ": ", $rule, ".")]
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(InvalidName { given: text.chars().take(120).collect(), what: $what, rule: $rule })
                }
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::parse(&text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

/// Returns whether `text` has 1 to `max` characters, each a lower-case letter, a digit or one of
/// `more`.
fn is_word(text: &str, more: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || more.contains(c))
}

name!(
    /// An app: a kind of machine with queues, runners and a policy of its own. `owner/name`, as in
    /// fal.
    AppId,
    "an app name",
    "expected owner/name, with a-z 0-9 - in the owner and a-z 0-9 - _ in the name, at most 64 characters each",
    |text| match text.split_once('/') {
        Some((owner, name)) => is_word(owner, "-", 64) && is_word(name, "-_", 64),
        None => false,
    }
);

impl AppId {
    /// Returns the part before the slash.
    pub fn owner(&self) -> &str {
        self.0.split_once('/').map_or("", |(owner, _)| owner)
    }
}

name!(
    /// An idempotency key: submissions under the same key are one job.
    IdempotencyKey,
    "an idempotency key",
    "1 to 255 printable characters are expected",
    |text| (1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control)
);

name!(
    /// Purpose of an API key, the first part of its id.
    KeyName,
    "a key's name",
    "1 to 40 characters of a-z 0-9 - _ are expected",
    |text| is_word(text, "-_", 40)
);

name!(
    /// Public part of an API key: its name and a random suffix. It is never reused, so no new key
    /// gives access to the jobs of a revoked one.
    KeyId,
    "a key's id",
    "1 to 64 characters of a-z 0-9 - _ are expected",
    |text| is_word(text, "-_", 64)
);

impl KeyId {
    /// Returns a new id: the name and a suffix that distinguishes keys of that name.
    pub fn generate(name: &KeyName) -> Self {
        let random = Uuid::new_v4().simple().to_string();
        Self(format!("{name}-{}", &random[..8]))
    }
}

name!(
    /// One consumer of a worker process. Unique among live runners; no dots, since it is part of a
    /// queue's name.
    RunnerId,
    "a runner name",
    "1 to 80 characters of a-z 0-9 - _ are expected",
    |text| is_word(text, "-_", 80)
);

name!(
    /// Prefix of every queue, exchange and Redis key, so that environments can share servers.
    Namespace,
    "a namespace",
    "1 to 40 characters of a-z 0-9 - are expected, and neither 'reply', with which submitters' own queues begin, nor 'amq', \
     with which RabbitMQ's do",
    |text| is_word(text, "-", 40) && !matches!(text, "reply" | "amq")
);

/// Epoch: an incarnation of a runner (Unix ms of its registration). It is part of the queue's name,
/// so a queue name is never used twice.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Fence: counts the starts of a job. A result is stored only under the latest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Fence(pub u64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_names_follow_the_grammar() {
        for good in ["warmq/diffusion", "a/b", "fal-ai/flux_1-dev", "0/0"] {
            assert!(AppId::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "", "a", "a/", "/a", "a/b/c", "A/b", "a.b/c", "a/b.c", "a_b/c", "a/{b}", "a/b ", "é/b",
        ] {
            assert!(AppId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn two_keys_of_one_name_have_two_valid_ids() {
        let name = KeyName::parse(&"x".repeat(40)).unwrap();
        let (one, other) = (KeyId::generate(&name), KeyId::generate(&name));
        assert_ne!(one, other);
        assert_eq!(KeyId::parse(one.as_str()), Ok(one));
    }

    #[test]
    fn no_namespace_owns_queues_that_replies_may_go_to() {
        assert!(Namespace::parse("replies").is_ok());
        for bad in ["reply", "amq"] {
            assert!(Namespace::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_version_7_uuids_are_job_ids() {
        assert!(JobId::generate().to_string().parse::<JobId>().is_ok());
        assert!(Uuid::new_v4().to_string().parse::<JobId>().is_err());
        assert!("nonsense".parse::<JobId>().is_err());
    }

    #[test]
    fn a_name_is_checked_when_it_is_read_from_json_too() {
        assert!(serde_json::from_str::<AppId>("\"a/b\"").is_ok());
        assert!(serde_json::from_str::<AppId>("\"a.b\"").is_err());
    }
}
