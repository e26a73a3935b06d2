//! A loaded model: text, optionally a picture, → latents → picture.

mod denoise;
mod load;
mod previewer;
mod step_counter;

use std::cell::OnceCell;
use std::ops::ControlFlow;

pub use load::{LoadStep, Part, WeightSizes};
use tch::{Kind, Tensor};

use crate::device::Device;
use crate::error::Error;
use crate::latents::Latents;
use crate::manifest::Manifest;
use crate::networks::{Autoencoder, Encoded, TextTransformer, UNet};
use crate::noise;
use crate::picture::Picture;
use crate::request::{Plan, Request};
use crate::tokenizer::{Tokenizer, Truncation};
use denoise::Denoising;
use previewer::Previewer;
use step_counter::StepCounter;

/// A loaded model.
pub struct Pipeline {
    manifest: Manifest,
    device: Device,
    tokenizer: Tokenizer,
    text: TextTransformer,
    unet: UNet,
    autoencoder: Autoencoder,
    previewer: OnceCell<Previewer>,
    memory_bytes: u64,
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
        let text = if plan.guided() {
            self.encode_text(&[&plan.negative_prompt, &plan.prompt])?
        } else {
            self.encode_text(&[&plan.prompt])?
        };
        let image = match &request.image {
            Some(image) => Some(
                (self.device)
                    .run(|| Ok(self.encoded(&image.to_be_encoded(plan.width, plan.height))))?,
            ),
            None => None,
        };
        let calls = || Ok(denoise::sampler(&self.manifest, &plan).calls().len());
        let each = self.device.run(calls)?;
        let steps = u32::try_from(each)
            .unwrap_or(u32::MAX)
            .saturating_mul(plan.num_images);
        let mut counter = StepCounter::new(observer, steps);
        (0..plan.num_images)
            .map(|index| {
                let latents = request.latents.as_ref();
                self.draw(&plan, &text, image.as_ref(), latents, index, &mut counter)
            })
            .collect()
    }

    /// Returns which prompts of a request exceed the tokenizer's context.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`].
    pub fn truncations(&self, request: &Request) -> Result<Vec<Truncation>, Error> {
        let plan = request.plan(&self.manifest)?;
        let mut found = vec![self.tokenizer.truncation("prompt", &plan.prompt)?];
        if plan.guided() {
            let negative = &plan.negative_prompt;
            found.push(self.tokenizer.truncation("negative_prompt", negative)?);
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn draw(
        &self,
        plan: &Plan,
        text: &Tensor,
        image: Option<&Encoded>,
        latents: Option<&Latents>,
        index: u32,
        counter: &mut StepCounter<'_>,
    ) -> Result<Picture, Error> {
        let seed = plan.seed_of(index);
        let cell = self.manifest.vae.downsampling();
        let noise = self.device.run(|| {
            let shape = [1, 4, plan.height / cell, plan.width / cell];
            let noise = latents.map_or_else(|| noise::initial(seed, shape), Latents::tensor);
            Ok(noise.to_device(self.device.torch()))
        })?;
        let start = image.map(|image| self.device.run(|| Ok(sampled(image, seed))));
        let start = start.transpose()?;
        let denoising = self.denoising(plan, text, seed);
        let latents = denoising.run(&noise, start.as_ref(), counter)?;
        counter.latents(self.device.run(|| Latents::from_tensor(&latents))?);
        let decoded = self.decode(&latents)?;
        self.device.run(|| Picture::from_decoded(&decoded))
    }

    /// Returns the token ids of a prompt, as many as the manifest's context.
    ///
    /// # Errors
    /// [`Error::InvalidRequest`] if the text cannot be tokenized.
    pub fn tokens(&self, prompt: &str) -> Result<Vec<i64>, Error> {
        self.tokenizer.encode(prompt)
    }

    /// Returns the text states of prompts: `[prompts, context, hidden]`.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn encode_text(&self, prompts: &[&str]) -> Result<Tensor, Error> {
        let ids = prompts
            .iter()
            .map(|prompt| self.tokens(prompt))
            .collect::<Result<Vec<_>, _>>()?;
        self.device.run(|| {
            let ids: Vec<Tensor> = ids.iter().map(|ids| Tensor::from_slice(ids)).collect();
            let ids = Tensor::f_stack(&ids, 0)?.to_device(self.device.torch());
            Ok(self.text.forward(&ids))
        })
    }

    /// Returns the UNet's prediction for latents `[batch, 4, h/8, w/8]` at a training step (0 to
    /// 999), in single precision.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn predict(&self, latents: &Tensor, timestep: f64, text: &Tensor) -> Result<Tensor, Error> {
        self.device
            .run(|| Ok(self.call_unet(latents, timestep, text)))
    }

    /// Denoises noise of standard deviation 1, `[1, 4, h/8, w/8]`, to latents for decoding. `text`
    /// is the result of [`Pipeline::encode_text`] for the negative prompt, if guidance is above 1,
    /// and the prompt. Ignores the request's image.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn denoise(
        &self,
        noise: &Tensor,
        text: &Tensor,
        request: &Request,
    ) -> Result<Tensor, Error> {
        let plan = Plan {
            strength: None,
            ..request.plan(&self.manifest)?
        };
        let denoising = self.denoising(&plan, text, plan.seed);
        denoising.run(noise, None, &mut StepCounter::new(&mut (), 0))
    }

    /// Encodes a picture `[1, 3, h, w]` in −1…1 to latents `[1, 4, h/8, w/8]`, drawn by the seed
    /// from the encoder's distribution.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn encode(&self, picture: &Tensor, seed: u64) -> Result<Tensor, Error> {
        self.device
            .run(|| Ok(sampled(&self.encoded(picture), seed)))
    }

    /// As [`Pipeline::denoise`], from a picture's `latents` of [`Pipeline::encode`]. The strength
    /// of the request's image determines how much noise covers them.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn redraw(
        &self,
        latents: &Tensor,
        noise: &Tensor,
        text: &Tensor,
        request: &Request,
    ) -> Result<Tensor, Error> {
        let plan = request.plan(&self.manifest)?;
        let denoising = self.denoising(&plan, text, plan.seed);
        denoising.run(noise, Some(latents), &mut StepCounter::new(&mut (), 0))
    }

    /// Decodes latents `[1, 4, h/8, w/8]` to a picture `[1, 3, h, w]` in −1…1.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, Error> {
        self.device.run(|| Ok(self.autoencoder.decode(latents)))
    }

    fn denoising<'a>(&'a self, plan: &'a Plan, text: &'a Tensor, seed: u64) -> Denoising<'a> {
        Denoising {
            pipeline: self,
            plan,
            text,
            seed,
        }
    }

    fn encoded(&self, picture: &Tensor) -> Encoded {
        let picture = picture.to_device(self.device.torch());
        self.autoencoder.encode(&picture)
    }

    fn call_unet(&self, latents: &Tensor, timestep: f64, text: &Tensor) -> Tensor {
        let prediction = self.unet.predict(latents, timestep, text);
        prediction.to_kind(Kind::Float)
    }
}

/// Draws latents from the encoder's distribution.
fn sampled(encoded: &Encoded, seed: u64) -> Tensor {
    noise::reproducibly(seed, noise::ENCODING, || encoded.sample())
}
