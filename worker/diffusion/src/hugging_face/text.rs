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
    let configs = TokenizerConfigs::read(folder, component)?;
    configs.check_token("bos_token", "<|startoftext|>")?;
    configs.check_token("eos_token", END)?;
    configs.check_length(context)?;
    let pad = configs.token("pad_token")?;
    Ok(TokenizerSpec {
        kind: "clip-bpe".to_owned(),
        context,
        pad: pad.map_or_else(|| END.to_owned(), |(_, text)| text),
    })
}

/// The configs of a tokenizer that exist, each with its file. Like transformers, it prefers the map
/// of special tokens to the tokenizer's config, so that is the first.
pub(super) struct TokenizerConfigs<'a> {
    folder: Folder<'a>,
    configs: Vec<(String, Map<String, Value>)>,
}

impl<'a> TokenizerConfigs<'a> {
    /// Reads those in a component's folder.
    pub(super) fn read(folder: Folder<'a>, component: &str) -> Result<Self, Error> {
        let files = [SPECIAL_TOKENS, TOKENIZER].map(|file| format!("{component}/{file}"));
        let existing = files.into_iter().filter(|file| folder.exists(file));
        let configs = existing.map(|file| Ok((file.clone(), folder.json(&file)?)));
        Ok(Self {
            folder,
            configs: configs.collect::<Result<_, Error>>()?,
        })
    }

    /// Checks that there is no other special token than the one that is computed.
    ///
    /// # Errors
    /// It names the token's key and file.
    pub(super) fn check_token(&self, key: &str, only: &str) -> Result<(), Error> {
        match self.token(key)? {
            Some((file, text)) if text != only => {
                let message = format!("{key}: {text:?} is not supported, only {only:?}");
                Err(self.folder.bad(file, message))
            }
            _ => Ok(()),
        }
    }

    /// Checks that prompts are not cut to fewer tokens than the text encoder takes.
    fn check_length(&self, context: usize) -> Result<(), Error> {
        let mut configs = self.configs.iter();
        let config = configs.find(|(file, _)| file.ends_with(TOKENIZER));
        let length = config.and_then(|(file, config)| {
            let length = config.get("model_max_length")?.as_f64()?;
            Some((file, length))
        });
        match length {
            Some((file, length)) if length < context as f64 => {
                let message = format!(
                    "model_max_length: {length} is not supported, only max_position_embeddings of \
                     the text encoder, {context}"
                );
                Err(self.folder.bad(file, message))
            }
            _ => Ok(()),
        }
    }

    /// Returns a special token, and the file that has it.
    fn token(&self, key: &str) -> Result<Option<(&str, String)>, Error> {
        for (file, config) in &self.configs {
            let token = config.get(key).unwrap_or(&Value::Null);
            match Option::<Token>::deserialize(token) {
                Ok(Some(Token::Text(text) | Token::Object { content: text })) => {
                    return Ok(Some((file, text)));
                }
                Ok(None) => {}
                Err(error) => return Err(self.folder.bad(file, format!("{key}: {error}"))),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// A model's folder with an empty `tokenizer`.
    struct TokenizerFolder(tempfile::TempDir);

    impl TokenizerFolder {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("tokenizer")).unwrap();
            Self(folder)
        }

        fn write(&self, file: &str, config: &str) {
            std::fs::write(self.0.path().join("tokenizer").join(file), config).unwrap();
        }

        fn read(&self) -> Result<TokenizerSpec, Error> {
            let folder = Folder {
                path: self.0.path(),
                model: "a",
                parts: None,
            };
            tokenizer(folder, "tokenizer", 77)
        }
    }

    /// Stable Diffusion 2: its two files disagree.
    #[test]
    fn the_map_of_special_tokens_decides_what_pads() {
        let tokenizer = TokenizerFolder::new();
        let pad = || tokenizer.read().unwrap().pad;
        assert_eq!(pad(), "<|endoftext|>");
        let config = r#"{"pad_token": {"content": "<|pad|>"}}"#;
        tokenizer.write(TOKENIZER, config);
        assert_eq!(pad(), "<|pad|>");
        tokenizer.write(SPECIAL_TOKENS, r#"{"pad_token": "!"}"#);
        assert_eq!(pad(), "!");
    }

    #[test]
    fn settings_of_a_tokenizer_that_are_not_computed_are_refused_by_name() {
        let tokenizer = TokenizerFolder::new();
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
            tokenizer.write(file, config);
            let read = tokenizer.read();
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
