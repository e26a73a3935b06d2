//! Loads a model's folder into a device's memory.

use std::cell::OnceCell;
use std::collections::BTreeSet;

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
use crate::lora::Loras;
use crate::manifest::{Manifest, Networks, VAE_WEIGHTS};
use crate::memory::process;
use crate::networks::{Autoencoder, Recorder, ResidentWeights, Slots, Weights};
use crate::panic_guard::guard;

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
    /// A text encoder.
    TextEncoder,
    /// The denoising network.
    Denoiser,
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

impl WeightSizes {
    /// Returns the size of the weights on a device: exactly
    /// [`Pipeline::memory_bytes`] after a load, bytes.
    pub fn on(&self, device: Device) -> u64 {
        match device {
            Device::Cpu => self.cpu_bytes,
            Device::Cuda(_) => self.gpu_bytes,
        }
    }
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

    fn checkpoints(&self) -> impl Iterator<Item = &Checkpoint> {
        self.denoiser.checkpoints().into_iter().chain([&self.vae])
    }
}

/// Opens and checks a model's files without reading its weights.
pub(super) fn check(manifest: &Manifest) -> Result<(), Error> {
    guard(|| Files::open(manifest).map(drop))
}

/// Opens and checks a model's files, and returns the sizes of its weights.
pub(super) fn weight_sizes(manifest: &Manifest) -> Result<WeightSizes, Error> {
    guard(|| {
        let files = Files::open(manifest)?;
        let denoiser = files.denoiser.checkpoints();
        let on = |device: Device| {
            let kind = files.denoiser.kind(device);
            let large: u64 = denoiser.iter().map(|part| part.bytes_as(kind)).sum();
            large + files.vae.bytes_as(VAE_KIND)
        };
        let types: BTreeSet<String> = files.checkpoints().flat_map(Checkpoint::types).collect();
        Ok(WeightSizes {
            stored_bytes: files.checkpoints().map(Checkpoint::bytes).sum(),
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
    process::keep_freed_memory();
    device.run(|| {
        let files = Files::open(manifest)?;
        let mut loading = Loading {
            device,
            bytes: 0,
            total_bytes: files.checkpoints().map(Checkpoint::bytes).sum(),
            memory_bytes: 0,
            progress,
            slots: Slots::new(),
            weights: ResidentWeights::default(),
        };
        let denoiser = files.denoiser.load(&mut loading)?;
        let autoencoder = loading.network(Part::Vae, &files.vae, VAE_KIND, |weights| {
            Autoencoder::new(weights, &manifest.vae)
        })?;
        Ok(Pipeline {
            manifest: manifest.clone(),
            device,
            denoiser,
            autoencoder,
            previewer: OnceCell::new(),
            memory_bytes: loading.memory_bytes,
            weights: loading.weights,
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
    weights: ResidentWeights,
}

impl Loading<'_> {
    pub(super) fn device(&self) -> Device {
        self.device
    }

    /// Builds a network, then fills its weights.
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
        let recorded = |source: &Weights<'_>| {
            let recorder = Recorder::new(source.source());
            let network = build(&Weights::root(&recorder))?;
            Ok((network, recorder.into_weights()))
        };
        let ((network, resident), slots) = weights.load(destination, &mut progress, recorded)?;
        self.weights.extend(resident);
        let component = weights.component();
        let named = slots
            .into_iter()
            .map(|(name, slot)| (format!("{component}.{name}"), slot));
        self.slots.extend(named);
        Ok(network)
    }
}
