//! The shapes of FLUX.1's networks.

use serde::{Deserialize, Serialize};

/// The networks of FLUX.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FluxSpec {
    /// The denoising transformer.
    pub transformer: FluxTransformerSpec,
    /// The second text encoder, whose states the transformer attends to; the CLIP text transformer
    /// only pools the prompt.
    pub t5: T5Spec,
}

/// The shape of FLUX.1's transformer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FluxTransformerSpec {
    /// Blocks with separate weights for picture and text.
    pub double_blocks: usize,
    /// Blocks with common weights for picture and text.
    pub single_blocks: usize,
    /// Attention heads.
    pub heads: i64,
    /// Width of an attention head: the sum of `rope_axes`.
    pub head_size: i64,
    /// Channels of a latent cell; four cells make a token of the picture.
    pub latent_channels: i64,
    /// Width of the text states: the T5 encoder's `hidden_size`.
    pub text_width: i64,
    /// Width of the prompt's summary: the CLIP text transformer's `hidden_size`.
    pub pooled_width: i64,
    /// Whether the guidance is an input of the network (dev), or was distilled away (schnell).
    pub guidance: bool,
    /// Numbers of an attention head that encode a token's page, row and column.
    pub rope_axes: [i64; 3],
}

/// The shape of a T5 encoder, version 1.1 (Raffel et al., 2020; Shazeer, 2020).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct T5Spec {
    /// Width of a token's state.
    pub hidden_size: i64,
    /// Transformer layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: i64,
    /// Width of an attention head.
    pub head_size: i64,
    /// Width inside the feed-forward part.
    pub intermediate_size: i64,
    /// Classes of distances between two tokens; even.
    pub position_buckets: i64,
    /// Distance from which on all tokens are in the same class.
    pub max_distance: i64,
    /// Term that keeps the norms finite.
    pub norm_epsilon: f64,
    /// Tokens in a prompt, including the end; longer prompts are cut.
    pub context: usize,
}
