//! Which settings of a component's config the networks compute. A key that is neither read nor
//! listed here may mean anything, so it refuses the model.

use serde_json::{Map, Value, json};

/// Checks a UNet2DConditionModel.
pub(super) fn unet(config: &Map<String, Value>) -> Result<(), String> {
    let read = [
        "block_out_channels",
        "down_block_types",
        "up_block_types",
        "layers_per_block",
        "attention_head_dim",
        "cross_attention_dim",
        "use_linear_projection",
        "sample_size",
        "in_channels",
        "transformer_layers_per_block",
        "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
        // Without effect: dropout is for training, the others belong to settings below.
        "dropout",
        "addition_embed_type_num_heads",
        "class_embeddings_concat",
        "upcast_attention",
    ];
    let fixed = json!({
        "act_fn": ["silu", "swish"],
        "addition_embed_type": [null, "text_time"],
        "attention_type": ["default", null],
        "center_input_sample": [false],
        "class_embed_type": [null],
        "conv_in_kernel": [3],
        "conv_out_kernel": [3],
        "cross_attention_norm": [null],
        "downsample_padding": [1],
        "dual_cross_attention": [false],
        "encoder_hid_dim": [null],
        "encoder_hid_dim_type": [null],
        "flip_sin_to_cos": [true],
        "freq_shift": [0],
        "mid_block_only_cross_attention": [null],
        "mid_block_scale_factor": [1, 1.0],
        "mid_block_type": ["UNetMidBlock2DCrossAttn"],
        "norm_eps": [1e-5],
        "norm_num_groups": [32],
        "num_attention_heads": [null],
        "num_class_embeds": [null],
        "only_cross_attention": [false],
        "out_channels": [4],
        "resnet_out_scale_factor": [1, 1.0],
        "resnet_skip_time_act": [false],
        "resnet_time_scale_shift": ["default"],
        "reverse_transformer_layers_per_block": [null],
        "time_cond_proj_dim": [null],
        "time_embedding_act_fn": [null],
        "time_embedding_dim": [null],
        "time_embedding_type": ["positional"],
        "timestep_post_act": [null],
    });
    check(config, &read, &fixed)
}

/// Checks an AutoencoderKL.
pub(super) fn vae(config: &Map<String, Value>) -> Result<(), String> {
    let blocks = |key: &str, block: &str| match config.get(key).and_then(Value::as_array) {
        Some(names) => match names.iter().find(|name| *name != block) {
            Some(name) => Err(format!("{key}: {name} is not supported")),
            None => Ok(()),
        },
        None => Ok(()),
    };
    blocks("down_block_types", "DownEncoderBlock2D")?;
    blocks("up_block_types", "UpDecoderBlock2D")?;
    let has = |key: &str| config.get(key).is_none_or(|value| *value == true);
    if has("use_quant_conv") != has("use_post_quant_conv") {
        return Err("use_quant_conv: only with use_post_quant_conv is it supported".to_owned());
    }
    let read = [
        "block_out_channels",
        "down_block_types",
        "up_block_types",
        "layers_per_block",
        "norm_num_groups",
        "latent_channels",
        "scaling_factor",
        "shift_factor",
        "use_quant_conv",
        "use_post_quant_conv",
        // Without effect: the decoder is in single precision, and of any size.
        "force_upcast",
        "sample_size",
    ];
    let fixed = json!({
        "act_fn": ["silu"],
        "in_channels": [3],
        "latents_mean": [null],
        "latents_std": [null],
        "mid_block_add_attention": [true],
        "out_channels": [3],
    });
    check(config, &read, &fixed)
}

/// Checks a CLIPTextConfig, of which transformers writes dozens of keys for other uses.
pub(super) fn text(config: &Map<String, Value>) -> Result<(), String> {
    match config.get("layer_norm_eps").and_then(Value::as_f64) {
        Some(epsilon) if epsilon != 1e-5 => {
            Err(format!("layer_norm_eps: {epsilon} is not supported"))
        }
        _ => Ok(()),
    }
}

/// Returns the first key with a value that is not computed. `fixed`: allowed values by key.
pub(super) fn check(
    config: &Map<String, Value>,
    read: &[&str],
    fixed: &Value,
) -> Result<(), String> {
    let is_allowed = |(key, value): &(&String, &Value)| {
        key.starts_with('_')
            || read.contains(&key.as_str())
            || (fixed.get(key.as_str()).and_then(Value::as_array))
                .is_some_and(|allowed| allowed.contains(value))
    };
    match config.iter().find(|entry| !is_allowed(entry)) {
        Some((key, value)) => Err(format!("{key}: {value} is not supported")),
        None => Ok(()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn with(key: &str, value: Value) -> Map<String, Value> {
        let config = json!({"_class_name": "Any", "layers_per_block": 2, key: value});
        config.as_object().unwrap().clone()
    }

    #[test]
    fn a_setting_that_is_not_computed_refuses_a_unet_by_name() {
        for (key, value) in [
            ("only_cross_attention", json!(true)),
            ("downsample_padding", json!(0)),
            ("center_input_sample", json!(true)),
            ("mid_block_scale_factor", json!(2)),
            ("encoder_hid_dim", json!(4096)),
            ("flip_sin_to_cos", json!(false)),
            ("freq_shift", json!(1)),
            ("timestep_post_act", json!("silu")),
            ("norm_eps", json!(1e-6)),
            ("time_cond_proj_dim", json!(256)),
            ("addition_embed_type", json!("image")),
            ("a_key_of_tomorrow", json!(null)),
        ] {
            let message = unet(&with(key, value)).unwrap_err();
            assert!(message.contains(key), "{message}");
        }
        assert_eq!(unet(&with("norm_eps", json!(1e-5))), Ok(()));
    }

    #[test]
    fn a_setting_that_is_not_computed_refuses_a_vae_or_text_encoder_by_name() {
        for (key, value) in [
            ("use_quant_conv", json!(false)),
            ("use_post_quant_conv", json!(false)),
            ("mid_block_add_attention", json!(false)),
            ("down_block_types", json!(["AttnDownEncoderBlock2D"])),
            ("up_block_types", json!(["AttnUpDecoderBlock2D"])),
            ("latents_mean", json!([0.1])),
        ] {
            let message = vae(&with(key, value)).unwrap_err();
            assert!(message.contains(key), "{message}");
        }
        let message = text(&with("layer_norm_eps", json!(1e-6))).unwrap_err();
        assert!(message.contains("layer_norm_eps"), "{message}");
    }
}
