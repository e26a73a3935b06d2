//! A model's manifest: `manifest.json` in its folder, or derived from Hugging Face's configs.

mod validate;

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::folder::{self, read_json};
use crate::hugging_face;
use crate::scheduler::SchedulerKind;
use crate::unsupported;

/// A model's manifest. It contains no weights: reading one is cheap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format; 1.
    pub schema: u32,
    /// The model's name, equal to its folder's.
    #[serde(default)]
    pub name: String,
    /// Version of the weights; changes whenever they do.
    #[serde(default)]
    pub revision: String,
    /// SPDX expression, or the name of the license.
    #[serde(default)]
    pub license: String,
    /// The model's family.
    pub family: Family,
    /// The folder's files, with sizes and checksums; unlisted files are not checked.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    /// The stored type of the weights.
    pub dtype: Dtype,
    /// The supported picture sizes.
    pub image: ImageSizes,
    /// The tokenizer.
    pub tokenizer: TokenizerSpec,
    /// The CLIP text transformer.
    pub text: TextSpec,
    /// The denoising UNet.
    pub unet: UNetSpec,
    /// The autoencoder between pictures and latents.
    pub vae: VaeSpec,
    /// The noise schedule and the allowed schedulers.
    pub scheduler: SchedulerSpec,
    /// Default values of requests.
    pub defaults: Defaults,
    /// Measured memory of the model and one picture on its device, bytes.
    #[serde(default)]
    pub vram_bytes_estimate: Option<u64>,
    /// The model's folder.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
}

/// The family of a model.
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
    /// Path relative to the folder, with forward slashes.
    pub path: String,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Size, bytes.
    pub bytes: u64,
}

/// The stored type of weights.
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

/// Picture sizes, pixels, for width and height alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSizes {
    /// Default width and height.
    pub default: u32,
    /// Minimum.
    pub min: u32,
    /// Maximum.
    pub max: u32,
    /// Both sides must be multiples of this.
    pub multiple_of: u32,
}

/// The tokenizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerSpec {
    /// `clip-bpe`, the only kind.
    pub kind: String,
    /// Tokens in a prompt, including start and end; longer prompts are cut.
    pub context: usize,
    /// The token that pads short prompts.
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
    /// Whether each block attends to the prompt. The middle block always does.
    pub attention_blocks: Vec<bool>,
    /// Residual layers in each block.
    pub layers_per_block: usize,
    /// Attention heads: one number for all blocks, or one per block.
    pub heads: Heads,
    /// Width of the text states: the text transformer's `hidden_size`.
    pub cross_attention_dim: i64,
    /// Whether projections are linear layers (Stable Diffusion 2) instead of 1×1 convolutions (1).
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
    /// Returns the heads of the block at `index`, counted from the outermost.
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
    /// Channels of each block, from the picture to the latents; each step but the last halves the
    /// sides.
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
    /// Returns the pixels along one side of a latent cell; 8 for Stable Diffusion.
    pub fn downsampling(&self) -> u32 {
        1 << self.block_out_channels.len().clamp(1, 8).saturating_sub(1)
    }
}

/// The noise schedule of the model's training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SchedulerSpec {
    /// The allowed schedulers.
    pub allowed: Vec<SchedulerKind>,
    /// The default scheduler.
    pub default: SchedulerKind,
    /// What the UNet predicts.
    pub prediction_type: PredictionType,
    /// Variance of the first training step's noise.
    pub beta_start: f64,
    /// Variance of the last training step's noise.
    pub beta_end: f64,
    /// Growth of the variance in between.
    pub beta_schedule: BetaSchedule,
    /// Offset added to each timestep of schedulers that count from the start of training; 1.
    #[serde(default)]
    pub steps_offset: usize,
    /// Timesteps of the training.
    #[serde(default = "default_train_timesteps")]
    pub num_train_timesteps: u32,
    /// Variance of each training step's noise, instead of the three values above.
    #[serde(default)]
    pub trained_betas: Option<Vec<f64>>,
    /// Whether the variances are rescaled so that the last timestep has no signal.
    #[serde(default)]
    pub rescale_betas_zero_snr: bool,
    /// Which timesteps a number of steps visits; each scheduler has its own default.
    #[serde(default)]
    pub timestep_spacing: Option<TimestepSpacing>,
    /// Whether the last step of DDIM and PNDM ends without noise; each has its own default.
    #[serde(default)]
    pub set_alpha_to_one: Option<bool>,
    /// Noise levels of Euler, Heun and DPM-Solver++.
    #[serde(default)]
    pub sigma_spacing: SigmaSpacing,
    /// Noise level after the last step of Euler and DPM-Solver++.
    #[serde(default)]
    pub final_sigmas_type: FinalSigma,
    /// Variant of DPM-Solver++.
    #[serde(default)]
    pub algorithm_type: DpmAlgorithm,
    /// Steps of DPM-Solver++ of which each one makes use, 1 to 3.
    #[serde(default = "default_solver_order")]
    pub solver_order: usize,
    /// Second order of DPM-Solver++.
    #[serde(default)]
    pub solver_type: DpmSolverType,
    /// Whether DPM-Solver++ lowers the order of the last of few steps.
    #[serde(default = "default_true")]
    pub lower_order_final: bool,
    /// Whether the last step of DPM-Solver++ is of order 1.
    #[serde(default)]
    pub euler_at_final: bool,
    /// Lower bound of half of the logarithm of the signal-to-noise ratio, for DPM-Solver++.
    #[serde(default = "unbounded", with = "lowest")]
    pub lambda_min_clipped: f64,
    /// Timesteps of the distillation, for LCM.
    #[serde(default = "default_original_steps")]
    pub original_inference_steps: usize,
    /// Factor of timesteps in LCM's boundary condition.
    #[serde(default = "default_timestep_scaling")]
    pub timestep_scaling: f64,
}

impl SchedulerSpec {
    /// Returns whether a scheduler computes this noise schedule: diffusers-rs has only Hugging
    /// Face's default settings.
    pub fn allows(&self, kind: SchedulerKind) -> bool {
        let has_all = !matches!(
            kind,
            SchedulerKind::Kdpm2 | SchedulerKind::Kdpm2Ancestral | SchedulerKind::Lms
        );
        has_all
            || self.num_train_timesteps == default_train_timesteps()
                && self.trained_betas.is_none()
                && !self.rescale_betas_zero_snr
                && self.sigma_spacing == SigmaSpacing::Timesteps
                && self.beta_schedule != BetaSchedule::SquaredcosCapV2
                && matches!(
                    self.timestep_spacing,
                    None | Some(TimestepSpacing::Linspace)
                )
    }
}

fn default_train_timesteps() -> u32 {
    1000
}

fn default_solver_order() -> usize {
    2
}

fn default_true() -> bool {
    true
}

fn unbounded() -> f64 {
    f64::NEG_INFINITY
}

fn default_original_steps() -> usize {
    50
}

fn default_timestep_scaling() -> f64 {
    10.0
}

/// JSON has no infinity: null stands for it.
mod lowest {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(value).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NEG_INFINITY))
    }
}

/// Which timesteps a number of steps visits (Lin et al., 2023, table 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// From the last to the first, evenly.
    Linspace,
    /// Multiples of a whole number from the first on; never the last.
    Leading,
    /// Multiples of a number from the last on; never the first.
    Trailing,
}

/// Noise levels of a number of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaSpacing {
    /// Those of the timesteps.
    #[default]
    Timesteps,
    /// Denser towards the end (Karras et al., 2022).
    Karras,
    /// Evenly spaced logarithms.
    Exponential,
}

/// The noise level after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    /// None.
    #[default]
    Zero,
    /// That of the first training step.
    SigmaMin,
}

/// Variant of DPM-Solver++.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DpmAlgorithm {
    /// Without noise between the steps.
    #[default]
    #[serde(rename = "dpmsolver++")]
    DpmSolverPlusPlus,
    /// With noise between the steps.
    #[serde(rename = "sde-dpmsolver++")]
    SdeDpmSolverPlusPlus,
}

/// Second order of DPM-Solver++.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DpmSolverType {
    /// By the middle of the step.
    #[default]
    Midpoint,
    /// By both ends of the step.
    Heun,
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

/// Growth of the noise's variance over the training steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    /// Linear growth.
    Linear,
    /// Linear growth of the square root.
    ScaledLinear,
    /// By a squared cosine of the time (Nichol and Dhariwal, 2021).
    SquaredcosCapV2,
}

/// Default values of requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// Denoising steps.
    pub steps: u32,
    /// Weight of the prompt over the negative prompt; 1 or less disables guidance.
    pub guidance: f64,
}

impl Manifest {
    /// Reads the manifest of a model folder, or derives it from Hugging Face's configs, and checks
    /// its consistency.
    pub(crate) fn read(folder: &Path, name: &str) -> Result<Manifest, Error> {
        let bare = folder.join(hugging_face::INDEX);
        let mut manifest: Manifest = if !folder.join(FILE).exists() && bare.exists() {
            hugging_face::derive(folder, name)?
        } else {
            read_json(folder, name, FILE)?
        };
        name.clone_into(&mut manifest.name);
        folder.clone_into(&mut manifest.folder);
        validate::validate(&manifest)?;
        Ok(manifest)
    }

    /// Returns the model's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Estimates the memory of the model and one picture before a load, bytes: the manifest's
    /// value, or twice the stored weights (a CPU widens half precision to single; a GPU does not,
    /// and needs about as much again as working memory).
    pub fn memory_bytes(&self) -> u64 {
        self.vram_bytes_estimate.unwrap_or_else(|| {
            let stored = WEIGHTS.iter().filter_map(|stem| self.weights(stem).ok());
            let bytes = stored.filter_map(|file| fs::metadata(self.folder.join(file)).ok());
            let bytes: u64 = bytes.map(|metadata| metadata.len()).sum();
            let widening = if self.dtype == Dtype::F32 { 1 } else { 2 };
            bytes.saturating_mul(widening)
        })
    }

    /// Returns the weights file of a component, e.g. of `unet/diffusion_pytorch_model`, relative to
    /// the folder.
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
                Some(other) => match unsupported::weights_message(Path::new(other)) {
                    Some(reason) => format!("missing; {other} exists, but {reason}"),
                    None => format!(
                        "missing; {other} exists, but only a single safetensors file is supported"
                    ),
                },
                None => "missing".to_owned(),
            };
            self.bad(&names[0], message)
        })
    }

    pub(crate) fn bad(&self, file: &str, message: impl Into<String>) -> Error {
        folder::bad(&self.name, file, message)
    }
}

/// The manifest's file name.
pub(crate) const FILE: &str = "manifest.json";

/// The components' weights, without extensions.
pub(crate) const TEXT_WEIGHTS: &str = "text_encoder/model";
pub(crate) const UNET_WEIGHTS: &str = "unet/diffusion_pytorch_model";
pub(crate) const VAE_WEIGHTS: &str = "vae/diffusion_pytorch_model";
const WEIGHTS: [&str; 3] = [TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS];
