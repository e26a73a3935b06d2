//! `/openapi.json` is accurate, `/docs` shows it, and neither loads anything from other hosts.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use warmq_tests::System;
use warmq_tests::fuzz::Fuzz;
use warmq_tests::system::TIMED;

/// `make fuzz` sends many more.
#[tokio::test]
async fn every_response_is_as_documented() {
    let fuzz = Fuzz {
        examples: 3,
        seed: 1,
        bound: Duration::from_secs(150),
    };
    let report = fuzz.run().await.unwrap();
    assert!(report.holds, "{}", report.text);
    assert!(report.cases > 500, "{}", report.text);
    println!("{}", report.text);
}

#[tokio::test]
async fn each_app_is_documented_with_the_input_that_its_workers_take() {
    let system = System::start().await;
    let before = system.get("/openapi.json").await.body;
    assert_eq!(before["openapi"], "3.1.0");
    assert!(before["paths"]["/queue/{owner}/{app}"]["post"].is_object());
    let _worker = system.timed_worker("a").await;
    let document = system.get("/openapi.json").await.body;
    for call in ["queue", "run"] {
        let operation = &document["paths"][format!("/{call}/{TIMED}")]["post"];
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let pointer = schema.as_str().unwrap().strip_prefix('#').unwrap();
        let schema = document.pointer(pointer).unwrap();
        assert_eq!(schema["properties"]["run_ms"]["default"], 100, "{schema}");
    }
    system.cleanup().await;
}

/// Returns the values of every `key` in `value`, at any depth.
fn all<'a>(key: &str, value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| all(key, item, found)),
        Value::Object(fields) => {
            found.extend(fields.get(key).and_then(Value::as_str));
            fields.values().for_each(|field| all(key, field, found));
        }
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_in_the_openapi_document_resolves() {
    let system = System::start().await;
    let _worker = system.timed_worker("a").await;
    let document = system.get("/openapi.json").await.body;
    let mut references = Vec::new();
    all("$ref", &document, &mut references);
    assert!(references.len() > 50, "{}", references.len());
    for reference in references {
        let found = reference
            .strip_prefix('#')
            .and_then(|path| document.pointer(path));
        assert!(found.is_some(), "{reference}");
    }
    // Links name operations by their unique ids.
    let (mut ids, mut operations) = (Vec::new(), Vec::new());
    for item in document["paths"].as_object().unwrap().values() {
        operations.extend(item.as_object().unwrap().values());
    }
    for operation in &operations {
        ids.extend(operation["operationId"].as_str());
    }
    assert_eq!(ids.len(), operations.len());
    let names: BTreeSet<&str> = ids.iter().copied().collect();
    assert_eq!(names.len(), ids.len(), "{ids:?}");
    let (mut named, links) = (
        Vec::new(),
        &document["paths"][format!("/queue/{TIMED}")]["post"]["responses"]["200"]["links"],
    );
    all("operationId", links, &mut named);
    assert_eq!(named.len(), 5, "{links}");
    assert!(named.iter().all(|name| names.contains(name)), "{named:?}");
    system.cleanup().await;
}

#[tokio::test]
async fn the_docs_page_loads_only_from_its_router() {
    let system = System::start().await;
    for path in ["/docs", "/docs/"] {
        let page = system.get(path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        assert_eq!(page.headers["content-type"], "text/html");
        let policy = page.headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
        let html = String::from_utf8(page.bytes).unwrap();
        let parts = html
            .split('"')
            .filter(|text| text.ends_with(".js") || text.ends_with(".css"));
        let parts: Vec<&str> = parts.collect();
        assert!(parts.len() > 3, "{html}");
        for part in parts {
            let found = system
                .get(&format!("/docs/{}", part.trim_start_matches("./")))
                .await;
            assert_eq!(found.status, StatusCode::OK, "{part}");
        }
    }
    let start = system.get("/docs/swagger-initializer.js").await;
    let start = String::from_utf8(start.bytes).unwrap();
    assert!(start.contains("\"../openapi.json\""), "{start}");
    assert!(start.contains("\"validatorUrl\": \"none\""), "{start}");
    // Relative, so that links work below any path of a proxy.
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let client = client.build().unwrap();
    let answer = client
        .get(format!("{}/docs", system.router.url()))
        .send()
        .await;
    assert_eq!(answer.unwrap().headers()["location"], "docs/index.html");
    let below = "https://example.com/warmq";
    let router = system
        .testbed
        .router(&["--public-url", below])
        .await
        .unwrap();
    let document = client
        .get(format!("{}/openapi.json", router.url()))
        .send()
        .await;
    let document: Value = document.unwrap().json().await.unwrap();
    assert_eq!(document["servers"], json!([{"url": below}]));
    let missing = system.get("/docs/no-such-page.html").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    assert_eq!(missing.body["error_type"], "not_found");
    system.cleanup().await;
}
