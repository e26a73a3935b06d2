//! Heun's method (Karras et al., 2022): each step but the last is corrected by the derivative at
//! its end.

use tch::Tensor;

use super::euler::Sigmas;
use super::noise_schedule::NoiseSchedule;
use super::{Answer, Call, Level, Plan, Solver, clipped};
use crate::manifest::SchedulerSpec;

struct Heun {
    sigmas: Vec<f64>,
    /// Latents and derivative at the begin of the step.
    begun: Option<(Tensor, Tensor)>,
    /// Bound of the picture.
    bound: Option<f64>,
}

pub(super) fn plan(schedule: &NoiseSchedule, steps: usize, spec: &SchedulerSpec) -> Plan {
    let Sigmas {
        timesteps,
        sigmas,
        initial,
    } = Sigmas::new(schedule, steps, spec, (spec.sigma_spacing, Some(0.0)));
    // Calls 2k and 2k + 1 are at the begin and the end of step k.
    let calls = (0..2 * steps - 1).map(|index| {
        let position = index.div_ceil(2);
        Call {
            timestep: timesteps[position],
            level: Level::of_sigma(sigmas[position]),
        }
    });
    Plan {
        calls: calls.collect(),
        initial_sigma: initial,
        solver: Box::new(Heun {
            sigmas,
            begun: None,
            bound: spec.clip_sample,
        }),
    }
}

impl Solver for Heun {
    fn step(&mut self, answer: &Answer<'_>) -> Tensor {
        let step = answer.index / 2;
        let (from, to) = (self.sigmas[step], self.sigmas[step + 1]);
        let offset = answer.latents - clipped(&answer.picture, self.bound);
        match self.begun.take() {
            Some((latents, derivative)) => {
                let corrected = (derivative + offset / to) / 2.0;
                latents + corrected * (to - from)
            }
            None => {
                let derivative = offset / from;
                let next = answer.latents + &derivative * (to - from);
                self.begun = Some((answer.latents.shallow_clone(), derivative));
                next
            }
        }
    }
}
