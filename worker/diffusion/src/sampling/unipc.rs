//! UniPC (Zhao et al., 2023), multi-step, of order 1 to 3: a predictor, and a corrector that reuses
//! the next call of the UNet.

use tch::Tensor;

use super::dpm::{level, levels};
use super::noise_schedule::NoiseSchedule;
use super::{Answer, Call, Level, Plan, Solver};
use crate::manifest::{SchedulerSpec, SigmaSpacing, UniPcSolver};

struct UniPc {
    sigmas: Vec<f64>,
    spec: SchedulerSpec,
    /// Latest predictions, the latest first.
    predictions: Vec<Tensor>,
    /// Order of the previous step, and the latents that it started from.
    previous: Option<(usize, Tensor)>,
}

pub(super) fn plan(schedule: &NoiseSchedule, steps: usize, spec: &SchedulerSpec) -> Plan {
    let spec = SchedulerSpec {
        // A setting of DPM-Solver++ alone.
        lambda_min_clipped: f64::NEG_INFINITY,
        ..spec.clone()
    };
    let whole = spec.sigma_spacing == SigmaSpacing::Karras;
    let (timesteps, sigmas) = levels(schedule, steps, &spec, whole);
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
        solver: Box::new(UniPc {
            sigmas,
            spec,
            predictions: Vec::new(),
            previous: None,
        }),
    }
}

impl UniPc {
    /// Returns what the solver extrapolates: the predicted picture or the predicted noise.
    fn prediction(&self, answer: &Answer<'_>) -> Tensor {
        let Level { signal, deviation } = level(self.sigmas[answer.index]);
        match self.spec.unipc.predict_x0 {
            true => answer.picture.shallow_clone(),
            false => (answer.latents - &answer.picture * signal) / deviation,
        }
    }

    /// Returns the order of a step: at most one more than there were steps, and fewer at the end.
    fn order(&self, index: usize) -> usize {
        let steps = self.sigmas.len() - 1;
        let max = match self.spec.lower_order_final {
            true => self.spec.solver_order.min(steps - index),
            false => self.spec.solver_order,
        };
        match self.sigmas[index + 1] > 0.0 {
            true => max.min(self.predictions.len()),
            // The step to the picture itself is infinitely long.
            false => 1,
        }
    }

    /// Returns the latents after the step at `index`, from those before it. `after`: the prediction
    /// there, to correct the step.
    fn advance(
        &self,
        index: usize,
        order: usize,
        latents: &Tensor,
        after: Option<&Tensor>,
    ) -> Tensor {
        // Half of the logarithm of the signal-to-noise ratio, which rises.
        let lambda = |index: usize| -self.sigmas[index].ln();
        let h = lambda(index + 1) - lambda(index);
        let (from, to) = (level(self.sigmas[index]), level(self.sigmas[index + 1]));
        let latest = &self.predictions[0];
        let (length, scale, next) = match self.spec.unipc.predict_x0 {
            true => {
                let kept = latents * (to.deviation / from.deviation);
                (-h, to.signal, kept - latest * (to.signal * (-h).exp_m1()))
            }
            false => {
                let kept = to.signal / from.signal;
                // Finite even if the step is infinitely long.
                let noise = kept * from.deviation - to.deviation;
                (h, to.deviation, latents * kept - latest * noise)
            }
        };
        let mut positions = Vec::new();
        let mut slopes = Vec::new();
        for age in 1..order {
            let position = (lambda(index - age) - lambda(index)) / h;
            positions.push(position);
            slopes.push((&self.predictions[age] - latest) / position);
        }
        if let Some(after) = after {
            positions.push(1.0);
            slopes.push(after - latest);
        }
        let weights = weights(&positions, length, self.spec.unipc.solver);
        let scale = scale * norm(length, self.spec.unipc.solver);
        (slopes.iter().zip(weights)).fold(next, |next, (slope, weight)| {
            next - slope * (scale * weight)
        })
    }
}

impl Solver for UniPc {
    fn step(&mut self, answer: &Answer<'_>) -> Tensor {
        let index = answer.index;
        let prediction = self.prediction(answer);
        let is_corrected = |previous: usize| !self.spec.unipc.disable_corrector.contains(&previous);
        let corrected = match (&self.previous, index.checked_sub(1)) {
            (Some((order, latents)), Some(previous)) if is_corrected(previous) => {
                self.advance(previous, *order, latents, Some(&prediction))
            }
            _ => answer.latents.shallow_clone(),
        };
        self.predictions.insert(0, prediction);
        self.predictions.truncate(self.spec.solver_order.max(1));
        let order = self.order(index);
        let next = self.advance(index, order, &corrected, None);
        self.previous = Some((order, corrected));
        next
    }
}

/// Returns B(h) of a step's length.
fn norm(length: f64, solver: UniPcSolver) -> f64 {
    match solver {
        UniPcSolver::Bh1 => length,
        UniPcSolver::Bh2 => length.exp_m1(),
    }
}

/// Returns the weights of the slopes to `positions`, in units of the step: the solution of the
/// paper's equation 5, a Vandermonde system.
fn weights(positions: &[f64], length: f64, solver: UniPcSolver) -> Vec<f64> {
    if positions.len() < 2 {
        // The paper's proposition A.1: the equation need not hold exactly.
        return vec![0.5; positions.len()];
    }
    let norm = norm(length, solver);
    let (mut phi, mut factorial) = (length.exp_m1() / length - 1.0, 1.0);
    let mut rows = Vec::new();
    let mut powers = vec![1.0; positions.len()];
    for row in 0..positions.len() {
        let mut equation = powers.clone();
        equation.push(phi * factorial / norm);
        rows.push(equation);
        for (power, position) in powers.iter_mut().zip(positions) {
            *power *= position;
        }
        factorial *= (row + 2) as f64;
        phi = phi / length - 1.0 / factorial;
    }
    solve(rows)
}

/// Solves linear equations, each with its right-hand side last, by elimination. Its pivots are not
/// 0 in a Vandermonde system of different positions.
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let count = rows.len();
    for pivot in 0..count {
        let divisor = rows[pivot][pivot];
        rows[pivot].iter_mut().for_each(|number| *number /= divisor);
        let pivot_row = rows[pivot].clone();
        for (_, row) in rows.iter_mut().enumerate().filter(|(at, _)| *at != pivot) {
            let factor = row[pivot];
            for (number, above) in row.iter_mut().zip(&pivot_row) {
                *number -= factor * above;
            }
        }
    }
    rows.into_iter().map(|row| row[count]).collect()
}
