//! What one model is: `manifest.json` in its folder, or the same facts derived from Hugging Face's.

mod validate;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::folder::{self, read_json};
use crate::hugging_face;
use crate::scheduler::SchedulerKind;

/// What one model is. It holds no weights: reading one is cheap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format; 1.
    pub schema: u32,
    /// The model's name, the same as its folder's.
    #[serde(default)]
    pub name: String,
    /// RunnerEvents whenever the weights do.
    #[serde(default)]
    pub revision: String,
    /// SPDX expression, or the name of the license.
    #[serde(default)]
    pub license: String,
    /// Which Stable Diffusion this is a sibling of.
    pub family: Family,
    /// What the folder holds, with sizes and checksums; files that are not listed are not checked.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    /// The type in which the weights are stored.
    pub dtype: Dtype,
    /// Which picture sizes the model draws.
    pub image: ImageSizes,
    /// How a prompt becomes token ids.
    pub tokenizer: TokenizerSpec,
    /// The CLIP text transformer.
    pub text: TextSpec,
    /// The denoising UNet.
    pub unet: UNetSpec,
    /// The autoencoder between pictures and latents.
    pub vae: VaeSpec,
    /// The noise schedule, and which samplers suit the model.
    pub scheduler: SchedulerSpec,
    /// What a request leaves open.
    pub defaults: Defaults,
    /// Bytes that the model and one picture take on its device, measured by whoever made it.
    #[serde(default)]
    pub vram_bytes_estimate: Option<u64>,
    /// Where the files are.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// Which Stable Diffusion a model is a sibling of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Stable Diffusion 1.x.
    Sd15,
    /// Stable Diffusion 2.x.
    Sd21,
    /// The same architecture with other widths and depths.
    Tiny,
}

/// One file of a model's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the folder, with forward slashes.
    pub path: String,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Size of the file.
    pub bytes: u64,
}

/// The type in which weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Single precision.
    F32,
}

/// Which picture sizes a model draws; in pixels, for width and height alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSizes {
    /// Width and height where a request names none.
    pub default: u32,
    /// Smallest.
    pub min: u32,
    /// Largest.
    pub max: u32,
    /// Both sides must be multiples of this.
    pub multiple_of: u32,
}

/// How a prompt becomes token ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerSpec {
    /// `clip-bpe`, the only kind.
    pub kind: String,
    /// Tokens in a prompt, start and end included; longer ones are cut.
    pub context: usize,
    /// The token that fills what a short prompt leaves.
    pub pad: String,
}

/// The CLIP text transformer's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextSpec {
    /// Width of a token's state.
    pub hidden_size: i64,
    /// Transformer layers.
    pub layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub heads: i64,
    /// Width inside the feed-forward part.
    pub intermediate_size: i64,
    /// Non-linearity of the feed-forward part.
    pub activation: Activation,
}

/// Non-linearity in CLIP's feed-forward part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x · sigmoid(1.702 x)`, as OpenAI's CLIP has it.
    QuickGelu,
    /// The exact Gaussian error linear unit, as OpenCLIP has it.
    Gelu,
}

/// The UNet's shape, from the outermost block to the innermost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UNetSpec {
    /// Channels of each block; multiples of 32.
    pub block_out_channels: Vec<i64>,
    /// Whether each block attends to the prompt. The middle always does.
    pub attention_blocks: Vec<bool>,
    /// Residual layers in each block.
    pub layers_per_block: usize,
    /// Attention heads: one number for all blocks, or one for each.
    pub heads: Heads,
    /// Width of the text states attended to: the text transformer's `hidden_size`.
    pub cross_attention_dim: i64,
    /// Stable Diffusion 2 projects with linear layers, 1 with 1×1 convolutions.
    #[serde(default)]
    pub use_linear_projection: bool,
}

/// Attention heads of a UNet's blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Heads {
    /// The same number in every block.
    All(i64),
    /// One number for each block.
    Each(Vec<i64>),
}

impl Heads {
    /// Heads of the block at `index`, counted from the outermost.
    pub fn of_block(&self, index: usize) -> Option<i64> {
        match self {
            Heads::All(heads) => Some(*heads),
            Heads::Each(heads) => heads.get(index).copied(),
        }
    }
}

/// The autoencoder's shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VaeSpec {
    /// Channels of each block, from the picture to the latents; each step but the last halves the sides.
    pub block_out_channels: Vec<i64>,
    /// Residual layers in each block.
    pub layers_per_block: usize,
    /// Groups of the group norms; divides every width.
    pub norm_groups: i64,
    /// Channels of the latents; 4.
    pub latent_channels: i64,
    /// Latents are divided by this before decoding.
    pub scaling_factor: f64,
}

impl VaeSpec {
    /// Pixels along one side of a latent cell; 8 for Stable Diffusion.
    pub fn downsampling(&self) -> u32 {
        1 << self.block_out_channels.len().clamp(1, 8).saturating_sub(1)
    }
}

/// The noise schedule the model was trained with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchedulerSpec {
    /// The schedulers that suit the model.
    pub allowed: Vec<SchedulerKind>,
    /// The one used where a request names none.
    pub default: SchedulerKind,
    /// What the UNet predicts.
    pub prediction_type: PredictionType,
    /// Variance of the first training step's noise.
    pub beta_start: f64,
    /// Variance of the last training step's noise.
    pub beta_end: f64,
    /// How the variance grows in between.
    pub beta_schedule: BetaSchedule,
    /// Added to each timestep of the schedulers that count from the start of training; 1.
    #[serde(default)]
    pub steps_offset: usize,
}

/// What a UNet predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise.
    Epsilon,
    /// The velocity between noise and picture (Salimans and Ho, 2022).
    VPrediction,
}

/// How the noise's variance grows over the training steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Linearly.
    Linear,
    /// Its square root linearly.
    ScaledLinear,
}

/// What a request leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// Denoising steps.
    pub steps: u32,
    /// Weight of the prompt over no prompt; at 1 or less it is not weighed at all.
    pub guidance: f64,
}

impl Manifest {
    /// Reads the manifest of one model folder, or derives it from Hugging Face's configs, and checks
    /// that its numbers fit each other.
    pub(crate) fn read(folder: &Path, name: &str) -> Result<Manifest, Error> {
        let bare = folder.join(hugging_face::INDEX);
        let mut manifest: Manifest = if !folder.join(FILE).exists() && bare.exists() {
            hugging_face::derive(folder, name)?
        } else {
            read_json(folder, name, FILE)?
        };
        name.clone_into(&mut manifest.name);
        folder.clone_into(&mut manifest.folder);
        manifest.validate()?;
        Ok(manifest)
    }

    /// Where the files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// An estimate, before a load, of the bytes that the model and one picture will take: the
    /// manifest's own, or twice the stored weights (a CPU widens half precision to single; a GPU
    /// does not, and needs about as much again to work in).
    pub fn memory_bytes(&self) -> u64 {
        self.vram_bytes_estimate.unwrap_or_else(|| {
            let stored = WEIGHTS.iter().filter_map(|stem| self.weights(stem).ok());
            let bytes = stored.filter_map(|file| fs::metadata(self.folder.join(file)).ok());
            let bytes: u64 = bytes.map(|metadata| metadata.len()).sum();
            let widening = if self.dtype == Dtype::F32 { 1 } else { 2 };
            bytes.saturating_mul(widening)
        })
    }

    /// The weights file of a component, e.g. of `unet/diffusion_pytorch_model`, relative to the folder.
    pub(crate) fn weights(&self, stem: &str) -> Result<String, Error> {
        let names = [
            format!("{stem}.safetensors"),
            format!("{stem}.fp16.safetensors"),
        ];
        let found = names.iter().find(|name| self.folder.join(name).is_file());
        found.cloned().ok_or_else(|| {
            let unsupported = ["safetensors.index.json", "bin"].map(|end| format!("{stem}.{end}"));
            let message = match unsupported
                .iter()
                .find(|name| self.folder.join(name).exists())
            {
                Some(other) => {
                    format!("missing; {other} is there, but only a single safetensors file is read")
                }
                None => "missing".to_owned(),
            };
            self.bad(&names[0], message)
        })
    }

    pub(crate) fn bad(&self, file: &str, message: impl Into<String>) -> Error {
        folder::bad(&self.name, file, message)
    }
}

/// The manifest's own name.
pub(crate) const FILE: &str = "manifest.json";

/// The components' weights, less their endings.
pub(crate) const TEXT_WEIGHTS: &str = "text_encoder/model";
pub(crate) const UNET_WEIGHTS: &str = "unet/diffusion_pytorch_model";
pub(crate) const VAE_WEIGHTS: &str = "vae/diffusion_pytorch_model";
const WEIGHTS: [&str; 3] = [TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS];
