//! Names of FLUX.1's transformer as published, e.g. `double_blocks.0.img_attn.qkv.weight`.

use super::{Stored, View};

/// Query, key and value of a double block.
const QKV: [View; 3] = [View::third(0), View::third(1), View::third(2)];

/// Query, key and value of a single block, and the input of its feed-forward part, which is four
/// times as wide.
const QKV_AND_MLP: [View; 4] = [
    sevenths(0, 1),
    sevenths(1, 1),
    sevenths(2, 1),
    sevenths(3, 4),
];

const fn sevenths(first: i64, count: i64) -> View {
    View::Rows {
        first,
        count,
        of: 7,
    }
}

/// Returns the stored tensor of a tensor with diffusers' name.
pub(crate) fn of_flux(name: &str) -> Option<Stored> {
    let (layer, parameter) = name.rsplit_once('.')?;
    let (layer, view) = of_flux_layer(layer)?;
    let parameter = match layer.ends_with("_norm") {
        true => "scale",
        false => parameter,
    };
    Some(Stored {
        name: format!("{layer}.{parameter}"),
        view,
    })
}

/// Returns the original name of a layer, and what of its weight and bias diffusers' layer is.
pub(crate) fn of_flux_layer(layer: &str) -> Option<(String, View)> {
    let parts: Vec<&str> = layer.split('.').collect();
    let whole = |name: &str| (name.to_owned(), View::Whole);
    Some(match parts.as_slice() {
        ["x_embedder"] => whole("img_in"),
        ["context_embedder"] => whole("txt_in"),
        ["time_text_embed", embedder, linear] => whole(&format!(
            "{}.{}",
            of_embedder(embedder)?,
            of_linear(linear)?
        )),
        ["transformer_blocks", block, rest @ ..] => {
            let (layer, view) = of_double_block(rest)?;
            (format!("double_blocks.{block}.{layer}"), view)
        }
        ["single_transformer_blocks", block, rest @ ..] => {
            let (layer, view) = of_single_block(rest)?;
            (format!("single_blocks.{block}.{layer}"), view)
        }
        // Shift and scale in the original, scale and shift in diffusers.
        ["norm_out", "linear"] => ("final_layer.adaLN_modulation.1".to_owned(), View::Swapped),
        ["proj_out"] => whole("final_layer.linear"),
        _ => return None,
    })
}

fn of_embedder(embedder: &str) -> Option<&'static str> {
    match embedder {
        "timestep_embedder" => Some("time_in"),
        "guidance_embedder" => Some("guidance_in"),
        "text_embedder" => Some("vector_in"),
        _ => None,
    }
}

fn of_linear(linear: &str) -> Option<&'static str> {
    match linear {
        "linear_1" => Some("in_layer"),
        "linear_2" => Some("out_layer"),
        _ => None,
    }
}

fn of_double_block(layer: &[&str]) -> Option<(&'static str, View)> {
    let [query, key, value] = QKV;
    Some(match layer {
        ["norm1", "linear"] => ("img_mod.lin", View::Whole),
        ["norm1_context", "linear"] => ("txt_mod.lin", View::Whole),
        ["attn", "to_q"] => ("img_attn.qkv", query),
        ["attn", "to_k"] => ("img_attn.qkv", key),
        ["attn", "to_v"] => ("img_attn.qkv", value),
        ["attn", "add_q_proj"] => ("txt_attn.qkv", query),
        ["attn", "add_k_proj"] => ("txt_attn.qkv", key),
        ["attn", "add_v_proj"] => ("txt_attn.qkv", value),
        ["attn", "norm_q"] => ("img_attn.norm.query_norm", View::Whole),
        ["attn", "norm_k"] => ("img_attn.norm.key_norm", View::Whole),
        ["attn", "norm_added_q"] => ("txt_attn.norm.query_norm", View::Whole),
        ["attn", "norm_added_k"] => ("txt_attn.norm.key_norm", View::Whole),
        ["attn", "to_out", "0"] => ("img_attn.proj", View::Whole),
        ["attn", "to_add_out"] => ("txt_attn.proj", View::Whole),
        ["ff", "net", "0", "proj"] => ("img_mlp.0", View::Whole),
        ["ff", "net", "2"] => ("img_mlp.2", View::Whole),
        ["ff_context", "net", "0", "proj"] => ("txt_mlp.0", View::Whole),
        ["ff_context", "net", "2"] => ("txt_mlp.2", View::Whole),
        _ => return None,
    })
}

fn of_single_block(layer: &[&str]) -> Option<(&'static str, View)> {
    let [query, key, value, mlp] = QKV_AND_MLP;
    Some(match layer {
        ["norm", "linear"] => ("modulation.lin", View::Whole),
        ["attn", "to_q"] => ("linear1", query),
        ["attn", "to_k"] => ("linear1", key),
        ["attn", "to_v"] => ("linear1", value),
        ["proj_mlp"] => ("linear1", mlp),
        ["attn", "norm_q"] => ("norm.query_norm", View::Whole),
        ["attn", "norm_k"] => ("norm.key_norm", View::Whole),
        ["proj_out"] => ("linear2", View::Whole),
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Names as in FLUX.1's own file.
    #[test]
    fn tensors_of_flux_have_their_published_names() {
        for (name, original, view) in [
            ("x_embedder.weight", "img_in.weight", View::Whole),
            (
                "time_text_embed.guidance_embedder.linear_2.bias",
                "guidance_in.out_layer.bias",
                View::Whole,
            ),
            (
                "transformer_blocks.18.attn.add_k_proj.bias",
                "double_blocks.18.txt_attn.qkv.bias",
                View::third(1),
            ),
            (
                "transformer_blocks.0.attn.norm_added_q.weight",
                "double_blocks.0.txt_attn.norm.query_norm.scale",
                View::Whole,
            ),
            (
                "single_transformer_blocks.37.proj_mlp.weight",
                "single_blocks.37.linear1.weight",
                sevenths(3, 4),
            ),
            (
                "single_transformer_blocks.0.norm.linear.weight",
                "single_blocks.0.modulation.lin.weight",
                View::Whole,
            ),
            (
                "norm_out.linear.weight",
                "final_layer.adaLN_modulation.1.weight",
                View::Swapped,
            ),
        ] {
            let stored = of_flux(name).unwrap();
            assert_eq!((stored.name.as_str(), stored.view), (original, view));
        }
        assert_eq!(of_flux("transformer_blocks.0.attn.to_x.weight"), None);
        assert_eq!(sevenths(3, 4).stored_shape(&[12288, 3072]), [21504, 3072]);
    }
}
