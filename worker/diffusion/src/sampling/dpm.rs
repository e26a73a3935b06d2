//! DPM-Solver++ (Lu et al., 2022), multi-step, of order 1 to 3, with and without noise between the
//! steps.

use tch::Tensor;

use super::noise_schedule::NoiseSchedule;
use super::{Answer, Call, Level, Plan, Solver, spacing};
use crate::manifest::{
    BetaSchedule, DpmAlgorithm, DpmSolverType, FinalSigma, SchedulerSpec, SigmaSpacing,
    TimestepSpacing,
};

/// Up to this number of steps, the last ones are of lower order.
const FEW_STEPS: usize = 15;

/// diffusers truncates timesteps that single precision has left just below whole numbers.
const ROUNDING: f64 = 1e-4;

struct Dpm {
    sigmas: Vec<f64>,
    spec: SchedulerSpec,
    /// Latest predictions of the picture, the latest first.
    pictures: Vec<Tensor>,
}

pub(super) fn plan(schedule: &NoiseSchedule, steps: usize, spec: &SchedulerSpec) -> Plan {
    let whole = spec.sigma_spacing == SigmaSpacing::Karras
        && spec.beta_schedule != BetaSchedule::SquaredcosCapV2;
    let (timesteps, sigmas) = levels(schedule, steps, spec, whole);
    let calls = timesteps
        .iter()
        .zip(&sigmas)
        .map(|(&timestep, &sigma)| Call {
            timestep,
            level: level(sigma),
        });
    Plan {
        calls: calls.collect(),
        initial_sigma: 1.0,
        solver: Box::new(Dpm {
            sigmas,
            spec: spec.clone(),
            pictures: Vec::new(),
        }),
    }
}

/// Returns the timesteps and the noise levels, which have the last one in addition. `whole`: other
/// levels than those of timesteps round to the nearest one.
pub(super) fn levels(
    schedule: &NoiseSchedule,
    steps: usize,
    spec: &SchedulerSpec,
    whole: bool,
) -> (Vec<f64>, Vec<f64>) {
    let all = schedule.sigmas();
    let bounds = (all[all.len() - 1], all[0]);
    let (timesteps, mut sigmas) = match spacing::respaced(spec.sigma_spacing, bounds, steps) {
        Some(sigmas) => {
            let timestep = |&sigma: &f64| match spacing::timestep_of(sigma, &all) {
                timestep if whole => timestep.round_ties_even(),
                timestep => (timestep - ROUNDING).max(0.0).trunc(),
            };
            (sigmas.iter().map(timestep).collect(), sigmas)
        }
        None => {
            let timesteps = timesteps(schedule, &all, steps, spec);
            let sigmas = timesteps
                .iter()
                .map(|&t| spacing::interpolated(&all, t))
                .collect();
            (timesteps, sigmas)
        }
    };
    sigmas.push(spacing::last_sigma(spec, &all));
    (timesteps, sigmas)
}

/// Returns the timesteps; other than elsewhere, linear and leading spacing leave out the last one.
fn timesteps(
    schedule: &NoiseSchedule,
    sigmas: &[f64],
    steps: usize,
    spec: &SchedulerSpec,
) -> Vec<f64> {
    // The cosine schedule's last timesteps have too little signal.
    let clipped = sigmas
        .iter()
        .filter(|sigma| -sigma.ln() < spec.lambda_min_clipped)
        .count();
    let last = schedule.len() - clipped;
    match spec.timestep_spacing.unwrap_or(TimestepSpacing::Linspace) {
        TimestepSpacing::Linspace => spacing::linspace((last - 1) as f64, 0.0, steps + 1)
            .into_iter()
            .take(steps)
            .map(f64::round_ties_even)
            .collect(),
        TimestepSpacing::Leading => {
            let ratio = last / (steps + 1);
            let timestep = |step: usize| (step * ratio + spec.steps_offset) as f64;
            (1..=steps).rev().map(timestep).collect()
        }
        TimestepSpacing::Trailing => {
            spacing::trailing(last as f64, schedule.len() as f64 / steps as f64)
        }
    }
}

/// Returns the level of latents whose squares add up to 1.
pub(super) fn level(sigma: f64) -> Level {
    let length = sigma.hypot(1.0);
    Level {
        signal: length.recip(),
        deviation: sigma / length,
    }
}

impl Dpm {
    /// Returns the order of a step: as many predictions as there are, and fewer at the end.
    fn order(&self, index: usize) -> usize {
        let steps = self.sigmas.len() - 1;
        let spec = &self.spec;
        let few = spec.lower_order_final && steps < FEW_STEPS;
        let is_last = index + 1 == steps;
        let max = match index + 2 == steps {
            _ if is_last
                && (spec.euler_at_final || few || spec.final_sigmas_type == FinalSigma::Zero) =>
            {
                1
            }
            true if few => 2,
            _ => spec.solver_order,
        };
        max.min(self.pictures.len())
    }

    /// Returns differences of the latest predictions: estimates of the first and second derivative
    /// by half of the logarithm of the signal-to-noise ratio, in units of this step.
    fn derivatives(&self, index: usize, order: usize) -> (Option<Tensor>, Option<Tensor>) {
        // The logarithm falls with the noise.
        let lambda = |index: usize| -self.sigmas[index].ln();
        let step = lambda(index + 1) - lambda(index);
        let slope = |age: usize| {
            let before = lambda(index - age) - lambda(index - age - 1);
            (&self.pictures[age] - &self.pictures[age + 1]) * (step / before)
        };
        match order {
            0 | 1 => (None, None),
            2 => (Some(slope(0)), None),
            _ => {
                let ratio = |age: usize| (lambda(index - age) - lambda(index - age - 1)) / step;
                let (latest, earlier) = (slope(0), slope(1));
                let (r0, r1) = (ratio(0), ratio(1));
                let change = &latest - earlier;
                let first = &latest + &change * (r0 / (r0 + r1));
                (Some(first), Some(change / (r0 + r1)))
            }
        }
    }
}

impl Solver for Dpm {
    fn step(&mut self, answer: &Answer<'_>) -> Tensor {
        let index = answer.index;
        self.pictures.insert(0, answer.picture.shallow_clone());
        self.pictures.truncate(self.spec.solver_order.max(1));
        let order = self.order(index);
        let (from, to) = (self.sigmas[index], self.sigmas[index + 1]);
        // The step in half of the logarithm of the signal-to-noise ratio; infinite to a level of 0.
        let h = from.ln() - to.ln();
        let (before, after) = (level(from), level(to));
        let is_stochastic = self.spec.algorithm_type == DpmAlgorithm::SdeDpmSolverPlusPlus;
        // What is left of the picture's and the latents' part, and the effective length.
        let (kept, length) = match is_stochastic {
            true => (after.deviation / before.deviation * (-h).exp(), 2.0 * h),
            false => (after.deviation / before.deviation, h),
        };
        let decay = -(-length).exp_m1();
        let mut next = answer.latents * kept + &self.pictures[0] * (after.signal * decay);
        let (first, second) = self.derivatives(index, order);
        if let Some(first) = first {
            let is_midpoint = order == 2 && self.spec.solver_type == DpmSolverType::Midpoint;
            let weight = match is_midpoint {
                true => 0.5 * decay,
                false => 1.0 - decay / length,
            };
            next += first * (after.signal * weight);
        }
        if let Some(second) = second {
            let weight = match is_stochastic {
                true => (decay - length) / (length * length) - 0.5,
                false => (decay - length) / (length * length) + 0.5,
            };
            next += second * (after.signal * weight);
        }
        if is_stochastic {
            next += (answer.noise)() * (after.deviation * decay.sqrt());
        }
        next
    }
}
