//! The shapes of a model's networks.

use serde::{Deserialize, Serialize};

use super::{FluxSpec, TokenizerSpec};

/// The networks of a family, beside the CLIP text transformer and the autoencoder that all have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "lowercase")]
pub enum Networks {
    /// Stable Diffusion 1.x and 2.x, of any width and depth.
    #[serde(alias = "sd15", alias = "sd21", alias = "tiny")]
    Sd(SdSpec),
    /// Stable Diffusion XL.
    Sdxl(Box<SdxlSpec>),
    /// FLUX.1.
    Flux(Box<FluxSpec>),
}

impl Networks {
    /// Returns the family's name.
    pub fn family(&self) -> &'static str {
        match self {
            Networks::Sd(_) => "sd",
            Networks::Sdxl(_) => "sdxl",
            Networks::Flux(_) => "flux",
        }
    }

    /// Returns the largest width of the denoising network.
    pub fn width(&self) -> i64 {
        let of_unet = |unet: &UNetSpec| unet.block_out_channels.iter().copied().max();
        match self {
            Networks::Sd(spec) => of_unet(&spec.unet).unwrap_or(0),
            Networks::Sdxl(spec) => of_unet(&spec.unet).unwrap_or(0),
            Networks::Flux(spec) => spec.transformer.width(),
        }
    }

    /// Returns the UNet, if the denoising network is one.
    pub fn unet(&self) -> Option<&UNetSpec> {
        match self {
            Networks::Sd(spec) => Some(&spec.unet),
            Networks::Sdxl(spec) => Some(&spec.unet),
            Networks::Flux(_) => None,
        }
    }

    /// Returns whether the denoising network takes a mask and the masked picture.
    pub fn takes_mask(&self) -> bool {
        self.unet().is_some_and(|unet| unet.in_channels == 9)
    }

    /// Returns whether guidance compares the predictions for prompt and negative prompt. Otherwise
    /// it is an input of the network, or has no effect.
    pub fn has_negative_prompt(&self) -> bool {
        self.unet().is_some()
    }
}

/// The networks of Stable Diffusion 1.x and 2.x.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdSpec {
    /// The denoising UNet.
    pub unet: UNetSpec,
}

/// The networks of Stable Diffusion XL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SdxlSpec {
    /// The denoising UNet.
    pub unet: UNetSpec,
    /// The tokenizer of the second text transformer.
    pub tokenizer_2: TokenizerSpec,
    /// The second text transformer, which also pools the prompt: it has a `projection`.
    pub text_2: TextSpec,
    /// Whether no negative prompt means states of zeros instead of those of an empty prompt.
    #[serde(default)]
    pub force_zeros_for_empty_prompt: bool,
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
    /// Width of the pooled prompt, if it is projected.
    #[serde(default)]
    pub projection: Option<i64>,
    /// The token whose state is the pooled prompt; by default the largest id.
    #[serde(default)]
    pub end_token: Option<i64>,
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
    /// Channels of the input: 4, or 9 with a mask and the masked picture for inpainting.
    #[serde(default = "default_in_channels")]
    pub in_channels: i64,
    /// Transformer layers after each residual layer of each block; 1 by default.
    #[serde(default)]
    pub transformer_layers: Option<Vec<usize>>,
    /// What is added to the timestep, if anything.
    #[serde(default)]
    pub added: Option<AddedSpec>,
}

fn default_in_channels() -> i64 {
    4
}

impl UNetSpec {
    /// Returns the transformer layers of the block at `index`, counted from the outermost.
    pub fn transformer_layers_of(&self, index: usize) -> usize {
        let of_block = |layers: &Vec<usize>| layers.get(index).copied();
        self.transformer_layers
            .as_ref()
            .and_then(of_block)
            .unwrap_or(1)
    }
}

/// What Stable Diffusion XL adds to the timestep: the pooled prompt and six numbers about the
/// picture's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedSpec {
    /// Width of each number's embedding.
    pub time_width: i64,
    /// Width of the pooled prompt.
    pub pooled_width: i64,
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
    /// Channels of the latents; 4, or 16 for FLUX.1.
    pub latent_channels: i64,
    /// Latents are divided by this before decoding.
    pub scaling_factor: f64,
    /// This is added to divided latents before decoding.
    #[serde(default)]
    pub shift_factor: f64,
    /// Whether 1×1 convolutions follow the encoder and precede the decoder.
    #[serde(default = "default_true")]
    pub quant_convs: bool,
}

fn default_true() -> bool {
    true
}

impl VaeSpec {
    /// Returns the pixels along one side of a latent cell; 8 for Stable Diffusion.
    pub fn downsampling(&self) -> u32 {
        1 << self.block_out_channels.len().clamp(1, 8).saturating_sub(1)
    }
}
