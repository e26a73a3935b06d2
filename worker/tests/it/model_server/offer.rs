//! What a server lists: the models that it can load, and the inputs that it takes.

use std::time::Duration;

use serde_json::json;
use warmq_types::hint::Hint;
use warmq_worker::context::Intervals;

use super::stub::Stub;
use super::{Scene, config, running};
use crate::harness::World;

fn hints(names: &[&str]) -> Vec<Hint> {
    names
        .iter()
        .map(|name| Hint::parse(name).unwrap())
        .collect()
}

/// Waits until the app's models are these; `None`: any.
async fn until_models(world: &World, expected: Option<&[&str]>) {
    let published = world.testbed.store().published();
    let expected = expected.map(|names| hints(names).into_iter().collect());
    world
        .until("the models are registered", async || {
            let models = published.all_models(&world.app).await.unwrap();
            (models == expected && world.runner("a").await?.idle).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lists_no_models_may_load_any() {
    let scene = Scene::new().await;
    until_models(&scene.world, None).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listed_models_are_the_catalog_which_follows_the_list() {
    let world = World::new().await;
    let stub = Stub::start().await;
    *stub.behaviour.models.lock().unwrap() = Some(json!(["sdxl", "flux-dev"]));
    let intervals = Intervals {
        model_check: Duration::from_millis(100),
        ..Intervals::default()
    };
    let worker = world
        .worker_with(intervals, config(&world, running(&stub)))
        .await;
    until_models(&world, Some(&["flux-dev", "sdxl"])).await;
    *stub.behaviour.models.lock().unwrap() = Some(json!(["sdxl", "flux-dev", "flux-schnell"]));
    until_models(&world, Some(&["flux-dev", "flux-schnell", "sdxl"])).await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_serves_only_the_selected_models_of_the_list() {
    let world = World::new().await;
    let stub = Stub::start().await;
    *stub.behaviour.models.lock().unwrap() = Some(json!(["sdxl", "flux-dev"]));
    let mut config = config(&world, running(&stub));
    config.engine.only = "flux*".parse().unwrap();
    let intervals = Intervals {
        model_check: Duration::from_millis(100),
        ..Intervals::default()
    };
    let worker = world.worker_with(intervals, config).await;
    until_models(&world, Some(&["flux-dev"])).await;
    *stub.behaviour.models.lock().unwrap() = Some(json!(["sdxl"]));
    world
        .until("it is faulty without any of them", async || {
            let fault = world.runner("a").await?.fault?;
            fault
                .contains("no model that this worker serves")
                .then_some(())
        })
        .await;
    world.end([worker]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inputs_of_its_paths_are_published() {
    let world = World::new().await;
    let stub = Stub::start().await;
    let body = |schema| json!({"post": {"requestBody": {"content": {"application/json": {"schema": schema}}}}});
    *stub.behaviour.openapi.lock().unwrap() = Some(json!({
        "paths": {"/": body(json!({"required": ["prompt"]})), "/edit": body(json!({}))},
    }));
    let config = config(&world, running(&stub));
    let worker = world.worker_with(Intervals::default(), config).await;
    let schema = world.testbed.store().published().schema(&world.app).await;
    let expected = json!({"required": ["prompt"], "x-warmq-paths": {"edit": {}}});
    assert_eq!(schema.unwrap(), Some(expected));
    world.end([worker]).await;
}
