//! The schemas of an app's inputs, as a worker published them: what is wrong with an input, in
//! fal's shape, and where its hint is.

use std::collections::BTreeMap;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{ValidationError, Validator};
use serde_json::Value;
use warmq_types::field_name;
use warmq_types::hint_path::HintPath;
use warmq_types::input_cost;
use warmq_types::input_schema;
use warmq_types::job::FieldError;
use warmq_types::text::shortened;

/// Part of an OpenAPI document to which its schemas refer.
const COMPONENTS: &str = "components";

/// Problems in one answer: an array of a million wrong items would have as many.
const MAX_PROBLEMS: usize = 32;

/// Longest sentence about a problem, bytes; a schema's complaint quotes the input, all ten
/// megabytes of it.
const MAX_SENTENCE_BYTES: usize = 300;

/// The schemas of an app's inputs.
pub(super) struct InputSchemas {
    default: InputSchema,
    /// Of its further paths; `None` if all take the same input.
    paths: Option<BTreeMap<String, InputSchema>>,
}

impl InputSchemas {
    /// Reads what a worker published; `None` if it is no schema.
    pub(super) fn compile(mut schema: Value) -> Option<Self> {
        let paths = schema.as_object_mut()?.remove(input_schema::PATHS_KEYWORD);
        let components = schema.get(COMPONENTS).cloned();
        let of_path = |(path, mut schema): (String, Value)| {
            if let (Some(schema), Some(components)) = (schema.as_object_mut(), &components) {
                schema.insert(COMPONENTS.to_owned(), components.clone());
            }
            Some((path, InputSchema::compile(schema)?))
        };
        let paths = match paths {
            Some(Value::Object(paths)) => Some(paths.into_iter().filter_map(of_path).collect()),
            _ => None,
        };
        Some(Self {
            default: InputSchema::compile(schema)?,
            paths,
        })
    }

    /// Returns the field that is the hint, by the schema of the app's own path.
    pub(super) fn hint(&self) -> Option<&HintPath> {
        self.default.hint.as_ref()
    }

    /// Writes whole numbers as integers, and returns what is wrong with the input to a path:
    /// [`MAX_PROBLEMS`] problems at most. An unknown path may take any input.
    pub(super) fn check(&self, path: &str, input: &mut Value) -> Vec<FieldError> {
        let path = path.trim_matches('/');
        let schema = match &self.paths {
            Some(paths) if !path.is_empty() => paths.get(path),
            _ => Some(&self.default),
        };
        schema.map_or_else(Vec::new, |schema| schema.check(input))
    }
}

/// A schema, ready to check inputs.
struct InputSchema {
    schema: Value,
    validator: Validator,
    hint: Option<HintPath>,
}

impl InputSchema {
    /// Reads what a worker published; `None` if it is no schema.
    fn compile(schema: Value) -> Option<Self> {
        match jsonschema::validator_for(&schema) {
            Ok(validator) => Some(Self {
                hint: input_schema::hint_path(&schema),
                schema,
                validator,
            }),
            Err(error) => {
                tracing::warn!(%error, "a worker published an input schema that is none; inputs are not checked");
                None
            }
        }
    }

    fn check(&self, input: &mut Value) -> Vec<FieldError> {
        let too_large = input_schema::write_integers(&self.schema, input);
        let mut problems: Vec<FieldError> =
            too_large.into_iter().map(too_large_an_integer).collect();
        problems.extend(input_schema::repeated_fields(&self.schema, input));
        for error in self.validator.iter_errors(input) {
            if problems.len() >= MAX_PROBLEMS {
                break;
            }
            problems.extend(self.problems_of(&error));
        }
        if problems.is_empty() {
            problems.extend(input_cost::excess(&self.schema, input));
        } else if let Some(problem) = self.wrapped(input) {
            problems = vec![problem];
        }
        problems.truncate(MAX_PROBLEMS);
        problems
    }

    /// A client that sends what fal's clients take as an argument: `{"input": {…}}`.
    fn wrapped(&self, input: &Value) -> Option<FieldError> {
        let fields = input.as_object()?;
        let is_wrapped = fields.len() == 1
            && fields.get("input").is_some_and(Value::is_object)
            && self.schema.pointer("/properties/input").is_none();
        is_wrapped.then(|| FieldError {
            loc: vec!["body".into(), "input".into()],
            msg: "found `input`: send its content as the body".to_owned(),
            error_type: "extra_forbidden".to_owned(),
        })
    }

    fn problems_of(&self, error: &ValidationError<'_>) -> Vec<FieldError> {
        if let Some(errors) = meant_alternative(error) {
            return errors
                .iter()
                .flat_map(|error| self.problems_of(error))
                .collect();
        }
        if let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() {
            let known = self.known_fields(error.schema_path().as_str());
            let place = location(error.instance_path().as_str());
            let unknown = unexpected.iter().take(MAX_PROBLEMS);
            return unknown
                .map(|name| field_name::unknown(place.clone(), name, &known))
                .collect();
        }
        let mut loc = location(error.instance_path().as_str());
        let mut error_type = error.kind().keyword().to_owned();
        if let ValidationErrorKind::Required { property } = error.kind() {
            loc.push(property.clone());
            error_type = "missing".to_owned();
        }
        let message = match error.kind() {
            ValidationErrorKind::Enum { options } => not_one_of(options),
            _ => error.to_string(),
        };
        vec![FieldError {
            loc,
            msg: shortened(message, MAX_SENTENCE_BYTES),
            error_type,
        }]
    }

    /// The fields beside the keyword at `keyword_path` that refused another one.
    fn known_fields(&self, keyword_path: &str) -> Vec<&str> {
        let object = keyword_path
            .rsplit_once('/')
            .map_or("", |(object, _)| object);
        let object = self.schema.pointer(object);
        let properties = object.and_then(|object| object["properties"].as_object());
        let names = properties.into_iter().flat_map(|fields| fields.keys());
        let mut names: Vec<&str> = names.map(String::as_str).collect();
        names.sort_unstable();
        names
    }
}

/// Returns the errors of the only alternative whose type the value has: its other errors are what
/// is wrong with the value.
fn meant_alternative<'a>(error: &'a ValidationError<'_>) -> Option<&'a [ValidationError<'static>]> {
    let ValidationErrorKind::AnyOf { context } = error.kind() else {
        return None;
    };
    let has_the_type = |errors: &&Vec<ValidationError<'_>>| {
        let mut errors = errors.iter();
        errors.all(|inner| {
            !matches!(inner.kind(), ValidationErrorKind::Type { .. })
                || inner.instance_path() != error.instance_path()
        })
    };
    let mut meant = context.iter().filter(has_the_type);
    match (meant.next(), meant.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Returns the error of a value that is none of these.
fn not_one_of(options: &Value) -> String {
    let options = options.as_array().into_iter().flatten();
    let options = options.filter(|option| !option.is_null());
    let options: Vec<String> = options
        .map(|option| {
            option
                .as_str()
                .map_or_else(|| option.to_string(), str::to_owned)
        })
        .collect();
    format!("expected one of {}", options.join(", "))
}

/// A place in the input, by its JSON pointer.
fn location(pointer: &str) -> Vec<Value> {
    let parts = pointer.split('/').skip(1);
    let parts = parts.map(|part| match part.parse::<u64>() {
        Ok(index) => index.into(),
        Err(_) => name(&part.replace("~1", "/").replace("~0", "~")),
    });
    std::iter::once("body".into()).chain(parts).collect()
}

fn name(text: &str) -> Value {
    shortened(text.to_owned(), MAX_SENTENCE_BYTES).into()
}

fn too_large_an_integer(path: Vec<Value>) -> FieldError {
    let path = path.into_iter().map(|part| match part {
        Value::String(text) => name(&text),
        index => index,
    });
    FieldError {
        loc: std::iter::once("body".into()).chain(path).collect(),
        msg: "an integer of at most 64 bits is expected".to_owned(),
        error_type: "integer_too_large".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(schema: Value, mut input: Value) -> Vec<FieldError> {
        InputSchema::compile(schema).unwrap().check(&mut input)
    }

    #[test]
    fn a_cost_beyond_the_schemas_limit_is_a_problem_if_there_is_no_other() {
        let schema = json!({
            "properties": {"steps": {"type": "integer"}},
            "x-warmq-cost": {"limit": 100, "factors": [{"fields": ["/steps"], "default": 1}]},
        });
        let problems = |steps: Value| problems(schema.clone(), json!({"steps": steps}));
        assert!(problems(json!(100)).is_empty());
        assert_eq!(
            places(&problems(json!(101.0))),
            [(json!(["body", "steps"]), "out_of_range")]
        );
        assert_eq!(places(&problems(json!("101"))).len(), 1);
    }

    fn places(problems: &[FieldError]) -> Vec<(Value, &str)> {
        let mut places: Vec<_> = problems
            .iter()
            .map(|problem| (json!(problem.loc), problem.error_type.as_str()))
            .collect();
        places.sort_by_key(|(_, error_type)| *error_type);
        places
    }

    fn picture() -> Value {
        json!({
            "type": "object",
            "required": ["prompt"],
            "additionalProperties": false,
            "properties": {
                "prompt": {"type": "string"},
                "width": {"type": "integer", "minimum": 8},
                "seed": {"type": "integer"},
            },
        })
    }

    #[test]
    fn every_wrong_field_is_named() {
        assert!(problems(picture(), json!({"prompt": "a", "width": 64})).is_empty());
        let found = problems(picture(), json!({"width": 7, "promt": "a", "seed": 1e300}));
        let expected = [
            (json!(["body", "promt"]), "extra_forbidden"),
            (json!(["body", "seed"]), "integer_too_large"),
            (json!(["body", "width"]), "minimum"),
            (json!(["body", "prompt"]), "missing"),
        ];
        assert_eq!(places(&found), expected);
    }

    #[test]
    fn an_unknown_field_is_refused_with_the_one_that_was_meant_and_all_that_are_known() {
        let sentence = |field: &str| {
            let found = problems(picture(), json!({"prompt": "a", field: true}));
            found[0].msg.clone()
        };
        let known = "(known fields: prompt, seed, width)";
        let meant = format!("unknown field 'promt': did you mean 'prompt'? {known}");
        assert_eq!(sentence("promt"), meant);
        assert_eq!(sentence("loras"), format!("unknown field 'loras' {known}"));
    }

    #[test]
    fn a_wrong_value_of_several_kinds_is_an_error_of_the_kind_that_it_has() {
        let sides = json!({
            "type": "object",
            "required": ["width"],
            "additionalProperties": false,
            "properties": {"width": {"type": "integer", "minimum": 8}},
        });
        let names = json!({"type": "string", "enum": ["square", "portrait"]});
        let either = json!({"anyOf": [names, sides]});
        for schema in [
            json!({"anyOf": [names, sides, {"type": "null"}]}),
            json!({"anyOf": [either, {"type": "null"}]}),
        ] {
            let schema = json!({"properties": {"size": schema}});
            let only = |size: Value| {
                let mut found = problems(schema.clone(), json!({"size": size}));
                assert_eq!(found.len(), 1, "{found:?}");
                let FieldError { loc, msg, .. } = found.remove(0);
                (json!(loc), msg)
            };
            let (loc, message) = only(json!("large"));
            assert_eq!(loc, json!(["body", "size"]));
            assert_eq!(message, "expected one of square, portrait");
            let (loc, message) = only(json!({"width": 7}));
            assert_eq!(loc, json!(["body", "size", "width"]));
            assert!(message.contains('8'), "{message}");
            assert_eq!(only(json!({})).0, json!(["body", "size", "width"]));
            let (loc, message) = only(json!({"width": 8, "hight": 8}));
            assert_eq!(loc, json!(["body", "size", "hight"]));
            assert!(message.contains("known fields: width"), "{message}");
            assert_eq!(only(json!(7)).0, json!(["body", "size"]));
        }
    }

    #[test]
    fn a_wrapped_input_is_recognized() {
        let found = problems(picture(), json!({"input": {"prompt": "a"}}));
        assert_eq!(
            places(&found),
            [(json!(["body", "input"]), "extra_forbidden")]
        );
        assert!(found[0].msg.contains("send its content"), "{found:?}");
        let open = json!({"required": ["prompt"]});
        assert!(
            problems(open, json!({"input": {}}))[0]
                .msg
                .contains("send its content")
        );
        let declared = json!({"required": ["prompt"], "properties": {"input": {}}});
        let found = problems(declared, json!({"input": {}}));
        assert_eq!(places(&found), [(json!(["body", "prompt"]), "missing")]);
    }

    #[test]
    fn whole_numbers_with_a_point_are_integers() {
        let mut input = json!({"prompt": "a", "width": 64.0, "seed": 1e3});
        let schema = InputSchema::compile(picture()).unwrap();
        assert!(schema.check(&mut input).is_empty());
        assert_eq!(input, json!({"prompt": "a", "width": 64, "seed": 1000}));
    }

    #[test]
    fn an_answer_is_short_however_much_is_wrong() {
        let huge = "é".repeat(1 << 20);
        let lists = json!({
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "integer"}},
        });
        let many: serde_json::Map<String, Value> = (0..1000)
            .map(|at| (format!("{at}{huge}"), Value::Null))
            .collect();
        for (schema, input) in [
            (lists, json!({huge.as_str(): vec![huge.as_str(); 100]})),
            (
                picture(),
                Value::Object(many.into_iter().take(40).collect()),
            ),
        ] {
            let problems = problems(schema, input);
            assert_eq!(problems.len(), MAX_PROBLEMS);
            let answer = serde_json::to_string(&problems).unwrap();
            assert!(answer.len() < 64 * 1024, "{}", answer.len());
        }
    }

    #[test]
    fn each_path_has_its_own_schema_and_shares_the_components() {
        let schemas = InputSchemas::compile(json!({
            "required": ["prompt"],
            "components": {"schemas": {"Side": {"type": "integer"}}},
            "x-warmq-paths": {
                "edit/large": {"properties": {"side": {"$ref": "#/components/schemas/Side"}}},
            },
        }));
        let schemas = schemas.unwrap();
        let count = |path: &str, mut input: Value| schemas.check(path, &mut input).len();
        assert_eq!(count("", json!({})), 1);
        assert_eq!(count("/edit/large", json!({"side": "a"})), 1);
        assert_eq!(count("edit/large", json!({"side": 1.0})), 0);
        assert_eq!(count("unknown", json!({})), 0);
        let one = InputSchemas::compile(json!({"required": ["prompt"]})).unwrap();
        assert_eq!(one.check("edit", &mut json!({})).len(), 1);
    }

    #[test]
    fn a_schema_that_is_none_checks_nothing() {
        assert!(InputSchema::compile(json!({"type": "no such type"})).is_none());
    }
}
