//! A loaded model: text → latents → picture.

use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use tch::nn::{Module, Path, VarStore};
use tch::{Kind, Tensor};

use crate::checkpoint::Checkpoint;
use crate::clip::TextTransformer;
use crate::device::Device;
use crate::diffusers_rs::{Autoencoder, Scheduler, UNet};
use crate::error::Error;
use crate::manifest::{Manifest, TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS};
use crate::picture::Picture;
use crate::request::{Plan, Request};
use crate::tokenizer::Tokenizer;

/// Up to this many latent cells (512 × 512 pixels) the UNet sees prompt and negative prompt in one
/// batch. Above it one after the other: attention's scores grow with the square of the cells.
const CELLS_IN_ONE_BATCH: i64 = 64 * 64;

/// A model in memory, ready to draw.
pub struct Pipeline {
    manifest: Manifest,
    device: Device,
    tokenizer: Tokenizer,
    text: TextTransformer,
    unet: UNet,
    autoencoder: Autoencoder,
    memory_bytes: u64,
}

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

/// Watches a generation, and may stop it.
pub trait Observer {
    /// Called before each of the `steps` times that the UNet is asked, counted from 1 over all pictures
    /// of the request. [`ControlFlow::Break`] ends the generation with [`Error::Cancelled`].
    fn step(&mut self, step: u32, steps: u32) -> ControlFlow<()>;
}

/// Looks away.
impl Observer for () {
    fn step(&mut self, _step: u32, _steps: u32) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Pipeline {
    /// Reads a model into a device's memory. Every file, tensor, shape and type is checked on the way.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] names what is damaged or missing; [`Error::OutOfMemory`].
    pub fn load(
        manifest: &Manifest,
        device: &Device,
        progress: &mut dyn FnMut(LoadStep),
    ) -> Result<Pipeline, Error> {
        let device = *device;
        device.run(false, || {
            manifest.verify_files()?;
            let tokenizer = Tokenizer::load(manifest)?;
            let open = |stem, rename| Checkpoint::open(manifest, &manifest.weights(stem)?, rename);
            let text_weights = open(TEXT_WEIGHTS, without_model_prefix)?;
            let unet_weights = open(UNET_WEIGHTS, str::to_owned)?;
            let vae_weights = open(VAE_WEIGHTS, Autoencoder::rename)?;

            let vocabulary = text_weights.rows("embeddings.token_embedding.weight")?;
            if tokenizer.largest_id() >= vocabulary {
                let message = format!(
                    "has the id {}, the text encoder {vocabulary} rows",
                    tokenizer.largest_id()
                );
                return Err(manifest.bad("tokenizer/vocab.json", message));
            }
            let context = i64::try_from(manifest.tokenizer.context).unwrap_or(i64::MAX);
            TextTransformer::check(&manifest.text, vocabulary, context, &text_weights)?;
            UNet::check(&manifest.unet, &unet_weights)?;
            Autoencoder::check(&manifest.vae, &vae_weights)?;

            let mut loading = Loading {
                device,
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
                device,
                tokenizer,
                text,
                unet,
                autoencoder,
                memory_bytes: loading.memory_bytes,
            })
        })
    }

    /// What the model is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where the model is.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Bytes that the loaded weights hold.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Draws what the request asks for.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::Cancelled`], [`Error::OutOfMemory`], [`Error::Torch`]. The
    /// pipeline is as good as before after each of them.
    pub fn generate(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Picture>, Error> {
        let plan = request.plan(&self.manifest)?;
        let text = self.encode(&plan)?;
        (0..plan.num_images)
            .map(|index| self.draw(&plan, &text, index, observer))
            .collect()
    }

    /// Token ids of a prompt, as many as the manifest's context.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] when the text cannot be read.
    pub fn tokens(&self, prompt: &str) -> Result<Vec<i64>, Error> {
        self.tokenizer.encode(prompt)
    }

    /// Text states of prompts: `[prompts, context, hidden]`.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn encode_text(&self, prompts: &[&str]) -> Result<Tensor, Error> {
        self.device.run(true, || {
            let ids = prompts.iter().map(|prompt| self.tokenizer.encode(prompt));
            let ids: Vec<Tensor> = ids
                .map(|ids| Ok(Tensor::from_slice(&ids?)))
                .collect::<Result<_, Error>>()?;
            Ok(self
                .text
                .forward(&Tensor::stack(&ids, 0).to_device(self.device.torch())))
        })
    }

    /// What the UNet predicts for latents `[batch, 4, h/8, w/8]` at a training step (0 to 999), in
    /// single precision.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn predict(&self, latents: &Tensor, timestep: f64, text: &Tensor) -> Result<Tensor, Error> {
        self.device.run(true, || {
            Ok(self
                .unet
                .predict(latents, timestep, text)
                .to_kind(Kind::Float))
        })
    }

    /// From noise of standard deviation 1, `[1, 4, h/8, w/8]`, to latents that can be decoded. `text`
    /// is as [`Pipeline::encode_text`] returns it: for the negative prompt, if guidance is above 1, and
    /// the prompt.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn denoise(
        &self,
        noise: &Tensor,
        text: &Tensor,
        request: &Request,
    ) -> Result<Tensor, Error> {
        let plan = request.plan(&self.manifest)?;
        self.denoise_plan(noise, text, &plan, 0, &mut ())
    }

    /// Latents `[1, 4, h/8, w/8]` → a picture `[1, 3, h, w]` in −1…1.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, Error> {
        self.device
            .run(false, || Ok(self.autoencoder.decode(latents)))
    }

    fn encode(&self, plan: &Plan) -> Result<Tensor, Error> {
        match plan.guided() {
            true => self.encode_text(&[&plan.negative_prompt, &plan.prompt]),
            false => self.encode_text(&[&plan.prompt]),
        }
    }

    fn draw(
        &self,
        plan: &Plan,
        text: &Tensor,
        index: u32,
        observer: &mut dyn Observer,
    ) -> Result<Picture, Error> {
        let noise = self.device.run(false, || Ok(self.noise(plan, index)))?;
        let latents = self.denoise_plan(&noise, text, plan, index, observer)?;
        let decoded = self.decode(&latents)?;
        self.device.run(false, || Picture::from_decoded(&decoded))
    }

    /// `[1, 4, h/8, w/8]`, from a generator of our own: torch's is global to the process.
    fn noise(&self, plan: &Plan, index: u32) -> Tensor {
        let [height, width] =
            [plan.height, plan.width].map(|side| side / self.manifest.vae.downsampling());
        let count = 4 * height as usize * width as usize;
        let generator = ChaCha8Rng::seed_from_u64(plan.seed_of(index));
        let noise: Vec<f32> = StandardNormal.sample_iter(generator).take(count).collect();
        let shape = [1, 4, i64::from(height), i64::from(width)];
        Tensor::from_slice(&noise)
            .view(shape)
            .to_device(self.device.torch())
    }

    fn denoise_plan(
        &self,
        noise: &Tensor,
        text: &Tensor,
        plan: &Plan,
        index: u32,
        observer: &mut dyn Observer,
    ) -> Result<Tensor, Error> {
        self.device.run(true, || {
            let mut scheduler =
                Scheduler::new(plan.scheduler, plan.steps, &self.manifest.scheduler);
            let timesteps = scheduler.timesteps();
            let each = u32::try_from(timesteps.len()).unwrap_or(u32::MAX);
            let mut latents = noise * scheduler.initial_sigma();
            for (step, &timestep) in (1..).zip(&timesteps) {
                let (done, all) = (
                    index.saturating_mul(each),
                    plan.num_images.saturating_mul(each),
                );
                if observer.step(done.saturating_add(step), all).is_break() {
                    return Err(Error::Cancelled);
                }
                let input = scheduler.model_input(&latents, timestep);
                let prediction = self.guided_prediction(&input, timestep, text, plan);
                latents = reproducibly(plan.seed_of(index), step, || {
                    scheduler
                        .step(&prediction, timestep, &latents)
                        .to_kind(Kind::Float)
                });
            }
            Ok(latents)
        })
    }

    /// Classifier-free guidance (Ho and Salimans, 2022): away from the negative prompt, to the prompt.
    fn guided_prediction(
        &self,
        input: &Tensor,
        timestep: f64,
        text: &Tensor,
        plan: &Plan,
    ) -> Tensor {
        if !plan.guided() {
            return self
                .unet
                .predict(input, timestep, text)
                .to_kind(Kind::Float);
        }
        let cells: i64 = input.size().iter().rev().take(2).product();
        let both = if cells <= CELLS_IN_ONE_BATCH {
            self.unet
                .predict(&Tensor::cat(&[input, input], 0), timestep, text)
                .chunk(2, 0)
        } else {
            text.chunk(2, 0)
                .iter()
                .map(|text| self.unet.predict(input, timestep, text))
                .collect()
        };
        let [negative, positive] = [0, 1].map(|i: usize| both[i].to_kind(Kind::Float));
        &negative + plan.guidance * (positive - &negative)
    }
}

/// Runs a scheduler's step, which may draw from torch's generator, so that the same seed draws the
/// same noise. The generator is the process's: other engines' steps wait meanwhile, for microseconds.
fn reproducibly<T>(seed: u64, step: u32, draw: impl FnOnce() -> T) -> T {
    static GENERATOR: Mutex<()> = Mutex::new(());
    let _turn = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    // Far enough apart that no seed's later steps are another's earlier ones.
    tch::manual_seed(
        seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .wrapping_add(u64::from(step))
            .cast_signed(),
    );
    draw()
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
        let held = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        self.memory_bytes += store
            .variables()
            .values()
            .map(|tensor| held(tensor) as u64)
            .sum::<u64>();
        Ok(network)
    }
}
