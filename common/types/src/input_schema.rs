//! Readers of the JSON Schema that an engine publishes for its input. Pure.

use serde_json::{Number, Value};

use crate::field_name;
use crate::hint_path::HintPath;
use crate::job::FieldError;

/// Keyword of the property whose text is the job's hint.
pub const HINT_KEYWORD: &str = "x-warmq-hint";

/// Keyword of a property that is another name of the property it contains.
pub const ALIAS_OF_KEYWORD: &str = "x-warmq-alias-of";

/// Keyword at the root of an app's schema: the schemas of inputs to its further paths, by path
/// without a leading slash. An app without it takes the same input at each path.
pub const PATHS_KEYWORD: &str = "x-warmq-paths";

/// Maximum number of references and compositions followed per value; a schema that exceeds it
/// refers to itself.
const MAX_HOPS: u32 = 16;

/// Returns the path of the first property that is marked as the hint, if any.
pub fn hint_path(schema: &Value) -> Option<HintPath> {
    let mut path = Vec::new();
    find_hint(schema, &mut path).then(|| HintPath::of(path))
}

fn find_hint(schema: &Value, path: &mut Vec<String>) -> bool {
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        path.push(name.clone());
        if property[HINT_KEYWORD] == true || find_hint(property, path) {
            return true;
        }
        path.pop();
    }
    false
}

/// Returns an error for each field of the input that is given under two of its names.
pub fn repeated_fields(schema: &Value, input: &Value) -> Vec<FieldError> {
    let properties = schema["properties"].as_object();
    let given = |name: &str| input.get(name).is_some();
    let aliases = properties
        .into_iter()
        .flatten()
        .filter_map(|(alias, property)| {
            let field = property[ALIAS_OF_KEYWORD].as_str()?;
            (given(alias) && given(field)).then(|| field_name::repeated(field, alias))
        });
    aliases.collect()
}

/// Rewrites whole numbers with a point or an exponent (`42.0`, `1e3`) as integers where the schema
/// asks for integers: JSON Schema accepts them as integers, typed readers do not. Returns the paths
/// of those that 64 bits cannot hold.
pub fn write_integers(schema: &Value, input: &mut Value) -> Vec<Vec<Value>> {
    let mut rewriting = Rewriting {
        root: schema,
        path: Vec::new(),
        too_large: Vec::new(),
    };
    rewriting.apply(schema, input, MAX_HOPS, true);
    rewriting.too_large
}

struct Rewriting<'a> {
    root: &'a Value,
    path: Vec<Value>,
    too_large: Vec<Vec<Value>>,
}

impl Rewriting<'_> {
    /// `is_binding`: whether the value must satisfy this schema, rather than one of several.
    fn apply(&mut self, schema: &Value, value: &mut Value, hops: u32, is_binding: bool) {
        let Some(hops) = hops.checked_sub(1) else {
            return;
        };
        if let Some(target) = schema["$ref"].as_str()
            && let Some(target) = self.root.pointer(target.trim_start_matches('#'))
        {
            self.apply(target, value, hops, is_binding);
        }
        for (composition, is_binding) in [("allOf", is_binding), ("anyOf", false), ("oneOf", false)]
        {
            for part in schema[composition].as_array().into_iter().flatten() {
                self.apply(part, value, hops, is_binding);
            }
        }
        match value {
            Value::Number(number) if asks_for(schema, "integer") => match integer(number) {
                Some(integer) => *number = integer,
                None if is_too_large(number) && is_binding && !asks_for(schema, "number") => {
                    self.too_large.push(self.path.clone());
                }
                None => {}
            },
            Value::Array(items) => self.apply_to_items(schema, items),
            Value::Object(fields) => {
                for (name, field) in fields {
                    let property = schema["properties"].get(name);
                    let property = property.or_else(|| schema.get("additionalProperties"));
                    self.descend(property, name.as_str().into(), field);
                }
            }
            _ => {}
        }
    }

    fn apply_to_items(&mut self, schema: &Value, items: &mut [Value]) {
        for (index, item) in items.iter_mut().enumerate() {
            let of_item = schema["prefixItems"].get(index);
            let of_item = of_item.or_else(|| schema.get("items"));
            self.descend(of_item, index.into(), item);
        }
    }

    fn descend(&mut self, schema: Option<&Value>, place: Value, value: &mut Value) {
        if let Some(schema) = schema {
            self.path.push(place);
            self.apply(schema, value, MAX_HOPS, true);
            self.path.pop();
        }
    }
}

fn asks_for(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::String(one) => one == name,
        Value::Array(several) => several.iter().any(|one| one == name),
        _ => false,
    }
}

/// Returns the number as an integer; `None` if it has a fraction or exceeds 64 bits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float without fraction, whose bounds are checked by the conversion from i128"
)]
fn integer(number: &Number) -> Option<Number> {
    if !number.is_f64() {
        return Some(number.clone());
    }
    let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
    Number::from_i128(float as i128)
}

/// Returns whether the number is whole, though it exceeds 64 bits.
fn is_too_large(number: &Number) -> bool {
    number.as_f64().is_some_and(|float| float.fract() == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rewritten(schema: &Value, text: &str) -> (Value, Vec<Vec<Value>>) {
        let mut input = serde_json::from_str(text).unwrap();
        let too_large = write_integers(schema, &mut input);
        (input, too_large)
    }

    #[test]
    fn whole_numbers_become_integers_where_the_schema_asks_for_them() {
        let schema = json!({
            "properties": {
                "seed": {"type": ["integer", "null"]},
                "scale": {"type": "number"},
                "sizes": {"type": "array", "items": {"$ref": "#/$defs/Size"}},
                "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            },
            "additionalProperties": {"type": "integer"},
            "$defs": {"Size": {"properties": {"width": {"type": "integer"}}}},
        });
        let text = r#"{"seed": 42.0, "scale": 2.0, "sizes": [{"width": 1e3}, {"width": "a"}],
            "either": -3.0, "other": -0.0}"#;
        let (input, too_large) = rewritten(&schema, text);
        let expected = json!({"seed": 42, "scale": 2.0, "sizes": [{"width": 1000}, {"width": "a"}],
            "either": -3, "other": 0});
        assert_eq!(input, expected);
        assert!(too_large.is_empty());
    }

    #[test]
    fn fractions_and_numbers_beyond_64_bits_stay_and_the_latter_are_named() {
        let schema = json!({"properties": {
            "a": {"type": "integer"},
            "b": {"items": {"type": "integer"}},
            "c": {"type": ["integer", "number"]},
        }});
        let text = r#"{"a": 1.5, "b": [18446744073709551616, 18446744073709551615], "c": 1e300}"#;
        let (input, too_large) = rewritten(&schema, text);
        assert_eq!(input, serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(too_large, [[json!("b"), json!(0)]]);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({"$ref": "#", "type": "integer"});
        assert_eq!(rewritten(&schema, "7.0").0, json!(7));
    }

    #[test]
    fn a_field_under_two_names_is_an_error_that_has_both() {
        let schema = json!({"properties": {
            "steps": {"type": "integer"},
            "num_inference_steps": {"type": "integer", ALIAS_OF_KEYWORD: "steps"},
        }});
        let repeated = |input: Value| repeated_fields(&schema, &input);
        assert!(repeated(json!({"steps": 1})).is_empty());
        assert!(repeated(json!({"num_inference_steps": 1})).is_empty());
        let errors = repeated(json!({"num_inference_steps": 1, "steps": 1}));
        assert_eq!(errors[0].loc, ["body", "num_inference_steps"]);
        assert_eq!(
            errors[0].msg,
            "'steps' and 'num_inference_steps' are names of one field: give one of them"
        );
    }

    #[test]
    fn the_marked_property_is_the_hint_wherever_it_is() {
        let nested = json!({"properties": {
            "prompt": {"type": "string"},
            "lora": {"properties": {"name": {"type": "string", HINT_KEYWORD: true}}},
        }});
        assert_eq!(hint_path(&nested).unwrap().to_string(), "input.lora.name");
        assert_eq!(hint_path(&json!({"properties": {"model": {}}})), None);
        assert_eq!(hint_path(&json!(true)), None);
    }
}
