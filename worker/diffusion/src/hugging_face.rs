//! Derives a manifest from a bare Hugging Face folder: `model_index.json` and the components'
//! configs, as `save_pretrained` writes them. Missing values take Hugging Face's defaults. Every
//! other key of a config changes nothing, or refuses the model by name.

mod allowed;
mod scheduler;

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::folder::{bad, read_json};
use crate::manifest::{
    Activation, Defaults, Dtype, Family, Heads, ImageSizes, Manifest, SchedulerSpec, TextSpec,
    TokenizerSpec, UNetSpec, VaeSpec,
};
#[cfg(test)]
use crate::scheduler::SchedulerKind;

/// The file that identifies such a folder.
pub(crate) const INDEX: &str = "model_index.json";

const TEXT: &str = "text_encoder/config.json";
const UNET: &str = "unet/config.json";
const VAE: &str = "vae/config.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const TOKENIZER: &str = "tokenizer/tokenizer_config.json";
const SPECIAL_TOKENS: &str = "tokenizer/special_tokens_map.json";

#[derive(Deserialize)]
struct Index {
    #[serde(rename = "_class_name")]
    class_name: String,
    /// Library and class of the scheduler, which the scheduler's own config may contradict.
    scheduler: Option<(String, String)>,
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
    up_block_types: Vec<String>,
    layers_per_block: usize,
    attention_head_dim: Heads,
    cross_attention_dim: i64,
    use_linear_projection: bool,
    sample_size: u32,
}

impl Default for UNetConfig {
    fn default() -> UNetConfig {
        let repeated = |first: &str, count: usize| vec![first.to_owned(); count];
        UNetConfig {
            block_out_channels: vec![320, 640, 1280, 1280],
            down_block_types: [repeated(DOWN_ATTENDS, 3), repeated(DOWN, 1)].concat(),
            up_block_types: [repeated(UP, 1), repeated(UP_ATTENDS, 3)].concat(),
            layers_per_block: 2,
            attention_head_dim: Heads::All(8),
            cross_attention_dim: 1280,
            use_linear_projection: false,
            sample_size: 64,
        }
    }
}

const DOWN: &str = "DownBlock2D";
const DOWN_ATTENDS: &str = "CrossAttnDownBlock2D";
const UP: &str = "UpBlock2D";
const UP_ATTENDS: &str = "CrossAttnUpBlock2D";

impl UNetConfig {
    /// Returns the first unsupported block.
    fn unsupported_block(&self) -> Option<String> {
        let down = self.down_block_types.iter();
        if let Some(name) = down
            .clone()
            .find(|name| *name != DOWN && *name != DOWN_ATTENDS)
        {
            return Some(format!("down_block_types: {name} is not supported"));
        }
        let mirrored = down.rev().map(|name| match name == DOWN {
            true => UP,
            false => UP_ATTENDS,
        });
        (!mirrored.eq(self.up_block_types.iter().map(String::as_str)))
            .then(|| "up_block_types: only the reverse of down_block_types is supported".to_owned())
    }

    fn spec(self) -> UNetSpec {
        let types = self.down_block_types.iter();
        UNetSpec {
            attention_blocks: types.map(|name| name == DOWN_ATTENDS).collect(),
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
}

impl Default for VaeConfig {
    fn default() -> VaeConfig {
        VaeConfig {
            block_out_channels: vec![64],
            layers_per_block: 1,
            norm_num_groups: 32,
            latent_channels: 4,
            scaling_factor: 0.18215,
        }
    }
}

impl VaeConfig {
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

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerConfig {
    pad_token: Option<Token>,
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
    let text: TextConfig = config(folder, model, TEXT, allowed::text)?;
    let unet: UNetConfig = config(folder, model, UNET, allowed::unet)?;
    let vae: VaeConfig = config(folder, model, VAE, allowed::vae)?;
    let scheduler = scheduler_spec(folder, model, index.scheduler)?;
    let pad = pad_token(folder, model)?;
    if let Some(message) = unet.unsupported_block() {
        return Err(bad(model, UNET, message));
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
            pad,
        },
        text: text.spec(),
        unet: unet.spec(),
        vae,
        scheduler,
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

/// Reads a component's config, unless it has a setting that is not supported.
fn config<T: DeserializeOwned>(
    folder: &Path,
    model: &str,
    file: &str,
    check: fn(&Map<String, Value>) -> Result<(), String>,
) -> Result<T, Error> {
    let config: Map<String, Value> = read_json(folder, model, file)?;
    check(&config).map_err(|message| bad(model, file, message))?;
    serde_json::from_value(Value::Object(config))
        .map_err(|e| bad(model, file, format!("invalid: {e}")).because(e))
}

/// Reads the scheduler's config, as one of the class that the index names.
fn scheduler_spec(
    folder: &Path,
    model: &str,
    named: Option<(String, String)>,
) -> Result<SchedulerSpec, Error> {
    let config: Map<String, Value> = read_json(folder, model, SCHEDULER)?;
    let own = || Some(config.get("_class_name")?.as_str()?.to_owned());
    let class = named
        .map(|(_, class)| class)
        .or_else(own)
        .unwrap_or_default();
    let read = scheduler::read(&class, &config);
    read.map(|(_, spec)| spec)
        .map_err(|message| bad(model, SCHEDULER, message))
}

/// Returns the token that pads prompts. Like transformers, it prefers the map of special tokens to
/// the tokenizer's config.
fn pad_token(folder: &Path, model: &str) -> Result<String, Error> {
    for file in [SPECIAL_TOKENS, TOKENIZER] {
        if folder.join(file).exists() {
            let config: TokenizerConfig = read_json(folder, model, file)?;
            if let Some(Token::Text(text) | Token::Object { content: text }) = config.pad_token {
                return Ok(text);
            }
        }
    }
    Ok("<|endoftext|>".to_owned())
}

/// Reads the scheduler of a class and a config, for tests.
#[cfg(test)]
pub(crate) fn scheduler_of(
    class: &str,
    config: &str,
) -> Result<(SchedulerKind, SchedulerSpec), String> {
    let config = serde_json::from_str(config).map_err(|error| error.to_string())?;
    scheduler::read(class, &config)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Stable Diffusion 2: its two files disagree.
    #[test]
    fn the_map_of_special_tokens_decides_what_pads() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tokenizer")).unwrap();
        let pad = || pad_token(folder.path(), "a").unwrap();
        assert_eq!(pad(), "<|endoftext|>");
        let config = r#"{"pad_token": {"content": "<|pad|>"}}"#;
        std::fs::write(folder.path().join(TOKENIZER), config).unwrap();
        assert_eq!(pad(), "<|pad|>");
        std::fs::write(folder.path().join(SPECIAL_TOKENS), r#"{"pad_token": "!"}"#).unwrap();
        assert_eq!(pad(), "!");
    }

    #[test]
    fn the_index_names_the_scheduler() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("scheduler")).unwrap();
        let config = r#"{"_class_name": "PNDMScheduler", "beta_start": 0.001, "beta_end": 0.01,
            "beta_schedule": "linear", "lambda_min_clipped": -Infinity}"#;
        std::fs::write(folder.path().join(SCHEDULER), config).unwrap();
        let read = |class: Option<&str>| {
            let named = class.map(|class| ("diffusers".to_owned(), class.to_owned()));
            scheduler_spec(folder.path(), "a", named)
        };
        let spec = read(Some("EulerDiscreteScheduler")).unwrap();
        assert_eq!(spec.default, SchedulerKind::Euler);
        assert_eq!(spec.steps_offset, 1);
        // Its own class needs a setting that it does not have.
        assert!(
            read(None)
                .unwrap_err()
                .to_string()
                .contains("skip_prk_steps")
        );
        assert!(read(Some("UniPCMultistepScheduler")).is_err());
    }
}
