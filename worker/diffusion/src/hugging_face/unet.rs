//! The config of a UNet.

use serde::Deserialize;

use super::allowed;
use super::folder::Folder;
use crate::error::Error;
use crate::manifest::{AddedSpec, Heads, UNetSpec};

const UNET: &str = "unet/config.json";

/// diffusers' UNet2DConditionModel.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct UNetConfig {
    block_out_channels: Vec<i64>,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    layers_per_block: usize,
    attention_head_dim: Heads,
    cross_attention_dim: i64,
    use_linear_projection: bool,
    pub(super) sample_size: u32,
    in_channels: i64,
    transformer_layers_per_block: Layers,
    addition_embed_type: Option<String>,
    addition_time_embed_dim: Option<i64>,
    projection_class_embeddings_input_dim: Option<i64>,
}

/// Transformer layers of the blocks: one number for all, or one per block.
#[derive(Deserialize)]
#[serde(untagged)]
enum Layers {
    All(usize),
    Each(Vec<usize>),
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
            in_channels: 4,
            transformer_layers_per_block: Layers::All(1),
            addition_embed_type: None,
            addition_time_embed_dim: None,
            projection_class_embeddings_input_dim: None,
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

    pub(super) fn spec(self) -> UNetSpec {
        let blocks = self.block_out_channels.len();
        let types = self.down_block_types.iter();
        let added = self.addition_embed_type.map(|_| {
            let time_width = self.addition_time_embed_dim.unwrap_or(256);
            let width = self.projection_class_embeddings_input_dim.unwrap_or(0);
            AddedSpec {
                time_width,
                pooled_width: width.saturating_sub(time_width.saturating_mul(6)),
            }
        });
        UNetSpec {
            attention_blocks: types.map(|name| name == DOWN_ATTENDS).collect(),
            block_out_channels: self.block_out_channels,
            layers_per_block: self.layers_per_block,
            heads: self.attention_head_dim,
            cross_attention_dim: self.cross_attention_dim,
            use_linear_projection: self.use_linear_projection,
            in_channels: self.in_channels,
            transformer_layers: Some(match self.transformer_layers_per_block {
                Layers::All(layers) => vec![layers; blocks],
                Layers::Each(layers) => layers,
            }),
            added,
        }
    }
}

/// Reads the UNet's config.
pub(super) fn unet(folder: Folder<'_>) -> Result<UNetConfig, Error> {
    let unet: UNetConfig = folder.config(UNET, allowed::unet)?;
    match unet.unsupported_block() {
        Some(message) => Err(folder.bad(UNET, message)),
        None => Ok(unet),
    }
}
