//! The crate's ten schedulers, which share no trait, behind one type. Made afresh for each picture:
//! most keep what they saw at earlier steps.

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

/// Applies one expression to whichever scheduler this is.
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
    /// `steps` within [`SchedulerKind::steps`].
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

    /// When to ask the UNet, from noise to picture, in training steps (0 to 1000).
    pub(crate) fn timesteps(&self) -> Vec<f64> {
        each!(self, scheduler => scheduler.timesteps().iter().map(|t| t.to_float()).collect())
    }

    /// Standard deviation of the noise to start from.
    pub(crate) fn initial_sigma(&self) -> f64 {
        each!(self, scheduler => scheduler.init_noise_sigma())
    }

    /// What the UNet is to see of the latents at a timestep.
    pub(crate) fn model_input(&self, latents: &Tensor, timestep: f64) -> Tensor {
        each!(self, scheduler => scheduler.scale_model_input(latents.shallow_clone(), Timestep::from_float(timestep)))
    }

    /// The latents of the next timestep. Some schedulers draw noise, from torch's global generator.
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
                for timestep in scheduler.timesteps() {
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
}
