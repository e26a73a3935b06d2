//! The configs of a CLIP text encoder and its tokenizer.

use serde::Deserialize;

use super::allowed;
use super::folder::Folder;
use crate::error::Error;
use crate::manifest::{Activation, Dtype, TextSpec, TokenizerSpec};

/// An end token that no vocabulary has: older configs carry it, and mean the largest id.
const LEGACY_END_TOKEN: i64 = 2;

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

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenizerConfig {
    pad_token: Option<Token>,
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
    Ok(TokenizerSpec {
        kind: "clip-bpe".to_owned(),
        context,
        pad: pad_token(folder, component)?,
    })
}

/// Returns the token that pads prompts. Like transformers, it prefers the map of special tokens to
/// the tokenizer's config.
fn pad_token(folder: Folder<'_>, component: &str) -> Result<String, Error> {
    for file in [SPECIAL_TOKENS, TOKENIZER] {
        let file = format!("{component}/{file}");
        if folder.exists(&file) {
            let config: TokenizerConfig = folder.json(&file)?;
            if let Some(Token::Text(text) | Token::Object { content: text }) = config.pad_token {
                return Ok(text);
            }
        }
    }
    Ok("<|endoftext|>".to_owned())
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
        let pad = || pad_token(folder, "tokenizer").unwrap();
        assert_eq!(pad(), "<|endoftext|>");
        let config = r#"{"pad_token": {"content": "<|pad|>"}}"#;
        std::fs::write(tokenizer.join(TOKENIZER), config).unwrap();
        assert_eq!(pad(), "<|pad|>");
        std::fs::write(tokenizer.join(SPECIAL_TOKENS), r#"{"pad_token": "!"}"#).unwrap();
        assert_eq!(pad(), "!");
    }
}
