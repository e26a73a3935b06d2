//! Denoising diffusion probabilistic models (Ho et al., 2020).

use tch::Tensor;

use super::noise_schedule::NoiseSchedule;
use super::{Answer, Call, Level, Plan, Solver, clipped, ddim, spacing};
use crate::manifest::{SchedulerSpec, TimestepSpacing};

/// Least variance of a step's noise, as in diffusers.
const MIN_VARIANCE: f64 = 1e-20;

struct Ddpm {
    calls: Vec<Call>,
    /// The level after each call.
    next: Vec<Level>,
    /// Bound of the picture.
    bound: Option<f64>,
}

pub(super) fn plan(schedule: &NoiseSchedule, steps: usize, spec: &SchedulerSpec) -> Plan {
    let spacing = spec.timestep_spacing.unwrap_or(TimestepSpacing::Leading);
    let timesteps = spacing::timesteps(spacing, schedule, steps, spec, true);
    let calls = ddim::calls(schedule, timesteps);
    let levels = calls.iter().map(|call| call.level);
    let next = levels.skip(1).chain([Level::of_variance(1.0)]).collect();
    Plan {
        calls: calls.clone(),
        initial_sigma: 1.0,
        solver: Box::new(Ddpm {
            calls,
            next,
            bound: spec.clip_sample,
        }),
    }
}

impl Solver for Ddpm {
    /// Equations 6 and 7, between any two timesteps.
    fn step(&mut self, answer: &Answer<'_>) -> Tensor {
        let Call { timestep, level } = self.calls[answer.index];
        let next = self.next[answer.index];
        let (noise, next_noise) = (level.deviation.powi(2), next.deviation.powi(2));
        let kept = (level.signal / next.signal).powi(2);
        let added = 1.0 - kept;
        let mean = clipped(&answer.picture, self.bound) * (next.signal * added / noise)
            + answer.latents * (kept.sqrt() * next_noise / noise);
        match timestep > 0.0 {
            true => {
                let variance = (next_noise / noise * added).max(MIN_VARIANCE);
                mean + (answer.noise)() * variance.sqrt()
            }
            false => mean,
        }
    }
}
