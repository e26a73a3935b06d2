//! Hints: what a job needs and what a runner has loaded. Matching is exact.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::RunnerId;

/// Maximum length of a hint, bytes of UTF-8.
pub const MAX_HINT_BYTES: usize = 256;

/// A non-empty text of at most [`MAX_HINT_BYTES`] bytes, usually a model's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
pub struct Hint(String);

/// Why a text is not a hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHint {
    /// Empty; a job without a hint omits it.
    #[error("a hint must not be empty; leave it out instead")]
    Empty,
    /// Longer than [`MAX_HINT_BYTES`].
    #[error("a hint may have at most {MAX_HINT_BYTES} bytes; this one has {bytes}")]
    TooLong {
        /// Length of the text, bytes.
        bytes: usize,
    },
}

impl Hint {
    /// Parses a text of 1 to [`MAX_HINT_BYTES`] bytes, unchanged.
    pub fn parse(text: &str) -> Result<Self, InvalidHint> {
        match text.len() {
            0 => Err(InvalidHint::Empty),
            bytes if bytes > MAX_HINT_BYTES => Err(InvalidHint::TooLong { bytes }),
            _ => Ok(Self(text.to_owned())),
        }
    }

    /// Parses as [`Hint::parse`] does, and returns `None` for an empty text.
    pub fn parse_optional(text: &str) -> Result<Option<Self>, InvalidHint> {
        match Self::parse(text) {
            Ok(hint) => Ok(Some(hint)),
            Err(InvalidHint::Empty) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the hint as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Hint {
    type Err = InvalidHint;
    fn from_str(text: &str) -> Result<Self, InvalidHint> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Hint {
    type Error = InvalidHint;
    fn try_from(text: String) -> Result<Self, InvalidHint> {
        Self::parse(&text)
    }
}

impl From<Hint> for String {
    fn from(hint: Hint) -> String {
        hint.0
    }
}

/// Source of a job's hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum HintSource {
    /// A header of the submission.
    Header,
    /// A field of the input, which names the model that will be loaded.
    Input {
        /// The field: `input.model`.
        field: String,
        /// A header that contradicts the field, and has no effect.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        overruled: Option<Hint>,
    },
}

/// Idle runners of an app from the view of one job, read in one step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// Idle runners that report the job's hint, in alphabetical order.
    pub warm: Vec<RunnerId>,
    /// Idle runners that report no models yet, in alphabetical order.
    pub blank: Vec<RunnerId>,
    /// Idle runners outside the avoid list that can load the job's model; empty for a job without
    /// an avoid list.
    pub others: Vec<RunnerId>,
    /// All idle runners.
    pub idle: u64,
}

impl Candidates {
    /// Removes the runners of the avoid list if others remain. `others`: idle runners outside the
    /// avoid list that can load the job's model, warm or cold.
    #[must_use]
    pub fn without(mut self, avoid: &[RunnerId], others: Vec<RunnerId>) -> Self {
        let is_other = |runner: &RunnerId| !avoid.contains(runner);
        if self.warm.iter().chain(&self.blank).any(is_other) || !others.is_empty() {
            self.warm.retain(is_other);
            self.blank.retain(is_other);
        }
        self.others = others;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runner_is_left_out_only_where_there_is_another() {
        let names = |names: &[&str]| -> Vec<RunnerId> {
            let names = names.iter().map(|name| RunnerId::parse(name).unwrap());
            names.collect()
        };
        let among = |warm: &[&str], blank: &[&str]| {
            let candidates = Candidates {
                warm: names(warm),
                blank: names(blank),
                idle: 2,
                ..Candidates::default()
            };
            let left = candidates.without(&names(&["bad", "worse"]), Vec::new());
            (left.warm, left.blank)
        };
        assert_eq!(among(&["bad", "b"], &[]), (names(&["b"]), names(&[])));
        assert_eq!(
            among(&["bad", "worse"], &["b"]),
            (names(&[]), names(&["b"]))
        );
        assert_eq!(among(&["bad"], &[]), (names(&["bad"]), names(&[])));
    }

    #[test]
    fn length_is_counted_in_bytes() {
        assert!(Hint::parse(&"x".repeat(256)).is_ok());
        assert_eq!(
            Hint::parse(&"é".repeat(129)),
            Err(InvalidHint::TooLong { bytes: 258 })
        );
    }

    #[test]
    fn an_empty_hint_is_none() {
        assert_eq!(Hint::parse_optional(""), Ok(None));
        assert!(Hint::parse("").is_err());
    }
}
