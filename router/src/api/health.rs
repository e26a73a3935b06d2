//! Whether this router lives, and whether it can take jobs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Api;

pub(super) async fn alive() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

pub(super) async fn ready(State(api): State<Api>) -> (StatusCode, Json<Value>) {
    // Asking for its settings is asking whether it answers.
    let redis = api
        .store
        .weakness()
        .await
        .map_err(|error| error.to_string());
    let rabbitmq = api.publisher.channel().await.map(drop);
    let rabbitmq = rabbitmq.map_err(|error| error.to_string());
    let status = match (&redis, &rabbitmq) {
        (Ok(_), Ok(())) => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let warnings: Vec<String> = redis.iter().flatten().cloned().collect();
    let word = |server: Result<(), String>| server.map_or_else(Value::from, |()| "ok".into());
    let body =
        json!({"redis": word(redis.map(drop)), "rabbitmq": word(rabbitmq), "warnings": warnings});
    (status, Json(body))
}
