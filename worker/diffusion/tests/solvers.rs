//! Pipelines with a UNet compute the same as Python's with each scheduler, for each task.
//! models/references/solvers.py wrote the references, with tiny networks. `--nocapture` prints the
//! distances, which docs/benchmarks/parity.md lists.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use support::keyed_model::{KeyedModel, references};
use support::reference::Reference;
use warmq_diffusion::{Mask, Picture, Pipeline, Request, Start};

/// Relative L2 distance of equal computations with different rounding.
const BOUND: f64 = 1e-5;

const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// The engine's name of each solver, and its settings.
type Solvers = BTreeMap<String, (String, Map<String, Value>)>;

fn reference() -> Reference {
    Reference::read(&references().join("solvers.safetensors"))
}

fn load(folder: &'static str, config: &Map<String, Value>) -> Pipeline {
    let model = KeyedModel::new(folder);
    for (key, value) in config {
        model.edit(SCHEDULER, key, value.clone());
    }
    model.load().unwrap()
}

/// A request with a picture and a mask, whose latents are given: their pixels are ignored.
fn request(reference: &Reference, scheduler: &str) -> Request {
    Request {
        image: Some(Picture {
            width: 1,
            height: 1,
            rgb: vec![0; 3],
        }),
        mask: Some(Mask {
            width: 1,
            height: 1,
            luma: vec![255],
        }),
        prompt: reference.fact("prompt").to_owned(),
        steps: reference.fact("steps").parse().ok(),
        guidance: reference.fact("guidance").parse().ok(),
        strength: reference.fact("strength").parse().ok(),
        seed: reference.fact("seed").parse().unwrap(),
        scheduler: Some(scheduler.to_owned()),
        ..Request::default()
    }
}

/// Compares all tasks that the reference has of a family.
fn agrees_with_python(family: &str, folder: &'static str) {
    let reference = reference();
    let stored = |name: &str| reference.tensors[name].shallow_clone();
    let solvers: Solvers = serde_json::from_str(reference.fact("solvers")).unwrap();
    let mut compared = 0;
    for (solver, (scheduler, config)) in &solvers {
        let name = |task: &str| format!("{family}/{solver}/{task}");
        let pipeline = load(folder, config);
        let tasks = ["text to image", "image to image", "inpainting"];
        for task in tasks {
            if !reference.tensors.contains_key(&name(task)) {
                continue;
            }
            let request = request(&reference, scheduler);
            let without_picture = Request {
                image: None,
                mask: None,
                ..request.clone()
            };
            let latents = if task == "text to image" {
                let prompts = pipeline.encode(&without_picture).unwrap();
                pipeline.denoise(&stored("noise"), &prompts, &without_picture)
            } else {
                let prompts = pipeline.encode(&request).unwrap();
                let start = Start {
                    latents: stored(&format!("{family}/encoded")),
                    mask: (task == "inpainting").then(|| stored("mask")),
                    masked: (family == "sd").then(|| stored("sd/masked")),
                };
                pipeline.redraw(&start, &stored("redraw_noise"), &prompts, &request)
            };
            reference.holds_within(&name(task), &latents.unwrap(), BOUND);
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared} references of {family}");
}

#[test]
fn sdxl_agrees_with_python_by_each_scheduler_for_each_task() {
    agrees_with_python("sdxl", "sdxl");
}

#[test]
fn inpainting_unets_agree_with_python_by_each_scheduler() {
    agrees_with_python("sd", "inpainting");
}
