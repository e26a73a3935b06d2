//! Layer norms whose scale and shift depend on a vector, and gates that do (adaLN-Zero: Peebles and
//! Xie, 2023).

use tch::Tensor;

use super::super::Weights;
use super::super::layers::Linear;
use crate::error::Error;

const NORM_EPSILON: f64 = 1e-6;

/// Maps the vector to scales, shifts and gates.
pub(super) struct Modulation(Linear);

impl Modulation {
    /// `parts`: number of scales, shifts and gates.
    pub(super) fn new(weights: &Weights<'_>, width: i64, parts: i64) -> Result<Self, Error> {
        Linear::new(weights, width, parts * width).map(Self)
    }

    /// Returns the parts, `[1, 1, width]` each, in their stored order.
    pub(super) fn parts<const N: usize>(&self, conditioning: &Tensor) -> [Tensor; N] {
        let all = self.0.forward(conditioning).unsqueeze(1);
        let width = all.size()[2] / N as i64;
        std::array::from_fn(|part| all.narrow(2, part as i64 * width, width))
    }
}

/// Normalizes tokens `[1, n, width]`, then scales and shifts them.
pub(super) fn modulated(tokens: &Tensor, shift: &Tensor, scale: &Tensor) -> Tensor {
    let width = tokens.size()[2];
    let none = None::<&Tensor>;
    let normed = tokens.layer_norm([width], none, none, NORM_EPSILON, true);
    normed * (scale + 1.0) + shift
}
