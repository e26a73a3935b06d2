//! Servers that speak the APIs of other model servers and draw nothing.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, Query, State};
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// A running stand-in.
pub struct StandIn {
    pub url: String,
    task: JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn picture(text: &str) -> String {
    STANDARD.encode(format!("PNG of {text}"))
}

type Checkpoint = Arc<Mutex<String>>;

impl StandIn {
    async fn serve(routes: Router) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            task: tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }),
        }
    }

    /// Automatic1111's web UI: `/sdapi/v1`.
    pub async fn a1111() -> Self {
        async fn txt2img(State(loaded): State<Checkpoint>, Json(job): Json<Value>) -> Json<Value> {
            let mut loaded = loaded.lock().unwrap();
            if let Some(wanted) = job["override_settings"]["sd_model_checkpoint"].as_str() {
                wanted.clone_into(&mut loaded);
            }
            let one = picture(&format!("{loaded}: {}", job["prompt"].as_str().unwrap()));
            let count = job["batch_size"].as_u64().unwrap_or(1);
            let images = vec![one; usize::try_from(count).unwrap()];
            Json(json!({"images": images, "parameters": {}, "info": "{}"}))
        }
        async fn options(State(loaded): State<Checkpoint>) -> Json<Value> {
            Json(json!({"sd_model_checkpoint": *loaded.lock().unwrap()}))
        }
        let routes = Router::new()
            .route("/sdapi/v1/txt2img", post(txt2img))
            .route("/sdapi/v1/options", get(options))
            .with_state(Arc::new(Mutex::new("v1-5".to_owned())));
        Self::serve(routes).await
    }

    /// OpenAI's images API, and `/broken`, which responds with a page.
    pub async fn openai() -> Self {
        async fn generate(Json(job): Json<Value>) -> Json<Value> {
            let text = |field: &str| job[field].as_str().unwrap_or("none").to_owned();
            let drawn = format!("{}: {}, {}", text("model"), text("prompt"), text("size"));
            let item = json!({"b64_json": picture(&drawn)});
            let count = usize::try_from(job["n"].as_u64().unwrap_or(1)).unwrap();
            Json(json!({"created": 1, "data": vec![item; count]}))
        }
        let routes = Router::new()
            .route("/v1/images/generations", post(generate))
            .route("/v1/models", get(async || Json(json!({"data": []}))))
            .route("/broken", post(async || Html("<p>a page</p>")));
        Self::serve(routes).await
    }

    /// ComfyUI: the queue of prompts, its history, and the files.
    pub async fn comfyui() -> Self {
        type Prompts = Arc<Mutex<Vec<Value>>>;
        async fn prompt(State(prompts): State<Prompts>, Json(body): Json<Value>) -> Json<Value> {
            let mut prompts = prompts.lock().unwrap();
            prompts.push(body["prompt"].clone());
            Json(json!({"prompt_id": (prompts.len() - 1).to_string(), "number": 1}))
        }
        async fn history(State(prompts): State<Prompts>, Path(id): Path<String>) -> Json<Value> {
            let prompts = prompts.lock().unwrap();
            let workflow = &prompts[id.parse::<usize>().unwrap()];
            let outcome = match workflow["6"]["inputs"]["text"].as_str() {
                Some("fail") => json!({
                    "outputs": {},
                    "status": {"status_str": "error", "messages": [["execution_error", "out of memory"]]},
                }),
                _ => json!({
                    "outputs": {"9": {"images": [
                        {"filename": format!("{id}.png"), "subfolder": "", "type": "output"},
                    ]}},
                    "status": {"status_str": "success", "completed": true, "messages": []},
                }),
            };
            Json(json!({id: outcome}))
        }
        async fn view(State(prompts): State<Prompts>, Query(file): Query<Value>) -> String {
            let name = file["filename"].as_str().unwrap();
            let index = name.strip_suffix(".png").unwrap().parse::<usize>().unwrap();
            let workflow = &prompts.lock().unwrap()[index];
            let input = |node: &str, name: &str| workflow[node]["inputs"][name].clone();
            let (model, text, seed) = (
                input("4", "ckpt_name"),
                input("6", "text"),
                input("3", "seed"),
            );
            let text = format!("{}: {}", model.as_str().unwrap(), text.as_str().unwrap());
            format!("PNG of {text}, seed {seed}")
        }
        let routes = Router::new()
            .route("/prompt", post(prompt))
            .route("/history/{id}", get(history))
            .route("/view", get(view))
            .route("/system_stats", get(async || Json(json!({"system": {}}))))
            .with_state(Prompts::default());
        Self::serve(routes).await
    }
}
