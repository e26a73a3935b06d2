//! Pseudo linear multi-step method (Liu et al., 2022), as Stable Diffusion uses it: the first step
//! is taken twice instead of by Runge and Kutta.

use tch::Tensor;

use super::noise_schedule::NoiseSchedule;
use super::{Answer, Level, Plan, Solver, Target, ddim, spacing};
use crate::manifest::{SchedulerSpec, TimestepSpacing};

/// The weights of the latest predictions (Adams and Bashforth), the latest first.
const WEIGHTS: [&[f64]; 4] = [
    &[1.0],
    &[3.0 / 2.0, -1.0 / 2.0],
    &[23.0 / 12.0, -16.0 / 12.0, 5.0 / 12.0],
    &[55.0 / 24.0, -59.0 / 24.0, 37.0 / 24.0, -9.0 / 24.0],
];

struct Plms {
    target: Target,
    /// Where each call's step begins and ends.
    steps: Vec<(Level, Level)>,
    /// The first call.
    first: usize,
    /// Latest predictions, the latest first.
    predictions: Vec<Tensor>,
    /// The latents of the first call, from which the second one starts again.
    start: Option<Tensor>,
}

/// The second timestep is listed twice, since the second call repeats the first one's step. As in
/// Python's diffusers, a picture to start from removes the first entries of that list, and the
/// second call is then a repetition all the same.
pub(super) fn plan(
    schedule: &NoiseSchedule,
    count: usize,
    skipped: usize,
    spec: &SchedulerSpec,
) -> Plan {
    let spacing = spec.timestep_spacing.unwrap_or(TimestepSpacing::Leading);
    let mut timesteps = spacing::timesteps(spacing, schedule, count, spec, true);
    if let Some(&second) = timesteps.get(1) {
        timesteps.insert(1, second);
    }
    let stride = ddim::stride(schedule, count);
    let steps = timesteps.iter().enumerate().map(|(index, &timestep)| {
        let from = if index == skipped + 1 {
            timestep + stride
        } else {
            timestep
        };
        let to = from - stride;
        (
            schedule.level(from),
            ddim::previous(schedule, to, spec, false),
        )
    });
    let steps = steps.collect();
    Plan {
        calls: ddim::calls(schedule, timesteps),
        initial_sigma: 1.0,
        solver: Box::new(Plms {
            target: Target::Trained(spec.prediction_type),
            steps,
            first: skipped,
            predictions: Vec::new(),
            start: None,
        }),
    }
}

impl Plms {
    fn blended(&self) -> Tensor {
        let weights = WEIGHTS[self.predictions.len().clamp(1, WEIGHTS.len()) - 1];
        let weighted = weights.iter().zip(&self.predictions);
        weighted
            .map(|(weight, prediction)| prediction * *weight)
            .reduce(|sum, term| sum + term)
            .unwrap_or_else(Tensor::new)
    }
}

impl Solver for Plms {
    fn step(&mut self, answer: &Answer<'_>) -> Tensor {
        let latents;
        let prediction;
        if answer.index == self.first + 1 {
            latents = self
                .start
                .take()
                .unwrap_or_else(|| answer.latents.shallow_clone());
            prediction = match self.predictions.first() {
                Some(first) => (first + answer.prediction) / 2.0,
                None => answer.prediction.shallow_clone(),
            };
        } else {
            if answer.index == self.first {
                self.start = Some(answer.latents.shallow_clone());
            }
            latents = answer.latents.shallow_clone();
            self.predictions
                .insert(0, answer.prediction.shallow_clone());
            self.predictions.truncate(WEIGHTS.len());
            prediction = self.blended();
        }
        let (from, to) = self.steps[answer.index];
        let picture = from.picture(self.target, &prediction, &latents);
        let noise = (latents - &picture * from.signal) / from.deviation;
        picture * to.signal + noise * to.deviation
    }
}
