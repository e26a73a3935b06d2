//! What a server lists about itself: the models that it can load, and the inputs that its paths
//! take. Pure.

use serde_json::{Map, Value, json};
use warmq_types::hint::Hint;
use warmq_types::input_schema::PATHS_KEYWORD;

/// Size limit of what a server lists, bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Number of models that are read at most; further ones are ignored.
const MAX_MODELS: usize = 4096;

/// What a server lists.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Offer {
    /// Names of models, sorted; `None` if it lists none, and so may load any.
    pub(super) models: Option<Vec<String>>,
    /// JSON Schema of the inputs; `{}` for any.
    pub(super) input_schema: Value,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            models: None,
            input_schema: json!({}),
        }
    }
}

/// Parses the response to `GET /models`: a JSON list of names. `None` if it is anything else.
pub(super) fn models(body: &[u8]) -> Option<Vec<String>> {
    let mut names: Vec<String> = serde_json::from_slice(body).ok()?;
    names.retain(|name| Hint::parse(name).is_ok());
    names.sort();
    names.dedup();
    names.truncate(MAX_MODELS);
    Some(names)
}

/// Returns the schema of the inputs that an OpenAPI 3.1 document describes: of `default_path` at
/// the root, of the other paths under [`PATHS_KEYWORD`]; `{}` if there are none.
pub(super) fn input_schema(document: &Value, default_path: &str) -> Value {
    let paths = document["paths"].as_object();
    let bodies = paths.into_iter().flatten().filter_map(|(path, methods)| {
        let schema = methods.pointer("/post/requestBody/content/application~1json/schema")?;
        let path = path.strip_prefix('/')?;
        Some((path.to_owned(), resolved(document, schema)))
    });
    let mut bodies: Map<String, Value> = bodies.collect();
    if bodies.is_empty() {
        return json!({});
    }
    let mut root = bodies.remove(default_path).unwrap_or_else(|| json!({}));
    if let Some(components) = document.get("components") {
        root["components"] = components.clone();
    }
    root[PATHS_KEYWORD] = bodies.into();
    root
}

/// Returns the schema itself in place of a reference to it.
fn resolved(document: &Value, schema: &Value) -> Value {
    let target = schema["$ref"].as_str();
    let target = target.and_then(|target| document.pointer(target.strip_prefix('#')?));
    match target.unwrap_or(schema) {
        schema @ Value::Object(_) => schema.clone(),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_a_list_of_names() {
        let names = |text: &str| models(text.as_bytes());
        let listed = names(r#"["b", "a", "b", ""]"#).unwrap();
        assert_eq!(listed, ["a", "b"]);
        assert_eq!(names("[]"), Some(Vec::new()));
        for other in [r#"{"data": []}"#, "[1]", "<html>", ""] {
            assert_eq!(names(other), None, "{other}");
        }
    }

    fn body(schema: Value) -> Value {
        json!({"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}})
    }

    #[test]
    fn each_path_has_the_schema_of_its_body() {
        let input = json!({"type": "object", "required": ["prompt"]});
        let document = json!({
            "paths": {
                "/": body(json!({"$ref": "#/components/schemas/Input"})),
                "/edit": body(json!({"type": "object"})),
                "/health": {"get": {}},
            },
            "components": {"schemas": {"Input": input}},
        });
        let schema = input_schema(&document, "");
        assert_eq!(schema["required"], json!(["prompt"]));
        assert_eq!(schema["components"]["schemas"]["Input"], input);
        assert_eq!(schema[PATHS_KEYWORD], json!({"edit": {"type": "object"}}));
        let schema = input_schema(&document, "generate");
        assert_eq!(schema["required"], Value::Null);
        assert_eq!(schema[PATHS_KEYWORD][""], input);
    }

    #[test]
    fn a_document_without_bodies_describes_no_input() {
        for document in [json!({}), json!([]), json!({"paths": {"/": {"get": {}}}})] {
            assert_eq!(input_schema(&document, ""), json!({}));
        }
    }
}
