//! Loads a model's folder into a device's memory.

use std::cell::OnceCell;

use tch::Kind;

use super::Pipeline;
use super::denoiser::DenoiserFiles;
use super::flux::FluxFiles;
use super::sd::SdFiles;
use super::sdxl::SdxlFiles;
use crate::checkpoint::{Checkpoint, Destination};
use crate::device::Device;
use crate::error::Error;
use crate::folder::verify_files;
use crate::guard::guard;
use crate::lora::Loras;
use crate::manifest::{Manifest, Networks, VAE_WEIGHTS};
use crate::networks::{Autoencoder, Slots, Weights};

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
    /// A text encoder.
    TextEncoder,
    /// The denoising network.
    Denoiser,
    /// The autoencoder.
    Vae,
}

/// A model's files, opened and checked against each other.
struct Files {
    denoiser: Box<dyn DenoiserFiles>,
    vae: Checkpoint,
}

impl Files {
    fn open(manifest: &Manifest) -> Result<Self, Error> {
        verify_files(manifest)?;
        let denoiser: Box<dyn DenoiserFiles> = match &manifest.networks {
            Networks::Sd(spec) => Box::new(SdFiles::open(manifest, spec)?),
            Networks::Sdxl(spec) => Box::new(SdxlFiles::open(manifest, spec)?),
            Networks::Flux(spec) => Box::new(FluxFiles::open(manifest, spec)?),
        };
        let vae = Checkpoint::open(manifest, VAE_WEIGHTS, Autoencoder::rename)?;
        vae.check(|weights| Autoencoder::new(weights, &manifest.vae))?;
        Ok(Self { denoiser, vae })
    }
}

/// Opens and checks a model's files without reading its weights.
pub(super) fn check(manifest: &Manifest) -> Result<(), Error> {
    guard(|| Files::open(manifest).map(drop))
}

/// Checks a model's files, then builds its networks and loads their weights.
pub(super) fn load(
    manifest: &Manifest,
    device: Device,
    progress: &mut dyn FnMut(LoadStep),
) -> Result<Pipeline, Error> {
    device.run(|| {
        let files = Files::open(manifest)?;
        let mut loading = Loading {
            device,
            bytes: 0,
            total_bytes: files.denoiser.bytes() + files.vae.bytes(),
            memory_bytes: 0,
            progress,
            slots: Slots::new(),
        };
        let denoiser = files.denoiser.load(&mut loading)?;
        // Small compared with the UNet, and its activations overflow in half precision.
        let autoencoder = loading.network(Part::Vae, &files.vae, Kind::Float, |weights| {
            Autoencoder::new(weights, &manifest.vae)
        })?;
        Ok(Pipeline {
            manifest: manifest.clone(),
            device,
            denoiser,
            autoencoder,
            previewer: OnceCell::new(),
            memory_bytes: loading.memory_bytes,
            loras: Loras::new(loading.slots, &manifest.networks),
        })
    })
}

/// Shared state of the parts of a load.
pub(super) struct Loading<'a> {
    device: Device,
    bytes: u64,
    total_bytes: u64,
    memory_bytes: u64,
    progress: &'a mut dyn FnMut(LoadStep),
    /// The layers that can have branches, by component and name.
    slots: Slots,
}

impl Loading<'_> {
    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// Builds a network and loads its weights.
    pub(super) fn network<N>(
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
        let (network, slots) = weights.load(destination, &mut progress, build)?;
        let component = weights.component();
        let named = slots
            .into_iter()
            .map(|(name, slot)| (format!("{component}.{name}"), slot));
        self.slots.extend(named);
        Ok(network)
    }
}
