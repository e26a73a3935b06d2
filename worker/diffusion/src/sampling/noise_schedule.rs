//! How much noise a model's training added at each timestep.

use std::f64::consts::FRAC_PI_2;

use super::Level;
use crate::manifest::{BetaSchedule, SchedulerSpec};

/// Largest variance of a step of the cosine schedule (Nichol and Dhariwal, 2021).
const MAX_COSINE_BETA: f64 = 0.999;

/// What the last timestep keeps of the picture if its signal was rescaled to 0: diffusers' value,
/// which keeps sigmas finite.
const TERMINAL_VARIANCE: f64 = 1.0 / (1 << 24) as f64;

/// The noise of all training timesteps.
pub(super) struct NoiseSchedule {
    /// The picture's part of the latents' variance, by timestep; falls from almost 1 to almost 0.
    kept: Vec<f64>,
    rescaled: bool,
}

impl NoiseSchedule {
    pub(super) fn new(spec: &SchedulerSpec) -> Self {
        let mut left = 1.0;
        let mut kept: Vec<f64> = betas(spec)
            .into_iter()
            .map(|beta| {
                left *= 1.0 - beta;
                left
            })
            .collect();
        if spec.rescale_betas_zero_snr {
            rescale(&mut kept);
        }
        Self {
            kept,
            rescaled: spec.rescale_betas_zero_snr,
        }
    }

    /// Number of training timesteps.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    /// Returns the picture's part of the variance at a timestep.
    pub(super) fn kept(&self, timestep: f64) -> f64 {
        let last = self.len().saturating_sub(1);
        let index = (timestep.max(0.0) as usize).min(last);
        self.kept.get(index).copied().unwrap_or(1.0)
    }

    /// Returns the level of a timestep, with a sum of squares of 1.
    pub(super) fn level(&self, timestep: f64) -> Level {
        Level::of_variance(self.kept(timestep))
    }

    /// Returns the noise relative to the signal, by timestep, ascending.
    pub(super) fn sigmas(&self) -> Vec<f64> {
        let mut kept = self.kept.clone();
        if let (true, Some(last)) = (self.rescaled, kept.last_mut()) {
            *last = TERMINAL_VARIANCE;
        }
        kept.iter()
            .map(|kept| ((1.0 - kept) / kept).sqrt())
            .collect()
    }
}

/// Returns the variance that each timestep adds.
fn betas(spec: &SchedulerSpec) -> Vec<f64> {
    if let Some(betas) = &spec.trained_betas {
        return betas.clone();
    }
    let count = spec.num_train_timesteps;
    let between = |from: f64, to: f64| {
        let last = f64::from(count.saturating_sub(1).max(1));
        (0..count).map(move |step| from + (to - from) * f64::from(step) / last)
    };
    match spec.beta_schedule {
        BetaSchedule::Linear => between(spec.beta_start, spec.beta_end).collect(),
        BetaSchedule::ScaledLinear => between(spec.beta_start.sqrt(), spec.beta_end.sqrt())
            .map(|root| root * root)
            .collect(),
        BetaSchedule::SquaredcosCapV2 => {
            let kept = |step: u32| {
                let time = f64::from(step) / f64::from(count);
                ((time + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2)
            };
            (0..count)
                .map(|step| (1.0 - kept(step + 1) / kept(step)).min(MAX_COSINE_BETA))
                .collect()
        }
    }
}

/// Shifts and scales the signal so that the last timestep has none (Lin et al., 2023, algorithm 1).
fn rescale(kept: &mut [f64]) {
    let (Some(first), Some(last)) = (kept.first().copied(), kept.last().copied()) else {
        return;
    };
    let (first, last) = (first.sqrt(), last.sqrt());
    for kept in kept {
        let signal = (kept.sqrt() - last) * first / (first - last);
        *kept = signal * signal;
    }
}
