//! The stages of a generation, which tests compare with Python.

use tch::{Kind, Tensor};

use super::Pipeline;
use super::previewer::Previewer;
use super::step_counter::StepCounter;
use crate::error::Error;
use crate::networks::Encoded;
use crate::noise;
use crate::picture::Picture;
use crate::request::{Plan, Request};
use crate::sampling::Sampler;

/// Up to this many latent cells (512 × 512 pixels) the UNet processes prompt and negative prompt in
/// one batch, above it one after the other: attention's scores grow with the square of the cells.
const CELLS_IN_ONE_BATCH: i64 = 64 * 64;

impl Pipeline {
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
        let mut observer = ();
        let mut counter = StepCounter::new(&mut observer, 0);
        self.denoise_plan(noise, None, text, &plan, plan.seed, &mut counter)
    }

    /// Encodes a picture `[1, 3, h, w]` in −1…1 to latents `[1, 4, h/8, w/8]`, drawn by the seed
    /// from the encoder's distribution.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn encode(&self, picture: &Tensor, seed: u64) -> Result<Tensor, Error> {
        self.device.run(|| {
            let encoded = self.encoded(picture);
            Ok(noise::reproducibly(seed, noise::ENCODING, || {
                encoded.sample()
            }))
        })
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
        let mut observer = ();
        let mut counter = StepCounter::new(&mut observer, 0);
        self.denoise_plan(noise, Some(latents), text, &plan, plan.seed, &mut counter)
    }

    /// Decodes latents `[1, 4, h/8, w/8]` to a picture `[1, 3, h, w]` in −1…1.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, Error> {
        self.device.run(|| Ok(self.autoencoder.decode(latents)))
    }

    /// Denoises noise, or noised latents of a picture to `start` from.
    pub(super) fn denoise_plan(
        &self,
        noise: &Tensor,
        start: Option<&Tensor>,
        text: &Tensor,
        plan: &Plan,
        seed: u64,
        counter: &mut StepCounter<'_>,
    ) -> Result<Tensor, Error> {
        self.device.run(|| {
            let mut sampler = self.sampler(plan);
            let calls = sampler.calls();
            let mut latents = sampler.initial(start, noise);
            let preview_at = preview_at(calls.len(), sampler.calls_per_step());
            for (index, (step, call)) in (0..).zip(calls).enumerate() {
                if counter.step().is_break() {
                    return Err(Error::Cancelled);
                }
                let input = sampler.model_input(&latents, call);
                let prediction = self.guided_prediction(&input, sampler.timestep(call), text, plan);
                if plan.previews && preview_at.contains(&index) {
                    let picture = sampler.picture(&prediction, call, &latents);
                    counter.preview(self.preview(&picture)?);
                }
                latents = noise::reproducibly(seed, step, || {
                    let fresh = || latents.randn_like();
                    let next = sampler.step(&prediction, call, &latents, &fresh);
                    next.to_kind(Kind::Float)
                });
            }
            Ok(latents)
        })
    }

    pub(super) fn sampler(&self, plan: &Plan) -> Sampler {
        let spec = &self.manifest.scheduler;
        Sampler::new(plan.scheduler, plan.steps, plan.skipped_steps(), spec)
    }

    pub(super) fn encoded(&self, picture: &Tensor) -> Encoded {
        let picture = picture.to_device(self.device.torch());
        self.autoencoder.encode(&picture)
    }

    fn preview(&self, latents: &Tensor) -> Result<Picture, Error> {
        // Single precision, as for decoding.
        self.device.run(|| {
            let device = self.device.torch();
            let previewer =
                (self.previewer).get_or_init(|| Previewer::of(&self.autoencoder, device));
            Picture::from_decoded(&previewer.draw(latents))
        })
    }

    /// Classifier-free guidance (Ho and Salimans, 2022): away from the negative prompt, towards the
    /// prompt.
    fn guided_prediction(
        &self,
        input: &Tensor,
        timestep: f64,
        text: &Tensor,
        plan: &Plan,
    ) -> Tensor {
        if !plan.guided() {
            return self.call_unet(input, timestep, text);
        }
        let (negative, positive) = (text.narrow(0, 0, 1), text.narrow(0, 1, 1));
        let cells: i64 = input.size().iter().rev().take(2).product();
        let (negative, positive) = if cells <= CELLS_IN_ONE_BATCH {
            let both = self.call_unet(&Tensor::cat(&[input, input], 0), timestep, text);
            (both.narrow(0, 0, 1), both.narrow(0, 1, 1))
        } else {
            let ask = |text| self.call_unet(input, timestep, &text);
            (ask(negative), ask(positive))
        };
        &negative + plan.guidance * (positive - &negative)
    }

    fn call_unet(&self, input: &Tensor, timestep: f64, text: &Tensor) -> Tensor {
        self.unet
            .predict(input, timestep, text)
            .to_kind(Kind::Float)
    }
}

/// Returns the UNet calls of a picture, from 0, before which a preview is shown: after each
/// quarter, at the first call of a step.
fn preview_at(unet_calls: usize, per_step: usize) -> [usize; 3] {
    [1, 2, 3].map(|quarter| {
        let index = quarter * unet_calls / 4;
        index - index % per_step
    })
}

#[cfg(test)]
mod tests {
    use super::preview_at;

    #[test]
    fn three_previews_of_a_picture_are_shown() {
        assert_eq!(preview_at(20, 1), [5, 10, 15]);
        assert_eq!(preview_at(39, 2), [8, 18, 28]);
        assert_eq!(preview_at(1, 1), [0, 0, 0]);
    }
}
