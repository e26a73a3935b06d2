//! The apps' own paths: `POST /queue/owner/app` and `POST /run/owner/app` with the schema of the
//! app's input. They are the general ones, completed for the app.

use serde_json::{Value, json};
use warmq_types::ids::AppId;

/// Calls that can follow a submission, by their operation ids: each takes the app and the job's id.
const FOLLOWING: [&str; 4] = ["status", "follow", "result", "cancel"];

/// Adds an app's paths to a document. `schema`: of its input.
pub(super) fn add(document: &mut Value, app: &AppId, mut schema: Value) {
    // No app's name has a dot, and a component's name no slash.
    let name = app.as_str().replace('/', ".");
    let reference = format!("#/components/schemas/{name}");
    move_to(&reference, &mut schema);
    for call in ["queue", "run"] {
        let general = format!("/paths/~1{call}~1{{owner}}~1{{app}}/post");
        let Some(mut operation) = document.pointer(&general).cloned() else {
            continue;
        };
        operation["operationId"] = format!("{call}.{name}").into();
        operation["summary"] = format!(
            "{app}: {}",
            operation["summary"].as_str().unwrap_or_default()
        )
        .into();
        operation["tags"] = json!([app]);
        if let Some(parameters) = operation["parameters"].as_array_mut() {
            parameters.retain(|parameter| parameter["in"] != "path");
        }
        let body = &mut operation["requestBody"];
        body["content"]["application/json"]["schema"] = json!({"$ref": reference});
        body["required"] = schema["required"].is_array().into();
        if call == "queue" {
            operation["responses"]["200"]["links"] = links(app);
        }
        document["paths"][format!("/{call}/{app}")] = json!({"post": operation});
    }
    document["components"]["schemas"][name] = schema;
}

/// Returns the OpenAPI links from a submission to the calls about its job.
fn links(app: &AppId) -> Value {
    let (owner, name) = app.as_str().split_once('/').unwrap_or_default();
    let id = "$response.body#/request_id";
    let links = FOLLOWING.map(|operation| {
        let parameters = json!({"owner": owner, "app": name, "id": id});
        let link = json!({"operationId": operation, "parameters": parameters});
        (operation.to_owned(), link)
    });
    let record = json!({"operationId": "job", "parameters": {"id": id}});
    let links = links.into_iter().chain([("job".to_owned(), record)]);
    Value::Object(links.collect())
}

/// Moves a schema to `place` in a document: prefixes its references to its own parts (`#/$defs/…`).
fn move_to(place: &str, schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(|item| move_to(place, item)),
        Value::Object(fields) => {
            // The document has one of its own.
            fields.remove("$schema");
            for (key, field) in fields {
                match field {
                    Value::String(target) if key == "$ref" => {
                        if let Some(part) = target.strip_prefix('#') {
                            *target = format!("{place}{part}");
                        }
                    }
                    field => move_to(place, field),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_paths_of_its_own_with_its_schema() {
        let general = json!({"post": {
            "operationId": "submit",
            "summary": "Submits a job.",
            "parameters": [{"in": "path", "name": "owner"}, {"in": "header", "name": "x-fal-runner-hint"}],
            "requestBody": {"content": {"application/json": {"schema": {}}}},
            "responses": {"200": {"description": "accepted"}},
        }});
        let mut document = json!({
            "paths": {"/queue/{owner}/{app}": general.clone()},
            "components": {"schemas": {}},
        });
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "required": ["size"],
            "properties": {"size": {"$ref": "#/$defs/Size"}},
            "$defs": {"Size": {"type": "integer"}},
        });
        add(&mut document, &AppId::parse("a/b").unwrap(), schema);
        assert_eq!(document["paths"]["/queue/{owner}/{app}"], general);
        let own = &document["paths"]["/queue/a/b"]["post"];
        assert_eq!(own["operationId"], "queue.a.b");
        assert_eq!(own["tags"], json!(["a/b"]));
        assert_eq!(
            own["parameters"],
            json!([{"in": "header", "name": "x-fal-runner-hint"}])
        );
        assert_eq!(own["requestBody"]["required"], true);
        let links = &own["responses"]["200"]["links"];
        assert_eq!(links["cancel"]["parameters"]["owner"], "a");
        let reference =
            own["requestBody"]["content"]["application/json"]["schema"]["$ref"].as_str();
        assert_eq!(reference, Some("#/components/schemas/a.b"));
        let schema = &document["components"]["schemas"]["a.b"];
        assert_eq!(schema["$schema"], Value::Null);
        let part = schema["properties"]["size"]["$ref"].as_str().unwrap();
        assert_eq!(
            document.pointer(part.trim_start_matches('#')),
            Some(&json!({"type": "integer"}))
        );
    }
}
