//! Names in the layouts in which Stable Diffusion and FLUX.1 were first published, e.g.
//! `input_blocks.1.1.proj_in` for `down_blocks.0.attentions.0.proj_in`. Training tools still use
//! them, and models in a single file.

mod autoencoder;
mod flux;
mod open_clip;
mod stored;

use crate::manifest::UNetSpec;
pub(crate) use autoencoder::of_autoencoder;
pub(crate) use flux::{of_flux, of_flux_layer};
pub(crate) use open_clip::of_open_clip;
pub(crate) use stored::{Stored, View};

/// Returns the original name of a UNet's layer, if it has another one than Hugging Face's.
pub(crate) fn of_unet_layer(name: &str, spec: &UNetSpec) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    // Numbered blocks in the original: one for each layer, and one for each change of the size.
    let per_block = spec.layers_per_block + 1;
    let number = |text: &str| text.parse::<usize>().ok();
    match parts.as_slice() {
        ["conv_in"] => Some("input_blocks.0.0".to_owned()),
        ["conv_norm_out"] => Some("out.0".to_owned()),
        ["conv_out"] => Some("out.2".to_owned()),
        ["time_embedding", linear] => Some(format!("time_embed.{}", index_of(linear)?)),
        ["add_embedding", linear] => Some(format!("label_emb.0.{}", index_of(linear)?)),
        ["down_blocks", block, "downsamplers", "0", "conv"] => {
            let index = (number(block)? + 1) * per_block;
            Some(format!("input_blocks.{index}.0.op"))
        }
        ["down_blocks", block, kind, layer, rest @ ..] => {
            let index = number(block)? * per_block + number(layer)? + 1;
            Some(format!("input_blocks.{index}.{}", inner(kind, rest)?))
        }
        ["mid_block", "resnets", "1", rest @ ..] => {
            Some(format!("middle_block.2.{}", of_resnet(rest)?))
        }
        ["mid_block", kind, "0", rest @ ..] => Some(format!("middle_block.{}", inner(kind, rest)?)),
        ["up_blocks", block, "upsamplers", "0", "conv"] => {
            let block = number(block)?;
            let level = spec.attention_blocks.len().checked_sub(block + 1)?;
            let attends = spec.attention_blocks.get(level).copied()?;
            let index = block * per_block + spec.layers_per_block;
            let place = if attends { 2 } else { 1 };
            Some(format!("output_blocks.{index}.{place}.conv"))
        }
        ["up_blocks", block, kind, layer, rest @ ..] => {
            let index = number(block)? * per_block + number(layer)?;
            Some(format!("output_blocks.{index}.{}", inner(kind, rest)?))
        }
        _ => None,
    }
}

/// Returns the place of a linear layer between activations.
fn index_of(linear: &str) -> Option<usize> {
    match linear {
        "linear_1" => Some(0),
        "linear_2" => Some(2),
        _ => None,
    }
}

/// Returns the name of a layer inside a residual block or a transformer.
fn inner(kind: &str, rest: &[&str]) -> Option<String> {
    match kind {
        "resnets" => Some(format!("0.{}", of_resnet(rest)?)),
        "attentions" => Some(format!("1.{}", rest.join("."))),
        _ => None,
    }
}

fn of_resnet(rest: &[&str]) -> Option<&'static str> {
    match rest {
        ["norm1"] => Some("in_layers.0"),
        ["conv1"] => Some("in_layers.2"),
        ["norm2"] => Some("out_layers.0"),
        ["conv2"] => Some("out_layers.3"),
        ["time_emb_proj"] => Some("emb_layers.1"),
        ["conv_shortcut"] => Some("skip_connection"),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::manifest::Heads;

    /// Names as in Stable Diffusion XL's own file.
    #[test]
    fn layers_of_sdxl_have_their_published_names() {
        let spec = UNetSpec {
            block_out_channels: vec![320, 640, 1280],
            attention_blocks: vec![false, true, true],
            layers_per_block: 2,
            heads: Heads::Each(vec![5, 10, 20]),
            cross_attention_dim: 2048,
            use_linear_projection: true,
            in_channels: 4,
            transformer_layers: Some(vec![1, 2, 10]),
            added: None,
        };
        for (name, original) in [
            ("conv_in", "input_blocks.0.0"),
            ("time_embedding.linear_2", "time_embed.2"),
            ("add_embedding.linear_1", "label_emb.0.0"),
            (
                "down_blocks.0.resnets.1.conv1",
                "input_blocks.2.0.in_layers.2",
            ),
            ("mid_block.resnets.0.norm2", "middle_block.0.out_layers.0"),
            ("down_blocks.0.downsamplers.0.conv", "input_blocks.3.0.op"),
            (
                "down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_out.0",
                "input_blocks.4.1.transformer_blocks.1.attn2.to_out.0",
            ),
            ("mid_block.attentions.0.proj_out", "middle_block.1.proj_out"),
            ("mid_block.resnets.1.conv2", "middle_block.2.out_layers.3"),
            ("up_blocks.0.upsamplers.0.conv", "output_blocks.2.2.conv"),
            (
                "up_blocks.2.resnets.0.conv_shortcut",
                "output_blocks.6.0.skip_connection",
            ),
            (
                "up_blocks.2.resnets.2.norm1",
                "output_blocks.8.0.in_layers.0",
            ),
            ("conv_norm_out", "out.0"),
            ("conv_out", "out.2"),
        ] {
            assert_eq!(of_unet_layer(name, &spec).as_deref(), Some(original));
        }
        assert_eq!(of_unet_layer("down_blocks.0", &spec), None);
    }
}
