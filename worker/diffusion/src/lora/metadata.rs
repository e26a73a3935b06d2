//! PEFT's settings, which diffusers stores in the header of a file.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use serde_json::{Map, Value};

/// The header's key.
const KEY: &str = "lora_adapter_metadata";

/// Settings by component, e.g. `unet`.
#[derive(Debug, Default)]
pub(super) struct Metadata(BTreeMap<String, Settings>);

/// PEFT's LoraConfig; ranks are those of the matrices.
#[derive(Debug, Deserialize)]
pub(super) struct Settings {
    #[serde(default = "default_alpha")]
    lora_alpha: f64,
    /// By the end of a layer's name.
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    use_rslora: bool,
}

fn default_alpha() -> f64 {
    8.0
}

impl Metadata {
    /// Reads the settings of a header, if it has any.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn read(header: Option<&HashMap<String, String>>) -> Result<Self, String> {
        let Some(text) = header.and_then(|header| header.get(KEY)) else {
            return Ok(Self::default());
        };
        let invalid = |error: serde_json::Error| format!("{KEY} in its header: {error}");
        let flat: Map<String, Value> = serde_json::from_str(text).map_err(invalid)?;
        let mut components: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
        for (key, value) in flat {
            if let Some((component, setting)) = key.split_once('.') {
                let settings = components.entry(component.to_owned()).or_default();
                settings.insert(setting.to_owned(), value);
            }
        }
        let settings = components.into_iter().map(|(component, settings)| {
            let settings = serde_json::from_value(Value::Object(settings)).map_err(invalid)?;
            Ok((component, settings))
        });
        settings.collect::<Result<_, String>>().map(Self)
    }

    /// Returns the factor of a layer's product; `None` if its component has no settings.
    pub(super) fn factor(&self, layer: &str, rank: i64) -> Option<f64> {
        let (component, layer) = layer.split_once('.')?;
        let settings = self.0.get(component)?;
        let is_meant = |end: &str| {
            let begin = layer.strip_suffix(end);
            begin.is_some_and(|begin| begin.is_empty() || begin.ends_with('.'))
        };
        let mut patterns = settings.alpha_pattern.iter();
        let alpha = patterns.find(|(end, _)| is_meant(end));
        let alpha = alpha.map_or(settings.lora_alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        Some(match settings.use_rslora {
            true => alpha / rank.sqrt(),
            false => alpha / rank,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn metadata(text: &str) -> Result<Metadata, String> {
        Metadata::read(Some(&HashMap::from([(KEY.to_owned(), text.to_owned())])))
    }

    #[test]
    fn a_layers_factor_is_that_of_its_pattern_or_of_its_component() {
        let metadata = metadata(
            r#"{"unet.r": 4, "unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 2},
                "text_encoder.r": 4, "text_encoder.use_rslora": true}"#,
        );
        let metadata = metadata.unwrap();
        for (layer, factor) in [
            ("unet.mid_block.attn1.to_q", Some(0.5)),
            ("unet.mid_block.xattn1.to_q", Some(2.0)),
            ("unet.conv_in", Some(2.0)),
            ("text_encoder.layers.0", Some(4.0)),
            ("transformer.layers.0", None),
            ("lora_unet_conv_in", None),
        ] {
            assert_eq!(metadata.factor(layer, 4), factor, "{layer}");
        }
        assert_eq!(
            Metadata::read(None).unwrap().factor("unet.conv_in", 4),
            None
        );
    }

    #[test]
    fn settings_that_cannot_be_read_are_an_error() {
        for text in ["[]", r#"{"unet.lora_alpha": "8"}"#] {
            let message = metadata(text).unwrap_err();
            assert!(message.starts_with(KEY), "{message}");
        }
    }
}
