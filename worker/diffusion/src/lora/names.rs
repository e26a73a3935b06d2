//! The layers that a LoRA's names mean.

use std::collections::BTreeMap;

use crate::manifest::Networks;
use crate::original_names;

/// The layers of a model by all names that files have for them.
#[derive(Debug)]
pub(super) struct Names {
    /// Component and layer, e.g. `unet.conv_in`, by themselves and with underscores.
    layers: BTreeMap<String, String>,
}

/// Components, and what kohya's files call them.
const KOHYA: [(&str, &[&str]); 4] = [
    ("unet", &["lora_unet"]),
    ("transformer", &["lora_transformer", "lora_unet"]),
    ("text_encoder", &["lora_te", "lora_te1"]),
    ("text_encoder_2", &["lora_te2"]),
];

impl Names {
    /// `layers`: component and name of each layer.
    pub(super) fn new<'a>(layers: impl Iterator<Item = &'a String>, networks: &Networks) -> Self {
        let mut names = BTreeMap::new();
        for layer in layers {
            let Some((component, name)) = layer.split_once('.') else {
                continue;
            };
            names.insert(layer.clone(), layer.clone());
            let original = networks
                .unet()
                .filter(|_| component == "unet")
                .and_then(|spec| original_names::of_unet_layer(name, spec));
            let (_, prefixes) = KOHYA
                .into_iter()
                .find(|(known, _)| *known == component)
                .unwrap_or_default();
            for name in original.iter().map(String::as_str).chain([name]) {
                for prefix in prefixes {
                    let flat = format!("{prefix}_{}", name.replace('.', "_"));
                    names.insert(flat, layer.clone());
                }
            }
        }
        Self { layers: names }
    }

    /// Returns component and name of the layer that a file's name means.
    pub(super) fn layer(&self, name: &str) -> Option<&String> {
        let name = name.strip_prefix("base_model.model.").unwrap_or(name);
        // CLIP is stored with or without the prefix of the surrounding model.
        let name = name
            .replacen(".text_model.", ".", 1)
            .replacen("_text_model_", "_", 1);
        self.layers.get(&name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::manifest::{Heads, SdSpec, UNetSpec};

    #[test]
    fn a_layer_has_a_name_in_each_kind_of_file() {
        let unet = UNetSpec {
            block_out_channels: vec![32, 64],
            attention_blocks: vec![true, false],
            layers_per_block: 2,
            heads: Heads::All(4),
            cross_attention_dim: 32,
            use_linear_projection: false,
            in_channels: 4,
            transformer_layers: None,
            added: None,
        };
        let query = "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q".to_owned();
        let text = "text_encoder.encoder.layers.0.self_attn.q_proj".to_owned();
        let layers = [query, text];
        let names = Names::new(layers.iter(), &Networks::Sd(SdSpec { unet }));
        for (name, layer) in [
            (
                "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q",
                0,
            ),
            (
                "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn1_to_q",
                0,
            ),
            (
                "lora_unet_input_blocks_2_1_transformer_blocks_0_attn1_to_q",
                0,
            ),
            (
                "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
                1,
            ),
            ("text_encoder.encoder.layers.0.self_attn.q_proj", 1),
            ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 1),
        ] {
            assert_eq!(names.layer(name), Some(&layers[layer]), "{name}");
        }
        for unknown in [
            "unet.down_blocks.0",
            "lora_te2_encoder_layers_0_self_attn_q_proj",
            "",
        ] {
            assert_eq!(names.layer(unknown), None);
        }
    }
}
