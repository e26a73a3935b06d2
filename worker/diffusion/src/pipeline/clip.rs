//! A CLIP text encoder with its tokenizer.

use tch::{Kind, Tensor};

use super::load::{Loading, Part};
use crate::checkpoint::Checkpoint;
use crate::device::Device;
use crate::error::Error;
use crate::manifest::{Manifest, TextSpec, TokenizerSpec};
use crate::networks::{TextStates, TextTransformer, Weights};
use crate::tokenizer::{Tokenizer, Truncation};

/// Its opened and checked files.
pub(super) struct ClipFiles {
    tokenizer: Tokenizer,
    weights: Checkpoint,
    spec: TextSpec,
    /// Rows of the token embedding.
    vocabulary: i64,
    /// Tokens in a prompt.
    context: i64,
}

/// Folders of a tokenizer and an encoder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folders {
    pub(super) tokenizer: &'static str,
    pub(super) encoder: &'static str,
}

impl Folders {
    /// The only ones, or the first.
    pub(super) const FIRST: Self = Self {
        tokenizer: "tokenizer",
        encoder: "text_encoder",
    };
    pub(super) const SECOND: Self = Self {
        tokenizer: "tokenizer_2",
        encoder: "text_encoder_2",
    };
}

impl ClipFiles {
    pub(super) fn open(
        manifest: &Manifest,
        folders: Folders,
        tokenizer: &TokenizerSpec,
        spec: &TextSpec,
    ) -> Result<Self, Error> {
        let context = i64::try_from(tokenizer.context).unwrap_or(i64::MAX);
        let tokenizer_folder = manifest.located(folders.tokenizer);
        let tokenizer = Tokenizer::load(manifest, &tokenizer_folder, tokenizer)?;
        let stem = format!("{}/model", folders.encoder);
        let weights = Checkpoint::open(manifest, &stem, without_model_prefix)?;
        let vocabulary = weights.rows("embeddings.token_embedding.weight")?;
        let largest = tokenizer.largest_id();
        if largest >= vocabulary {
            let message = format!("has the id {largest}, the text encoder {vocabulary} rows");
            return Err(manifest.bad(&format!("{tokenizer_folder}/vocab.json"), message));
        }
        let files = Self {
            tokenizer,
            weights,
            spec: spec.clone(),
            vocabulary,
            context,
        };
        files.weights.check(|weights| files.network(weights))?;
        Ok(files)
    }

    pub(super) fn weights(&self) -> &Checkpoint {
        &self.weights
    }

    pub(super) fn load(self, kind: Kind, loading: &mut Loading<'_>) -> Result<ClipEncoder, Error> {
        let network = loading.network(Part::TextEncoder, &self.weights, kind, |weights| {
            self.network(weights)
        })?;
        Ok(ClipEncoder {
            tokenizer: self.tokenizer,
            network,
            device: loading.device(),
        })
    }

    fn network(&self, weights: &Weights<'_>) -> Result<TextTransformer, Error> {
        TextTransformer::new(weights, &self.spec, self.vocabulary, self.context)
    }
}

/// Removes the prefix: CLIP is stored with or without the prefix of the surrounding model.
fn without_model_prefix(stored: &str) -> String {
    stored
        .strip_prefix("text_model.")
        .unwrap_or(stored)
        .to_owned()
}

pub(super) struct ClipEncoder {
    tokenizer: Tokenizer,
    network: TextTransformer,
    device: Device,
}

impl ClipEncoder {
    /// Returns the token ids of a prompt, as many as the context.
    pub(super) fn tokens(&self, prompt: &str) -> Result<Vec<i64>, Error> {
        self.tokenizer.encode(prompt)
    }

    /// Returns the truncation of a prompt that exceeds the context.
    pub(super) fn truncation(
        &self,
        field: &'static str,
        prompt: &str,
    ) -> Result<Option<Truncation>, Error> {
        self.tokenizer.truncation(field, prompt)
    }

    pub(super) fn encode(&self, prompts: &[&str]) -> Result<TextStates, Error> {
        let ids = prompts
            .iter()
            .map(|prompt| Ok(Tensor::from_slice(&self.tokens(prompt)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let ids = Tensor::f_stack(&ids, 0)?.to_device(self.device.torch());
        Ok(self.network.forward(&ids))
    }
}
