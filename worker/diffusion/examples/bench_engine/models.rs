//! Model folders with random weights, of the sizes of published models.

use std::path::{Path, PathBuf};
use std::{fs, iter};

use anyhow::Context;
use clap::ValueEnum;
use serde_json::{Value, json};
use warmq_diffusion::{Catalog, Manifest, write_random_weights};

/// A model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Model {
    /// Included: trained on shapes.
    Tiny,
    /// Of Stable Diffusion 1.5's size: 2 GB.
    Sd15,
    /// Of Stable Diffusion XL's size: 7 GB.
    Sdxl,
}

impl Model {
    /// Returns its folder, which is written into `scratch` unless it is there or in `included`.
    pub fn folder(self, included: &Path, scratch: &Path) -> anyhow::Result<PathBuf> {
        let (name, configs) = match self {
            Self::Tiny => return Ok(included.join("shapes")),
            Self::Sd15 => ("sd15-random", Vec::from(sd15_configs())),
            Self::Sdxl => ("sdxl-random", sdxl_configs()),
        };
        let folder = scratch.join(name);
        if !folder.exists() {
            eprintln!("writing {}", folder.display());
            // Renamed when it is complete.
            let partial = scratch.join(format!("{name}.partial"));
            let _ = fs::remove_dir_all(&partial);
            write_model(&partial, &included.join("shapes/tokenizer"), configs)?;
            fs::rename(partial, &folder)?;
        }
        Ok(folder)
    }
}

/// Returns the manifest of a model's folder.
pub fn manifest(folder: &Path) -> anyhow::Result<Manifest> {
    let models = folder
        .parent()
        .context("a model is in a folder of models")?;
    let name = folder.file_name().and_then(|name| name.to_str());
    Ok(Catalog::open(models)?.manifest(name.context("a model has a name")?)?)
}

/// A config file, by its path.
type Config = (&'static str, Value);

/// Writes a folder in Hugging Face's layout, with random weights in half precision.
fn write_model(folder: &Path, tokenizer: &Path, configs: Vec<Config>) -> anyhow::Result<()> {
    let mut tokenizers = vec!["tokenizer"];
    for (file, config) in configs {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().context("every file is in a folder")?)?;
        fs::write(path, config.to_string())?;
        if file.starts_with("tokenizer_2") {
            tokenizers.push("tokenizer_2");
        }
    }
    for (component, file) in tokenizers
        .into_iter()
        .flat_map(|component| ["vocab.json", "merges.txt"].map(|file| (component, file)))
    {
        fs::copy(tokenizer.join(file), folder.join(component).join(file))
            .with_context(|| format!("no {file} in {}", tokenizer.display()))?;
    }
    Ok(write_random_weights(&manifest(folder)?, 49408, 0)?)
}

/// Returns the config files of Stable Diffusion 1.5, by path.
fn sd15_configs() -> [Config; 6] {
    let down: Vec<&str> = iter::repeat_n("CrossAttnDownBlock2D", 3)
        .chain(["DownBlock2D"])
        .collect();
    let up: Vec<&str> = iter::once("UpBlock2D")
        .chain(iter::repeat_n("CrossAttnUpBlock2D", 3))
        .collect();
    let (encoder, decoder) = (["DownEncoderBlock2D"; 4], ["UpDecoderBlock2D"; 4]);
    [
        (
            "model_index.json",
            json!({
                "_class_name": "StableDiffusionPipeline",
                "feature_extractor": [null, null], "safety_checker": [null, null], "image_encoder": [null, null],
                "requires_safety_checker": false,
                "scheduler": ["diffusers", "DDIMScheduler"],
                "text_encoder": ["transformers", "CLIPTextModel"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
                "unet": ["diffusers", "UNet2DConditionModel"],
                "vae": ["diffusers", "AutoencoderKL"]
            }),
        ),
        (
            "text_encoder/config.json",
            json!({
                "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "dtype": "float16",
                "vocab_size": 49408, "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                "num_attention_heads": 12, "max_position_embeddings": 77, "hidden_act": "quick_gelu"
            }),
        ),
        (
            "unet/config.json",
            json!({
                "_class_name": "UNet2DConditionModel", "sample_size": 64, "in_channels": 4, "out_channels": 4,
                "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
                "down_block_types": down, "up_block_types": up,
                "attention_head_dim": 8, "cross_attention_dim": 768
            }),
        ),
        (
            "vae/config.json",
            json!({
                "_class_name": "AutoencoderKL", "sample_size": 512, "latent_channels": 4,
                "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32,
                "down_block_types": encoder, "up_block_types": decoder
            }),
        ),
        (
            "scheduler/scheduler_config.json",
            json!({
                "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
                "beta_schedule": "scaled_linear", "clip_sample": false, "set_alpha_to_one": false,
                "steps_offset": 1
            }),
        ),
        (
            "tokenizer/tokenizer_config.json",
            json!({
                "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"
            }),
        ),
    ]
}

/// Returns the config files of Stable Diffusion XL, by path.
fn sdxl_configs() -> Vec<Config> {
    let text = |hidden: i64, layers: i64, heads: i64, activation: &str| {
        json!({
            "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "dtype": "float16",
            "vocab_size": 49408, "hidden_size": hidden, "intermediate_size": 4 * hidden,
            "num_hidden_layers": layers, "num_attention_heads": heads, "projection_dim": hidden,
            "max_position_embeddings": 77, "hidden_act": activation, "eos_token_id": 2
        })
    };
    let [_, _, _, (vae, mut autoencoder), scheduler, (_, tokenizer)] = sd15_configs();
    autoencoder["sample_size"] = json!(1024);
    autoencoder["scaling_factor"] = json!(0.13025);
    vec![
        (
            "model_index.json",
            json!({
                "_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": true,
                "feature_extractor": [null, null], "image_encoder": [null, null],
                "scheduler": ["diffusers", "DDIMScheduler"],
                "text_encoder": ["transformers", "CLIPTextModel"],
                "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
                "tokenizer_2": ["transformers", "CLIPTokenizer"],
                "unet": ["diffusers", "UNet2DConditionModel"],
                "vae": ["diffusers", "AutoencoderKL"]
            }),
        ),
        ("text_encoder/config.json", text(768, 12, 12, "quick_gelu")),
        ("text_encoder_2/config.json", text(1280, 32, 20, "gelu")),
        (
            "unet/config.json",
            json!({
                "_class_name": "UNet2DConditionModel", "sample_size": 128, "in_channels": 4,
                "out_channels": 4, "block_out_channels": [320, 640, 1280], "layers_per_block": 2,
                "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
                "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
                "transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20],
                "cross_attention_dim": 2048, "use_linear_projection": true,
                "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
                "projection_class_embeddings_input_dim": 2816
            }),
        ),
        (vae, autoencoder),
        scheduler,
        ("tokenizer/tokenizer_config.json", tokenizer.clone()),
        ("tokenizer_2/tokenizer_config.json", tokenizer),
    ]
}
