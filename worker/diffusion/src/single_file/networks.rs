//! The networks' shapes: depths and widths are those of the tensors, everything else is that of
//! Stable Diffusion 1.5 and XL as published.

use super::header::Part;
use crate::manifest::{Activation, AddedSpec, Heads, TextSpec, UNetSpec, VaeSpec};

/// Width of an attention head of CLIP, and of Stable Diffusion XL's UNet.
const HEAD_WIDTH: i64 = 64;

/// Groups of the autoencoder's group norms; fewer if it is narrower.
const VAE_GROUPS: i64 = 32;

/// Numbers about the picture's size that Stable Diffusion XL adds to the timestep.
const SIZES: i64 = 6;

/// Returns the UNet's shape. `pooled_width`: the width of the pooled prompt, of Stable Diffusion
/// XL.
///
/// # Errors
/// A sentence that names what is missing or not supported.
pub(super) fn unet(part: Part<'_>, pooled_width: Option<i64>) -> Result<UNetSpec, String> {
    let levels = levels(part)?;
    let layers_per_block = levels[0].widths.len();
    if levels
        .iter()
        .any(|level| level.widths.len() != layers_per_block)
    {
        return Err("the UNet's blocks have different numbers of layers".to_owned());
    }
    let layers_of = |block: &str| {
        part.count(|index| format!("{block}.1.transformer_blocks.{index}.norm1.weight"))
    };
    let middle = layers_of("middle_block");
    let last = levels.len() - 1;
    let layers = levels
        .iter()
        .enumerate()
        .map(|(level, found)| match found.attention {
            Some(block) => layers_of(&format!("input_blocks.{block}")),
            None if level == last => middle,
            None => 1,
        });
    let channels: Vec<i64> = (levels.iter())
        .filter_map(|level| level.widths.last().copied())
        .collect();
    let middle_block = "middle_block.1";
    let added = pooled_width.map(|pooled_width| {
        let inputs = part.size("label_emb.0.0.weight", 1)?;
        Ok::<_, String>(AddedSpec {
            time_width: inputs.saturating_sub(pooled_width) / SIZES,
            pooled_width,
        })
    });
    let added = added.transpose()?;
    Ok(UNetSpec {
        heads: match added {
            Some(_) => Heads::Each(channels.iter().map(|&width| heads(width)).collect()),
            None => Heads::All(8),
        },
        block_out_channels: channels,
        attention_blocks: levels
            .iter()
            .map(|level| level.attention.is_some())
            .collect(),
        layers_per_block,
        cross_attention_dim: part.size(
            &format!("{middle_block}.transformer_blocks.0.attn2.to_k.weight"),
            1,
        )?,
        use_linear_projection: part.rank(&format!("{middle_block}.proj_in.weight")) == 2,
        in_channels: part.size("input_blocks.0.0.weight", 1)?,
        transformer_layers: Some(layers.collect()),
        added,
    })
}

/// The blocks of one resolution.
#[derive(Default)]
struct Level {
    /// Output channels of each residual layer.
    widths: Vec<i64>,
    /// Number of the first block that attends to the prompt.
    attention: Option<usize>,
}

/// Returns the levels of the UNet's first half, never none.
fn levels(part: Part<'_>) -> Result<Vec<Level>, String> {
    let mut levels = vec![Level::default()];
    for block in 1.. {
        let resnet = format!("input_blocks.{block}.0.in_layers.2.weight");
        if part.has(&format!("input_blocks.{block}.0.op.weight")) {
            levels.push(Level::default());
        } else if part.has(&resnet) {
            let width = part.size(&resnet, 0)?;
            let attends = part.has(&format!("input_blocks.{block}.1.proj_in.weight"));
            if let Some(level) = levels.last_mut() {
                level.widths.push(width);
                level.attention = level.attention.or(attends.then_some(block));
            }
        } else {
            break;
        }
    }
    match levels.iter().all(|level| !level.widths.is_empty()) {
        true => Ok(levels),
        false => Err("the UNet has a block without layers".to_owned()),
    }
}

/// Returns the autoencoder's shape.
pub(super) fn vae(part: Part<'_>, scaling_factor: f64) -> Result<VaeSpec, String> {
    let resnet =
        |level: usize, index: usize| format!("encoder.down.{level}.block.{index}.conv1.weight");
    let levels = part.count(|level| resnet(level, 0));
    let channels = (0..levels).map(|level| part.size(&resnet(level, 0), 0));
    let channels: Vec<i64> = channels.collect::<Result<_, _>>()?;
    Ok(VaeSpec {
        norm_groups: channels.first().map_or(1, |&width| width.min(VAE_GROUPS)),
        block_out_channels: channels,
        layers_per_block: part.count(|index| resnet(0, index)),
        latent_channels: part.size("decoder.conv_in.weight", 1)?,
        scaling_factor,
        shift_factor: 0.0,
        quant_convs: part.has("quant_conv.weight"),
    })
}

/// A text transformer's shape and its tokens in a prompt.
pub(super) struct Text {
    pub(super) spec: TextSpec,
    pub(super) context: usize,
}

/// Returns the shape of OpenAI's CLIP.
pub(super) fn clip(part: Part<'_>) -> Result<Text, String> {
    let layer = |index: usize| format!("encoder.layers.{index}.mlp.fc1.weight");
    text(
        part,
        [
            "embeddings.token_embedding.weight",
            "embeddings.position_embedding.weight",
        ],
        layer,
        Activation::QuickGelu,
    )
}

/// Returns the shape of OpenCLIP, which projects the pooled prompt.
pub(super) fn open_clip(part: Part<'_>) -> Result<Text, String> {
    let layer = |index: usize| format!("transformer.resblocks.{index}.mlp.c_fc.weight");
    let names = ["token_embedding.weight", "positional_embedding"];
    let mut text = text(part, names, layer, Activation::Gelu)?;
    text.spec.projection = Some(part.size("text_projection", 1)?);
    Ok(text)
}

/// `layer`: the name of the first feed-forward layer of a layer.
fn text(
    part: Part<'_>,
    [tokens, positions]: [&str; 2],
    layer: impl Fn(usize) -> String,
    activation: Activation,
) -> Result<Text, String> {
    let hidden_size = part.size(tokens, 1)?;
    let context = part.size(positions, 0)?;
    Ok(Text {
        spec: TextSpec {
            hidden_size,
            layers: part.count(&layer),
            heads: heads(hidden_size),
            intermediate_size: part.size(&layer(0), 0)?,
            activation,
            projection: None,
            end_token: None,
        },
        context: usize::try_from(context).unwrap_or(usize::MAX),
    })
}

fn heads(width: i64) -> i64 {
    (width / HEAD_WIDTH).max(1)
}
