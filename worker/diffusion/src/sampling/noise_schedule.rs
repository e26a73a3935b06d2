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
        let mut kept = products(&betas(spec));
        if spec.rescale_betas_zero_snr {
            kept = rescaled(&kept);
        }
        Self {
            kept: kept.into_iter().map(f64::from).collect(),
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

/// Returns the variance that each timestep adds, in single precision: a rounding of the last bit is
/// a thousandth of the noise at the last steps, and diffusers rounds here.
fn betas(spec: &SchedulerSpec) -> Vec<f32> {
    if let Some(betas) = &spec.trained_betas {
        return betas.iter().map(|&beta| beta as f32).collect();
    }
    let count = spec.num_train_timesteps;
    match spec.beta_schedule {
        BetaSchedule::Linear => between(spec.beta_start, spec.beta_end, count),
        BetaSchedule::ScaledLinear => between(spec.beta_start.sqrt(), spec.beta_end.sqrt(), count)
            .into_iter()
            .map(|root| root * root)
            .collect(),
        BetaSchedule::SquaredcosCapV2 => {
            let kept = |step: u32| {
                let time = f64::from(step) / f64::from(count);
                ((time + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2)
            };
            (0..count)
                .map(|step| (1.0 - kept(step + 1) / kept(step)).min(MAX_COSINE_BETA) as f32)
                .collect()
        }
    }
}

/// Returns `count` numbers from `from` to `to`, counted from the nearer end as torch does.
fn between(from: f64, to: f64, count: u32) -> Vec<f32> {
    let (from, to) = (from as f32, to as f32);
    let last = count.saturating_sub(1).max(1);
    let step = (to - from) / last as f32;
    let number = |index: u32| match index < count / 2 {
        true => step.mul_add(index as f32, from),
        false => (-step).mul_add((last - index) as f32, to),
    };
    (0..count).map(number).collect()
}

/// Returns the product of what the timesteps so far keep of the variance, by timestep.
fn products(betas: &[f32]) -> Vec<f32> {
    let mut product = 1.0;
    let kept = betas.iter().map(|beta| {
        product *= f64::from(1.0 - beta);
        product as f32
    });
    kept.collect()
}

/// Shifts and scales the signal so that the last timestep has none (Lin et al., 2023, algorithm 1).
fn rescaled(kept: &[f32]) -> Vec<f32> {
    let signals: Vec<f32> = kept.iter().map(|kept| kept.sqrt()).collect();
    let (Some(&first), Some(&last)) = (signals.first(), signals.last()) else {
        return Vec::new();
    };
    let factor = first / (first - last);
    let kept: Vec<f32> = (signals.iter())
        .map(|signal| ((signal - last) * factor).powi(2))
        .collect();
    // diffusers returns to the variances, and rounds them again.
    let before = kept
        .iter()
        .scan(1.0, |before, &kept| Some(std::mem::replace(before, kept)));
    let betas: Vec<f32> = before
        .zip(&kept)
        .map(|(before, kept)| 1.0 - kept / before)
        .collect();
    products(&betas)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// What diffusers' `alphas_cumprod` has at timesteps 0, 1, 20 (less than 1 by) and 998.
    #[test]
    fn schedules_are_rounded_as_pythons() {
        for (schedule, (from, to), rescaled, noise, last) in [
            (
                "linear",
                (0.0001, 0.02),
                false,
                [
                    0.00010001659393310547,
                    0.0002199411392211914,
                    0.006264686584472656,
                ],
                4.118194192415103e-5,
            ),
            (
                "scaled_linear",
                (0.00085, 0.012),
                false,
                [
                    0.0008500218391418457,
                    0.0017039775848388672,
                    0.01868569850921631,
                ],
                0.004716695751994848,
            ),
            (
                "squaredcos_cap_v2",
                (0.0001, 0.02),
                false,
                [
                    4.13060188293457e-5,
                    8.744001388549805e-5,
                    0.001885831356048584,
                ],
                2.428766265438753e-6,
            ),
            (
                "scaled_linear",
                (0.00085, 0.012),
                true,
                [
                    0.0008500218391418457,
                    0.001766502857208252,
                    0.019986748695373535,
                ],
                1.9679633567193378e-7,
            ),
        ] {
            let json = serde_json::json!({
                "allowed": [], "default": "ddim", "prediction_type": "epsilon",
                "beta_start": from, "beta_end": to, "beta_schedule": schedule,
                "rescale_betas_zero_snr": rescaled,
            });
            let spec: SchedulerSpec = serde_json::from_value(json).unwrap();
            let schedule = NoiseSchedule::new(&spec);
            let ours = [0.0, 1.0, 20.0].map(|timestep| 1.0 - schedule.kept(timestep));
            assert_eq!(ours, noise, "{spec:?}");
            // Rescaling subtracts nearly equal numbers here.
            let off = (schedule.kept(998.0) / last - 1.0).abs();
            assert!(off < 1e-6, "{off} {spec:?}");
        }
    }
}
