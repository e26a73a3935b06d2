//! Three of the crate's schedulers, which have no common trait, as one type. Created for each
//! picture: most keep state of earlier steps.

use diffusers::schedulers::k_dpm_2_ancestral_discrete::{
    KDPM2AncestralDiscreteScheduler, KDPM2AncestralDiscreteSchedulerConfig,
};
use diffusers::schedulers::k_dpm_2_discrete::{
    KDPM2DiscreteScheduler, KDPM2DiscreteSchedulerConfig,
};
use diffusers::schedulers::lms_discrete::{LMSDiscreteScheduler, LMSDiscreteSchedulerConfig};
use diffusers::schedulers::{BetaSchedule as Betas, PredictionType as Prediction};
use tch::Tensor;

use crate::manifest::{BetaSchedule, PredictionType, SchedulerSpec};
use crate::scheduler::SchedulerKind;

/// Applies one expression to any of the schedulers.
macro_rules! each {
    ($self:expr, $s:ident => $body:expr) => {
        match $self {
            Scheduler::Kdpm2($s) => $body,
            Scheduler::Kdpm2Ancestral($s) => $body,
            Scheduler::Lms($s) => $body,
        }
    };
}

pub(crate) enum Scheduler {
    Kdpm2(KDPM2DiscreteScheduler),
    Kdpm2Ancestral(KDPM2AncestralDiscreteScheduler),
    Lms(LMSDiscreteScheduler),
}

impl Scheduler {
    /// Returns the scheduler `kind`, LMS for those that the crate does not serve. The spec is one
    /// of which [`SchedulerSpec::allows`] is true.
    pub(crate) fn new(kind: SchedulerKind, steps: usize, spec: &SchedulerSpec) -> Scheduler {
        let prediction_type = match spec.prediction_type {
            PredictionType::Epsilon => Prediction::Epsilon,
            PredictionType::VPrediction => Prediction::VPrediction,
        };
        let beta_schedule = match spec.beta_schedule {
            BetaSchedule::Linear => Betas::Linear,
            BetaSchedule::ScaledLinear | BetaSchedule::SquaredcosCapV2 => Betas::ScaledLinear,
        };
        /// The configs are three types with the same fields.
        macro_rules! config {
            ($config:ident) => {
                $config {
                    beta_start: spec.beta_start,
                    beta_end: spec.beta_end,
                    beta_schedule,
                    prediction_type,
                    ..$config::default()
                }
            };
        }
        match kind {
            SchedulerKind::Kdpm2 => Scheduler::Kdpm2(KDPM2DiscreteScheduler::new(
                steps,
                config!(KDPM2DiscreteSchedulerConfig),
            )),
            SchedulerKind::Kdpm2Ancestral => {
                Scheduler::Kdpm2Ancestral(KDPM2AncestralDiscreteScheduler::new(
                    steps,
                    config!(KDPM2AncestralDiscreteSchedulerConfig),
                ))
            }
            _ => Scheduler::Lms(LMSDiscreteScheduler::new(
                steps,
                config!(LMSDiscreteSchedulerConfig),
            )),
        }
    }

    /// The timesteps of the UNet, from noise to picture, in training steps (0 to 1000).
    pub(crate) fn timesteps(&self) -> Vec<f64> {
        each!(self, scheduler => scheduler.timesteps().to_vec())
    }

    /// Adds noise to a picture's latents, as much as this scheduler has at the first call of a
    /// step; `noise` has standard deviation 1.
    pub(crate) fn add_noise(&self, latents: &Tensor, noise: &Tensor, timestep: f64) -> Tensor {
        each!(self, scheduler => scheduler.add_noise(latents, noise.shallow_clone(), timestep))
    }

    /// Standard deviation of the initial noise.
    pub(crate) fn initial_sigma(&self) -> f64 {
        each!(self, scheduler => scheduler.init_noise_sigma())
    }

    /// Scales the latents for the UNet at a timestep.
    pub(crate) fn model_input(&self, latents: &Tensor, timestep: f64) -> Tensor {
        each!(self, scheduler => scheduler.scale_model_input(latents.shallow_clone(), timestep))
    }

    /// Returns the latents of the next timestep. Some schedulers draw noise, from torch's global
    /// generator.
    pub(crate) fn step(&mut self, prediction: &Tensor, timestep: f64, latents: &Tensor) -> Tensor {
        each!(self, scheduler => scheduler.step(prediction, timestep, latents))
    }
}
