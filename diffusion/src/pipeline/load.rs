//! From a model's folder into a device's memory.

use std::cell::OnceCell;

use tch::nn::{Path, VarStore};
use tch::{Kind, Tensor};

use super::Pipeline;
use crate::checkpoint::Checkpoint;
use crate::clip::TextTransformer;
use crate::device::Device;
use crate::diffusers_rs::{Autoencoder, UNet};
use crate::error::Error;
use crate::manifest::{Manifest, TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS};
use crate::tokenizer::Tokenizer;

/// How far a load has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadStep {
    /// The part whose weights are being read.
    pub part: Part,
    /// Bytes of weights read so far, of all parts.
    pub bytes: u64,
    /// Bytes of weights to read, of all parts.
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

impl Pipeline {
    /// Reads a model into a device's memory. Every file, tensor, shape and type is checked on the way,
    /// what decides the networks' sizes before any is built.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] names what is damaged or missing; [`Error::OutOfMemory`].
    pub fn load(
        manifest: &Manifest,
        device: &Device,
        progress: &mut dyn FnMut(LoadStep),
    ) -> Result<Pipeline, Error> {
        device.run(false, || {
            manifest.verify_files()?;
            let tokenizer = Tokenizer::load(manifest)?;
            let text_weights = open(manifest, TEXT_WEIGHTS, without_model_prefix)?;
            let unet_weights = open(manifest, UNET_WEIGHTS, str::to_owned)?;
            let vae_weights = open(manifest, VAE_WEIGHTS, Autoencoder::rename)?;

            let vocabulary = text_weights.rows("embeddings.token_embedding.weight")?;
            let largest = tokenizer.largest_id();
            if largest >= vocabulary {
                let message = format!("has the id {largest}, the text encoder {vocabulary} rows");
                return Err(manifest.bad("tokenizer/vocab.json", message));
            }
            let context = i64::try_from(manifest.tokenizer.context).unwrap_or(i64::MAX);
            TextTransformer::check(&manifest.text, vocabulary, context, &text_weights)?;
            UNet::check(&manifest.unet, &unet_weights)?;
            Autoencoder::check(&manifest.vae, &vae_weights)?;

            let mut loading = Loading {
                device: *device,
                bytes: 0,
                total_bytes: text_weights.bytes() + unet_weights.bytes() + vae_weights.bytes(),
                memory_bytes: 0,
                progress,
            };
            let large = device.weight_kind();
            let text = loading.network(Part::TextEncoder, &text_weights, large, |root| {
                TextTransformer::new(&root, &manifest.text, vocabulary, context)
            })?;
            let unet = loading.network(Part::UNet, &unet_weights, large, |root| {
                UNet::new(root, &manifest.unet)
            })?;
            // Small beside the UNet, and in half precision its activations overflow.
            let autoencoder = loading.network(Part::Vae, &vae_weights, Kind::Float, |root| {
                Autoencoder::new(root, &manifest.vae)
            })?;
            Ok(Pipeline {
                manifest: manifest.clone(),
                device: *device,
                tokenizer,
                text,
                unet,
                autoencoder,
                sketch: OnceCell::new(),
                memory_bytes: loading.memory_bytes,
            })
        })
    }
}

fn open(manifest: &Manifest, stem: &str, rename: fn(&str) -> String) -> Result<Checkpoint, Error> {
    Checkpoint::open(manifest, &manifest.weights(stem)?, rename)
}

/// CLIP is stored with or without the name of the model around it.
fn without_model_prefix(stored: &str) -> String {
    stored
        .strip_prefix("text_model.")
        .unwrap_or(stored)
        .to_owned()
}

/// What the parts of one load share.
struct Loading<'a> {
    device: Device,
    bytes: u64,
    total_bytes: u64,
    memory_bytes: u64,
    progress: &'a mut dyn FnMut(LoadStep),
}

impl Loading<'_> {
    /// Builds a network and fills it from its file.
    fn network<N>(
        &mut self,
        part: Part,
        weights: &Checkpoint,
        kind: Kind,
        build: impl FnOnce(Path) -> N,
    ) -> Result<N, Error> {
        let mut store = VarStore::new(self.device.torch());
        store.set_kind(kind);
        let network = build(store.root());
        store.freeze();
        weights.load_into(&store, &mut |bytes| {
            self.bytes += bytes;
            let (bytes, total_bytes) = (self.bytes, self.total_bytes);
            (self.progress)(LoadStep {
                part,
                bytes,
                total_bytes,
            });
        })?;
        let held = |tensor: &Tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64;
        self.memory_bytes += store.variables().values().map(held).sum::<u64>();
        Ok(network)
    }
}
