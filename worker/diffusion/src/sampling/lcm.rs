//! Latent consistency models (Luo et al., 2023): each call predicts the picture, and noise of the
//! next level covers it again.

use tch::Tensor;

use super::noise_schedule::NoiseSchedule;
use super::{Answer, Call, Plan, Solver, clipped};
use crate::manifest::SchedulerSpec;

/// Standard deviation of the data, as the boundary condition has it.
const DATA_DEVIATION: f64 = 0.5;

struct Lcm {
    calls: Vec<Call>,
    timestep_scaling: f64,
    /// Bound of the picture.
    bound: Option<f64>,
}

pub(super) fn plan(schedule: &NoiseSchedule, steps: usize, spec: &SchedulerSpec) -> Plan {
    // The timesteps of the distillation, descending, of which the steps take every so many.
    let original = spec.original_inference_steps.clamp(1, schedule.len());
    let stride = schedule.len() / original;
    let calls = (0..steps).map(|step| {
        let index = step * original / steps;
        let timestep = ((original - index) * stride) as f64 - 1.0;
        Call {
            timestep,
            level: schedule.level(timestep),
        }
    });
    let calls: Vec<Call> = calls.collect();
    Plan {
        calls: calls.clone(),
        initial_sigma: 1.0,
        solver: Box::new(Lcm {
            calls,
            timestep_scaling: spec.timestep_scaling,
            bound: spec.clip_sample,
        }),
    }
}

impl Solver for Lcm {
    fn step(&mut self, answer: &Answer<'_>) -> Tensor {
        let scaled = self.calls[answer.index].timestep * self.timestep_scaling;
        let length = scaled.hypot(DATA_DEVIATION);
        let skip = (DATA_DEVIATION / length).powi(2);
        let picture = clipped(&answer.picture, self.bound);
        let denoised = picture * (scaled / length) + answer.latents * skip;
        match self.calls.get(answer.index + 1) {
            Some(next) => denoised * next.level.signal + (answer.noise)() * next.level.deviation,
            None => denoised,
        }
    }
}
