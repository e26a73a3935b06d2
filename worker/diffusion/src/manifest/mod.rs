//! A model's manifest: `manifest.json` in its folder, or derived from Hugging Face's configs.

mod flux;
mod networks;
mod scheduler;
mod unipc;
mod validate;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::folder::{self, read_json};
use crate::hugging_face;
use crate::single_file::{self, SingleFile};
pub use flux::{FluxSpec, FluxTransformerSpec, T5Spec};
pub use networks::{
    Activation, AddedSpec, Heads, Networks, SdSpec, SdxlSpec, TextSpec, UNetSpec, VaeSpec,
};
pub use scheduler::{
    BetaSchedule, DpmAlgorithm, DpmSolverType, FinalSigma, FlowCurve, FlowMatchSpec, FlowShift,
    PredictionType, SchedulerSpec, SigmaSpacing, TimestepSpacing,
};
pub use unipc::{UniPcSolver, UniPcSpec};

/// A model's manifest. It contains no weights: reading one is cheap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format; 1.
    pub schema: u32,
    /// The model's name, which follows from its path.
    #[serde(default)]
    pub name: String,
    /// Version of the weights; changes whenever they do.
    #[serde(default)]
    pub revision: String,
    /// SPDX expression, or the name of the license.
    #[serde(default)]
    pub license: String,
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
    /// The family, and its other networks.
    #[serde(flatten)]
    pub networks: Networks,
    /// The autoencoder between pictures and latents.
    pub vae: VaeSpec,
    /// The noise schedule and the allowed schedulers.
    pub scheduler: SchedulerSpec,
    /// Default values of requests.
    pub defaults: Defaults,
    /// Measured memory of the model and one picture on its device, bytes. For readers only:
    /// workers compute the size of the weights from their files.
    #[serde(default)]
    pub vram_bytes_estimate: Option<u64>,
    /// The model's folder, or that of its single file.
    #[serde(skip)]
    pub(crate) folder: PathBuf,
    /// The file of weights in the original layout, and the folders of the other parts.
    #[serde(skip)]
    pub(crate) single_file: Option<SingleFile>,
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

/// Default values of requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// Denoising steps.
    pub steps: u32,
    /// Weight of the prompt over the negative prompt; 1 or less disables guidance.
    pub guidance: f64,
}

impl Manifest {
    /// Reads the manifest of a model folder, or derives it from Hugging Face's configs or a single
    /// file, and checks its consistency.
    pub(crate) fn read(folder: &Path, name: &str) -> Result<Manifest, Error> {
        if folder.is_file() {
            return single_file::derive(folder, name)?.derived();
        }
        let bare = folder.join(hugging_face::INDEX);
        if !folder.join(FILE).exists() && bare.exists() {
            return hugging_face::derive(folder, name)?.derived();
        }
        let mut manifest: Manifest = read_json(folder, name, FILE)?;
        name.clone_into(&mut manifest.name);
        folder.clone_into(&mut manifest.folder);
        match validate::validate(&manifest) {
            Ok(()) => Ok(manifest),
            Err(broken) => Err(manifest.bad(FILE, broken)),
        }
    }

    /// Checks a derived manifest. Errors name the config, or the single file, that it is from.
    fn derived(self) -> Result<Manifest, Error> {
        let Err(broken) = validate::validate(&self) else {
            return Ok(self);
        };
        let config = hugging_face::in_configs(&broken);
        let part = |file: &str| {
            file.split('/')
                .next()
                .map(str::to_owned)
                .unwrap_or_default()
        };
        Err(match (&self.single_file, config) {
            (Some(single), Some((file, message))) if single.folders.have(&part(file)) => {
                self.bad(&self.located(file), message)
            }
            (Some(single), _) => self.bad(&single.name, broken),
            (None, Some((file, message))) => self.bad(file, message),
            (None, None) => self.bad(hugging_face::INDEX, broken),
        })
    }

    /// Returns the model's folder, or that of its single file.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns where a file of diffusers' layout is, relative to the folder. Parts that a single
    /// file lacks are elsewhere.
    pub(crate) fn located(&self, file: &str) -> String {
        match &self.single_file {
            Some(single) => single.folders.located(file),
            None => file.to_owned(),
        }
    }

    pub(crate) fn bad(&self, file: &str, message: impl Into<String>) -> Error {
        folder::bad(&self.name, file, message)
    }
}

/// The manifest's file name.
pub(crate) const FILE: &str = "manifest.json";

/// The components' weights, without extensions.
pub(crate) const TEXT_WEIGHTS: &str = "text_encoder/model";
pub(crate) const TEXT_2_WEIGHTS: &str = "text_encoder_2/model";
pub(crate) const TRANSFORMER_WEIGHTS: &str = "transformer/diffusion_pytorch_model";
pub(crate) const UNET_WEIGHTS: &str = "unet/diffusion_pytorch_model";
pub(crate) const VAE_WEIGHTS: &str = "vae/diffusion_pytorch_model";
