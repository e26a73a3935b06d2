//! The engine computes the same as Python's diffusers and transformers, stage by stage. The
//! reference numbers are stored beside the models; models/train/parity.py generated them, in single
//! precision.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use support::{load, models};
use tch::{Kind, Tensor};
use warmq_diffusion::{Catalog, Device, Picture, Pipeline, Request};

/// Relative L2 distance of equal computations with different rounding.
const BOUND: f64 = 1e-5;

struct Reference {
    facts: HashMap<String, String>,
    tensors: HashMap<String, Tensor>,
}

impl Reference {
    fn read(model: &str) -> Reference {
        let path = models().join(format!("scorers/parity_{model}.safetensors"));
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::I64 => Kind::Int64,
                other => panic!("{name} is of type {other}"),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            (
                name.to_owned(),
                Tensor::from_data_size(view.data(), &shape, kind),
            )
        });
        Reference {
            tensors: tensors.collect(),
            facts: header.metadata().clone().unwrap(),
        }
    }

    fn fact(&self, name: &str) -> &str {
        &self.facts[name]
    }

    fn holds(&self, name: &str, ours: &Tensor) {
        let theirs = &self.tensors[name];
        assert_eq!(ours.size(), theirs.size(), "{name}");
        let distance = ((ours - theirs).norm() / theirs.norm()).double_value(&[]);
        println!("{} {name}: relative L2 {distance:.1e}", self.fact("model"));
        assert!(
            distance <= BOUND,
            "{name} is {distance:e} away from Python's"
        );
    }
}

fn stage_by_stage(model: &str) {
    let reference = Reference::read(model);
    let pipeline = load(model);
    let prompt = reference.fact("prompt");

    let tokens = |prompt: &str| Tensor::from_slice(&pipeline.tokens(prompt).unwrap()).unsqueeze(0);
    assert_eq!(tokens(prompt), reference.tensors["tokens"]);
    assert_eq!(tokens(""), reference.tensors["empty_tokens"]);

    let text = pipeline.encode_text(&["", prompt]).unwrap();
    reference.holds("empty_text", &text.narrow(0, 0, 1));
    reference.holds("text", &text.narrow(0, 1, 1));

    let noise = &reference.tensors["initial_latent"];
    let timestep = reference.fact("timestep").parse().unwrap();
    reference.holds(
        "unet_output",
        &pipeline
            .predict(noise, timestep, &text.narrow(0, 1, 1))
            .unwrap(),
    );

    let latents = denoised(&pipeline, &reference, noise, &text);
    reference.holds("final_latent", &latents);
    reference.holds("picture", &pipeline.decode(&latents).unwrap());

    let start = reference.tensors["picture"].clamp(-1.0, 1.0);
    let seed = reference.fact("encoding_seed").parse().unwrap();
    reference.holds("encoded", &pipeline.encode(&start, seed).unwrap());
    let request = Request {
        // Latents and noise of the starting picture are given; its pixels are ignored.
        image: Some(Picture {
            width: 1,
            height: 1,
            rgb: vec![0; 3],
        }),
        strength: reference.fact("strength").parse().ok(),
        ..request(&reference)
    };
    let (encoded, noise) = (
        &reference.tensors["encoded"],
        &reference.tensors["redraw_noise"],
    );
    let redrawn = pipeline.redraw(encoded, noise, &text, &request).unwrap();
    reference.holds("redrawn_latent", &redrawn);
}

fn denoised(pipeline: &Pipeline, reference: &Reference, noise: &Tensor, text: &Tensor) -> Tensor {
    pipeline.denoise(noise, text, &request(reference)).unwrap()
}

fn request(reference: &Reference) -> Request {
    Request {
        steps: reference.fact("steps").parse().ok(),
        guidance: reference.fact("guidance").parse().ok(),
        scheduler: Some(reference.fact("scheduler").to_owned()),
        ..Request::default()
    }
}

#[test]
fn shapes_agrees_with_python() {
    stage_by_stage("shapes");
}

#[test]
fn digits_agrees_with_python() {
    stage_by_stage("digits");
}

/// Without a manifest the same values are derived from Hugging Face's configs.
#[test]
fn a_bare_hugging_face_folder_draws_the_same_picture() {
    let with_manifest = load("shapes");
    let bare = tempfile::tempdir().unwrap();
    copy(&models().join("shapes"), &bare.path().join("shapes"));
    fs::remove_file(bare.path().join("shapes/manifest.json")).unwrap();
    let manifest = Catalog::open(bare.path())
        .unwrap()
        .manifest("shapes")
        .unwrap();
    let bare = Pipeline::load(&manifest, &Device::Cpu, &mut |_| {}).unwrap();
    let request = Request {
        prompt: "a green star on a white background".to_owned(),
        steps: Some(10),
        guidance: Some(2.5),
        ..Request::default()
    };
    let [one, other] =
        [with_manifest, bare].map(|model| model.generate(&request, &mut ()).unwrap());
    assert!(one == other);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)
        } else {
            fs::copy(from, to).map(drop).unwrap()
        }
    }
}
