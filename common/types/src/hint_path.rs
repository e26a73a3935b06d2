//! Path of the field of a job's input that is its hint.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::hint::{Hint, InvalidHint};

/// Path of the input field that contains the hint: `input.model`, `input.lora.name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HintPath(Vec<String>);

impl HintPath {
    /// Returns the path through these fields, outermost first.
    pub fn of(fields: Vec<String>) -> Self {
        Self(fields)
    }

    /// Returns the fields of the path, outermost first.
    pub fn fields(&self) -> &[String] {
        &self.0
    }

    /// Returns the hint in `input`; `None` if the path does not exist or leads to something other
    /// than text.
    ///
    /// # Errors
    /// The text is too long for a hint.
    pub fn hint(&self, input: &Value) -> Result<Option<Hint>, InvalidHint> {
        let found = self.0.iter().try_fold(input, |value, key| value.get(key));
        match found.and_then(Value::as_str) {
            Some(text) => Hint::parse_optional(text),
            None => Ok(None),
        }
    }
}

impl fmt::Display for HintPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "input.{}", self.0.join("."))
    }
}

impl FromStr for HintPath {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('.').map(str::to_owned);
        let keys: Vec<String> = match parts.next().as_deref() {
            Some("input") => parts.collect(),
            _ => Vec::new(),
        };
        if keys.is_empty() || keys.iter().any(String::is_empty) {
            return Err(format!(
                "'{text}' is not a path into the input, such as input.model"
            ));
        }
        Ok(Self(keys))
    }
}
