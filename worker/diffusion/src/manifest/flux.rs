//! The shapes of FLUX.1's networks.

use serde::{Deserialize, Serialize};

use super::Manifest;
use super::validate::Rule;

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

impl FluxTransformerSpec {
    /// Returns the width of a token's state.
    pub fn width(&self) -> i64 {
        self.heads.saturating_mul(self.head_size)
    }
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

/// Returns the rules of FLUX.1's networks.
#[rustfmt::skip]
pub(super) fn rules(manifest: &Manifest, spec: &FluxSpec) -> Vec<Rule> {
    let (transformer, t5) = (&spec.transformer, &spec.t5);
    let is_width = |width: i64| (1..=1 << 14).contains(&width);
    let axes = &transformer.rope_axes;
    let are_axes = axes.iter().all(|&axis| is_width(axis) && axis % 2 == 0)
        && axes.iter().sum::<i64>() == transformer.head_size;
    let are_blocks = [transformer.double_blocks, transformer.single_blocks]
        .iter()
        .all(|blocks| (1..=128).contains(blocks));
    let is_transformer = is_width(transformer.heads) && is_width(transformer.width());
    let t5_widths = [t5.hidden_size, t5.heads, t5.head_size, t5.heads.saturating_mul(t5.head_size)];
    let are_t5_widths = t5_widths.into_iter().all(is_width);
    let is_t5_inside = (1..=1 << 16).contains(&t5.intermediate_size);
    let are_buckets = (4..=1 << 10).contains(&t5.position_buckets) && t5.position_buckets % 4 == 0;
    let is_distance = t5.max_distance > t5.position_buckets / 4 && t5.max_distance <= 1 << 20;
    let unit = 2 * manifest.vae.downsampling();
    vec![
        (
            is_transformer,
            "transformer.heads * transformer.head_size: not in 1..=16384",
        ),
        (
            are_axes,
            "transformer.rope_axes: not even numbers that add up to transformer.head_size",
        ),
        (are_blocks, "transformer.double_blocks, transformer.single_blocks: not in 1..=128"),
        (
            transformer.latent_channels == manifest.vae.latent_channels,
            "transformer.latent_channels is not vae.latent_channels",
        ),
        (transformer.text_width == t5.hidden_size, "transformer.text_width is not t5.hidden_size"),
        (
            transformer.pooled_width == manifest.text.hidden_size,
            "transformer.pooled_width is not text.hidden_size",
        ),
        (
            are_t5_widths,
            "t5.hidden_size, t5.heads, t5.head_size, t5.heads * t5.head_size: not in 1..=16384",
        ),
        (is_t5_inside, "t5.intermediate_size: not in 1..=65536"),
        ((1..=128).contains(&t5.layers), "t5.layers: not in 1..=128"),
        (are_buckets, "t5.position_buckets: not a multiple of 4 up to 1024"),
        (is_distance, "t5.max_distance: not above t5.position_buckets / 4"),
        (t5.norm_epsilon > 0.0 && t5.norm_epsilon < 1.0, "t5.norm_epsilon: not between 0 and 1"),
        ((2..=1024).contains(&t5.context), "t5.context: not in 2..=1024"),
        (
            manifest.image.multiple_of.is_multiple_of(unit),
            "image.multiple_of: not a multiple of two latent cells",
        ),
    ]
}
