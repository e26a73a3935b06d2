//! A loaded model: text, optionally a picture, → latents → picture.

mod clip;
mod denoise;
mod denoiser;
mod flux;
mod load;
mod previewer;
mod sd;
mod sdxl;
mod start;
mod step_counter;

use std::cell::OnceCell;
use std::ops::ControlFlow;

pub use denoiser::EncodedPrompts;
pub use load::{LoadStep, Part, WeightSizes};
pub use start::Start;
use tch::{Kind, Tensor};

use crate::device::Device;
use crate::error::Error;
use crate::latents::Latents;
use crate::lora::Loras;
use crate::manifest::Manifest;
use crate::networks::{Autoencoder, Encoded, ResidentWeights};
use crate::noise;
use crate::picture::Picture;
use crate::request::{Plan, Request};
use crate::tokenizer::Truncation;
use denoise::Denoising;
use denoiser::{Denoiser, NetworkCall};
use previewer::Previewer;
use start::{EncodedStart, sampled};
use step_counter::StepCounter;

/// A loaded model.
pub struct Pipeline {
    manifest: Manifest,
    device: Device,
    denoiser: Box<dyn Denoiser>,
    autoencoder: Autoencoder,
    previewer: OnceCell<Previewer>,
    loras: Loras,
    memory_bytes: u64,
    pub(crate) weights: ResidentWeights,
}

/// Observes a generation, and can stop it.
pub trait Observer {
    /// Called before each of the `steps` calls of the UNet, counted from 1 over all pictures of the
    /// request. [`ControlFlow::Break`] ends the generation with [`Error::Cancelled`].
    fn step(&mut self, step: u32, steps: u32) -> ControlFlow<()>;

    /// Receives previews if the request enables them, about after each quarter of a picture's
    /// steps: the picture that the UNet predicts so far, one pixel per latent cell, at most 64 on
    /// the longer side.
    fn preview(&mut self, preview: Picture) {
        drop(preview);
    }

    /// Receives the latents of each picture before they are decoded.
    fn latents(&mut self, latents: Latents) {
        drop(latents);
    }
}

/// Ignores everything.
impl Observer for () {
    fn step(&mut self, _step: u32, _steps: u32) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// [`Pipeline::load`] and [`Pipeline::generate`] are for every caller; tests compare the stages in
/// between with Python.
impl Pipeline {
    /// Checks a model's files as far as possible without reading its weights: sizes, checksums of
    /// small files, and names, shapes and types of the tensors that determine the networks' sizes.
    ///
    /// # Errors
    /// [`Error::BadCheckpoint`] for the file that is damaged or missing.
    pub fn check(manifest: &Manifest) -> Result<(), Error> {
        load::check(manifest)
    }

    /// As [`Pipeline::check`], and returns the sizes of the weights.
    ///
    /// # Errors
    /// As [`Pipeline::check`].
    pub fn weight_sizes(manifest: &Manifest) -> Result<WeightSizes, Error> {
        load::weight_sizes(manifest)
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
        load::load(manifest, *device, progress)
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the device.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns the size of the loaded weights, bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Moves the weights to host memory, which frees their memory on the device, and drops recent
    /// LoRAs. The pipeline cannot generate until it returns. On the CPU the weights stay.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Torch`]: the pipeline is of no use.
    pub fn move_to_ram(&mut self) -> Result<(), Error> {
        self.loras.clear();
        self.previewer.take();
        let weights = &mut self.weights;
        self.device.run(|| weights.move_to(tch::Device::Cpu))
    }

    /// Moves the weights from host memory to the device.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Torch`]: the weights stay in host memory.
    pub fn move_to_device(&mut self) -> Result<(), Error> {
        let weights = &mut self.weights;
        let device = self.device;
        device.run(|| {
            let moved = weights.move_to(device.torch());
            if moved.is_err() {
                weights.move_to(tch::Device::Cpu)?;
            }
            moved
        })
    }

    /// Generates the pictures of a request.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`], [`Error::Cancelled`], [`Error::OutOfMemory`], [`Error::Torch`].
    /// The pipeline stays usable after each of them.
    pub fn generate(
        &self,
        request: &Request,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Picture>, Error> {
        let plan = request.plan(&self.manifest)?;
        let _attached = self.attach(request)?;
        let prompts = self.encode_prompts(&plan)?;
        let start = (self.device).run(|| Ok(EncodedStart::of(self, request, &plan)))?;
        let calls = || Ok(denoise::sampler(&self.manifest, &plan).calls().len());
        let each = self.device.run(calls)?;
        let steps = u32::try_from(each)
            .unwrap_or(u32::MAX)
            .saturating_mul(plan.num_images);
        let mut counter = StepCounter::new(observer, steps);
        (0..plan.num_images)
            .map(|index| {
                let noise = request.latents.as_ref();
                self.draw(&plan, &prompts, start.as_ref(), noise, index, &mut counter)
            })
            .collect()
    }

    /// Returns which prompts of a request exceed the tokenizer's context.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn truncations(&self, request: &Request) -> Result<Vec<Truncation>, Error> {
        let plan = request.plan(&self.manifest)?;
        let mut found = vec![self.denoiser.truncation("prompt", &plan.prompt)?];
        if let (true, Some(negative)) = (plan.guided(), &plan.negative_prompt) {
            found.push(self.denoiser.truncation("negative_prompt", negative)?);
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn draw(
        &self,
        plan: &Plan,
        prompts: &EncodedPrompts,
        start: Option<&EncodedStart>,
        latents: Option<&Latents>,
        index: u32,
        counter: &mut StepCounter<'_>,
    ) -> Result<Picture, Error> {
        let seed = plan.seed_of(index);
        let vae = &self.manifest.vae;
        let cell = vae.downsampling();
        let channels = u32::try_from(vae.latent_channels).unwrap_or(0);
        let noise = self.device.run(|| {
            let shape = [1, channels, plan.height / cell, plan.width / cell];
            let noise = latents.map_or_else(|| noise::initial(seed, shape), Latents::tensor);
            Ok(noise.to_device(self.device.torch()))
        })?;
        let start = start.map(|start| self.device.run(|| Ok(start.sampled(seed))));
        let start = start.transpose()?;
        let denoising = self.denoising(plan, prompts, seed);
        let latents = denoising.run(&noise, start.as_ref(), counter)?;
        counter.latents(self.device.run(|| Latents::from_tensor(&latents))?);
        let decoded = self.decode(&latents)?;
        self.device.run(|| Picture::from_decoded(&decoded))
    }

    /// Adds the LoRAs of a request to the model until the result is dropped.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`]: a file cannot be read, or does not fit the model.
    pub fn attach(&self, request: &Request) -> Result<impl Drop + use<'_>, Error> {
        (self.device).run(|| self.loras.attach(&request.loras, self.device))
    }

    /// Returns the token ids of a prompt, as many as the manifest's context.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the text cannot be tokenized.
    pub fn tokens(&self, prompt: &str) -> Result<Vec<i64>, Error> {
        self.denoiser.tokens(prompt)
    }

    /// Encodes a request's negative prompt, if guidance is above 1, and its prompt.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn encode(&self, request: &Request) -> Result<EncodedPrompts, Error> {
        self.encode_prompts(&request.plan(&self.manifest)?)
    }

    fn encode_prompts(&self, plan: &Plan) -> Result<EncodedPrompts, Error> {
        let denoiser = &self.denoiser;
        self.device.run(|| match &plan.negative_prompt {
            _ if !plan.guided() => denoiser.encode(&[&plan.prompt]),
            Some(negative) => denoiser.encode(&[negative, &plan.prompt]),
            None => {
                let prompt = denoiser.encode(&[&plan.prompt])?;
                Ok(denoiser.encode_no_negative(&prompt)?.and(&prompt))
            }
        })
    }

    /// Returns the network's prediction for latents `[batch, channels, h/8, w/8]` at a training
    /// step (0 to 1000) and as many prompts, in single precision. `guidance` is for networks with
    /// this input.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn predict(
        &self,
        latents: &Tensor,
        timestep: f64,
        prompts: &EncodedPrompts,
        guidance: f64,
    ) -> Result<Tensor, Error> {
        self.device.run(|| {
            let prediction = self.denoiser.predict(&NetworkCall {
                input: latents,
                timestep,
                prompts,
                guidance,
            });
            Ok(prediction.to_kind(Kind::Float))
        })
    }

    /// Denoises noise of standard deviation 1, `[1, channels, h/8, w/8]`, to latents for decoding.
    /// `prompts` is the result of [`Pipeline::encode`]. Ignores the request's image.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn denoise(
        &self,
        noise: &Tensor,
        prompts: &EncodedPrompts,
        request: &Request,
    ) -> Result<Tensor, Error> {
        let plan = Plan {
            strength: None,
            ..request.plan(&self.manifest)?
        };
        let denoising = self.denoising(&plan, prompts, plan.seed);
        denoising.run(noise, None, &mut StepCounter::new(&mut (), 0))
    }

    /// Encodes a picture `[1, 3, h, w]` in −1…1 to latents `[1, channels, h/8, w/8]`, drawn by the
    /// seed from the encoder's distribution.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn encode_picture(&self, picture: &Tensor, seed: u64) -> Result<Tensor, Error> {
        self.device
            .run(|| Ok(sampled(&self.encoded(picture), seed)))
    }

    /// As [`Pipeline::denoise`], from a picture. The strength of the request's image determines how
    /// much noise covers it.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn redraw(
        &self,
        start: &Start,
        noise: &Tensor,
        prompts: &EncodedPrompts,
        request: &Request,
    ) -> Result<Tensor, Error> {
        let plan = request.plan(&self.manifest)?;
        let denoising = self.denoising(&plan, prompts, plan.seed);
        denoising.run(noise, Some(start), &mut StepCounter::new(&mut (), 0))
    }

    /// Decodes latents `[1, channels, h/8, w/8]` to a picture `[1, 3, h, w]` in −1…1.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, Error> {
        let release = || {
            if self.device == Device::Cpu {
                self.device.release_unused_memory();
            }
        };
        // Its tensors are larger than those of the steps, and fit into none of their memory.
        release();
        let decoded = self.device.run(|| Ok(self.autoencoder.decode(latents)));
        release();
        decoded
    }

    fn denoising<'a>(
        &'a self,
        plan: &'a Plan,
        prompts: &'a EncodedPrompts,
        seed: u64,
    ) -> Denoising<'a> {
        Denoising {
            pipeline: self,
            plan,
            prompts,
            seed,
        }
    }

    fn encoded(&self, picture: &Tensor) -> Encoded {
        let picture = picture.to_device(self.device.torch());
        self.autoencoder.encode(&picture)
    }
}
