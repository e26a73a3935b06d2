//! Loads a model's folder into a device's memory.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use tch::Kind;

use super::Pipeline;
use crate::checkpoint::{Checkpoint, Destination};
use crate::device::Device;
use crate::error::Error;
use crate::folder::verify_files;
use crate::guard::guard;
use crate::manifest::{Manifest, TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS};
use crate::networks::{Autoencoder, TextTransformer, UNet, Weights};
use crate::tokenizer::Tokenizer;

/// The type of the autoencoder's weights on any device: it is small compared with the UNet, and its
/// activations overflow in half precision.
const VAE_KIND: Kind = Kind::Float;

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

/// Sizes of a model's weights, bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightSizes {
    /// In the files.
    pub stored_bytes: u64,
    /// On the processor.
    pub cpu_bytes: u64,
    /// On a GPU.
    pub gpu_bytes: u64,
    /// Their stored types, sorted: `f16`, `f32`.
    pub types: Vec<String>,
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
        verify_files(manifest)?;
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

/// Opens and checks a model's files without reading its weights.
pub(super) fn check(manifest: &Manifest) -> Result<(), Error> {
    guard(|| Sources::open(manifest).map(drop))
}

/// Opens and checks a model's files, and returns the sizes of its weights.
pub(super) fn weight_sizes(manifest: &Manifest) -> Result<WeightSizes, Error> {
    guard(|| {
        let Sources {
            text, unet, vae, ..
        } = Sources::open(manifest)?;
        let on = |device: Device| {
            let large = device.weight_kind();
            text.bytes_as(large) + unet.bytes_as(large) + vae.bytes_as(VAE_KIND)
        };
        let parts = [&text, &unet, &vae];
        let types: BTreeSet<String> = parts.iter().flat_map(|part| part.types()).collect();
        Ok(WeightSizes {
            stored_bytes: parts.iter().map(|part| part.bytes()).sum(),
            cpu_bytes: on(Device::Cpu),
            gpu_bytes: on(Device::Cuda(0)),
            types: types.into_iter().collect(),
        })
    })
}

/// Checks a model's files, then builds its networks and loads their weights.
pub(super) fn load(
    manifest: &Manifest,
    device: Device,
    progress: &mut dyn FnMut(LoadStep),
) -> Result<Pipeline, Error> {
    device.run(|| {
        let sources = Sources::open(manifest)?;
        let (text, unet, vae) = (&sources.text, &sources.unet, &sources.vae);
        let mut loading = Loading {
            device,
            bytes: 0,
            total_bytes: text.bytes() + unet.bytes() + vae.bytes(),
            memory_bytes: 0,
            progress,
        };
        let large = device.weight_kind();
        let text = loading.network(Part::TextEncoder, text, large, |weights| {
            TextTransformer::new(weights, &manifest.text, sources.vocabulary, sources.context)
        })?;
        let unet = loading.network(Part::UNet, unet, large, |weights| {
            UNet::new(weights, &manifest.unet)
        })?;
        let autoencoder = loading.network(Part::Vae, vae, VAE_KIND, |weights| {
            Autoencoder::new(weights, &manifest.vae)
        })?;
        Ok(Pipeline {
            manifest: manifest.clone(),
            device,
            tokenizer: sources.tokenizer,
            text,
            unet,
            autoencoder,
            previewer: OnceCell::new(),
            memory_bytes: loading.memory_bytes,
        })
    })
}

fn open(manifest: &Manifest, stem: &str, rename: fn(&str) -> String) -> Result<Checkpoint, Error> {
    Checkpoint::open(manifest, &manifest.weights(stem)?, rename)
}

/// Removes the prefix: CLIP is stored with or without the prefix of the surrounding model.
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
    /// Builds a network and loads its weights.
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
