//! Random weights with the right names and shapes, for benchmarks and tests.

use std::cell::RefCell;
use std::fs;

use tch::{Kind, Tensor};

use crate::device::Device;
use crate::error::Error;
use crate::manifest::{
    Dtype, Manifest, Networks, TEXT_2_WEIGHTS, TEXT_WEIGHTS, TRANSFORMER_WEIGHTS, UNET_WEIGHTS,
    VAE_WEIGHTS,
};
use crate::networks::{
    Autoencoder, FluxTransformer, T5Encoder, Tensors, TextTransformer, UNet, Weights,
};
use crate::noise;

/// Writes the weights files of all networks into a model's folder, in the manifest's type:
/// untrained networks. `vocabulary` is the number of rows of each token embedding. The caller
/// provides the tokenizer's files.
///
/// # Errors
/// [`Error::BadCheckpoint`] if a file cannot be written.
pub fn write_random_weights(manifest: &Manifest, vocabulary: i64, seed: u64) -> Result<(), Error> {
    let context = i64::try_from(manifest.tokenizer.context).unwrap_or(i64::MAX);
    let write_text = |stem, spec| {
        write(manifest, stem, text_name, |weights| {
            TextTransformer::new(weights, spec, vocabulary, context)
        })
    };
    let write_all = || {
        write_text(TEXT_WEIGHTS, &manifest.text)?;
        if let Networks::Sdxl(spec) = &manifest.networks {
            write_text(TEXT_2_WEIGHTS, &spec.text_2)?;
        }
        if let Some(unet) = manifest.networks.unet() {
            write(manifest, UNET_WEIGHTS, str::to_owned, |weights| {
                UNet::new(weights, unet)
            })?;
        }
        if let Networks::Flux(spec) = &manifest.networks {
            write(manifest, TEXT_2_WEIGHTS, str::to_owned, |weights| {
                T5Encoder::new(weights, &spec.t5, vocabulary)
            })?;
            write(manifest, TRANSFORMER_WEIGHTS, str::to_owned, |weights| {
                FluxTransformer::new(weights, &spec.transformer)
            })?;
        }
        write(manifest, VAE_WEIGHTS, str::to_owned, |weights| {
            Autoencoder::new(weights, &manifest.vae)
        })
    };
    Device::Cpu.run(|| noise::reproducibly(seed, 0, write_all))
}

/// Returns the stored name of a text encoder's tensor.
fn text_name(name: &str) -> String {
    match name.starts_with("text_projection") {
        true => name.to_owned(),
        false => format!("text_model.{name}"),
    }
}

fn write<N>(
    manifest: &Manifest,
    stem: &str,
    stored_name: fn(&str) -> String,
    build: impl FnOnce(&Weights<'_>) -> Result<N, Error>,
) -> Result<(), Error> {
    let random = Random {
        kind: match manifest.dtype {
            Dtype::F16 => Kind::Half,
            Dtype::Bf16 => Kind::BFloat16,
            Dtype::F32 => Kind::Float,
        },
        stored_name,
        tensors: RefCell::default(),
    };
    build(&Weights::root(&random))?;
    let file = format!("{stem}.safetensors");
    let path = manifest.folder().join(&file);
    let unwritable = || manifest.bad(&file, "cannot be written");
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .map_err(|e| unwritable().because(e))?;
    Tensor::write_safetensors(&random.tensors.into_inner(), &path)
        .map_err(|e| unwritable().because(e))
}

/// Draws the tensors that a network asks for.
struct Random {
    kind: Kind,
    stored_name: fn(&str) -> String,
    tensors: RefCell<Vec<(String, Tensor)>>,
}

impl Tensors for Random {
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        let options = (Kind::Float, tch::Device::Cpu);
        let tensor = match (deviation(name, shape), name.ends_with("weight")) {
            (Some(deviation), _) => Tensor::f_randn(shape, options)? * deviation,
            (None, true) => Tensor::f_ones(shape, options)?,
            (None, false) => Tensor::f_zeros(shape, options)?,
        };
        let tensor = tensor.f_to_kind(self.kind)?;
        let stored = ((self.stored_name)(name), tensor.shallow_clone());
        self.tensors.borrow_mut().push(stored);
        Ok(tensor)
    }
}

/// Standard deviation of a tensor: that of PyTorch's initial values. `None` for norms and biases,
/// which do not start at random.
fn deviation(name: &str, shape: &[i64]) -> Option<f64> {
    let inputs: i64 = shape.get(1..)?.iter().product();
    match shape {
        [_] => None,
        _ if name.contains("embeddings.") => Some(1.0),
        _ => Some((3.0 * inputs as f64).sqrt().recip()),
    }
}
