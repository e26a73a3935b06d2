//! Layers with weights.

use tch::Tensor;

use super::Weights;
use super::lora_branches::{Branch, Branches};
use crate::error::Error;

/// `y = x Wᵀ + b`, over the last dimension.
pub(super) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    branches: Branches,
}

impl Linear {
    pub(super) fn new(weights: &Weights<'_>, inputs: i64, outputs: i64) -> Result<Self, Error> {
        Ok(Self {
            bias: Some(weights.tensor("bias", &[outputs])?),
            ..Self::without_bias(weights, inputs, outputs)?
        })
    }

    pub(super) fn without_bias(
        weights: &Weights<'_>,
        inputs: i64,
        outputs: i64,
    ) -> Result<Self, Error> {
        let weight = weights.tensor("weight", &[outputs, inputs])?;
        Ok(Self {
            branches: weights.branches(&weight),
            weight,
            bias: None,
        })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        let output = input.linear(&self.weight, self.bias.as_ref());
        self.branches.added(output, |Branch { down, up, .. }| {
            let narrow = input.linear(down, None::<Tensor>);
            narrow.linear(up, None::<Tensor>)
        })
    }

    /// Returns the type of its weights, which its input must have.
    pub(super) fn kind(&self) -> tch::Kind {
        self.weight.kind()
    }
}

/// The shape of a square convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    /// Pixels along a side.
    pub(super) side: i64,
    pub(super) stride: i64,
    /// Zeros added on each side of the input.
    pub(super) padding: i64,
}

impl Kernel {
    /// 1 × 1.
    pub(super) const POINT: Self = Self {
        side: 1,
        stride: 1,
        padding: 0,
    };
    /// 3 × 3, of which the output has the input's size.
    pub(super) const SAME: Self = Self {
        side: 3,
        stride: 1,
        padding: 1,
    };
    /// 3 × 3, of which the output has half of the input's size.
    pub(super) const HALVING: Self = Self {
        side: 3,
        stride: 2,
        padding: 1,
    };
}

/// A convolution over `[batch, channels, height, width]`.
pub(super) struct Convolution {
    weight: Tensor,
    bias: Tensor,
    kernel: Kernel,
    branches: Branches,
}

impl Convolution {
    pub(super) fn new(
        weights: &Weights<'_>,
        inputs: i64,
        outputs: i64,
        kernel: Kernel,
    ) -> Result<Self, Error> {
        let shape = [outputs, inputs, kernel.side, kernel.side];
        let weight = weights.tensor("weight", &shape)?;
        Ok(Self {
            branches: weights.branches(&weight),
            weight,
            bias: weights.tensor("bias", &[outputs])?,
            kernel,
        })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        let Kernel {
            stride, padding, ..
        } = self.kernel;
        let output = input.conv2d(&self.weight, Some(&self.bias), stride, padding, 1, 1);
        self.branches.added(output, |Branch { down, up, .. }| {
            let narrow = input.conv2d(down, None::<Tensor>, stride, padding, 1, 1);
            narrow.conv2d(up, None::<Tensor>, 1, 0, 1, 1)
        })
    }

    /// Returns the type of its weights, which its input must have.
    pub(super) fn kind(&self) -> tch::Kind {
        self.weight.kind()
    }
}

/// Normalization over groups of channels.
pub(super) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    epsilon: f64,
}

impl GroupNorm {
    pub(super) fn new(
        weights: &Weights<'_>,
        channels: i64,
        groups: i64,
        epsilon: f64,
    ) -> Result<Self, Error> {
        Ok(Self {
            weight: weights.tensor("weight", &[channels])?,
            bias: weights.tensor("bias", &[channels])?,
            groups,
            epsilon,
        })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        input.group_norm(self.groups, weight, bias, self.epsilon, true)
    }
}

/// PyTorch's default.
const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Normalization over the last dimension.
pub(super) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub(super) fn new(weights: &Weights<'_>, width: i64) -> Result<Self, Error> {
        Ok(Self {
            weight: weights.tensor("weight", &[width])?,
            bias: weights.tensor("bias", &[width])?,
        })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        input.layer_norm(self.weight.size(), weight, bias, LAYER_NORM_EPSILON, true)
    }
}

/// Scaling of the last dimension to a root mean square of 1, without shifting (Zhang and Sennrich,
/// 2019).
pub(super) struct RmsNorm {
    weight: Tensor,
    epsilon: f64,
}

impl RmsNorm {
    pub(super) fn new(weights: &Weights<'_>, width: i64, epsilon: f64) -> Result<Self, Error> {
        Ok(Self {
            weight: weights.tensor("weight", &[width])?,
            epsilon,
        })
    }

    pub(super) fn forward(&self, input: &Tensor) -> Tensor {
        input.rms_norm(self.weight.size(), Some(&self.weight), self.epsilon)
    }
}
