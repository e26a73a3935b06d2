//! What one model is: `manifest.json` in its folder, or the same facts derived from Hugging Face's.

use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::hugging_face;
use crate::scheduler::SchedulerKind;

/// Files up to this size are hashed before a load; of larger ones only the size is compared, since a
/// load must not read gigabytes twice.
const HASHED_BYTES: u64 = 64 << 20;

/// What one model is. It holds no weights: reading one is cheap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format; 1.
    pub schema: u32,
    /// The model's name, the same as its folder's.
    #[serde(default)]
    pub name: String,
    /// Changes whenever the weights do.
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

    /// Compares the files with the sizes and, up to 64 MiB, the checksums listed for them.
    pub(crate) fn verify_files(&self) -> Result<(), Error> {
        for entry in &self.files {
            let path = self.folder.join(&entry.path);
            let bytes = fs::metadata(&path)
                .map_err(|e| self.bad(&entry.path, "cannot be read").because(e))?
                .len();
            if bytes != entry.bytes {
                return Err(self.bad(
                    &entry.path,
                    format!("{bytes} bytes; the manifest says {}", entry.bytes),
                ));
            }
            if bytes > HASHED_BYTES {
                continue;
            }
            let content =
                fs::read(&path).map_err(|e| self.bad(&entry.path, "cannot be read").because(e))?;
            if format!("{:x}", Sha256::digest(content)) != entry.sha256.to_ascii_lowercase() {
                return Err(self.bad(
                    &entry.path,
                    "its SHA-256 is not the manifest's: damaged or replaced",
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn bad(&self, file: &str, message: impl Into<String>) -> Error {
        bad(&self.name, file, message)
    }

    /// Whether the numbers fit each other. What the networks would otherwise assert, or allocate
    /// without bound, is refused here; that they fit the weights is `checkpoint`'s to say.
    fn validate(&self) -> Result<(), Error> {
        let unet = &self.unet;
        let vae = &self.vae;
        let (image, text) = (&self.image, &self.text);
        let divides = |divisor: i64, n: i64| divisor > 0 && n > 0 && n % divisor == 0;
        let cell = vae.downsampling();
        let heads_fit = |(index, channels): (usize, &i64)| {
            unet.heads
                .of_block(index)
                .is_some_and(|heads| divides(heads, *channels))
        };
        let rules = [
            (self.schema == 1, "schema: only 1 is known"),
            (
                self.tokenizer.kind == "clip-bpe",
                "tokenizer.kind: only clip-bpe is known",
            ),
            (
                (3..=1024).contains(&self.tokenizer.context),
                "tokenizer.context: not in 3..=1024",
            ),
            (
                divides(text.heads, text.hidden_size),
                "text.heads does not divide text.hidden_size",
            ),
            (
                (1..=1 << 14).contains(&text.hidden_size),
                "text.hidden_size: not in 1..=16384",
            ),
            (
                (1..=1 << 16).contains(&text.intermediate_size),
                "text.intermediate_size: not in 1..=65536",
            ),
            (
                (1..=128).contains(&text.layers),
                "text.layers: not in 1..=128",
            ),
            (
                (1..=6).contains(&unet.block_out_channels.len()),
                "unet.block_out_channels: not 1 to 6 blocks",
            ),
            (
                unet.block_out_channels
                    .iter()
                    .all(|&c| divides(32, c) && c <= 1 << 13),
                "unet.block_out_channels: not multiples of 32 up to 8192",
            ),
            (
                unet.attention_blocks.len() == unet.block_out_channels.len(),
                "unet.attention_blocks: not one for each block",
            ),
            (
                unet.block_out_channels.iter().enumerate().all(heads_fit),
                "unet.heads does not divide unet.block_out_channels",
            ),
            (
                (1..=8).contains(&unet.layers_per_block),
                "unet.layers_per_block: not in 1..=8",
            ),
            (
                unet.cross_attention_dim == text.hidden_size,
                "unet.cross_attention_dim is not text.hidden_size",
            ),
            (
                (1..=6).contains(&vae.block_out_channels.len()),
                "vae.block_out_channels: not 1 to 6 blocks",
            ),
            (
                vae.block_out_channels
                    .iter()
                    .all(|&c| divides(vae.norm_groups, c) && c <= 1 << 13),
                "vae.block_out_channels: not multiples of vae.norm_groups up to 8192",
            ),
            (
                (1..=8).contains(&vae.layers_per_block),
                "vae.layers_per_block: not in 1..=8",
            ),
            (
                vae.latent_channels == 4,
                "vae.latent_channels: only 4 is supported",
            ),
            (
                vae.scaling_factor.is_normal(),
                "vae.scaling_factor: not a number other than 0",
            ),
            (
                image.multiple_of > 0 && image.multiple_of % cell == 0,
                "image.multiple_of: not a multiple of the VAE's downsampling",
            ),
            (
                image.min > 0
                    && image.min <= image.default
                    && image.default <= image.max
                    && image.max <= 1 << 13,
                "image: not 1 <= min <= default <= max <= 8192",
            ),
            (
                image.multiple_of > 0 && image.default % image.multiple_of == 0,
                "image.default: not a multiple of image.multiple_of",
            ),
            (
                self.scheduler.allowed.contains(&self.scheduler.default),
                "scheduler.default is not among scheduler.allowed",
            ),
            (
                0.0 < self.scheduler.beta_start
                    && self.scheduler.beta_start <= self.scheduler.beta_end
                    && self.scheduler.beta_end < 1.0,
                "scheduler: not 0 < beta_start <= beta_end < 1",
            ),
            (
                self.scheduler.steps_offset <= 1,
                "scheduler.steps_offset: neither 0 nor 1",
            ),
            (
                self.scheduler
                    .default
                    .steps()
                    .contains(&self.defaults.steps),
                "defaults.steps: not within the default scheduler's limits",
            ),
            (
                self.defaults.guidance.is_finite(),
                "defaults.guidance: not a number",
            ),
            (
                self.files.iter().all(|entry| stays_inside(&entry.path)),
                "files: a path leads out of the folder",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(self.bad(FILE, *broken)),
            None => Ok(()),
        }
    }
}

/// The manifest's own name.
const FILE: &str = "manifest.json";

/// The components' weights, less their endings.
pub(crate) const TEXT_WEIGHTS: &str = "text_encoder/model";
pub(crate) const UNET_WEIGHTS: &str = "unet/diffusion_pytorch_model";
pub(crate) const VAE_WEIGHTS: &str = "vae/diffusion_pytorch_model";
const WEIGHTS: [&str; 3] = [TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS];

fn stays_inside(path: &str) -> bool {
    Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
}

pub(crate) fn bad(model: &str, file: &str, message: impl Into<String>) -> Error {
    Error::BadCheckpoint {
        model: model.to_owned(),
        file: file.to_owned(),
        tensor: None,
        message: message.into(),
        source: None,
    }
}

/// Reads one JSON file of a model's folder.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(
    folder: &Path,
    model: &str,
    file: &str,
) -> Result<T, Error> {
    let text = fs::read_to_string(folder.join(file))
        .map_err(|e| bad(model, file, "cannot be read").because(e))?;
    serde_json::from_str(&text)
        .map_err(|e| bad(model, file, format!("not as expected: {e}")).because(e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_file_cannot_lead_out_of_the_folder() {
        assert!(stays_inside("unet/config.json"));
        for path in ["../x", "/etc/passwd", "a/../../x", "./x"] {
            assert!(!stays_inside(path), "{path}");
        }
    }
}
