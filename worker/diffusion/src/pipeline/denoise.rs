//! Denoises the latents of one picture.

use tch::{Kind, Tensor};

use super::Pipeline;
use super::denoiser::EncodedPrompts;
use super::previewer::Previewer;
use super::start::Start;
use super::step_counter::StepCounter;
use crate::error::Error;
use crate::manifest::Manifest;
use crate::noise;
use crate::picture::Picture;
use crate::request::Plan;
use crate::sampling::Sampler;

/// Up to this many latent cells (512 × 512 pixels) the UNet processes prompt and negative prompt in
/// one batch, above it one after the other: attention's scores grow with the square of the cells.
const CELLS_IN_ONE_BATCH: i64 = 64 * 64;

/// Denoises one picture of a request.
pub(super) struct Denoising<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) plan: &'a Plan,
    /// The negative prompt, if the plan is guided, and the prompt.
    pub(super) prompts: &'a EncodedPrompts,
    pub(super) seed: u64,
}

impl Denoising<'_> {
    /// Denoises noise, or the noised latents of the picture to `start` from.
    pub(super) fn run(
        &self,
        noise: &Tensor,
        start: Option<&Start>,
        counter: &mut StepCounter<'_>,
    ) -> Result<Tensor, Error> {
        let Self { pipeline, plan, .. } = self;
        pipeline.device.run(|| {
            let mut sampler = sampler(&pipeline.manifest, plan);
            let calls = sampler.calls();
            // A fully redrawn part starts from noise alone.
            let covered = start.filter(|start| start.mask.is_none() || plan.skipped_steps() > 0);
            let covered = covered.map(|start| &start.latents);
            let mut latents = sampler.initial(covered, noise);
            let conditions = start.and_then(Start::conditions);
            let preview_at = preview_at(calls.len(), sampler.calls_per_step());
            for (index, (step, call)) in (0..).zip(calls).enumerate() {
                if counter.step().is_break() {
                    return Err(Error::Cancelled);
                }
                let input = sampler.model_input(&latents, call);
                let input = match &conditions {
                    Some(conditions) => Tensor::cat(&[&input, conditions], 1),
                    None => input,
                };
                let prediction = self.guided_prediction(&input, sampler.timestep(call))?;
                if plan.previews && preview_at.contains(&index) {
                    let picture = sampler.picture(&prediction, call, &latents);
                    counter.preview(self.preview(&picture)?);
                }
                latents = noise::reproducibly(self.seed, step, || {
                    let fresh = || latents.randn_like();
                    let next = sampler.step(&prediction, call, &latents, &fresh);
                    next.to_kind(Kind::Float)
                });
                if let Some(start) = start {
                    let kept = || sampler.noised(&start.latents, noise, call + 1);
                    latents = start.keep(latents, kept);
                }
            }
            Ok(latents)
        })
    }

    /// Applies classifier-free guidance (Ho and Salimans, 2022): away from the negative prompt,
    /// towards the prompt.
    fn guided_prediction(&self, input: &Tensor, timestep: f64) -> Result<Tensor, Error> {
        let predict = |input: &Tensor, prompts: &EncodedPrompts| {
            (self.pipeline).predict(input, timestep, prompts, self.plan.guidance)
        };
        if !self.plan.guided() {
            return predict(input, self.prompts);
        }
        let cells: i64 = input.size().iter().rev().take(2).product();
        let (negative, positive) = if cells <= CELLS_IN_ONE_BATCH {
            let both = predict(&Tensor::cat(&[input, input], 0), self.prompts)?;
            (both.narrow(0, 0, 1), both.narrow(0, 1, 1))
        } else {
            let [negative, positive] = [0, 1].map(|index| self.prompts.only(index));
            (predict(input, &negative)?, predict(input, &positive)?)
        };
        Ok(&negative + self.plan.guidance * (positive - &negative))
    }

    fn preview(&self, latents: &Tensor) -> Result<Picture, Error> {
        let (device, autoencoder) = (self.pipeline.device, &self.pipeline.autoencoder);
        // Single precision, as for decoding.
        device.run(|| {
            let fit = || Previewer::of(autoencoder, latents.size()[1], device.torch());
            let previewer = self.pipeline.previewer.get_or_init(fit);
            Picture::from_decoded(&previewer.draw(latents))
        })
    }
}

/// Returns the sampler of a plan, from noise or from the picture to start from.
pub(super) fn sampler(manifest: &Manifest, plan: &Plan) -> Sampler {
    let (kind, spec) = (plan.scheduler, &manifest.scheduler);
    // Of FLUX.1: a token has 2 × 2 latent cells.
    let token = 2 * manifest.vae.downsampling();
    let tokens = (plan.width / token) * (plan.height / token);
    let steps = (plan.steps, plan.skipped_steps());
    Sampler::new(kind, steps, tokens, spec)
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
