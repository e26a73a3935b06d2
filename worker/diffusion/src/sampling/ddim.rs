//! Denoising diffusion implicit models (Song et al., 2021), without noise between the steps.

use tch::Tensor;

use super::noise_schedule::NoiseSchedule;
use super::{Answer, Call, Level, Plan, Solver, clipped, spacing};
use crate::manifest::{SchedulerSpec, TimestepSpacing};

struct Ddim {
    calls: Vec<Call>,
    /// The level after each call.
    next: Vec<Level>,
    /// Bound of the picture.
    bound: Option<f64>,
}

pub(super) fn plan(schedule: &NoiseSchedule, steps: usize, spec: &SchedulerSpec) -> Plan {
    let spacing = spec.timestep_spacing.unwrap_or(TimestepSpacing::Leading);
    let timesteps = spacing::timesteps(spacing, schedule, steps, spec, true);
    let next = timesteps
        .iter()
        .map(|timestep| previous(schedule, timestep - stride(schedule, steps), spec, true))
        .collect();
    let calls = calls(schedule, timesteps);
    Plan {
        calls: calls.clone(),
        initial_sigma: 1.0,
        solver: Box::new(Ddim {
            calls,
            next,
            bound: spec.clip_sample,
        }),
    }
}

/// Returns calls at whole timesteps.
pub(super) fn calls(schedule: &NoiseSchedule, timesteps: Vec<f64>) -> Vec<Call> {
    let call = |timestep| Call {
        timestep,
        level: schedule.level(timestep),
    };
    timesteps.into_iter().map(call).collect()
}

/// Timesteps from one step to the next, whatever the spacing.
pub(super) fn stride(schedule: &NoiseSchedule, steps: usize) -> f64 {
    (schedule.len() / steps) as f64
}

/// Returns the level of a timestep, or the last one for a negative timestep. `default`: whether
/// that is without noise, unless the config says so.
pub(super) fn previous(
    schedule: &NoiseSchedule,
    timestep: f64,
    spec: &SchedulerSpec,
    default: bool,
) -> Level {
    match (timestep < 0.0, spec.set_alpha_to_one.unwrap_or(default)) {
        (true, true) => Level::of_variance(1.0),
        _ => schedule.level(timestep),
    }
}

impl Solver for Ddim {
    fn step(&mut self, answer: &Answer<'_>) -> Tensor {
        let (level, next) = (self.calls[answer.index].level, self.next[answer.index]);
        let noise = (answer.latents - &answer.picture * level.signal) / level.deviation;
        clipped(&answer.picture, self.bound) * next.signal + noise * next.deviation
    }
}
