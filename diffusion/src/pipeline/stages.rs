//! The stages of a generation, one by one: what `generate` is made of, and what is compared with Python.

use std::ops::ControlFlow;

use tch::nn::Module;
use tch::{Kind, Tensor};

use super::Pipeline;
use crate::diffusers_rs::Scheduler;
use crate::error::Error;
use crate::noise;
use crate::request::{Plan, Request};

/// Up to this many latent cells (512 × 512 pixels) the UNet sees prompt and negative prompt in one
/// batch. Above it one after the other: attention's scores grow with the square of the cells.
const CELLS_IN_ONE_BATCH: i64 = 64 * 64;

impl Pipeline {
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
        let ids = prompts
            .iter()
            .map(|prompt| self.tokens(prompt))
            .collect::<Result<Vec<_>, _>>()?;
        self.device.run(true, || {
            let ids: Vec<Tensor> = ids.iter().map(|ids| Tensor::from_slice(ids)).collect();
            let ids = Tensor::f_stack(&ids, 0)?.to_device(self.device.torch());
            Ok(self.text.forward(&ids))
        })
    }

    /// What the UNet predicts for latents `[batch, 4, h/8, w/8]` at a training step (0 to 999), in
    /// single precision.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn predict(&self, latents: &Tensor, timestep: f64, text: &Tensor) -> Result<Tensor, Error> {
        self.device
            .run(true, || Ok(self.ask_unet(latents, timestep, text)))
    }

    /// From noise of standard deviation 1, `[1, 4, h/8, w/8]`, to latents that can be decoded. `text`
    /// is what [`Pipeline::encode_text`] returns for the negative prompt, if guidance is above 1, and the
    /// prompt.
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
        self.denoise_plan(noise, text, &plan, plan.seed, &mut || {
            ControlFlow::Continue(())
        })
    }

    /// Latents `[1, 4, h/8, w/8]` → a picture `[1, 3, h, w]` in −1…1.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, Error> {
        self.device
            .run(false, || Ok(self.autoencoder.decode(latents)))
    }

    /// `before_step` is asked before each question to the UNet, and may end it all.
    pub(super) fn denoise_plan(
        &self,
        noise: &Tensor,
        text: &Tensor,
        plan: &Plan,
        seed: u64,
        before_step: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Tensor, Error> {
        self.device.run(true, || {
            let mut scheduler = self.scheduler(plan);
            let mut latents = noise * scheduler.initial_sigma();
            for (step, timestep) in (0..).zip(scheduler.timesteps()) {
                if before_step().is_break() {
                    return Err(Error::Cancelled);
                }
                let input = scheduler.model_input(&latents, timestep);
                let prediction = self.guided_prediction(&input, timestep, text, plan);
                latents = noise::reproducibly(seed, step, || {
                    scheduler
                        .step(&prediction, timestep, &latents)
                        .to_kind(Kind::Float)
                });
            }
            Ok(latents)
        })
    }

    pub(super) fn scheduler(&self, plan: &Plan) -> Scheduler {
        Scheduler::new(plan.scheduler, plan.steps, &self.manifest.scheduler)
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
            return self.ask_unet(input, timestep, text);
        }
        let (negative, positive) = (text.narrow(0, 0, 1), text.narrow(0, 1, 1));
        let cells: i64 = input.size().iter().rev().take(2).product();
        let (negative, positive) = if cells <= CELLS_IN_ONE_BATCH {
            let both = self.ask_unet(&Tensor::cat(&[input, input], 0), timestep, text);
            (both.narrow(0, 0, 1), both.narrow(0, 1, 1))
        } else {
            let ask = |text| self.ask_unet(input, timestep, &text);
            (ask(negative), ask(positive))
        };
        &negative + plan.guidance * (positive - &negative)
    }

    fn ask_unet(&self, input: &Tensor, timestep: f64, text: &Tensor) -> Tensor {
        self.unet
            .predict(input, timestep, text)
            .to_kind(Kind::Float)
    }
}
