//! Euler's method, and the variant that adds noise between the steps (Karras et al., 2022).

use tch::Tensor;

use super::noise_schedule::NoiseSchedule;
use super::{Answer, Call, Level, Plan, Solver, spacing};
use crate::manifest::{SchedulerSpec, SigmaSpacing, TimestepSpacing};

/// Timesteps and noise levels of a solver whose latents have a signal of 1.
pub(super) struct Sigmas {
    /// Descending.
    pub(super) timesteps: Vec<f64>,
    /// One more than timesteps: the last is that of the result.
    pub(super) sigmas: Vec<f64>,
    /// Standard deviation of the initial noise.
    pub(super) initial: f64,
}

impl Sigmas {
    /// `last`: the level of the result; the schedule's own if `None`.
    pub(super) fn new(
        schedule: &NoiseSchedule,
        steps: usize,
        spec: &SchedulerSpec,
        (sigma_spacing, last): (SigmaSpacing, Option<f64>),
    ) -> Self {
        let spacing = spec.timestep_spacing.unwrap_or(TimestepSpacing::Linspace);
        let all = schedule.sigmas();
        let mut timesteps = spacing::timesteps(spacing, schedule, steps, spec, false);
        let mut sigmas: Vec<f64> = timesteps
            .iter()
            .map(|&timestep| spacing::interpolated(&all, timestep))
            .collect();
        let bounds = (sigmas[0], sigmas[sigmas.len() - 1]);
        if let Some(respaced) = spacing::respaced(sigma_spacing, bounds, steps) {
            timesteps = respaced
                .iter()
                .map(|&sigma| spacing::timestep_of(sigma, &all))
                .collect();
            sigmas = respaced;
        }
        let max = sigmas.iter().copied().fold(0.0, f64::max);
        sigmas.push(last.unwrap_or_else(|| spacing::last_sigma(spec, &all)));
        Self {
            timesteps,
            sigmas,
            initial: match spacing {
                TimestepSpacing::Leading => max.hypot(1.0),
                TimestepSpacing::Linspace | TimestepSpacing::Trailing => max,
            },
        }
    }

    fn calls(&self) -> Vec<Call> {
        let levels = self.timesteps.iter().zip(&self.sigmas);
        levels
            .map(|(&timestep, &sigma)| Call {
                timestep,
                level: Level::of_sigma(sigma),
            })
            .collect()
    }
}

struct Euler {
    sigmas: Vec<f64>,
    /// Whether each step overshoots and then adds noise.
    ancestral: bool,
}

pub(super) fn plan(schedule: &NoiseSchedule, steps: usize, spec: &SchedulerSpec) -> Plan {
    let sigmas = Sigmas::new(schedule, steps, spec, (spec.sigma_spacing, None));
    with(sigmas, false)
}

pub(super) fn plan_ancestral(schedule: &NoiseSchedule, steps: usize, spec: &SchedulerSpec) -> Plan {
    let to_zero = (SigmaSpacing::Timesteps, Some(0.0));
    with(Sigmas::new(schedule, steps, spec, to_zero), true)
}

fn with(sigmas: Sigmas, ancestral: bool) -> Plan {
    Plan {
        calls: sigmas.calls(),
        initial_sigma: sigmas.initial,
        solver: Box::new(Euler {
            sigmas: sigmas.sigmas,
            ancestral,
        }),
    }
}

impl Solver for Euler {
    fn step(&mut self, answer: &Answer<'_>) -> Tensor {
        let (from, to) = (self.sigmas[answer.index], self.sigmas[answer.index + 1]);
        let derivative = (answer.latents - &answer.picture) / from;
        if !self.ancestral {
            return answer.latents + derivative * (to - from);
        }
        let added = (to * to * (from * from - to * to) / (from * from)).sqrt();
        let down = (to * to - added * added).max(0.0).sqrt();
        answer.latents + derivative * (down - from) + (answer.noise)() * added
    }
}
