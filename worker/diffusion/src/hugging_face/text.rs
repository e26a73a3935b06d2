//! The configs of a CLIP text encoder and its tokenizer.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::allowed;
use super::folder::Folder;
use crate::error::Error;
use crate::manifest::{Activation, Dtype, TextSpec, TokenizerSpec};

/// An end token that no vocabulary has: older configs carry it, and mean the largest id.
const LEGACY_END_TOKEN: i64 = 2;

/// The token that ends a prompt, and pads it unless a file names another one.
const END: &str = "<|endoftext|>";

const TOKENIZER: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";

/// transformers' CLIPTextConfig.
#[derive(Deserialize)]
#[serde(default)]
pub(super) struct TextConfig {
    hidden_size: i64,
    num_hidden_layers: usize,
    num_attention_heads: i64,
    intermediate_size: i64,
    hidden_act: Activation,
    pub(super) max_position_embeddings: usize,
    projection_dim: i64,
    eos_token_id: Option<i64>,
    dtype: Option<String>,
    torch_dtype: Option<String>,
}

impl Default for TextConfig {
    fn default() -> TextConfig {
        TextConfig {
            hidden_size: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            intermediate_size: 2048,
            hidden_act: Activation::QuickGelu,
            max_position_embeddings: 77,
            projection_dim: 512,
            eos_token_id: Some(49407),
            dtype: None,
            torch_dtype: None,
        }
    }
}

impl TextConfig {
    pub(super) fn stored_dtype(&self) -> Dtype {
        match self.dtype.as_deref().or(self.torch_dtype.as_deref()) {
            Some("float16") => Dtype::F16,
            Some("bfloat16") => Dtype::Bf16,
            _ => Dtype::F32,
        }
    }

    /// `projects`: whether the class has a projection of the pooled prompt.
    pub(super) fn spec(self, projects: bool) -> TextSpec {
        TextSpec {
            hidden_size: self.hidden_size,
            layers: self.num_hidden_layers,
            heads: self.num_attention_heads,
            intermediate_size: self.intermediate_size,
            activation: self.hidden_act,
            projection: projects.then_some(self.projection_dim),
            end_token: self.eos_token_id.filter(|id| *id != LEGACY_END_TOKEN),
        }
    }
}

/// Hugging Face writes a special token as its text, or as an object around it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Token {
    Text(String),
    Object { content: String },
}

/// Reads the config of the text encoder in a component's folder.
pub(super) fn encoder(folder: Folder<'_>, component: &str) -> Result<TextConfig, Error> {
    folder.config(&format!("{component}/config.json"), allowed::text)
}

/// Reads the tokenizer in a component's folder.
pub(super) fn tokenizer(
    folder: Folder<'_>,
    component: &str,
    context: usize,
) -> Result<TokenizerSpec, Error> {
    check_token(folder, component, "bos_token", "<|startoftext|>")?;
    check_token(folder, component, "eos_token", END)?;
    check_length(folder, component, context)?;
    let pad = special_token(folder, component, "pad_token")?;
    Ok(TokenizerSpec {
        kind: "clip-bpe".to_owned(),
        context,
        pad: pad.map_or_else(|| END.to_owned(), |(_, text)| text),
    })
}

/// Checks that a tokenizer has no other special token than the one that is computed.
///
/// # Errors
/// It names the token's key and file.
pub(super) fn check_token(
    folder: Folder<'_>,
    component: &str,
    key: &str,
    only: &str,
) -> Result<(), Error> {
    match special_token(folder, component, key)? {
        Some((file, text)) if text != only => {
            let message = format!("{key}: {text:?} is not supported, only {only:?}");
            Err(folder.bad(&file, message))
        }
        _ => Ok(()),
    }
}

/// Checks that prompts are not cut to fewer tokens than the text encoder takes.
fn check_length(folder: Folder<'_>, component: &str, context: usize) -> Result<(), Error> {
    let file = format!("{component}/{TOKENIZER}");
    if !folder.exists(&file) {
        return Ok(());
    }
    let config: Map<String, Value> = folder.json(&file)?;
    let length = config.get("model_max_length").and_then(Value::as_f64);
    match length.filter(|length| *length < context as f64) {
        Some(length) => {
            let message = format!(
                "model_max_length: {length} is not supported, only max_position_embeddings of the \
                 text encoder, {context}"
            );
            Err(folder.bad(&file, message))
        }
        None => Ok(()),
    }
}

/// Returns a special token of a tokenizer, and the file that has it. Like transformers, it prefers
/// the map of special tokens to the tokenizer's config.
fn special_token(
    folder: Folder<'_>,
    component: &str,
    key: &str,
) -> Result<Option<(String, String)>, Error> {
    for file in [SPECIAL_TOKENS, TOKENIZER] {
        let file = format!("{component}/{file}");
        if !folder.exists(&file) {
            continue;
        }
        let mut config: Map<String, Value> = folder.json(&file)?;
        let token = config.remove(key).unwrap_or_default();
        match serde_json::from_value(token) {
            Ok(Some(Token::Text(text) | Token::Object { content: text })) => {
                return Ok(Some((file, text)));
            }
            Ok(None) => {}
            Err(error) => return Err(folder.bad(&file, format!("{key}: {error}"))),
        }
    }
    Ok(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Stable Diffusion 2: its two files disagree.
    #[test]
    fn the_map_of_special_tokens_decides_what_pads() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = folder.path().join("tokenizer");
        std::fs::create_dir(&tokenizer).unwrap();
        let folder = Folder {
            path: folder.path(),
            model: "a",
            parts: None,
        };
        let pad = || super::tokenizer(folder, "tokenizer", 77).unwrap().pad;
        assert_eq!(pad(), "<|endoftext|>");
        let config = r#"{"pad_token": {"content": "<|pad|>"}}"#;
        std::fs::write(tokenizer.join(TOKENIZER), config).unwrap();
        assert_eq!(pad(), "<|pad|>");
        std::fs::write(tokenizer.join(SPECIAL_TOKENS), r#"{"pad_token": "!"}"#).unwrap();
        assert_eq!(pad(), "!");
    }

    #[test]
    fn settings_of_a_tokenizer_that_are_not_computed_are_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = folder.path().join("tokenizer");
        std::fs::create_dir(&tokenizer).unwrap();
        let folder = Folder {
            path: folder.path(),
            model: "a",
            parts: None,
        };
        for (file, config, named) in [
            (TOKENIZER, r#"{"bos_token": "!"}"#, Some("bos_token")),
            (
                TOKENIZER,
                r#"{"eos_token": {"content": "!"}}"#,
                Some("eos_token"),
            ),
            (TOKENIZER, r#"{"eos_token": 5}"#, Some("eos_token")),
            (
                TOKENIZER,
                r#"{"model_max_length": 32}"#,
                Some("model_max_length"),
            ),
            (
                TOKENIZER,
                r#"{"model_max_length": 1e30, "eos_token": null}"#,
                None,
            ),
            (SPECIAL_TOKENS, r#"{"bos_token": "?"}"#, Some("bos_token")),
        ] {
            std::fs::write(tokenizer.join(file), config).unwrap();
            let read = super::tokenizer(folder, "tokenizer", 77);
            match named {
                Some(key) => {
                    let message = read.unwrap_err().to_string();
                    assert!(message.contains(file) && message.contains(key), "{message}");
                }
                None => assert!(read.is_ok(), "{config}"),
            }
        }
    }
}
