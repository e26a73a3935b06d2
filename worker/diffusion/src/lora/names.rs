//! The layers that a LoRA's names mean.

use std::collections::BTreeMap;

use crate::manifest::Networks;
use crate::original_names::{View, of_flux_layer, of_unet_layer};

/// The layers of a model by all names that files have for them.
#[derive(Debug)]
pub(super) struct Names {
    /// By component and layer, e.g. `unet.conv_in`, by layer alone for the denoising network, by
    /// the layer's original name, and with underscores. An original layer can be several.
    layers: BTreeMap<String, Vec<Target>>,
}

/// A layer that a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Component and layer.
    pub(super) layer: String,
    /// What of the named layer it is.
    pub(super) view: View,
}

/// Components, and what kohya's files call them.
const KOHYA: [(&str, &[&str]); 4] = [
    ("unet", &["lora_unet"]),
    ("transformer", &["lora_transformer", "lora_unet"]),
    ("text_encoder", &["lora_te", "lora_te1"]),
    ("text_encoder_2", &["lora_te2", "lora_te3"]),
];

/// Beginnings of names that PEFT and ComfyUI add.
const SURROUNDINGS: [&str; 2] = ["base_model.model.", "diffusion_model."];

impl Names {
    /// `layers`: component and name of each layer.
    pub(super) fn new<'a>(layers: impl Iterator<Item = &'a String>, networks: &Networks) -> Self {
        let mut names = Self {
            layers: BTreeMap::new(),
        };
        for layer in layers {
            let Some((component, name)) = layer.split_once('.') else {
                continue;
            };
            let original = match component {
                "unet" => (networks.unet())
                    .and_then(|spec| of_unet_layer(name, spec))
                    .map(|original| (original, View::Whole)),
                "transformer" => of_flux_layer(name),
                _ => None,
            };
            let is_denoiser = ["unet", "transformer"].contains(&component);
            names.add(layer.clone(), layer, View::Whole);
            for (name, view) in original.into_iter().chain([(name.to_owned(), View::Whole)]) {
                for prefix in kohya_prefixes(component) {
                    let flat = format!("{prefix}_{}", name.replace('.', "_"));
                    names.add(flat, layer, view);
                }
                if is_denoiser {
                    names.add(name, layer, view);
                }
            }
        }
        names
    }

    fn add(&mut self, name: String, layer: &str, view: View) {
        let target = Target {
            layer: layer.to_owned(),
            view,
        };
        let targets = self.layers.entry(name).or_default();
        // Some layers have the same name in both layouts.
        if !targets.contains(&target) {
            targets.push(target);
        }
    }

    /// Returns the layers that a file's name means.
    pub(super) fn targets(&self, name: &str) -> Option<&[Target]> {
        let strip = |name, begin| str::strip_prefix(name, begin).unwrap_or(name);
        let name = SURROUNDINGS.into_iter().fold(name, strip);
        // CLIP is stored with or without the prefix of the surrounding model.
        let name = name
            .replacen(".text_model.", ".", 1)
            .replacen("_text_model_", "_", 1);
        self.layers.get(&name).map(Vec::as_slice)
    }
}

fn kohya_prefixes(component: &str) -> &'static [&'static str] {
    let found = KOHYA.into_iter().find(|(known, _)| *known == component);
    found.map_or(&[], |(_, prefixes)| prefixes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::manifest::{Heads, SdSpec, UNetSpec};

    #[test]
    fn a_layer_of_flux_as_published_is_several_of_diffusers() {
        let layers = [
            "attn.to_q",
            "attn.to_k",
            "attn.to_v",
            "proj_mlp",
            "proj_out",
        ]
        .map(|layer| format!("transformer.single_transformer_blocks.3.{layer}"));
        let text = "text_encoder_2.encoder.block.0.layer.0.SelfAttention.q".to_owned();
        let networks = Networks::Sd(SdSpec { unet: small_unet() });
        let names = Names::new(layers.iter().chain([&text]), &networks);
        let targets = |name: &str| {
            let targets = names.targets(name).unwrap_or_default().iter();
            targets.map(|target| &target.layer).collect::<Vec<_>>()
        };
        for name in [
            "lora_unet_single_blocks_3_linear1",
            "single_blocks.3.linear1",
            "diffusion_model.single_blocks.3.linear1",
            "base_model.model.single_blocks.3.linear1",
        ] {
            assert_eq!(
                targets(name),
                layers[..4].iter().collect::<Vec<_>>(),
                "{name}"
            );
        }
        for name in [
            "lora_unet_single_blocks_3_linear2",
            "transformer.single_transformer_blocks.3.proj_out",
            "base_model.model.single_transformer_blocks.3.proj_out",
            "lora_transformer_single_transformer_blocks_3_proj_out",
        ] {
            assert_eq!(targets(name), [&layers[4]], "{name}");
        }
        let t5 = "lora_te3_encoder_block_0_layer_0_SelfAttention_q";
        assert_eq!(targets(t5), [&text]);
        assert!(targets("single_blocks.3.processor.qkv_lora").is_empty());
    }

    fn small_unet() -> UNetSpec {
        UNetSpec {
            block_out_channels: vec![32, 64],
            attention_blocks: vec![true, false],
            layers_per_block: 2,
            heads: Heads::All(4),
            cross_attention_dim: 32,
            use_linear_projection: false,
            in_channels: 4,
            transformer_layers: None,
            added: None,
        }
    }

    #[test]
    fn a_layer_has_a_name_in_each_kind_of_file() {
        let query = "unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q".to_owned();
        let text = "text_encoder.encoder.layers.0.self_attn.q_proj".to_owned();
        let layers = [query, text];
        let names = Names::new(layers.iter(), &Networks::Sd(SdSpec { unet: small_unet() }));
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
                "diffusion_model.input_blocks.2.1.transformer_blocks.0.attn1.to_q",
                0,
            ),
            (
                "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
                1,
            ),
            ("text_encoder.encoder.layers.0.self_attn.q_proj", 1),
            ("lora_te_text_model_encoder_layers_0_self_attn_q_proj", 1),
        ] {
            let whole = [Target {
                layer: layers[layer].clone(),
                view: View::Whole,
            }];
            assert_eq!(names.targets(name), Some(whole.as_slice()), "{name}");
        }
        for unknown in [
            "unet.down_blocks.0",
            "lora_te2_encoder_layers_0_self_attn_q_proj",
            "",
        ] {
            assert_eq!(names.targets(unknown), None);
        }
    }
}
