//! A loaded model: text → latents → picture.

mod load;
mod stages;

use std::ops::ControlFlow;

pub use load::{LoadStep, Part};
use tch::Tensor;

use crate::clip::TextTransformer;
use crate::device::Device;
use crate::diffusers_rs::{Autoencoder, UNet};
use crate::error::Error;
use crate::manifest::Manifest;
use crate::noise;
use crate::picture::Picture;
use crate::request::{Plan, Request};
use crate::tokenizer::Tokenizer;

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
        let text = if plan.guided() {
            self.encode_text(&[&plan.negative_prompt, &plan.prompt])?
        } else {
            self.encode_text(&[&plan.prompt])?
        };
        let each = self
            .device
            .run(false, || Ok(self.scheduler(&plan).timesteps().len()))?;
        let steps = u32::try_from(each)
            .unwrap_or(u32::MAX)
            .saturating_mul(plan.num_images);
        let mut step = 0;
        let mut before_step = || {
            step += 1;
            observer.step(step, steps)
        };
        (0..plan.num_images)
            .map(|index| self.draw(&plan, &text, index, &mut before_step))
            .collect()
    }

    fn draw(
        &self,
        plan: &Plan,
        text: &Tensor,
        index: u32,
        before_step: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Picture, Error> {
        let seed = plan.seed_of(index);
        let cell = self.manifest.vae.downsampling();
        let noise = self.device.run(false, || {
            let noise = noise::initial(seed, [1, 4, plan.height / cell, plan.width / cell]);
            Ok(noise.to_device(self.device.torch()))
        })?;
        let latents = self.denoise_plan(&noise, text, plan, seed, before_step)?;
        let decoded = self.decode(&latents)?;
        self.device.run(false, || Picture::from_decoded(&decoded))
    }
}
