//! Loads a model's folder into a device's memory.

use std::cell::OnceCell;

use tch::Kind;

use super::Pipeline;
use crate::checkpoint::{Checkpoint, Destination};
use crate::device::Device;
use crate::error::Error;
use crate::guard::guard;
use crate::manifest::{Manifest, TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS};
use crate::networks::{Autoencoder, TextTransformer, UNet, Weights};
use crate::tokenizer::Tokenizer;

/// Progress of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadStep {
    /// The part that is being loaded.
    pub part: Part,
    /// Weights read so far, of all parts, bytes.
    pub bytes: u64,
    /// Weights to read, of all parts, bytes.
    pub total_bytes: u64,
}

/// A network of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// CLIP's text transformer.
    TextEncoder,
    /// The denoising UNet.
    UNet,
    /// The autoencoder.
    Vae,
}

/// A model's files, opened and checked against each other.
struct Sources {
    tokenizer: Tokenizer,
    text: Checkpoint,
    unet: Checkpoint,
    vae: Checkpoint,
    /// Rows of the token embedding.
    vocabulary: i64,
    /// Tokens in a prompt.
    context: i64,
}

impl Sources {
    fn open(manifest: &Manifest) -> Result<Self, Error> {
        manifest.verify_files()?;
        let tokenizer = Tokenizer::load(manifest)?;
        let text = open(manifest, TEXT_WEIGHTS, without_model_prefix)?;
        let unet = open(manifest, UNET_WEIGHTS, str::to_owned)?;
        let vae = open(manifest, VAE_WEIGHTS, Autoencoder::rename)?;

        let vocabulary = text.rows("embeddings.token_embedding.weight")?;
        let largest = tokenizer.largest_id();
        if largest >= vocabulary {
            let message = format!("has the id {largest}, the text encoder {vocabulary} rows");
            return Err(manifest.bad("tokenizer/vocab.json", message));
        }
        let context = i64::try_from(manifest.tokenizer.context).unwrap_or(i64::MAX);
        text.check(|weights| TextTransformer::new(weights, &manifest.text, vocabulary, context))?;
        unet.check(|weights| UNet::new(weights, &manifest.unet))?;
        vae.check(|weights| Autoencoder::new(weights, &manifest.vae))?;
        Ok(Self {
            tokenizer,
            text,
            unet,
            vae,
            vocabulary,
            context,
        })
    }
}

impl Pipeline {
    /// Checks a model's files as far as possible without reading its weights: sizes, checksums of
    /// small files, and names, shapes and types of the tensors that determine the networks' sizes.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] for the file that is damaged or missing.
    pub fn check(manifest: &Manifest) -> Result<(), Error> {
        guard(|| Sources::open(manifest).map(drop))
    }

    /// Loads a model into a device's memory. Checks every file, tensor, shape and type, those that
    /// determine the networks' sizes before any network is built.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] for the file that is damaged or missing; [`Error::OutOfMemory`].
    pub fn load(
        manifest: &Manifest,
        device: &Device,
        progress: &mut dyn FnMut(LoadStep),
    ) -> Result<Pipeline, Error> {
        device.run(|| {
            let Sources {
                tokenizer,
                text,
                unet,
                vae,
                vocabulary,
                context,
            } = Sources::open(manifest)?;
            let mut loading = Loading {
                device: *device,
                bytes: 0,
                total_bytes: text.bytes() + unet.bytes() + vae.bytes(),
                memory_bytes: 0,
                progress,
            };
            let large = device.weight_kind();
            let text = loading.network(Part::TextEncoder, &text, large, |weights| {
                TextTransformer::new(weights, &manifest.text, vocabulary, context)
            })?;
            let unet = loading.network(Part::UNet, &unet, large, |weights| {
                UNet::new(weights, &manifest.unet)
            })?;
            // Small compared with the UNet, and its activations overflow in half precision.
            let autoencoder = loading.network(Part::Vae, &vae, Kind::Float, |weights| {
                Autoencoder::new(weights, &manifest.vae)
            })?;
            Ok(Pipeline {
                manifest: manifest.clone(),
                device: *device,
                tokenizer,
                text,
                unet,
                autoencoder,
                previewer: OnceCell::new(),
                memory_bytes: loading.memory_bytes,
            })
        })
    }
}

fn open(manifest: &Manifest, stem: &str, rename: fn(&str) -> String) -> Result<Checkpoint, Error> {
    Checkpoint::open(manifest, &manifest.weights(stem)?, rename)
}

/// CLIP is stored with or without the prefix of the surrounding model.
fn without_model_prefix(stored: &str) -> String {
    stored
        .strip_prefix("text_model.")
        .unwrap_or(stored)
        .to_owned()
}

/// Shared state of the parts of a load.
struct Loading<'a> {
    device: Device,
    bytes: u64,
    total_bytes: u64,
    memory_bytes: u64,
    progress: &'a mut dyn FnMut(LoadStep),
}

impl Loading<'_> {
    fn network<N>(
        &mut self,
        part: Part,
        weights: &Checkpoint,
        kind: Kind,
        build: impl FnOnce(&Weights<'_>) -> Result<N, Error>,
    ) -> Result<N, Error> {
        let destination = Destination {
            device: self.device,
            kind,
        };
        self.memory_bytes += weights.bytes_as(kind);
        let mut progress = |bytes| {
            self.bytes += bytes;
            (self.progress)(LoadStep {
                part,
                bytes: self.bytes,
                total_bytes: self.total_bytes,
            });
        };
        weights.load(destination, &mut progress, build)
    }
}
