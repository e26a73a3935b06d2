//! A loaded model: text, optionally a picture, → latents → picture.

mod load;
mod previewer;
mod stages;
mod step_counter;

use std::cell::OnceCell;
use std::ops::ControlFlow;

pub use load::{LoadStep, Part};
use tch::Tensor;

use crate::device::Device;
use crate::error::Error;
use crate::manifest::Manifest;
use crate::networks::{Autoencoder, Encoded, TextTransformer, UNet};
use crate::noise;
use crate::picture::Picture;
use crate::request::{Plan, Request};
use crate::tokenizer::Tokenizer;
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
}

/// Ignores everything.
impl Observer for () {
    fn step(&mut self, _step: u32, _steps: u32) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Pipeline {
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
        let each = (self.device).run(|| Ok(self.sampler(&plan).calls().len()))?;
        let steps = u32::try_from(each)
            .unwrap_or(u32::MAX)
            .saturating_mul(plan.num_images);
        let mut counter = StepCounter::new(observer, steps);
        (0..plan.num_images)
            .map(|index| self.draw(&plan, &text, image.as_ref(), index, &mut counter))
            .collect()
    }

    fn draw(
        &self,
        plan: &Plan,
        text: &Tensor,
        image: Option<&Encoded>,
        index: u32,
        counter: &mut StepCounter<'_>,
    ) -> Result<Picture, Error> {
        let seed = plan.seed_of(index);
        let cell = self.manifest.vae.downsampling();
        let noise = self.device.run(|| {
            let noise = noise::initial(seed, [1, 4, plan.height / cell, plan.width / cell]);
            Ok(noise.to_device(self.device.torch()))
        })?;
        let start = image.map(|image| {
            let sample = || {
                Ok(noise::reproducibly(seed, noise::ENCODING, || {
                    image.sample()
                }))
            };
            self.device.run(sample)
        });
        let start = start.transpose()?;
        let latents = self.denoise_plan(&noise, start.as_ref(), text, plan, seed, counter)?;
        let decoded = self.decode(&latents)?;
        self.device.run(|| Picture::from_decoded(&decoded))
    }
}
