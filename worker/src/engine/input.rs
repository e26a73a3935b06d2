//! A job's input as a type, its JSON Schema, and what is wrong with it, in fal's words.
//!
//! The router has checked the input against the published schema already. A job that was accepted under an older
//! worker's schema, or came past the router, is caught here.

use std::fmt::Display;
use std::ops::RangeInclusive;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;
use warmq_common::job::{FieldError, JobError};

/// The JSON Schema of `T`, in one piece (no `$ref`).
pub fn schema<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// Reads an input. No input at all is an empty one.
///
/// # Errors
/// A 422 that names the field.
pub fn parse<T: DeserializeOwned>(input: &Value) -> Result<T, JobError> {
    let empty = Value::Object(serde_json::Map::new());
    let input = if input.is_null() { &empty } else { input };
    serde_path_to_error::deserialize(input).map_err(|error| {
        let mut loc = vec![Value::from("body")];
        loc.extend(error.path().iter().filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Value::from(*index)),
            Segment::Map { key } => Some(Value::from(key.as_str())),
            Segment::Enum { variant } => Some(Value::from(variant.as_str())),
            Segment::Unknown => None,
        }));
        let msg = error.into_inner().to_string();
        // Of a missing field serde knows the parent's path, and the name by its message only.
        let missing = msg
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        let (msg, error_type) = match missing {
            Some(name) => {
                loc.push(Value::from(name));
                ("Field required".to_owned(), "missing")
            }
            None => (msg, "value_error"),
        };
        JobError::fields(vec![FieldError {
            loc,
            msg,
            error_type: error_type.to_owned(),
        }])
    })
}

/// Whether `value` is in `range`.
///
/// # Errors
/// A 422 that names `field` and the range.
pub fn within<T: PartialOrd + Display>(
    field: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Result<T, JobError> {
    // A NaN is in no range.
    if range.contains(&value) {
        return Ok(value);
    }
    let message = format!("{value} is not in {} to {}", range.start(), range.end());
    Err(JobError::field(&[field], "out_of_range", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    struct Input {
        prompt: String,
        #[serde(default)]
        #[schemars(range(min = 1, max = 4))]
        count: u32,
        size: Option<Size>,
    }

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    struct Size {
        width: u32,
    }

    fn problem(input: Value) -> (Vec<Value>, String) {
        let error = parse::<Input>(&input).unwrap_err();
        assert_eq!(error.status, 422);
        (error.detail[0].loc.clone(), error.message)
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let (loc, message) = problem(json!({"prompt": "x", "size": {"width": "wide"}}));
        assert_eq!(loc, ["body", "size", "width"]);
        assert!(message.contains("wide"), "{message}");
        assert_eq!(problem(json!({})).0, ["body", "prompt"]);
        assert_eq!(problem(Value::Null).0, ["body", "prompt"]);
        assert_eq!(
            problem(json!({"prompt": "x", "size": {}})).0,
            ["body", "size", "width"]
        );
        assert_eq!(problem(json!("text")).0, ["body"]);
    }

    #[test]
    fn unknown_fields_are_ignored() {
        assert!(parse::<Input>(&json!({"prompt": "x", "sync_mode": true})).is_ok());
    }

    #[test]
    fn a_schema_is_in_one_piece_and_has_the_ranges() {
        let schema = schema::<Input>();
        assert!(!schema.to_string().contains("$ref"), "{schema}");
        assert_eq!(schema["properties"]["count"]["maximum"], 4);
        assert_eq!(schema["required"], json!(["prompt"]));
    }
}
