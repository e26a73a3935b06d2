//! Denoises the latents of one picture.

use tch::{Kind, Tensor};

use super::Pipeline;
use super::previewer::Previewer;
use super::step_counter::StepCounter;
use crate::diffusers_rs::Scheduler;
use crate::error::Error;
use crate::manifest::Manifest;
use crate::noise;
use crate::picture::Picture;
use crate::request::Plan;

/// Up to this many latent cells (512 × 512 pixels) the UNet processes prompt and negative prompt in
/// one batch, above it one after the other: attention's scores grow with the square of the cells.
const CELLS_IN_ONE_BATCH: i64 = 64 * 64;

/// Denoises one picture of a request.
pub(super) struct Denoising<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) plan: &'a Plan,
    /// The states of the negative prompt, if the plan is guided, and of the prompt.
    pub(super) text: &'a Tensor,
    pub(super) seed: u64,
}

impl Denoising<'_> {
    /// Denoises noise, or the noised latents of a picture to `start` from.
    pub(super) fn run(
        &self,
        noise: &Tensor,
        start: Option<&Tensor>,
        counter: &mut StepCounter<'_>,
    ) -> Result<Tensor, Error> {
        let Self { pipeline, plan, .. } = self;
        pipeline.device.run(true, || {
            let mut scheduler = scheduler(&pipeline.manifest, plan);
            let timesteps = scheduler.timesteps(plan.skipped_steps());
            let mut latents = match (start, timesteps.first()) {
                (Some(start), Some(&first)) => scheduler.add_noise(start, noise, first),
                _ => noise * scheduler.initial_sigma(),
            };
            let preview_at = preview_at(timesteps.len(), scheduler.unet_calls_per_step());
            for (index, (step, timestep)) in (0..).zip(timesteps).enumerate() {
                if counter.step().is_break() {
                    return Err(Error::Cancelled);
                }
                let input = scheduler.model_input(&latents, timestep);
                let prediction = self.guided_prediction(&input, timestep);
                if plan.previews && preview_at.contains(&index) {
                    let predicts = pipeline.manifest.scheduler.prediction_type;
                    let original =
                        scheduler.predicted_original(&prediction, predicts, timestep, &latents);
                    counter.preview(self.preview(&original)?);
                }
                latents = noise::reproducibly(self.seed, step, || {
                    scheduler
                        .step(&prediction, timestep, &latents)
                        .to_kind(Kind::Float)
                });
            }
            Ok(latents)
        })
    }

    /// Applies classifier-free guidance (Ho and Salimans, 2022): away from the negative prompt,
    /// towards the prompt.
    fn guided_prediction(&self, input: &Tensor, timestep: f64) -> Tensor {
        let predict =
            |input: &Tensor, text: &Tensor| self.pipeline.call_unet(input, timestep, text);
        if !self.plan.guided() {
            return predict(input, self.text);
        }
        let (negative, positive) = (self.text.narrow(0, 0, 1), self.text.narrow(0, 1, 1));
        let cells: i64 = input.size().iter().rev().take(2).product();
        let (negative, positive) = if cells <= CELLS_IN_ONE_BATCH {
            let both = predict(&Tensor::cat(&[input, input], 0), self.text);
            (both.narrow(0, 0, 1), both.narrow(0, 1, 1))
        } else {
            (predict(input, &negative), predict(input, &positive))
        };
        &negative + self.plan.guidance * (positive - &negative)
    }

    fn preview(&self, latents: &Tensor) -> Result<Picture, Error> {
        let (device, autoencoder) = (self.pipeline.device, &self.pipeline.autoencoder);
        // Single precision, as for decoding.
        device.run(false, || {
            let fit = || Previewer::of(autoencoder, device.torch());
            let previewer = self.pipeline.previewer.get_or_init(fit);
            Picture::from_decoded(&previewer.draw(latents))
        })
    }
}

/// Returns the timesteps of the UNet, from noise or from the picture to start from.
pub(super) fn timesteps(manifest: &Manifest, plan: &Plan) -> Vec<f64> {
    scheduler(manifest, plan).timesteps(plan.skipped_steps())
}

fn scheduler(manifest: &Manifest, plan: &Plan) -> Scheduler {
    Scheduler::new(plan.scheduler, plan.steps, &manifest.scheduler)
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
