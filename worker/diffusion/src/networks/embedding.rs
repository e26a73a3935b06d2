//! Embeds the timestep and other conditions of a denoising network.

use tch::Tensor;

use super::Weights;
use super::layers::Linear;
use crate::error::Error;

/// Two linear layers.
pub(super) struct Embedding {
    linear1: Linear,
    linear2: Linear,
}

impl Embedding {
    pub(super) fn new(weights: &Weights<'_>, inputs: i64, width: i64) -> Result<Self, Error> {
        Ok(Self {
            linear1: Linear::new(&weights.at("linear_1"), inputs, width)?,
            linear2: Linear::new(&weights.at("linear_2"), width, width)?,
        })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        self.linear2.forward(&self.linear1.forward(input).silu())
    }
}
