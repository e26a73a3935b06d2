//! Random weights with the right names and shapes, for benchmarks and tests.

use std::fs;

use tch::nn::{Path, VarStore};
use tch::{Kind, Tensor};

use crate::clip::TextTransformer;
use crate::device::Device;
use crate::diffusers_rs::{Autoencoder, UNet};
use crate::error::Error;
use crate::manifest::{Dtype, Manifest, TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS};

impl Manifest {
    /// Writes the three weights files into the model's folder, in the manifest's type: untrained
    /// networks. `vocabulary` is the number of rows of the token embedding. The caller provides the
    /// tokenizer's files.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] if a file cannot be written.
    pub fn write_random_weights(&self, vocabulary: i64, seed: i64) -> Result<(), Error> {
        let context = i64::try_from(self.tokenizer.context).unwrap_or(i64::MAX);
        Device::Cpu.run(false, || {
            tch::manual_seed(seed);
            self.write(TEXT_WEIGHTS, |root| {
                TextTransformer::new(&(root / "text_model"), &self.text, vocabulary, context);
            })?;
            self.write(UNET_WEIGHTS, |root| {
                UNet::new(root, &self.unet);
            })?;
            self.write(VAE_WEIGHTS, |root| {
                Autoencoder::new(root, &self.vae);
            })
        })
    }

    fn write(&self, stem: &str, build: impl FnOnce(Path)) -> Result<(), Error> {
        let mut store = VarStore::new(tch::Device::Cpu);
        store.set_kind(match self.dtype {
            Dtype::F16 => Kind::Half,
            Dtype::Bf16 => Kind::BFloat16,
            Dtype::F32 => Kind::Float,
        });
        build(store.root());
        let tensors: Vec<(String, Tensor)> = store.variables().into_iter().collect();
        let file = format!("{stem}.safetensors");
        let path = self.folder().join(&file);
        let unwritable = |e: std::io::Error| self.bad(&file, "cannot be written").because(e);
        path.parent()
            .map_or(Ok(()), fs::create_dir_all)
            .map_err(unwritable)?;
        Tensor::write_safetensors(&tensors, &path)
            .map_err(|e| self.bad(&file, "cannot be written").because(e))
    }
}
