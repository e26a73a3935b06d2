//! Derives a manifest from a bare Hugging Face folder: `model_index.json` and the components'
//! configs, as `save_pretrained` writes them. Missing values take Hugging Face's defaults.
//! Unsupported features are rejected by name.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::error::Error;
use crate::folder::{bad, read_json};
use crate::manifest::{
    Activation, BetaSchedule, Defaults, Dtype, Family, Heads, ImageSizes, Manifest, PredictionType,
    SchedulerSpec, TextSpec, TokenizerSpec, UNetSpec, VaeSpec,
};
use crate::scheduler::SchedulerKind;

/// The file that identifies such a folder.
pub(crate) const INDEX: &str = "model_index.json";

const TEXT: &str = "text_encoder/config.json";
const UNET: &str = "unet/config.json";
const VAE: &str = "vae/config.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const TOKENIZER: &str = "tokenizer/tokenizer_config.json";

#[derive(Deserialize)]
struct Index {
    #[serde(rename = "_class_name")]
    class_name: String,
}

/// transformers' CLIPTextConfig.
#[derive(Deserialize)]
#[serde(default)]
struct TextConfig {
    hidden_size: i64,
    num_hidden_layers: usize,
    num_attention_heads: i64,
    intermediate_size: i64,
    hidden_act: Activation,
    max_position_embeddings: usize,
    dtype: Option<String>,
    torch_dtype: Option<String>,
}

impl Default for TextConfig {
    fn default() -> TextConfig {
        TextConfig {
            hidden_size: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            intermediate_size: 2048,
            hidden_act: Activation::QuickGelu,
            max_position_embeddings: 77,
            dtype: None,
            torch_dtype: None,
        }
    }
}

impl TextConfig {
    fn stored_dtype(&self) -> Dtype {
        match self.dtype.as_deref().or(self.torch_dtype.as_deref()) {
            Some("float16") => Dtype::F16,
            Some("bfloat16") => Dtype::Bf16,
            _ => Dtype::F32,
        }
    }

    fn spec(self) -> TextSpec {
        TextSpec {
            hidden_size: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            activation: self.hidden_act,
        }
    }
}

/// diffusers' UNet2DConditionModel.
#[derive(Deserialize)]
#[serde(default)]
struct UNetConfig {
    block_out_channels: Vec<i64>,
    down_block_types: Vec<String>,
    layers_per_block: usize,
    attention_head_dim: Heads,
    cross_attention_dim: i64,
    use_linear_projection: bool,
    sample_size: u32,
    in_channels: i64,
    out_channels: i64,
    norm_num_groups: i64,
    act_fn: String,
    mid_block_type: Option<String>,
    class_embed_type: Value,
    addition_embed_type: Value,
    num_class_embeds: Value,
    dual_cross_attention: bool,
}

impl Default for UNetConfig {
    fn default() -> UNetConfig {
        UNetConfig {
            block_out_channels: vec![320, 640, 1280, 1280],
            down_block_types: ["CrossAttnDownBlock2D"; 3]
                .into_iter()
                .chain(["DownBlock2D"])
                .map(String::from)
                .collect(),
            layers_per_block: 2,
            attention_head_dim: Heads::All(8),
            cross_attention_dim: 1280,
            use_linear_projection: false,
            sample_size: 64,
            in_channels: 4,
            out_channels: 4,
            norm_num_groups: 32,
            act_fn: "silu".to_owned(),
            mid_block_type: Some("UNetMidBlock2DCrossAttn".to_owned()),
            class_embed_type: Value::Null,
            addition_embed_type: Value::Null,
            num_class_embeds: Value::Null,
            dual_cross_attention: false,
        }
    }
}

impl UNetConfig {
    /// Returns the first feature of the config that diffusers-rs does not support.
    #[rustfmt::skip]
    fn unsupported(&self) -> Option<String> {
        let is_known = |name: &str| matches!(name, "DownBlock2D" | "CrossAttnDownBlock2D");
        if let Some(name) = self.down_block_types.iter().find(|name| !is_known(name)) {
            return Some(format!("down_block_types: {name} is not supported"));
        }
        let has_4_channels = self.in_channels == 4 && self.out_channels == 4;
        let middle = self.mid_block_type.as_deref();
        let has_classes = !self.class_embed_type.is_null() || !self.num_class_embeds.is_null();
        let has_additions = !self.addition_embed_type.is_null();
        let unsupported = [
            (!has_4_channels, "in_channels and out_channels: only 4 is supported"),
            (self.norm_num_groups != 32, "norm_num_groups: only 32 is supported"),
            (self.act_fn != "silu", "act_fn: only silu is supported"),
            (
                middle != Some("UNetMidBlock2DCrossAttn"),
                "mid_block_type: only UNetMidBlock2DCrossAttn is supported",
            ),
            (has_classes, "class embeddings are not supported"),
            (
                has_additions,
                "addition_embed_type: not supported (is this Stable Diffusion XL?)",
            ),
            (self.dual_cross_attention, "dual_cross_attention: not supported"),
        ];
        let first = unsupported.iter().find(|(applies, _)| *applies);
        first.map(|(_, message)| (*message).to_owned())
    }

    fn spec(self) -> UNetSpec {
        let types = self.down_block_types.iter();
        UNetSpec {
            attention_blocks: types.map(|name| name == "CrossAttnDownBlock2D").collect(),
            block_out_channels: self.block_out_channels,
            layers_per_block: self.layers_per_block,
            heads: self.attention_head_dim,
            cross_attention_dim: self.cross_attention_dim,
            use_linear_projection: self.use_linear_projection,
        }
    }
}

/// diffusers' AutoencoderKL.
#[derive(Deserialize)]
#[serde(default)]
struct VaeConfig {
    block_out_channels: Vec<i64>,
    layers_per_block: usize,
    norm_num_groups: i64,
    latent_channels: i64,
    scaling_factor: f64,
    shift_factor: Option<f64>,
    mid_block_add_attention: bool,
    use_post_quant_conv: bool,
}

impl Default for VaeConfig {
    fn default() -> VaeConfig {
        VaeConfig {
            block_out_channels: vec![64],
            layers_per_block: 1,
            norm_num_groups: 32,
            latent_channels: 4,
            scaling_factor: 0.18215,
            shift_factor: None,
            mid_block_add_attention: true,
            use_post_quant_conv: true,
        }
    }
}

impl VaeConfig {
    /// Returns what diffusers-rs does not support, if the config has it.
    fn unsupported(&self) -> Option<&'static str> {
        let supported = self.mid_block_add_attention
            && self.use_post_quant_conv
            && self.shift_factor.is_none_or(|shift| shift == 0.0);
        (!supported).then_some(
            "a VAE without middle attention or post_quant_conv, or with a shift, is not supported",
        )
    }

    fn spec(self) -> VaeSpec {
        VaeSpec {
            block_out_channels: self.block_out_channels,
            layers_per_block: self.layers_per_block,
            norm_groups: self.norm_num_groups,
            latent_channels: self.latent_channels,
            scaling_factor: self.scaling_factor,
        }
    }
}

#[derive(Deserialize)]
struct SchedulerConfig {
    #[serde(rename = "_class_name", default)]
    class_name: String,
    #[serde(default = "epsilon")]
    prediction_type: PredictionType,
    beta_start: f64,
    beta_end: f64,
    beta_schedule: BetaSchedule,
    #[serde(default)]
    steps_offset: usize,
}

impl SchedulerConfig {
    fn spec(&self) -> SchedulerSpec {
        SchedulerSpec {
            allowed: SchedulerKind::ALL.to_vec(),
            default: scheduler_named(&self.class_name),
            prediction_type: self.prediction_type,
            beta_start: self.beta_start,
            beta_end: self.beta_end,
            beta_schedule: self.beta_schedule,
            steps_offset: self.steps_offset,
        }
    }
}

fn epsilon() -> PredictionType {
    PredictionType::Epsilon
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerConfig {
    pad_token: Option<Token>,
}

impl TokenizerConfig {
    fn pad(self) -> String {
        match self.pad_token {
            Some(Token::Text(text) | Token::Object { content: text }) => text,
            None => "<|endoftext|>".to_owned(),
        }
    }
}

/// Hugging Face writes a special token as its text, or as an object around it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

/// Derives the manifest of a bare folder.
pub(crate) fn derive(folder: &Path, model: &str) -> Result<Manifest, Error> {
    let index: Index = read_json(folder, model, INDEX)?;
    if index.class_name != "StableDiffusionPipeline" {
        let message = format!(
            "a {} is not supported, only a StableDiffusionPipeline",
            index.class_name
        );
        return Err(bad(model, INDEX, message));
    }
    let text: TextConfig = read_json(folder, model, TEXT)?;
    let unet: UNetConfig = read_json(folder, model, UNET)?;
    let vae: VaeConfig = read_json(folder, model, VAE)?;
    let scheduler: SchedulerConfig = read_json(folder, model, SCHEDULER)?;
    let tokenizer: TokenizerConfig = match folder.join(TOKENIZER).exists() {
        true => read_json(folder, model, TOKENIZER)?,
        false => TokenizerConfig::default(),
    };
    if let Some(message) = unet.unsupported() {
        return Err(bad(model, UNET, message));
    }
    if let Some(message) = vae.unsupported() {
        return Err(bad(model, VAE, message));
    }
    let vae = vae.spec();
    Ok(Manifest {
        schema: 1,
        name: model.to_owned(),
        revision: String::new(),
        license: String::new(),
        files: Vec::new(),
        vram_bytes_estimate: None,
        folder: folder.to_owned(),
        family: match text.hidden_size {
            768 => Family::Sd15,
            1024 => Family::Sd21,
            _ => Family::Tiny,
        },
        dtype: text.stored_dtype(),
        image: sizes(&vae, unet.sample_size),
        tokenizer: TokenizerSpec {
            kind: "clip-bpe".to_owned(),
            context: text.max_position_embeddings,
            pad: tokenizer.pad(),
        },
        text: text.spec(),
        unet: unet.spec(),
        vae,
        scheduler: scheduler.spec(),
        // The default of diffusers' StableDiffusionPipeline.
        defaults: Defaults {
            steps: 50,
            guidance: 7.5,
        },
    })
}

/// Returns the sizes from half to twice the side of the training pictures.
fn sizes(vae: &VaeSpec, sample_size: u32) -> ImageSizes {
    let multiple_of = vae.downsampling().max(8);
    let default = sample_size.clamp(1, 512).saturating_mul(vae.downsampling());
    ImageSizes {
        default,
        min: (default / 2).max(1),
        max: default.saturating_mul(2).min(1 << 13),
        multiple_of,
    }
}

fn scheduler_named(class: &str) -> SchedulerKind {
    match class {
        "DDPMScheduler" => SchedulerKind::Ddpm,
        "DPMSolverMultistepScheduler" => SchedulerKind::DpmSolverPlusPlus,
        "EulerDiscreteScheduler" => SchedulerKind::Euler,
        "EulerAncestralDiscreteScheduler" => SchedulerKind::EulerAncestral,
        "HeunDiscreteScheduler" => SchedulerKind::Heun,
        "KDPM2DiscreteScheduler" => SchedulerKind::Kdpm2,
        "KDPM2AncestralDiscreteScheduler" => SchedulerKind::Kdpm2Ancestral,
        "LMSDiscreteScheduler" => SchedulerKind::Lms,
        "PNDMScheduler" => SchedulerKind::Pndm,
        _ => SchedulerKind::Ddim,
    }
}
