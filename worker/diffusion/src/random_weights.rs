//! Random weights with the right names and shapes, for benchmarks and tests.

use std::fs;

use tch::nn::{Path, VarStore};
use tch::{Kind, Tensor};

use crate::clip::TextTransformer;
use crate::device::Device;
use crate::diffusers_rs::{Autoencoder, UNet};
use crate::error::Error;
use crate::manifest::{Dtype, Manifest, TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS};

/// Writes the three weights files into a model's folder, in the manifest's type: untrained
/// networks. `vocabulary` is the number of rows of the token embedding. The caller provides the
/// tokenizer's files.
///
/// # Errors
/// [`Error::BadCheckpoint`] if a file cannot be written.
pub fn write_random_weights(manifest: &Manifest, vocabulary: i64, seed: i64) -> Result<(), Error> {
    let context = i64::try_from(manifest.tokenizer.context).unwrap_or(i64::MAX);
    Device::Cpu.run(false, || {
        tch::manual_seed(seed);
        write(manifest, TEXT_WEIGHTS, |root| {
            TextTransformer::new(&(root / "text_model"), &manifest.text, vocabulary, context);
        })?;
        write(manifest, UNET_WEIGHTS, |root| {
            UNet::new(root, &manifest.unet);
        })?;
        write(manifest, VAE_WEIGHTS, |root| {
            Autoencoder::new(root, &manifest.vae);
        })
    })
}

fn write(manifest: &Manifest, stem: &str, build: impl FnOnce(Path)) -> Result<(), Error> {
    let mut store = VarStore::new(tch::Device::Cpu);
    store.set_kind(match manifest.dtype {
        Dtype::F16 => Kind::Half,
        Dtype::Bf16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
    });
    build(store.root());
    let tensors: Vec<(String, Tensor)> = store.variables().into_iter().collect();
    let file = format!("{stem}.safetensors");
    let path = manifest.folder().join(&file);
    let unwritable = || manifest.bad(&file, "cannot be written");
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .map_err(|e| unwritable().because(e))?;
    Tensor::write_safetensors(&tensors, &path).map_err(|e| unwritable().because(e))
}
