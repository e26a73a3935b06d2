//! The classes of a pipeline's components, which `model_index.json` names: another class computes
//! something else from the same config.

use serde_json::{Map, Value};

use super::Family;

/// Components and the classes that the networks here compute.
type Classes = &'static [(&'static str, &'static [&'static str])];

const CLIP_TOKENIZERS: &[&str] = &["CLIPTokenizer", "CLIPTokenizerFast"];

const OF_SD: Classes = &[
    ("tokenizer", CLIP_TOKENIZERS),
    ("text_encoder", &["CLIPTextModel"]),
    ("unet", &["UNet2DConditionModel"]),
    ("vae", &["AutoencoderKL"]),
];

const OF_XL: Classes = &[
    ("tokenizer", CLIP_TOKENIZERS),
    ("tokenizer_2", CLIP_TOKENIZERS),
    ("text_encoder", &["CLIPTextModel"]),
    ("text_encoder_2", &["CLIPTextModelWithProjection"]),
    ("unet", &["UNet2DConditionModel"]),
    ("vae", &["AutoencoderKL"]),
];

const OF_FLUX: Classes = &[
    ("tokenizer", CLIP_TOKENIZERS),
    ("tokenizer_2", &["T5Tokenizer", "T5TokenizerFast"]),
    ("text_encoder", &["CLIPTextModel"]),
    ("text_encoder_2", &["T5EncoderModel"]),
    ("transformer", &["FluxTransformer2DModel"]),
    ("vae", &["AutoencoderKL"]),
];

/// Checks the components that the index lists, each as library and class.
///
/// # Errors
/// A sentence that names the component of another class.
pub(super) fn check(index: &Map<String, Value>, family: Family) -> Result<(), String> {
    let classes = match family {
        Family::Sd => OF_SD,
        Family::Xl => OF_XL,
        Family::Flux => OF_FLUX,
    };
    let other = classes.iter().find_map(|(component, known)| {
        let named = index.get(*component)?;
        let class = named.get(1).and_then(Value::as_str);
        (!class.is_some_and(|class| known.contains(&class))).then_some((component, named, known))
    });
    other.map_or(Ok(()), |(component, named, known)| {
        Err(format!(
            "{component}: {named} is not supported, only {}",
            known.join(" or ")
        ))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_component_of_another_class_refuses_the_model_by_name() {
        for (family, component, class) in [
            (
                Family::Sd,
                "vae",
                json!(["diffusers", "AsymmetricAutoencoderKL"]),
            ),
            (Family::Sd, "unet", json!(["my_unet", "MyUNet"])),
            (
                Family::Sd,
                "text_encoder",
                json!(["transformers", "CLIPTextModelWithProjection"]),
            ),
            (
                Family::Xl,
                "text_encoder_2",
                json!(["transformers", "CLIPTextModel"]),
            ),
            (Family::Xl, "text_encoder", json!([null, null])),
            (
                Family::Flux,
                "tokenizer_2",
                json!(["transformers", "CLIPTokenizer"]),
            ),
            (Family::Flux, "transformer", json!(null)),
        ] {
            let index = json!({ component: class });
            let message = check(index.as_object().unwrap(), family).unwrap_err();
            assert!(message.starts_with(component), "{message}");
        }
        let index = json!({"vae": ["diffusers", "AutoencoderKL"], "safety_checker": [null, null]});
        assert_eq!(check(index.as_object().unwrap(), Family::Sd), Ok(()));
    }
}
