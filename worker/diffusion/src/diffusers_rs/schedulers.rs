//! The crate's ten schedulers, which have no common trait, as one type. Created for each picture:
//! most keep state of earlier steps.

use diffusers::schedulers::ddim::{DDIMScheduler, DDIMSchedulerConfig};
use diffusers::schedulers::ddpm::{DDPMScheduler, DDPMSchedulerConfig};
use diffusers::schedulers::dpmsolver_multistep::{
    DPMSolverMultistepScheduler, DPMSolverMultistepSchedulerConfig,
};
use diffusers::schedulers::euler_ancestral_discrete::{
    EulerAncestralDiscreteScheduler, EulerAncestralDiscreteSchedulerConfig,
};
use diffusers::schedulers::euler_discrete::{EulerDiscreteScheduler, EulerDiscreteSchedulerConfig};
use diffusers::schedulers::heun_discrete::{HeunDiscreteScheduler, HeunDiscreteSchedulerConfig};
use diffusers::schedulers::k_dpm_2_ancestral_discrete::{
    KDPM2AncestralDiscreteScheduler, KDPM2AncestralDiscreteSchedulerConfig,
};
use diffusers::schedulers::k_dpm_2_discrete::{
    KDPM2DiscreteScheduler, KDPM2DiscreteSchedulerConfig,
};
use diffusers::schedulers::lms_discrete::{LMSDiscreteScheduler, LMSDiscreteSchedulerConfig};
use diffusers::schedulers::pndm::{PNDMScheduler, PNDMSchedulerConfig};
use diffusers::schedulers::{BetaSchedule as Betas, PredictionType as Prediction};
use tch::Tensor;

use crate::manifest::{BetaSchedule, PredictionType, SchedulerSpec};
use crate::scheduler::SchedulerKind;

/// Applies one expression to any of the schedulers.
macro_rules! each {
    ($self:expr, $s:ident => $body:expr) => {
        match $self {
            Scheduler::Ddim($s) => $body,
            Scheduler::Ddpm($s) => $body,
            Scheduler::DpmSolverPlusPlus($s) => $body,
            Scheduler::Euler($s) => $body,
            Scheduler::EulerAncestral($s) => $body,
            Scheduler::Heun($s) => $body,
            Scheduler::Kdpm2($s) => $body,
            Scheduler::Kdpm2Ancestral($s) => $body,
            Scheduler::Lms($s) => $body,
            Scheduler::Pndm($s) => $body,
        }
    };
}

/// Four of the schedulers count timesteps in whole numbers, six in floats; here all are floats.
trait Timestep: Copy {
    fn from_float(timestep: f64) -> Self;
    fn to_float(self) -> f64;
}

impl Timestep for usize {
    fn from_float(timestep: f64) -> usize {
        timestep as usize
    }

    fn to_float(self) -> f64 {
        self as f64
    }
}

impl Timestep for f64 {
    fn from_float(timestep: f64) -> f64 {
        timestep
    }

    fn to_float(self) -> f64 {
        self
    }
}

pub(crate) enum Scheduler {
    Ddim(DDIMScheduler),
    Ddpm(DDPMScheduler),
    DpmSolverPlusPlus(DPMSolverMultistepScheduler),
    Euler(EulerDiscreteScheduler),
    EulerAncestral(EulerAncestralDiscreteScheduler),
    Heun(HeunDiscreteScheduler),
    Kdpm2(KDPM2DiscreteScheduler),
    Kdpm2Ancestral(KDPM2AncestralDiscreteScheduler),
    Lms(LMSDiscreteScheduler),
    Pndm(PNDMScheduler),
}

impl Scheduler {
    /// Creates a scheduler; `steps` within [`SchedulerKind::steps`].
    pub(crate) fn new(kind: SchedulerKind, steps: u32, spec: &SchedulerSpec) -> Scheduler {
        let steps = steps as usize;
        let prediction_type = match spec.prediction_type {
            PredictionType::Epsilon => Prediction::Epsilon,
            PredictionType::VPrediction => Prediction::VPrediction,
        };
        let beta_schedule = match spec.beta_schedule {
            BetaSchedule::Linear => Betas::Linear,
            BetaSchedule::ScaledLinear => Betas::ScaledLinear,
        };
        /// The configs are ten types with the same fields.
        macro_rules! config {
            ($config:ident { $($more:ident),* }) => {
                $config {
                    beta_start: spec.beta_start,
                    beta_end: spec.beta_end,
                    beta_schedule,
                    prediction_type,
                    $($more: spec.$more,)*
                    ..$config::default()
                }
            };
        }
        match kind {
            SchedulerKind::Ddim => Scheduler::Ddim(DDIMScheduler::new(
                steps,
                config!(DDIMSchedulerConfig { steps_offset }),
            )),
            SchedulerKind::Ddpm => {
                Scheduler::Ddpm(DDPMScheduler::new(steps, config!(DDPMSchedulerConfig {})))
            }
            SchedulerKind::DpmSolverPlusPlus => {
                Scheduler::DpmSolverPlusPlus(DPMSolverMultistepScheduler::new(
                    steps,
                    config!(DPMSolverMultistepSchedulerConfig {}),
                ))
            }
            SchedulerKind::Euler => Scheduler::Euler(EulerDiscreteScheduler::new(
                steps,
                config!(EulerDiscreteSchedulerConfig {}),
            )),
            SchedulerKind::EulerAncestral => {
                Scheduler::EulerAncestral(EulerAncestralDiscreteScheduler::new(
                    steps,
                    config!(EulerAncestralDiscreteSchedulerConfig {}),
                ))
            }
            SchedulerKind::Heun => Scheduler::Heun(HeunDiscreteScheduler::new(
                steps,
                config!(HeunDiscreteSchedulerConfig {}),
            )),
            SchedulerKind::Kdpm2 => Scheduler::Kdpm2(KDPM2DiscreteScheduler::new(
                steps,
                config!(KDPM2DiscreteSchedulerConfig {}),
            )),
            SchedulerKind::Kdpm2Ancestral => {
                Scheduler::Kdpm2Ancestral(KDPM2AncestralDiscreteScheduler::new(
                    steps,
                    config!(KDPM2AncestralDiscreteSchedulerConfig {}),
                ))
            }
            SchedulerKind::Lms => Scheduler::Lms(LMSDiscreteScheduler::new(
                steps,
                config!(LMSDiscreteSchedulerConfig {}),
            )),
            SchedulerKind::Pndm => Scheduler::Pndm(PNDMScheduler::new(
                steps,
                config!(PNDMSchedulerConfig { steps_offset }),
            )),
        }
    }

    /// Returns the timesteps of the UNet, from noise to picture, in training steps (0 to 1000). The
    /// first `skipped` steps are left out: the initial latents are as noisy as they would be after
    /// them.
    pub(crate) fn timesteps(&self, skipped: u32) -> Vec<f64> {
        let mut timesteps: Vec<f64> =
            each!(self, scheduler => scheduler.timesteps().iter().map(|t| t.to_float()).collect());
        let skipped = skipped as usize * self.unet_calls_per_step();
        if let Scheduler::Pndm(_) = self {
            // It uses its second timestep twice, to warm up, wherever it starts. (Python's
            // diffusers keeps the repetition at its old position, and so ends a step too early.)
            timesteps.dedup();
            timesteps.drain(..skipped);
            if let Some(&second) = timesteps.get(1) {
                timesteps.insert(1, second);
            }
        } else {
            timesteps.drain(..skipped);
        }
        timesteps
    }

    /// Returns the number of UNet calls per step, except the last one: second-order schedulers look
    /// ahead.
    pub(crate) fn unet_calls_per_step(&self) -> usize {
        match self {
            Scheduler::Heun(_) | Scheduler::Kdpm2(_) | Scheduler::Kdpm2Ancestral(_) => 2,
            _ => 1,
        }
    }

    /// Adds noise to a picture's latents, as much as this scheduler has at the first call of a
    /// step; `noise` has standard deviation 1.
    pub(crate) fn add_noise(&self, latents: &Tensor, noise: &Tensor, timestep: f64) -> Tensor {
        each!(self, scheduler => scheduler.add_noise(latents, noise.shallow_clone(), Timestep::from_float(timestep)))
    }

    /// Returns the latents without noise, as predicted by the UNet at the first call of a step.
    pub(crate) fn predicted_original(
        &self,
        prediction: &Tensor,
        predicts: PredictionType,
        timestep: f64,
        latents: &Tensor,
    ) -> Tensor {
        // latents = signal × original + noise × deviation; half of the schedulers scale this so
        // that signal is 1, the others, as the UNet's input, so that the squares add up to 1.
        let (one, zero) = (Tensor::from(1.0), Tensor::from(0.0));
        let signal = self.add_noise(&one, &zero, timestep).double_value(&[]);
        let deviation = self.add_noise(&zero, &one, timestep).double_value(&[]);
        let length = signal.hypot(deviation);
        let (signal, deviation) = (signal / length, deviation / length);
        let latents = latents / length;
        match predicts {
            PredictionType::Epsilon => (latents - deviation * prediction) / signal,
            PredictionType::VPrediction => signal * latents - deviation * prediction,
        }
    }

    /// Returns the standard deviation of the initial noise.
    pub(crate) fn initial_sigma(&self) -> f64 {
        each!(self, scheduler => scheduler.init_noise_sigma())
    }

    /// Scales the latents for the UNet at a timestep.
    pub(crate) fn model_input(&self, latents: &Tensor, timestep: f64) -> Tensor {
        each!(self, scheduler => scheduler.scale_model_input(latents.shallow_clone(), Timestep::from_float(timestep)))
    }

    /// Returns the latents of the next timestep. Some schedulers draw noise, from torch's global
    /// generator.
    pub(crate) fn step(&mut self, prediction: &Tensor, timestep: f64, latents: &Tensor) -> Tensor {
        each!(self, scheduler => scheduler.step(prediction, Timestep::from_float(timestep), latents))
    }
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    fn spec(prediction_type: PredictionType, beta_schedule: BetaSchedule) -> SchedulerSpec {
        SchedulerSpec {
            allowed: SchedulerKind::ALL.to_vec(),
            default: SchedulerKind::Ddim,
            prediction_type,
            beta_start: 0.00085,
            beta_end: 0.012,
            beta_schedule,
            steps_offset: 1,
        }
    }

    #[test]
    fn every_scheduler_goes_from_its_fewest_steps_to_its_most() {
        for kind in SchedulerKind::ALL {
            let (fewest, most) = (*kind.steps().start(), *kind.steps().end());
            for (steps, spec) in [
                (
                    fewest,
                    spec(PredictionType::Epsilon, BetaSchedule::ScaledLinear),
                ),
                (
                    fewest + 1,
                    spec(PredictionType::VPrediction, BetaSchedule::Linear),
                ),
                (
                    most,
                    spec(PredictionType::VPrediction, BetaSchedule::ScaledLinear),
                ),
            ] {
                let mut scheduler = Scheduler::new(kind, steps, &spec);
                let mut latents = Tensor::ones([1, 4, 1, 1], (Kind::Float, tch::Device::Cpu));
                for timestep in scheduler.timesteps(0) {
                    assert!(
                        (0.0..=1000.0).contains(&timestep),
                        "{kind}, {steps} steps: {timestep}"
                    );
                    let input = scheduler.model_input(&latents, timestep);
                    latents = scheduler.step(&(input * 0.1), timestep, &latents);
                }
                assert!(
                    latents.double_value(&[0, 0, 0, 0]).is_finite(),
                    "{kind}, {steps} steps"
                );
            }
        }
    }
    /// With a perfect UNet every scheduler reaches the picture, from any starting step.
    #[test]
    fn a_perfect_prediction_leads_back_to_the_picture_from_any_step() {
        let options = (Kind::Float, tch::Device::Cpu);
        let picture = Tensor::full([1, 4, 1, 1], 0.7, options);
        let noise = Tensor::full([1, 4, 1, 1], -1.2, options);
        for kind in SchedulerKind::ALL {
            if !kind.supports_image() {
                continue;
            }
            for (steps, skipped) in [(20, 0), (20, 4), (20, 13), (20, 18), (20, 19)] {
                let spec = spec(PredictionType::Epsilon, BetaSchedule::ScaledLinear);
                let mut scheduler = Scheduler::new(kind, steps, &spec);
                let timesteps = scheduler.timesteps(skipped);
                let mut latents = scheduler.add_noise(&picture, &noise, timesteps[0]);
                for (index, &timestep) in timesteps.iter().enumerate() {
                    let input = scheduler.model_input(&latents, timestep);
                    // The UNet's input has signal² + deviation² = 1.
                    let kept = noise_schedule(&spec, timestep).sqrt();
                    let prediction = (input - kept * &picture) / (1.0 - kept * kept).sqrt();
                    if index % scheduler.unet_calls_per_step() == 0 {
                        let seen = scheduler.predicted_original(
                            &prediction,
                            spec.prediction_type,
                            timestep,
                            &latents,
                        );
                        let off = (seen - &picture).abs().max().double_value(&[]);
                        assert!(off < 1e-2, "{kind}, {skipped} of {steps} skipped: {off}");
                    }
                    latents = scheduler.step(&prediction, timestep, &latents);
                }
                let off = (latents - &picture).abs().max().double_value(&[]);
                assert!(off < 0.1, "{kind}, {skipped} of {steps} skipped: {off}");
            }
        }
    }

    /// Returns the fraction of the picture's variance that is left at a training step, interpolated
    /// linearly.
    fn noise_schedule(spec: &SchedulerSpec, timestep: f64) -> f64 {
        let mut left = 1.0;
        let mut before = 1.0;
        for step in 0..=timestep.ceil().min(999.0) as u32 {
            let (from, to) = (spec.beta_start.sqrt(), spec.beta_end.sqrt());
            let beta = (from + (to - from) * f64::from(step) / 999.0).powi(2);
            before = left;
            left *= 1.0 - beta;
        }
        let whole = timestep.ceil().min(999.0) - timestep.min(999.0);
        left + (before - left) * whole
    }
}
