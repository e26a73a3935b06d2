//! Names of OpenCLIP's text transformer, e.g. `transformer.resblocks.0.attn.in_proj_weight`.

use super::{Stored, View};

/// Returns the stored tensor of a tensor with transformers' name.
pub(crate) fn of_open_clip(name: &str) -> Option<Stored> {
    let parts: Vec<&str> = name.split('.').collect();
    Some(match parts.as_slice() {
        ["embeddings", "token_embedding", "weight"] => Stored::whole("token_embedding.weight"),
        ["embeddings", "position_embedding", "weight"] => Stored::whole("positional_embedding"),
        ["final_layer_norm", parameter] => Stored::whole(format!("ln_final.{parameter}")),
        // OpenCLIP multiplies from the other side.
        ["text_projection", "weight"] => Stored {
            name: "text_projection".to_owned(),
            view: View::Transposed,
        },
        ["encoder", "layers", layer, rest @ .., parameter] => {
            let block = format!("transformer.resblocks.{layer}");
            let third = |index| Stored {
                name: format!("{block}.attn.in_proj_{parameter}"),
                view: View::third(index),
            };
            let whole = |layer| Stored::whole(format!("{block}.{layer}.{parameter}"));
            match rest {
                ["layer_norm1"] => whole("ln_1"),
                ["layer_norm2"] => whole("ln_2"),
                ["mlp", "fc1"] => whole("mlp.c_fc"),
                ["mlp", "fc2"] => whole("mlp.c_proj"),
                ["self_attn", "q_proj"] => third(0),
                ["self_attn", "k_proj"] => third(1),
                ["self_attn", "v_proj"] => third(2),
                ["self_attn", "out_proj"] => whole("attn.out_proj"),
                _ => return None,
            }
        }
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Names as in Stable Diffusion XL's own file.
    #[test]
    fn tensors_of_open_clip_have_their_published_names() {
        for (name, original, view) in [
            (
                "embeddings.position_embedding.weight",
                "positional_embedding",
                View::Whole,
            ),
            (
                "text_projection.weight",
                "text_projection",
                View::Transposed,
            ),
            ("final_layer_norm.bias", "ln_final.bias", View::Whole),
            (
                "encoder.layers.31.self_attn.v_proj.bias",
                "transformer.resblocks.31.attn.in_proj_bias",
                View::third(2),
            ),
            (
                "encoder.layers.0.self_attn.out_proj.weight",
                "transformer.resblocks.0.attn.out_proj.weight",
                View::Whole,
            ),
            (
                "encoder.layers.4.mlp.fc2.weight",
                "transformer.resblocks.4.mlp.c_proj.weight",
                View::Whole,
            ),
        ] {
            let stored = of_open_clip(name).unwrap();
            assert_eq!((stored.name.as_str(), stored.view), (original, view));
        }
    }
}
