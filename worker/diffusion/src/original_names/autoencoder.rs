//! Original names of an autoencoder's tensors, e.g. `encoder.down.0.block.1.conv1.weight`.

/// Returns the original name of a tensor. `levels`: blocks of the decoder, which the original
/// counts from the picture on.
pub(crate) fn of_autoencoder(name: &str, levels: usize) -> Option<String> {
    let (layer, parameter) = name.rsplit_once('.')?;
    let (half, rest) = match layer.split_once('.') {
        Some(("encoder", rest)) => ("encoder", rest),
        Some(("decoder", rest)) => ("decoder", rest),
        // The convolutions beside the latents.
        _ => return Some(name.to_owned()),
    };
    let parts: Vec<&str> = rest.split('.').collect();
    let layer = match parts.as_slice() {
        ["conv_norm_out"] => "norm_out".to_owned(),
        ["down_blocks", block, "downsamplers", "0", "conv"] => {
            format!("down.{block}.downsample.conv")
        }
        ["down_blocks", block, "resnets", index, layer] => {
            format!("down.{block}.block.{index}.{}", of_resnet(layer))
        }
        ["up_blocks", block, rest @ ..] => {
            let level = levels.checked_sub(block.parse::<usize>().ok()? + 1)?;
            match rest {
                ["upsamplers", "0", "conv"] => format!("up.{level}.upsample.conv"),
                ["resnets", index, layer] => {
                    format!("up.{level}.block.{index}.{}", of_resnet(layer))
                }
                _ => return None,
            }
        }
        ["mid_block", "resnets", index, layer] => {
            let index = index.parse::<usize>().ok()? + 1;
            format!("mid.block_{index}.{}", of_resnet(layer))
        }
        ["mid_block", "attentions", "0", layer @ ..] => {
            let layer = match layer {
                ["group_norm"] => "norm",
                ["to_q"] => "q",
                ["to_k"] => "k",
                ["to_v"] => "v",
                ["to_out", "0"] => "proj_out",
                _ => return None,
            };
            format!("mid.attn_1.{layer}")
        }
        _ => rest.to_owned(),
    };
    Some(format!("{half}.{layer}.{parameter}"))
}

fn of_resnet(layer: &str) -> &str {
    match layer {
        "conv_shortcut" => "nin_shortcut",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names as in Stable Diffusion 1.5's own file.
    #[test]
    fn tensors_of_the_autoencoder_have_their_published_names() {
        for (name, original) in [
            ("encoder.conv_in.weight", "encoder.conv_in.weight"),
            ("decoder.conv_norm_out.bias", "decoder.norm_out.bias"),
            ("post_quant_conv.weight", "post_quant_conv.weight"),
            (
                "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
                "encoder.down.1.block.0.nin_shortcut.weight",
            ),
            (
                "encoder.down_blocks.2.downsamplers.0.conv.bias",
                "encoder.down.2.downsample.conv.bias",
            ),
            (
                "decoder.up_blocks.0.resnets.2.norm2.weight",
                "decoder.up.3.block.2.norm2.weight",
            ),
            (
                "decoder.up_blocks.2.upsamplers.0.conv.weight",
                "decoder.up.1.upsample.conv.weight",
            ),
            (
                "encoder.mid_block.resnets.1.conv1.weight",
                "encoder.mid.block_2.conv1.weight",
            ),
            (
                "decoder.mid_block.attentions.0.to_out.0.weight",
                "decoder.mid.attn_1.proj_out.weight",
            ),
            (
                "decoder.mid_block.attentions.0.group_norm.weight",
                "decoder.mid.attn_1.norm.weight",
            ),
        ] {
            assert_eq!(of_autoencoder(name, 4).as_deref(), Some(original));
        }
    }
}
