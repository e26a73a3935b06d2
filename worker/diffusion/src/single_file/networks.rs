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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use safetensors::tensor::Dtype;

    use super::*;
    use crate::single_file::Tensors;

    /// Names and shapes as in Stable Diffusion XL's own file.
    #[test]
    fn the_unet_of_sdxl_has_its_published_shape() {
        let mut tensors = Tensors::new();
        let mut add = |name: String, shape: &[i64]| {
            tensors.insert(name, (shape.to_vec(), Dtype::F16));
        };
        add("input_blocks.0.0.weight".to_owned(), &[320, 4, 3, 3]);
        add("label_emb.0.0.weight".to_owned(), &[1280, 2816]);
        let mut block = 1;
        for (level, (width, layers)) in [(320, 0), (640, 2), (1280, 10)].into_iter().enumerate() {
            for _ in 0..2 {
                let name = format!("input_blocks.{block}.0.in_layers.2.weight");
                add(name, &[width, width, 3, 3]);
                transformer(&mut add, &format!("input_blocks.{block}"), width, layers);
                block += 1;
            }
            if level < 2 {
                add(
                    format!("input_blocks.{block}.0.op.weight"),
                    &[width, width, 3, 3],
                );
                block += 1;
            }
        }
        transformer(&mut add, "middle_block", 1280, 10);
        let expected = UNetSpec {
            block_out_channels: vec![320, 640, 1280],
            attention_blocks: vec![false, true, true],
            layers_per_block: 2,
            heads: Heads::Each(vec![5, 10, 20]),
            cross_attention_dim: 2048,
            use_linear_projection: true,
            in_channels: 4,
            transformer_layers: Some(vec![1, 2, 10]),
            added: Some(AddedSpec {
                time_width: 256,
                pooled_width: 1280,
            }),
        };
        assert_eq!(unet(Part::new(&tensors, ""), Some(1280)).unwrap(), expected);
    }

    fn transformer(add: &mut impl FnMut(String, &[i64]), block: &str, width: i64, layers: usize) {
        if layers > 0 {
            add(format!("{block}.1.proj_in.weight"), &[width, width]);
        }
        for layer in 0..layers {
            let layer = format!("{block}.1.transformer_blocks.{layer}");
            add(format!("{layer}.norm1.weight"), &[width]);
            add(format!("{layer}.attn2.to_k.weight"), &[width, 2048]);
        }
    }
}
