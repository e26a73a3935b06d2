//! The configs that only a FluxPipeline has: the transformer's and T5's.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::allowed;
use super::folder::Folder;
use super::text::TokenizerConfigs;
use crate::error::Error;
use crate::manifest::{
    Defaults, FlowCurve, FlowMatchSpec, FlowShift, FluxTransformerSpec, ImageSizes, SigmaSpacing,
    T5Spec, VaeSpec,
};
use crate::t5_tokenizer;

/// Tokens of T5 in a prompt: dev's and schnell's, as their cards have them.
const DEV_CONTEXT: usize = 512;
const SCHNELL_CONTEXT: usize = 256;

/// Cells of the latents in a token of the picture.
const CELLS: i64 = 4;

/// Pixels along a side of a picture: the training's, and the supported ones.
const DEFAULT_SIDE: u32 = 1024;
const MIN_SIDE: u32 = 64;
const MAX_SIDE: u32 = 2048;

pub(super) const TRANSFORMER: &str = "transformer/config.json";
const T5: &str = "text_encoder_2/config.json";

/// Reads the config of the transformer.
pub(super) fn transformer(folder: Folder<'_>) -> Result<FluxTransformerSpec, Error> {
    let config: TransformerConfig = folder.config(TRANSFORMER, check_transformer)?;
    let spec = config.spec();
    spec.map_err(|message| folder.bad(TRANSFORMER, message))
}

/// Reads the config of T5. `transformer`: the network that reads the text states.
pub(super) fn t5(folder: Folder<'_>, transformer: &FluxTransformerSpec) -> Result<T5Spec, Error> {
    let config: T5Config = folder.config(T5, check_t5)?;
    let tokenizer = TokenizerConfigs::read(folder, "tokenizer_2")?;
    tokenizer.check_token("eos_token", t5_tokenizer::END)?;
    tokenizer.check_token("pad_token", t5_tokenizer::PAD)?;
    Ok(config.spec(transformer))
}

/// Returns the flow of dev's or schnell's scheduler.
pub(super) fn published_flow(transformer: &FluxTransformerSpec) -> FlowMatchSpec {
    FlowMatchSpec {
        num_train_timesteps: 1000,
        shift: match transformer.guidance {
            true => FlowShift::BySize {
                base_shift: 0.5,
                max_shift: 1.15,
                base_tokens: 256,
                max_tokens: 4096,
                curve: FlowCurve::Exponential,
            },
            false => FlowShift::Fixed(1.0),
        },
        shift_terminal: None,
        sigma_spacing: SigmaSpacing::Timesteps,
    }
}

/// Returns the sizes of pictures: a token has two latent cells along a side.
pub(super) fn sizes(vae: &VaeSpec) -> ImageSizes {
    ImageSizes {
        default: DEFAULT_SIDE,
        min: MIN_SIDE,
        max: MAX_SIDE,
        multiple_of: 2 * vae.downsampling(),
    }
}

/// Returns the defaults of the models' cards.
pub(super) fn defaults(transformer: &FluxTransformerSpec) -> Defaults {
    let (steps, guidance) = match transformer.guidance {
        true => (28, 3.5),
        false => (4, 0.0),
    };
    Defaults { steps, guidance }
}

/// diffusers' FluxTransformer2DModel.
#[derive(Deserialize)]
#[serde(default)]
struct TransformerConfig {
    in_channels: i64,
    out_channels: Option<i64>,
    num_layers: usize,
    num_single_layers: usize,
    attention_head_dim: i64,
    num_attention_heads: i64,
    joint_attention_dim: i64,
    pooled_projection_dim: i64,
    guidance_embeds: bool,
    axes_dims_rope: [i64; 3],
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            in_channels: 64,
            out_channels: None,
            num_layers: 19,
            num_single_layers: 38,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 4096,
            pooled_projection_dim: 768,
            guidance_embeds: false,
            axes_dims_rope: [16, 56, 56],
        }
    }
}

impl TransformerConfig {
    /// # Errors
    /// A sentence that names the key that is not supported.
    fn spec(self) -> Result<FluxTransformerSpec, String> {
        // The variants that edit pictures have further inputs.
        if let Some(out) = self.out_channels.filter(|&out| out != self.in_channels) {
            return Err(format!("out_channels: {out} is not in_channels"));
        }
        if self.in_channels % CELLS != 0 {
            return Err(format!(
                "in_channels: {} is not supported",
                self.in_channels
            ));
        }
        Ok(FluxTransformerSpec {
            double_blocks: self.num_layers,
            single_blocks: self.num_single_layers,
            heads: self.num_attention_heads,
            head_size: self.attention_head_dim,
            latent_channels: self.in_channels / CELLS,
            text_width: self.joint_attention_dim,
            pooled_width: self.pooled_projection_dim,
            guidance: self.guidance_embeds,
            rope_axes: self.axes_dims_rope,
        })
    }
}

/// Checks a FluxTransformer2DModel.
fn check_transformer(config: &Map<String, Value>) -> Result<(), String> {
    let read = [
        "in_channels",
        "out_channels",
        "num_layers",
        "num_single_layers",
        "attention_head_dim",
        "num_attention_heads",
        "joint_attention_dim",
        "pooled_projection_dim",
        "guidance_embeds",
        "axes_dims_rope",
    ];
    allowed::check(config, &read, &json!({"patch_size": [1]}))
}

/// transformers' T5Config.
#[derive(Deserialize)]
#[serde(default)]
struct T5Config {
    d_model: i64,
    d_kv: i64,
    d_ff: i64,
    num_layers: usize,
    num_heads: i64,
    relative_attention_num_buckets: i64,
    relative_attention_max_distance: i64,
    layer_norm_epsilon: f64,
}

impl Default for T5Config {
    fn default() -> Self {
        Self {
            d_model: 512,
            d_kv: 64,
            d_ff: 2048,
            num_layers: 6,
            num_heads: 8,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
        }
    }
}

impl T5Config {
    fn spec(self, transformer: &FluxTransformerSpec) -> T5Spec {
        T5Spec {
            hidden_size: self.d_model,
            layers: self.num_layers,
            heads: self.num_heads,
            head_size: self.d_kv,
            intermediate_size: self.d_ff,
            position_buckets: self.relative_attention_num_buckets,
            max_distance: self.relative_attention_max_distance,
            norm_epsilon: self.layer_norm_epsilon,
            context: match transformer.guidance {
                true => DEV_CONTEXT,
                false => SCHNELL_CONTEXT,
            },
        }
    }
}

/// Checks a T5Config, of which transformers writes dozens of keys for other uses.
fn check_t5(config: &Map<String, Value>) -> Result<(), String> {
    // Other than version 1.1, the first T5 is not gated, and says nothing about it.
    let needed = ("feed_forward_proj", json!("gated-gelu"));
    let fixed = [
        ("dense_act_fn", json!("gelu_new")),
        ("is_gated_act", json!(true)),
        ("is_decoder", json!(false)),
        ("model_type", json!("t5")),
    ];
    let is_there = |(key, _): &(&str, Value)| config.contains_key(*key);
    let expected = fixed.into_iter().filter(is_there).chain([needed]);
    for (key, expected) in expected {
        match config.get(key) {
            Some(value) if *value == expected => {}
            Some(value) => return Err(format!("{key}: {value} is not supported")),
            None => return Err(format!("{key}: only {expected} is supported")),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn config(key: &str, value: &Value) -> Map<String, Value> {
        let config = json!({"feed_forward_proj": "gated-gelu", key: value});
        config.as_object().unwrap().clone()
    }

    #[test]
    fn a_setting_that_is_not_computed_refuses_a_transformer_by_name() {
        for (key, value) in [("patch_size", json!(2)), ("a_key_of_tomorrow", json!(null))] {
            let config = json!({"in_channels": 64, key: value});
            let message = check_transformer(config.as_object().unwrap()).unwrap_err();
            assert!(message.contains(key), "{message}");
        }
        // FLUX.1 Fill and its relatives.
        for (key, config) in [
            (
                "out_channels",
                json!({"in_channels": 384, "out_channels": 64}),
            ),
            ("in_channels", json!({"in_channels": 65})),
        ] {
            let config: TransformerConfig = serde_json::from_value(config).unwrap();
            let message = config.spec().unwrap_err();
            assert!(message.contains(key), "{message}");
        }
    }

    #[test]
    fn a_setting_that_is_not_computed_refuses_t5_by_name() {
        for (key, value) in [
            ("feed_forward_proj", json!("relu")),
            ("dense_act_fn", json!("relu")),
            ("is_gated_act", json!(false)),
            ("is_decoder", json!(true)),
            ("model_type", json!("umt5")),
        ] {
            let message = check_t5(&config(key, &value)).unwrap_err();
            assert!(message.contains(key), "{message}");
        }
        let message = check_t5(&Map::new()).unwrap_err();
        assert!(message.contains("feed_forward_proj"), "{message}");
        assert_eq!(check_t5(&config("is_decoder", &json!(false))), Ok(()));
    }
}
