//! Parses a job's input, generates its JSON Schema, and reports errors in fal's format.
//!
//! The router has validated the input against the published schema. This catches jobs that were
//! accepted under an older schema, or bypassed the router.

use std::fmt::Display;
use std::ops::RangeInclusive;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use warmq_types::field_name;
use warmq_types::input_schema::{ALIAS_OF_KEYWORD, repeated_fields, write_integers};
use warmq_types::job::{FieldError, JobError};

/// Keyword that lists a property's aliases. Each alias is published as a property of its own and
/// must repeat serde's aliases; otherwise the schema would reject what the type accepts.
pub const ALIASES_KEYWORD: &str = "x-warmq-aliases";

/// Generates the JSON Schema of `T` without `$ref`.
pub fn schema<T: JsonSchema>() -> Value {
    let mut schema = SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value();
    if let Some(properties) = schema["properties"].as_object_mut() {
        publish_aliases(properties);
    }
    schema
}

fn publish_aliases(properties: &mut Map<String, Value>) {
    let mut published = Map::new();
    for (name, property) in properties.iter_mut() {
        let aliases = property.as_object_mut();
        let aliases = aliases.and_then(|property| property.remove(ALIASES_KEYWORD));
        for alias in aliases.iter().flat_map(Value::as_array).flatten() {
            let mut same = property.clone();
            same["description"] = format!("Another name of `{name}`.").into();
            same[ALIAS_OF_KEYWORD] = name.as_str().into();
            published.extend(alias.as_str().map(|alias| (alias.to_owned(), same)));
        }
    }
    properties.extend(published);
}

/// Parses an input. No input counts as an empty one, and integers may be written as floats
/// (`42.0`).
///
/// # Errors
/// A 422 that names the field.
pub fn parse<T: DeserializeOwned + JsonSchema>(input: &Value) -> Result<T, JobError> {
    let mut input = match input {
        Value::Null => Value::Object(Map::new()),
        input => input.clone(),
    };
    let schema = schema::<T>();
    let repeated = repeated_fields(&schema, &input);
    if !repeated.is_empty() {
        return Err(JobError::fields(repeated));
    }
    // Numbers too large for an integer are rejected below.
    write_integers(&schema, &mut input);
    serde_path_to_error::deserialize(&input)
        .map_err(|error| JobError::fields(vec![field_error(&error)]))
}

fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let mut loc = vec![Value::from("body")];
    loc.extend(error.path().iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(Value::from(*index)),
        Segment::Map { key } => Some(Value::from(key.as_str())),
        Segment::Enum { variant } => Some(Value::from(variant.as_str())),
        Segment::Unknown => None,
    }));
    let msg = error.inner().to_string();
    // serde has some names in its messages only: "missing field `a`", "unknown field `b`, expected
    // one of `a`, `c`".
    let quoted = |text: &str| -> Vec<String> {
        text.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    let (msg, error_type) = if msg.starts_with("missing field") {
        loc.extend(quoted(&msg).into_iter().map(Value::from));
        ("Field required".to_owned(), "missing")
    } else if msg.starts_with("unknown field") {
        let unknown = loc.pop().and_then(|name| Some(name.as_str()?.to_owned()));
        let known = msg
            .rsplit_once(", expected ")
            .map(|(_, known)| quoted(known));
        let mut known: Vec<&str> = known.iter().flatten().map(String::as_str).collect();
        known.sort_unstable();
        return field_name::unknown(loc, &unknown.unwrap_or_default(), &known);
    } else {
        (msg, "value_error")
    };
    FieldError {
        loc,
        msg,
        error_type: error_type.to_owned(),
    }
}

/// Returns `value` if it is in `range`.
///
/// # Errors
/// A 422 that names the field at `path` and the range.
pub fn check_range<T: PartialOrd + Display>(
    path: &[&str],
    value: T,
    range: RangeInclusive<T>,
) -> Result<T, JobError> {
    // A NaN is in no range.
    if range.contains(&value) {
        return Ok(value);
    }
    let message = format!("{value} is not in {} to {}", range.start(), range.end());
    Err(JobError::field(path, "out_of_range", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Input {
        prompt: String,
        #[serde(default, alias = "number")]
        #[schemars(range(min = 1, max = 4), extend("x-warmq-aliases" = ["number"]))]
        count: u32,
        size: Option<Size>,
    }

    #[derive(Debug, Deserialize, JsonSchema, PartialEq)]
    #[serde(deny_unknown_fields)]
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
    fn an_unknown_field_comes_with_the_nearest_known_one() {
        let (loc, message) = problem(json!({"prompt": "x", "numbr": 1}));
        assert_eq!(loc, ["body", "numbr"]);
        let sentence = "unknown field 'numbr': did you mean 'number'? \
                        (known fields: count, number, prompt, size)";
        assert!(message.ends_with(sentence), "{message}");
        let (loc, message) = problem(json!({"prompt": "x", "size": {"width": 1, "with": 2}}));
        assert_eq!(loc, ["body", "size", "with"]);
        assert!(message.contains("did you mean 'width'?"), "{message}");
    }

    #[test]
    fn a_field_under_two_names_is_refused() {
        let (loc, message) = problem(json!({"prompt": "x", "count": 1, "number": 1}));
        assert_eq!(loc, ["body", "number"]);
        assert!(message.contains("'count' and 'number'"), "{message}");
    }

    #[test]
    fn whole_numbers_may_have_a_point() {
        let input: Input =
            parse(&json!({"prompt": "x", "number": 2.0, "size": {"width": 1e3}})).unwrap();
        assert_eq!((input.count, input.size.unwrap().width), (2, 1000));
        assert_eq!(
            problem(json!({"prompt": "x", "count": 1.5})).0,
            ["body", "count"]
        );
    }

    #[test]
    fn a_schema_is_in_one_piece_and_has_the_ranges() {
        let schema = schema::<Input>();
        assert!(!schema.to_string().contains("$ref"), "{schema}");
        assert_eq!(schema["properties"]["count"]["maximum"], 4);
        assert_eq!(schema["required"], json!(["prompt"]));
        assert_eq!(schema["additionalProperties"], false);
        let alias = &schema["properties"]["number"];
        assert_eq!(alias["maximum"], 4);
        assert_eq!(alias["description"], "Another name of `count`.");
        assert!(!schema.to_string().contains(ALIASES_KEYWORD), "{schema}");
    }
}
