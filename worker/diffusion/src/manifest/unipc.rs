//! Settings of UniPC.

use serde::{Deserialize, Serialize};

/// Settings of UniPC that no other scheduler has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UniPcSpec {
    /// Normalization of the differences of predictions.
    pub solver: UniPcSolver,
    /// Whether the solver extrapolates the predicted picture instead of the predicted noise.
    pub predict_x0: bool,
    /// Steps, counted from 0, whose result is not corrected.
    pub disable_corrector: Vec<usize>,
}

impl Default for UniPcSpec {
    /// Returns diffusers' defaults.
    fn default() -> Self {
        Self {
            solver: UniPcSolver::Bh2,
            predict_x0: true,
            disable_corrector: Vec::new(),
        }
    }
}

/// The paper's function B(h) of a step's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UniPcSolver {
    /// B(h) = h.
    Bh1,
    /// B(h) = exp(h) − 1.
    #[default]
    Bh2,
}
