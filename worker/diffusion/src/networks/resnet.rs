//! The residual block of the UNet and the autoencoder.

use tch::Tensor;

use super::Weights;
use super::layers::{Convolution, GroupNorm, Kernel, Linear};
use crate::error::Error;

/// Group norms of a network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norms {
    pub(super) groups: i64,
    pub(super) epsilon: f64,
}

impl Norms {
    pub(super) fn of(self, weights: &Weights<'_>, channels: i64) -> Result<GroupNorm, Error> {
        GroupNorm::new(weights, channels, self.groups, self.epsilon)
    }
}

/// Two convolutions beside a shortcut: `[batch, inputs, h, w]` → `[batch, outputs, h, w]`.
pub(super) struct ResnetBlock {
    norm1: GroupNorm,
    conv1: Convolution,
    /// Adds the time's embedding; the autoencoder has none.
    time: Option<Linear>,
    norm2: GroupNorm,
    conv2: Convolution,
    /// Present if the numbers of channels differ.
    shortcut: Option<Convolution>,
}

impl ResnetBlock {
    /// `time_width`: the width of the time's embedding, if there is one.
    pub(super) fn new(
        weights: &Weights<'_>,
        inputs: i64,
        outputs: i64,
        norms: Norms,
        time_width: Option<i64>,
    ) -> Result<Self, Error> {
        let conv =
            |name, inputs, kernel| Convolution::new(&weights.at(name), inputs, outputs, kernel);
        let time =
            time_width.map(|width| Linear::new(&weights.at("time_emb_proj"), width, outputs));
        let shortcut = (inputs != outputs).then(|| conv("conv_shortcut", inputs, Kernel::POINT));
        Ok(Self {
            norm1: norms.of(&weights.at("norm1"), inputs)?,
            conv1: conv("conv1", inputs, Kernel::SAME)?,
            time: time.transpose()?,
            norm2: norms.of(&weights.at("norm2"), outputs)?,
            conv2: conv("conv2", outputs, Kernel::SAME)?,
            shortcut: shortcut.transpose()?,
        })
    }

    /// `time`: the embedding `[batch or 1, width]`, after its activation.
    pub(super) fn forward(&self, input: &Tensor, time: Option<&Tensor>) -> Tensor {
        let mut hidden = self.conv1.forward(&self.norm1.forward(input).silu());
        if let Some((linear, time)) = self.time.as_ref().zip(time) {
            hidden += linear.forward(time).unsqueeze(-1).unsqueeze(-1);
        }
        let hidden = self.conv2.forward(&self.norm2.forward(&hidden).silu());
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(input) + hidden,
            None => input + hidden,
        }
    }
}
