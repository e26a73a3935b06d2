//! Single files in the original layout draw the same pictures as the folders in diffusers' layout.
//! The original names here are written down from diffusers' `single_file_utils.py`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;

use serde_json::{Value, json};
use support::copy;
use support::keyed_model::KeyedModel;
use tch::{Kind, Tensor};
use warmq_diffusion::{
    Catalog, Device, Error, Mask, Picture, Pipeline, PredictionType, Request, SchedulerKind,
};

type Named = Vec<(String, Tensor)>;

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";
const TEXT: &str = "text_encoder/model.safetensors";
const TEXT_2: &str = "text_encoder_2/model.safetensors";

/// The settings that a file does not contain, with the values that its reader assumes.
fn model(name: &'static str, edits: &[(&str, &str, Value)]) -> KeyedModel {
    let model = KeyedModel::new(name);
    for (file, key, value) in edits {
        model.edit(file, key, value.clone());
    }
    copy(&model.path("tokenizer"), &model.path("../tokenizer"));
    model
}

fn sdxl() -> KeyedModel {
    let edits = [
        ("unet/config.json", "attention_head_dim", json!([1, 1, 1])),
        ("unet/config.json", "sample_size", json!(128)),
        ("text_encoder/config.json", "num_attention_heads", json!(1)),
        (
            "text_encoder_2/config.json",
            "num_attention_heads",
            json!(1),
        ),
        ("vae/config.json", "norm_num_groups", json!(8)),
    ];
    model("sdxl", &edits)
}

fn inpainting() -> KeyedModel {
    let scheduler = "scheduler/scheduler_config.json";
    let edits = [
        ("unet/config.json", "attention_head_dim", json!(8)),
        ("unet/config.json", "sample_size", json!(64)),
        ("text_encoder/config.json", "num_attention_heads", json!(1)),
        ("vae/config.json", "norm_num_groups", json!(8)),
        ("vae/config.json", "scaling_factor", json!(0.18215)),
        (
            "model_index.json",
            "scheduler",
            json!(["diffusers", "PNDMScheduler"]),
        ),
        (scheduler, "skip_prk_steps", json!(true)),
        (scheduler, "set_alpha_to_one", json!(false)),
        (scheduler, "timestep_spacing", json!("leading")),
    ];
    model("inpainting", &edits)
}

fn tensors(model: &KeyedModel, file: &str) -> Named {
    Tensor::read_safetensors(model.path(file)).unwrap()
}

fn replaced(name: &str, table: &[(&str, &str)]) -> String {
    let replace = |name: String, (from, to): &(&str, &str)| name.replace(from, to);
    table.iter().fold(name.to_owned(), replace)
}

/// Original names of a UNet with two layers in each block.
fn unet(model: &KeyedModel) -> Named {
    let tensors = tensors(model, UNET);
    let has = |part: &str| tensors.iter().any(|(name, _)| name.starts_with(part));
    let mut blocks = Vec::new();
    for block in 0..4 {
        for layer in 0..3 {
            let at = 3 * block + layer;
            for (kind, place) in [("resnets", 0), ("attentions", 1)] {
                blocks.push((
                    format!("down_blocks.{block}.{kind}.{layer}."),
                    format!("input_blocks.{}.{place}.", at + 1),
                ));
                blocks.push((
                    format!("up_blocks.{block}.{kind}.{layer}."),
                    format!("output_blocks.{at}.{place}."),
                ));
            }
        }
        let place = if has(&format!("up_blocks.{block}.attentions.")) {
            2
        } else {
            1
        };
        blocks.push((
            format!("down_blocks.{block}.downsamplers.0.conv."),
            format!("input_blocks.{}.0.op.", 3 * block + 3),
        ));
        blocks.push((
            format!("up_blocks.{block}.upsamplers.0.conv."),
            format!("output_blocks.{}.{place}.conv.", 3 * block + 2),
        ));
    }
    let table = [
        ("mid_block.resnets.0.", "middle_block.0."),
        ("mid_block.attentions.0.", "middle_block.1."),
        ("mid_block.resnets.1.", "middle_block.2."),
        ("time_embedding.linear_1.", "time_embed.0."),
        ("time_embedding.linear_2.", "time_embed.2."),
        ("add_embedding.linear_1.", "label_emb.0.0."),
        ("add_embedding.linear_2.", "label_emb.0.2."),
        ("conv_in.", "input_blocks.0.0."),
        ("conv_norm_out.", "out.0."),
        ("conv_out.", "out.2."),
    ];
    let resnet = [
        (".norm1.", ".in_layers.0."),
        (".conv1.", ".in_layers.2."),
        (".time_emb_proj.", ".emb_layers.1."),
        (".norm2.", ".out_layers.0."),
        (".conv2.", ".out_layers.3."),
        (".conv_shortcut.", ".skip_connection."),
    ];
    let renamed = tensors.iter().map(|(name, tensor)| {
        let found = blocks.iter().find(|(from, _)| name.starts_with(from));
        let block = found.map_or(name.clone(), |(from, to)| name.replacen(from, to, 1));
        let block = replaced(&block, &table);
        let name = match name.contains(".resnets.") {
            true => replaced(&block, &resnet),
            false => block,
        };
        (
            format!("model.diffusion_model.{name}"),
            tensor.shallow_clone(),
        )
    });
    renamed.collect()
}

/// Original names of an autoencoder; attention is stored as 1×1 convolutions.
fn vae(model: &KeyedModel) -> Named {
    let tensors = tensors(model, VAE);
    let levels = (0..8)
        .filter(|level| {
            let first = format!("decoder.up_blocks.{level}.resnets.0.conv1.weight");
            tensors.iter().any(|(name, _)| *name == first)
        })
        .count();
    let table = [
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
        ("mid_block.attentions.0.to_q", "mid.attn_1.q"),
        ("mid_block.attentions.0.to_k", "mid.attn_1.k"),
        ("mid_block.attentions.0.to_v", "mid.attn_1.v"),
        ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
        ("mid_block.resnets.0", "mid.block_1"),
        ("mid_block.resnets.1", "mid.block_2"),
        ("down_blocks.", "down."),
        (".downsamplers.0.", ".downsample."),
        (".upsamplers.0.", ".upsample."),
        (".resnets.", ".block."),
        ("conv_norm_out", "norm_out"),
        ("conv_shortcut", "nin_shortcut"),
    ];
    let renamed = tensors.iter().map(|(name, tensor)| {
        let mut original = replaced(name, &table);
        for block in 0..levels {
            let level = levels - 1 - block;
            let (from, to) = (format!("up_blocks.{block}."), format!("up.{level}."));
            original = original.replace(&from, &to);
        }
        let is_matrix = original.contains("attn_1") && tensor.dim() == 2;
        let tensor = match is_matrix {
            true => tensor.unsqueeze(-1).unsqueeze(-1),
            false => tensor.shallow_clone(),
        };
        (format!("first_stage_model.{original}"), tensor)
    });
    renamed.collect()
}

fn clip(model: &KeyedModel, prefix: &str) -> Named {
    let renamed = tensors(model, TEXT).into_iter().map(|(name, tensor)| {
        let name = name.trim_start_matches("text_model.");
        (format!("{prefix}.transformer.text_model.{name}"), tensor)
    });
    let ids = Tensor::arange(77, (Kind::Int64, tch::Device::Cpu)).unsqueeze(0);
    let ids = (
        format!("{prefix}.transformer.text_model.embeddings.position_ids"),
        ids,
    );
    renamed.chain([ids]).collect()
}

/// OpenCLIP has query, key and value in one tensor.
fn open_clip(model: &KeyedModel) -> Named {
    let tensors = tensors(model, TEXT_2);
    let table = [
        ("encoder.layers.", "transformer.resblocks."),
        ("layer_norm1", "ln_1"),
        ("layer_norm2", "ln_2"),
        ("mlp.fc1", "mlp.c_fc"),
        ("mlp.fc2", "mlp.c_proj"),
        ("self_attn", "attn"),
        ("final_layer_norm", "ln_final"),
        ("embeddings.token_embedding", "token_embedding"),
        (
            "embeddings.position_embedding.weight",
            "positional_embedding",
        ),
        ("text_projection.weight", "text_projection"),
    ];
    let get = |wanted: &str| {
        let found = tensors.iter().find(|(name, _)| name == wanted);
        found.unwrap().1.shallow_clone()
    };
    let prefix = "conditioner.embedders.1.model";
    let mut renamed = vec![(format!("{prefix}.logit_scale"), Tensor::from(4.6f32))];
    for (name, tensor) in &tensors {
        let short = name.trim_start_matches("text_model.");
        let original = format!("{prefix}.{}", replaced(short, &table));
        if name.contains(".k_proj.") || name.contains(".v_proj.") {
            continue;
        } else if name.contains(".q_proj.") {
            let parts = ["q_proj", "k_proj", "v_proj"];
            let parts = parts.map(|part| get(&name.replace("q_proj", part)));
            let original = original.replace("q_proj.", "in_proj_");
            renamed.push((original, Tensor::cat(&parts, 0)));
        } else if short == "text_projection.weight" {
            renamed.push((original, tensor.tr().contiguous()));
        } else {
            renamed.push((original, tensor.shallow_clone()));
        }
    }
    renamed
}

fn sdxl_file(model: &KeyedModel) -> Named {
    let parts = [
        unet(model),
        vae(model),
        clip(model, "conditioner.embedders.0"),
        open_clip(model),
    ];
    parts.into_iter().flatten().collect()
}

fn inpainting_file(model: &KeyedModel) -> Named {
    let parts = [unet(model), vae(model), clip(model, "cond_stage_model")];
    let stray = ("betas".to_owned(), Tensor::from(0.1f32));
    parts.into_iter().flatten().chain([stray]).collect()
}

/// Writes a file beside a model's folder.
fn write(model: &KeyedModel, name: &str, tensors: &Named) -> Catalog {
    let path = model.path(&format!("../{name}.safetensors"));
    Tensor::write_safetensors(tensors, path).unwrap();
    Catalog::open(&model.path("..")).unwrap()
}

fn load(catalog: &Catalog, name: &str) -> Result<Pipeline, Error> {
    Pipeline::load(&catalog.manifest(name)?, &Device::Cpu, &mut |_| {})
}

fn request(side: u32, takes_mask: bool) -> Request {
    let pixels = (side * side) as usize;
    Request {
        prompt: "a red circle on a blue background".to_owned(),
        negative_prompt: Some("green".to_owned()),
        width: Some(side),
        height: Some(side),
        steps: Some(2),
        seed: 7,
        image: takes_mask.then(|| Picture {
            width: side,
            height: side,
            rgb: vec![90; 3 * pixels],
        }),
        mask: takes_mask.then(|| Mask {
            width: side,
            height: side,
            luma: (0..pixels).map(|at| 255 * u8::from(at % 64 < 20)).collect(),
        }),
        ..Request::default()
    }
}

fn assert_same(folder: &Pipeline, file: &Pipeline, request: &Request) {
    assert_eq!(folder.memory_bytes(), file.memory_bytes());
    let [one, other] = [folder, file].map(|model| model.generate(request, &mut ()).unwrap());
    assert!(one == other);
}

#[test]
fn a_single_file_of_sdxl_draws_the_same_pictures_as_its_folder() {
    let model = sdxl();
    let catalog = write(&model, "file", &sdxl_file(&model));
    assert_eq!(catalog.names(), ["file", "sdxl"]);
    let file = catalog.manifest("file").unwrap();
    let folder = catalog.manifest("sdxl").unwrap();
    assert_eq!(file.networks.family(), "sdxl");
    assert_eq!(file.networks, folder.networks);
    assert_eq!(file.vae, folder.vae);
    assert_eq!(file.scheduler.default, SchedulerKind::Euler);
    let file = load(&catalog, "file").unwrap();
    assert_same(&model.load().unwrap(), &file, &request(512, false));
}

#[test]
fn a_single_file_for_inpainting_draws_the_same_pictures_as_its_folder() {
    let model = inpainting();
    let catalog = write(&model, "file", &inpainting_file(&model));
    let file = catalog.manifest("file").unwrap();
    assert!(file.networks.takes_mask());
    assert_eq!(file.scheduler.default, SchedulerKind::Pndm);
    let file = load(&catalog, "file").unwrap();
    assert_same(&model.load().unwrap(), &file, &request(256, true));
}

#[test]
fn a_mark_of_velocity_prediction_is_obeyed() {
    let model = sdxl();
    let mut tensors = sdxl_file(&model);
    let predicts = |catalog: Catalog| catalog.manifest("file").unwrap().scheduler;
    let plain = predicts(write(&model, "file", &tensors));
    assert_eq!(plain.prediction_type, PredictionType::Epsilon);
    for mark in ["v_pred", "ztsnr"] {
        tensors.push((mark.to_owned(), Tensor::from(1.0f32)));
    }
    let marked = predicts(write(&model, "file", &tensors));
    assert_eq!(marked.prediction_type, PredictionType::VPrediction);
    assert!(marked.rescale_betas_zero_snr);
}

#[test]
fn files_that_are_not_whole_models_are_refused_with_the_reason() {
    let model = inpainting();
    let refusal = |tensors: Named| {
        let catalog = write(&model, "file", &tensors);
        let Err(error) = load(&catalog, "file") else {
            panic!("the file is read");
        };
        error.to_string()
    };
    let with = |name: &str| {
        let stray = (name.to_owned(), Tensor::from(0.0f32));
        inpainting_file(&model).into_iter().chain([stray]).collect()
    };
    let without = |part: &str| {
        let mut tensors = inpainting_file(&model);
        tensors.retain(|(name, _)| !name.contains(part));
        tensors
    };
    for (tensors, reason) in [
        (with("joint_blocks.0.x"), "Stable Diffusion 3"),
        (with("edm_mean"), "edm_mean"),
        (
            with("model.diffusion_model.input_blocks.0.1.w"),
            "input_blocks.0.1.w",
        ),
        (with("first_stage_model.decoder.more"), "decoder.more"),
        (without("cond_stage_model"), "text encoder"),
        (without("first_stage_model"), "first_stage_model"),
        (without("out.2.bias"), "out.2.bias"),
        (without("mid.attn_1.q"), "mid.attn_1.q"),
    ] {
        let message = refusal(tensors);
        assert!(message.contains(reason), "{reason}: {message}");
    }
    fs::remove_dir_all(model.path("../tokenizer")).unwrap();
    let message = refusal(inpainting_file(&model));
    assert!(message.contains("vocab.json"), "{message}");
}

#[test]
fn the_stamp_of_a_file_changes_with_the_file_and_its_tokenizer() {
    let model = inpainting();
    let mut tensors = inpainting_file(&model);
    let catalog = write(&model, "file", &tensors);
    let stamp = || catalog.stamp("file").unwrap();
    let first = stamp();
    assert_eq!(first, stamp());
    tensors.push(("logvar".to_owned(), Tensor::from(0.0f32)));
    write(&model, "file", &tensors);
    let second = stamp();
    assert_ne!(first, second);
    copy(&model.path("tokenizer"), &model.path("../file/tokenizer"));
    assert_ne!(second, stamp());
}
