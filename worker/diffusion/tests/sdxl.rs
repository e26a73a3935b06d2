//! Stable Diffusion XL computes the same as Python's diffusers and transformers, stage by stage.
//! models/references/sdxl.py wrote the references, with tiny networks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use support::keyed_model::{KeyedModel, references, tensor};
use support::reference::Reference;
use tch::Tensor;
use warmq_diffusion::{Error, Lora, Picture, Request};

const UNET: &str = "unet/config.json";
const INDEX: &str = "model_index.json";

fn reference() -> Reference {
    Reference::read(&references().join("sdxl.safetensors"))
}

fn request(reference: &Reference) -> Request {
    Request {
        prompt: reference.fact("prompt").to_owned(),
        steps: reference.fact("steps").parse().ok(),
        guidance: reference.fact("guidance").parse().ok(),
        ..Request::default()
    }
}

#[test]
fn every_stage_agrees_with_python() {
    let reference = reference();
    let pipeline = KeyedModel::new("sdxl").load().unwrap();
    let request = request(&reference);
    let prompts = pipeline.encode(&request).unwrap();
    let prompt = prompts.only(1);
    reference.holds("states", &prompt.states);
    reference.holds("pooled", prompt.pooled.as_ref().unwrap());
    let noise = &reference.tensors["noise"];
    let timestep = reference.fact("timestep").parse().unwrap();
    let prediction = pipeline.predict(noise, timestep, &prompt, 1.0).unwrap();
    reference.holds("prediction", &prediction);

    let latents = pipeline.denoise(noise, &prompts, &request).unwrap();
    reference.holds("latents", &latents);
    reference.holds("picture", &pipeline.decode(&latents).unwrap());
    for (name, request) in [
        (
            "latents_negative",
            Request {
                negative_prompt: Some(reference.fact("negative_prompt").to_owned()),
                ..request.clone()
            },
        ),
        (
            "latents_unguided",
            Request {
                guidance: Some(0.0),
                ..request
            },
        ),
    ] {
        let prompts = pipeline.encode(&request).unwrap();
        let latents = pipeline.denoise(noise, &prompts, &request).unwrap();
        reference.holds(name, &latents);
    }
}

#[test]
fn a_picture_is_redrawn_as_in_python() {
    let reference = reference();
    let pipeline = KeyedModel::new("sdxl").load().unwrap();
    let noise = &reference.tensors["noise"];
    let (height, width) = (noise.size()[2] * 8, noise.size()[3] * 8);
    let start = tensor("picture", &[1, 3, height, width]).clamp(-1.0, 1.0);
    let seed = reference.fact("encoding_seed").parse().unwrap();
    let encoded = pipeline.encode_picture(&start, seed).unwrap();
    reference.holds("encoded", &encoded);
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
    let prompts = pipeline.encode(&request).unwrap();
    let (start, noise) = (reference.start(), &reference.tensors["redraw_noise"]);
    let redrawn = pipeline.redraw(&start, noise, &prompts, &request).unwrap();
    reference.holds("redrawn", &redrawn);
}

#[test]
fn loras_of_both_kinds_of_files_agree_with_python_for_their_request_only() {
    let reference = reference();
    let pipeline = KeyedModel::new("sdxl").load().unwrap();
    let noise = &reference.tensors["noise"];
    let denoised = |request: &Request| {
        let _attached = pipeline.attach(request).unwrap();
        let prompts = pipeline.encode(request).unwrap();
        pipeline.denoise(noise, &prompts, request).unwrap()
    };
    let plain = request(&reference);
    let with = |kind: &str| Request {
        loras: vec![Lora::new(
            references().join(format!("lora_{kind}.safetensors")),
            reference.fact("lora_scale").parse().unwrap(),
        )],
        ..plain.clone()
    };
    for kind in ["peft", "kohya", "peft"] {
        reference.holds(&format!("lora_{kind}"), &denoised(&with(kind)));
    }
    reference.holds("latents", &denoised(&plain));
}

#[test]
fn a_lora_that_does_not_fit_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lora.safetensors");
    let pipeline = KeyedModel::new("sdxl").load().unwrap();
    let query = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q";
    let refusal = |tensors: &[(String, Vec<i64>)]| {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (tch::Kind::Float, tch::Device::Cpu));
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| (name, zeros(shape)))
            .collect();
        Tensor::write_safetensors(&tensors, &path).unwrap();
        let request = Request {
            loras: vec![Lora::new(path.clone(), 1.0)],
            ..request(&reference())
        };
        let error = pipeline.generate(&request, &mut ()).unwrap_err();
        assert!(matches!(
            error,
            Error::InvalidRequest { field: "loras", .. }
        ));
        error.to_string()
    };
    let pair = |layer: &str, down: &[i64], up: &[i64]| {
        [("A", down), ("B", up)]
            .map(|(end, shape)| (format!("{layer}.lora_{end}.weight"), shape.to_vec()))
    };
    for (tensors, reason) in [
        (
            pair("unet.no_such_layer", &[2, 64], &[64, 2]).to_vec(),
            "another model",
        ),
        (pair(query, &[2, 32], &[64, 2]).to_vec(), "do not fit"),
        (pair(query, &[2, 64], &[64, 3]).to_vec(), "do not fit"),
        (pair(query, &[2, 64], &[64, 2])[..1].to_vec(), "missing"),
        (
            vec![(format!("{query}.hada_w1_a"), vec![2, 2])],
            "LoHa is not supported",
        ),
        (
            vec![(format!("{query}.lokr_w1"), vec![2, 2])],
            "LoKr is not supported",
        ),
        (
            vec![(format!("{query}.dora_scale"), vec![64, 1])],
            "DoRA is not supported",
        ),
    ] {
        let message = refusal(&tensors);
        assert!(message.contains(reason), "{message}");
    }
    let missing = Request {
        loras: vec![Lora::new(folder.path().join("missing.safetensors"), 1.0)],
        ..Request::default()
    };
    assert!(pipeline.generate(&missing, &mut ()).is_err());
}

#[test]
fn without_a_negative_prompt_the_index_decides_between_zeros_and_an_empty_prompt() {
    let reference = reference();
    let model = KeyedModel::new("sdxl");
    let negative = |text: Option<&str>| {
        let request = Request {
            negative_prompt: text.map(str::to_owned),
            ..request(&reference)
        };
        model.load().unwrap().encode(&request).unwrap().only(0)
    };
    let size = |tensor: &Tensor| tensor.norm().double_value(&[]);
    assert_eq!(size(&negative(None).states), 0.0);
    assert_eq!(size(&negative(None).pooled.unwrap()), 0.0);
    let empty = negative(Some("")).states;
    assert!(size(&empty) > 0.0);
    model.edit(INDEX, "force_zeros_for_empty_prompt", json!(false));
    assert!(size(&(negative(None).states - empty)) < 1e-5);
}

#[test]
fn a_model_of_another_shape_is_refused_by_the_name_of_the_setting() {
    for (file, key, value) in [
        (INDEX, "requires_aesthetics_score", json!(true)),
        (INDEX, "_class_name", json!("StableDiffusion3Pipeline")),
        (UNET, "addition_embed_type", json!("text_image")),
        (UNET, "transformer_layers_per_block", json!([1, 2])),
        (
            UNET,
            "transformer_layers_per_block",
            json!([[1], [2, 2], 3]),
        ),
        (UNET, "projection_class_embeddings_input_dim", json!(100)),
        ("text_encoder_2/config.json", "layer_norm_eps", json!(1e-3)),
    ] {
        let model = KeyedModel::new("sdxl");
        model.edit(file, key, value);
        let Err(error) = model.load() else {
            panic!("{key} has no effect");
        };
        println!("{error}");
    }
}

/// Large models are stored in several files.
#[test]
fn weights_in_several_files_are_read_by_their_index() {
    let model = KeyedModel::new("sdxl");
    let whole = model.load().unwrap();
    let stem = "unet/diffusion_pytorch_model";
    let single = model.path(&format!("{stem}.safetensors"));
    let tensors = Tensor::read_safetensors(&single).unwrap();
    let mut weight_map: BTreeMap<&str, Value> = BTreeMap::new();
    let name = |part: usize| format!("diffusion_pytorch_model-0000{part}-of-00002.safetensors");
    for part in 1..=2 {
        let half: Vec<_> = (tensors.iter().enumerate())
            .filter(|(index, _)| index % 2 == part - 1)
            .map(|(_, (name, tensor))| (name.as_str(), tensor.shallow_clone()))
            .collect();
        weight_map.extend(half.iter().map(|(tensor, _)| (*tensor, json!(name(part)))));
        Tensor::write_safetensors(&half, model.path(&format!("unet/{}", name(part)))).unwrap();
    }
    fs::remove_file(single).unwrap();
    let index = model.path(&format!("{stem}.safetensors.index.json"));
    fs::write(index, json!({"weight_map": weight_map}).to_string()).unwrap();

    let split = model.load().unwrap();
    assert_eq!(split.memory_bytes(), whole.memory_bytes());
    let request = request(&reference());
    let [one, other] = [whole, split].map(|model| model.generate(&request, &mut ()).unwrap());
    assert!(one == other);

    fs::remove_file(model.path(&format!("unet/{}", name(2)))).unwrap();
    let Err(error) = model.load() else {
        panic!("half of the weights are missing");
    };
    assert!(error.to_string().contains(&name(2)), "{error}");
}
