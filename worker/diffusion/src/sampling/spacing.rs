//! Which timesteps and noise levels a number of steps visits.

use super::noise_schedule::NoiseSchedule;
use crate::manifest::{FinalSigma, SchedulerSpec, SigmaSpacing, TimestepSpacing};

/// Exponent of Karras' noise levels (Karras et al., 2022).
const RHO: f64 = 7.0;

/// Returns `steps` timesteps, descending (Lin et al., 2023, table 2). `whole`: linear spacing
/// rounds to whole timesteps.
pub(super) fn timesteps(
    spacing: TimestepSpacing,
    schedule: &NoiseSchedule,
    steps: usize,
    spec: &SchedulerSpec,
    whole: bool,
) -> Vec<f64> {
    let count = schedule.len();
    match spacing {
        TimestepSpacing::Linspace => {
            let linear = match steps {
                // As in diffusers, which counts from the first timestep.
                1 => vec![0.0],
                _ => linspace((count - 1) as f64, 0.0, steps),
            };
            match whole {
                true => linear.into_iter().map(f64::round_ties_even).collect(),
                false => linear,
            }
        }
        TimestepSpacing::Leading => {
            let ratio = count / steps;
            let timestep = |step: usize| (step * ratio + spec.steps_offset) as f64;
            (0..steps).rev().map(timestep).collect()
        }
        TimestepSpacing::Trailing => trailing(count as f64, count as f64 / steps as f64),
    }
}

/// Returns the timesteps from `last` on downwards by `ratio`, less one.
pub(super) fn trailing(last: f64, ratio: f64) -> Vec<f64> {
    let count = (last / ratio).ceil() as usize;
    (0..count)
        .map(|step| (last - step as f64 * ratio).round_ties_even() - 1.0)
        .collect()
}

/// Returns `count` numbers from `from` to `to`.
pub(super) fn linspace(from: f64, to: f64, count: usize) -> Vec<f64> {
    let last = count.saturating_sub(1).max(1) as f64;
    (0..count)
        .map(|index| from + (to - from) * index as f64 / last)
        .collect()
}

/// Returns `sigmas` at a timestep between two whole ones.
pub(super) fn interpolated(sigmas: &[f64], timestep: f64) -> f64 {
    let last = sigmas.len() - 1;
    let timestep = timestep.clamp(0.0, last as f64);
    let low = timestep as usize;
    let high = (low + 1).min(last);
    sigmas[low] + (sigmas[high] - sigmas[low]) * (timestep - low as f64)
}

/// Returns `steps` noise levels between two, descending; `None` for the levels of the timesteps.
pub(super) fn respaced(
    spacing: SigmaSpacing,
    (max, min): (f64, f64),
    steps: usize,
) -> Option<Vec<f64>> {
    match spacing {
        SigmaSpacing::Timesteps => None,
        SigmaSpacing::Karras => Some(
            linspace(max.powf(RHO.recip()), min.powf(RHO.recip()), steps)
                .into_iter()
                .map(|root| root.powf(RHO))
                .collect(),
        ),
        SigmaSpacing::Exponential => Some(
            linspace(max.ln(), min.ln(), steps)
                .into_iter()
                .map(f64::exp)
                .collect(),
        ),
    }
}

/// Returns the timestep of a noise level, interpolated in its logarithm.
pub(super) fn timestep_of(sigma: f64, sigmas: &[f64]) -> f64 {
    let logarithm = sigma.max(1e-10).ln();
    let above = sigmas.iter().rposition(|sigma| sigma.ln() <= logarithm);
    let low = above.unwrap_or(0).min(sigmas.len().saturating_sub(2));
    let (from, to) = (sigmas[low].ln(), sigmas[low + 1].ln());
    low as f64 + ((from - logarithm) / (from - to)).clamp(0.0, 1.0)
}

/// Returns the noise level after the last step.
pub(super) fn last_sigma(spec: &SchedulerSpec, sigmas: &[f64]) -> f64 {
    match spec.final_sigmas_type {
        FinalSigma::Zero => 0.0,
        FinalSigma::SigmaMin => sigmas[0],
    }
}
