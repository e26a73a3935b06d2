//! Euler's method along a flow from noise to picture (Lipman et al., 2023): latents are
//! `(1 − σ) · picture + σ · noise`, and a network predicts their derivative by σ.

use tch::Tensor;

use super::{Answer, Call, Level, Plan, Solver, spacing};
use crate::manifest::{FlowCurve, FlowMatchSpec, FlowShift};

struct FlowMatch {
    /// One more than calls: the last is 0.
    sigmas: Vec<f64>,
}

/// `tokens`: those of the picture, in the transformer.
pub(super) fn plan(steps: usize, tokens: u32, spec: &FlowMatchSpec) -> Plan {
    let mut sigmas = sigmas(steps, tokens, spec);
    let call = |&sigma: &f64| Call {
        timestep: sigma * f64::from(spec.num_train_timesteps),
        level: Level {
            signal: 1.0 - sigma,
            deviation: sigma,
        },
    };
    let calls = sigmas.iter().map(call).collect();
    sigmas.push(0.0);
    Plan {
        calls,
        initial_sigma: 1.0,
        solver: Box::new(FlowMatch { sigmas }),
    }
}

/// Returns the noise level of each call, descending from 1.
fn sigmas(steps: usize, tokens: u32, spec: &FlowMatchSpec) -> Vec<f64> {
    let mut sigmas = spacing::linspace(1.0, (steps as f64).recip(), steps);
    let factor = spec.shift.factor(tokens);
    for sigma in &mut sigmas {
        // Moves the ratio of noise to picture by the factor (Esser et al., 2024, equation 23).
        *sigma = factor * *sigma / (1.0 + (factor - 1.0) * *sigma);
    }
    let last = sigmas[sigmas.len() - 1];
    if let (Some(terminal), true) = (spec.shift_terminal, last < 1.0) {
        let stretch = (1.0 - terminal) / (1.0 - last);
        for sigma in &mut sigmas {
            *sigma = 1.0 - (1.0 - *sigma) * stretch;
        }
    }
    let bounds = (sigmas[0], sigmas[sigmas.len() - 1]);
    spacing::respaced(spec.sigma_spacing, bounds, steps).unwrap_or(sigmas)
}

impl FlowShift {
    /// Returns the factor for a picture of this number of tokens.
    fn factor(self, tokens: u32) -> f64 {
        match self {
            Self::Fixed(factor) => factor,
            Self::BySize {
                base_shift,
                max_shift,
                base_tokens,
                max_tokens,
                curve,
            } => {
                let [tokens, base, max] = [tokens, base_tokens, max_tokens].map(f64::from);
                let shift = base_shift + (max_shift - base_shift) * (tokens - base) / (max - base);
                match curve {
                    FlowCurve::Exponential => shift.exp(),
                    FlowCurve::Linear => shift,
                }
            }
        }
    }
}

impl Solver for FlowMatch {
    fn step(&mut self, answer: &Answer<'_>) -> Tensor {
        let (from, to) = (self.sigmas[answer.index], self.sigmas[answer.index + 1]);
        answer.latents + answer.prediction * (to - from)
    }

    /// The network was trained on the latents as they are.
    fn model_input(&self, latents: &Tensor, _call: Call) -> Tensor {
        latents.shallow_clone()
    }
}
