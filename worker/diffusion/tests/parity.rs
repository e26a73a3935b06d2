//! The engine computes the same as Python's diffusers and transformers, stage by stage. The
//! reference numbers are stored beside the models; models/train/parity.py generated them, in single
//! precision.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use support::reference::Reference;
use support::{copy, load, models};
use tch::Tensor;
use warmq_diffusion::{Catalog, Device, Picture, Pipeline, Request};

fn stage_by_stage(model: &str) {
    let file = format!("scorers/parity_{model}.safetensors");
    let reference = Reference::read(&models().join(file));
    let pipeline = load(model);
    let prompt = reference.fact("prompt");

    let tokens = |prompt: &str| Tensor::from_slice(&pipeline.tokens(prompt).unwrap()).unsqueeze(0);
    assert_eq!(tokens(prompt), reference.tensors["tokens"]);
    assert_eq!(tokens(""), reference.tensors["empty_tokens"]);

    let request = request(&reference);
    let prompts = pipeline.encode(&request).unwrap();
    reference.holds("empty_text", &prompts.only(0).states);
    reference.holds("text", &prompts.only(1).states);

    let noise = &reference.tensors["initial_latent"];
    let timestep = reference.fact("timestep").parse().unwrap();
    reference.holds(
        "unet_output",
        &(pipeline.predict(noise, timestep, &prompts.only(1), 1.0)).unwrap(),
    );

    let latents = pipeline.denoise(noise, &prompts, &request).unwrap();
    reference.holds("final_latent", &latents);
    reference.holds("picture", &pipeline.decode(&latents).unwrap());

    let start = reference.tensors["picture"].clamp(-1.0, 1.0);
    let seed = reference.fact("encoding_seed").parse().unwrap();
    reference.holds("encoded", &pipeline.encode_picture(&start, seed).unwrap());
    let request = Request {
        // Latents and noise of the starting picture are given; its pixels are ignored.
        image: Some(Picture {
            width: 1,
            height: 1,
            rgb: vec![0; 3],
        }),
        strength: reference.fact("strength").parse().ok(),
        ..request
    };
    let (start, noise) = (reference.start(), &reference.tensors["redraw_noise"]);
    let redrawn = pipeline.redraw(&start, noise, &prompts, &request).unwrap();
    reference.holds("redrawn_latent", &redrawn);
}

fn request(reference: &Reference) -> Request {
    Request {
        prompt: reference.fact("prompt").to_owned(),
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
