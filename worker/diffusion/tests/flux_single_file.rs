//! A single file of FLUX.1's transformer as published draws the same pictures as the folder in
//! diffusers' layout. models/references/flux_layout.py wrote the layout, by diffusers' conversion.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;
use support::copy;
use support::keyed_model::KeyedModel;
use tch::Tensor;
use warmq_diffusion::{Catalog, Device, Error, FlowShift, Picture, Pipeline, Request};

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";
const SHARED: [&str; 5] = [
    "tokenizer",
    "tokenizer_2",
    "text_encoder",
    "text_encoder_2",
    "vae",
];

type Named = Vec<(String, Tensor)>;

/// A model whose parts beside the transformer are in the models folder, too.
fn model() -> KeyedModel {
    let model = KeyedModel::new("flux");
    for part in SHARED {
        symlink(model.path(part), model.path(&format!("../{part}"))).unwrap();
    }
    model
}

/// The transformer's tensors under their published names.
fn published(model: &KeyedModel, prefix: &str) -> Named {
    let layout = fs::read(model.path("published.json")).unwrap();
    let layout: BTreeMap<String, Vec<(String, i64, i64)>> =
        serde_json::from_slice(&layout).unwrap();
    let tensors = Tensor::read_safetensors(model.path(TRANSFORMER)).unwrap();
    let tensors: BTreeMap<String, Tensor> = tensors.into_iter().collect();
    let joined = |parts: &[(String, i64, i64)]| {
        let parts: Vec<Tensor> = (parts.iter())
            .map(|(name, first, rows)| tensors[name].narrow(0, *first, *rows))
            .collect();
        Tensor::cat(&parts, 0)
    };
    let named = layout
        .iter()
        .map(|(name, parts)| (format!("{prefix}{name}"), joined(parts)));
    named.collect()
}

/// Writes a file beside the model's folder.
fn write(model: &KeyedModel, tensors: &Named) -> Catalog {
    Tensor::write_safetensors(tensors, model.path("../file.safetensors")).unwrap();
    Catalog::open(&model.path("..")).unwrap()
}

fn load(catalog: &Catalog) -> Result<Pipeline, Error> {
    Pipeline::load(&catalog.manifest("file")?, &Device::Cpu, &mut |_| {})
}

fn draw(pipeline: &Pipeline) -> Vec<Picture> {
    let request = Request {
        prompt: "a red circle on a blue background".to_owned(),
        width: Some(80),
        height: Some(64),
        steps: Some(2),
        seed: 7,
        ..Request::default()
    };
    pipeline.generate(&request, &mut ()).unwrap()
}

#[test]
fn a_file_with_and_without_a_prefix_draws_the_same_pictures_as_the_folder() {
    let model = model();
    let folder = model.load().unwrap();
    for prefix in ["", "model.diffusion_model."] {
        let catalog = write(&model, &published(&model, prefix));
        assert_eq!(catalog.names(), ["file", "flux"]);
        let (of_file, of_folder) = (
            catalog.manifest("file").unwrap(),
            catalog.manifest("flux").unwrap(),
        );
        assert_eq!(of_file.networks, of_folder.networks);
        assert_eq!(of_file.scheduler, of_folder.scheduler);
        assert_eq!(of_file.defaults, of_folder.defaults);
        let file = load(&catalog).unwrap();
        assert_eq!(file.memory_bytes(), folder.memory_bytes());
        assert!(draw(&file) == draw(&folder));
    }
}

#[test]
fn a_file_without_a_guidance_input_is_schnell() {
    let model = model();
    let mut tensors = published(&model, "");
    tensors.retain(|(name, _)| !name.starts_with("guidance_in"));
    let schnell = write(&model, &tensors).manifest("file").unwrap();
    assert_eq!(
        (schnell.defaults.steps, schnell.defaults.guidance),
        (4, 0.0)
    );
    let flow = schnell.scheduler.flow.unwrap();
    assert_eq!(flow.shift, FlowShift::Fixed(1.0));
    model.edit("transformer/config.json", "guidance_embeds", json!(false));
    assert_eq!(schnell.networks, model.manifest().unwrap().networks);
}

#[test]
fn configs_in_the_models_own_folder_precede_those_as_published() {
    let model = model();
    let catalog = write(&model, &published(&model, ""));
    copy(&model.path("scheduler"), &model.path("../file/scheduler"));
    let config = "../file/scheduler/scheduler_config.json";
    model.edit(config, "use_dynamic_shifting", json!(false));
    model.edit(config, "shift", json!(2.0));
    let scheduler = catalog.manifest("file").unwrap().scheduler;
    assert_eq!(scheduler.flow.unwrap().shift, FlowShift::Fixed(2.0));

    fs::create_dir(model.path("../file/transformer")).unwrap();
    let from = model.path("transformer/config.json");
    fs::copy(from, model.path("../file/transformer/config.json")).unwrap();
    load(&catalog).unwrap();
    model.edit("../file/transformer/config.json", "num_layers", json!(3));
    let error = load(&catalog).err().unwrap().to_string();
    assert!(error.contains("double_blocks.2"), "{error}");
}

#[test]
fn what_a_file_lacks_or_has_too_much_is_named() {
    let model = model();
    let refusal = |tensors: Named| {
        let Err(error) = load(&write(&model, &tensors)) else {
            panic!("the file is read");
        };
        error.to_string()
    };
    let with = |prefix: &str, name: &str| {
        let stray = (name.to_owned(), Tensor::from(0.0f32));
        let tensors = published(&model, prefix).into_iter();
        tensors.chain([stray]).collect::<Named>()
    };
    let without = |part: &str| {
        let mut tensors = published(&model, "");
        tensors.retain(|(name, _)| !name.contains(part));
        tensors
    };
    let clip = "text_encoders.clip_l.transformer.text_model.final_layer_norm.bias";
    for (tensors, reason) in [
        (with("model.diffusion_model.", clip), "save_pretrained"),
        (
            with("", "double_blocks.0.img_attn.qkv.weight.absmax"),
            "absmax",
        ),
        (without("img_in.weight"), "img_in.weight is missing"),
        (
            without("single_blocks.1.linear1.bias"),
            "single_blocks.1.linear1.bias",
        ),
        (
            without("double_blocks.1.txt_attn.qkv"),
            "double_blocks.1.txt_attn.qkv",
        ),
    ] {
        let message = refusal(tensors);
        assert!(message.contains(reason), "{reason}: {message}");
    }
    for part in ["vae", "text_encoder_2"] {
        fs::remove_file(model.path(&format!("../{part}"))).unwrap();
    }
    let message = refusal(published(&model, ""));
    assert!(
        message.contains("missing: text_encoder_2, vae") && message.contains("file/"),
        "{message}"
    );
}

#[test]
fn float8_is_refused_with_what_to_do() {
    let model = model();
    let number = [0x38];
    let scalar = TensorView::new(Dtype::F8_E4M3, vec![1], &number).unwrap();
    let tensors = [("double_blocks.0.img_attn.qkv.weight", scalar)];
    let path = model.path("../file.safetensors");
    safetensors::serialize_to_file(tensors, None, &path).unwrap();
    let catalog = Catalog::open(&model.path("..")).unwrap();
    let message = catalog.manifest("file").unwrap_err().to_string();
    for part in ["img_attn.qkv.weight", "F8_E4M3", "torch.bfloat16"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn the_stamp_of_a_file_changes_with_its_other_parts() {
    let model = model();
    let catalog = write(&model, &published(&model, ""));
    let stamp = || catalog.stamp("file").unwrap();
    let first = stamp();
    assert_eq!(first, stamp());
    model.edit("vae/config.json", "scaling_factor", json!(0.5));
    assert_ne!(first, stamp());
}
