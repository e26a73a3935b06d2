//! The block in which a UNet attends to itself and to the text.

use tch::Tensor;

use super::Weights;
use super::attention::{Attention, AttentionShape, DIFFUSERS};
use super::layers::{Convolution, GroupNorm, Kernel, LayerNorm, Linear};
use crate::error::Error;

/// Groups and epsilon of the block's group norm, as diffusers fixes them.
const NORM_GROUPS: i64 = 32;
const NORM_EPSILON: f64 = 1e-6;

/// Width of the feed-forward part, in units of the states' width.
const EXPANSION: i64 = 4;

/// The shape of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransformerShape {
    pub(super) channels: i64,
    pub(super) heads: i64,
    /// Width of the text states.
    pub(super) text_width: i64,
    pub(super) layers: usize,
    /// Whether channels are projected by linear layers (Stable Diffusion 2) instead of 1 × 1
    /// convolutions (1).
    pub(super) linear_projection: bool,
}

/// Between the channels of a picture and the states of a transformer.
enum Projection {
    Linear(Linear),
    Convolution(Convolution),
}

impl Projection {
    fn new(weights: &Weights<'_>, shape: TransformerShape) -> Result<Self, Error> {
        let channels = shape.channels;
        Ok(match shape.linear_projection {
            true => Self::Linear(Linear::new(weights, channels, channels)?),
            false => Self::Convolution(Convolution::new(
                weights,
                channels,
                channels,
                Kernel::POINT,
            )?),
        })
    }

    /// `[batch, channels, h, w]` → `[batch, h · w, channels]`.
    fn enter(&self, picture: &Tensor) -> Tensor {
        let states = |picture: &Tensor| picture.flatten(2, 3).transpose(1, 2);
        match self {
            Self::Linear(linear) => linear.forward(&states(picture)),
            Self::Convolution(convolution) => states(&convolution.forward(picture)),
        }
    }

    /// The reverse of `enter`, for a picture of this height.
    fn leave(&self, states: &Tensor, height: i64) -> Tensor {
        // Contiguous: torch's group norm of a transposed batch loses digits to a sum of squares.
        let picture = |states: &Tensor| {
            let picture = states.transpose(1, 2).unflatten(2, [height, -1]);
            picture.contiguous()
        };
        match self {
            Self::Linear(linear) => picture(&linear.forward(states)),
            Self::Convolution(convolution) => convolution.forward(&picture(states)),
        }
    }
}

pub(super) struct SpatialTransformer {
    norm: GroupNorm,
    enter: Projection,
    layers: Vec<TransformerLayer>,
    leave: Projection,
}

impl SpatialTransformer {
    pub(super) fn new(weights: &Weights<'_>, shape: TransformerShape) -> Result<Self, Error> {
        let (norm, layers) = (weights.at("norm"), weights.at("transformer_blocks"));
        Ok(Self {
            norm: GroupNorm::new(&norm, shape.channels, NORM_GROUPS, NORM_EPSILON)?,
            enter: Projection::new(&weights.at("proj_in"), shape)?,
            layers: (0..shape.layers)
                .map(|index| TransformerLayer::new(&layers.at(index), shape))
                .collect::<Result<_, _>>()?,
            leave: Projection::new(&weights.at("proj_out"), shape)?,
        })
    }

    /// `[batch, channels, h, w]` and text states `[batch, n, text_width]` → the picture's shape.
    pub(super) fn forward(&self, picture: &Tensor, text: &Tensor) -> Tensor {
        let height = picture.size()[2];
        let states = self.enter.enter(&self.norm.forward(picture));
        let states = (self.layers.iter()).fold(states, |states, layer| layer.forward(states, text));
        self.leave.leave(&states, height) + picture
    }
}

struct TransformerLayer {
    norm1: LayerNorm,
    to_itself: Attention,
    norm2: LayerNorm,
    to_text: Attention,
    norm3: LayerNorm,
    /// Both halves of the gated linear unit (Shazeer, 2020).
    widen: Linear,
    narrow: Linear,
}

impl TransformerLayer {
    fn new(weights: &Weights<'_>, shape: TransformerShape) -> Result<Self, Error> {
        let width = shape.channels;
        let inner = width * EXPANSION;
        let norm = |name| LayerNorm::new(&weights.at(name), width);
        let attention = |name, context_width| {
            let shape = AttentionShape {
                width,
                context_width,
                heads: shape.heads,
            };
            Attention::without_input_bias(&weights.at(name), &DIFFUSERS, shape)
        };
        Ok(Self {
            norm1: norm("norm1")?,
            to_itself: attention("attn1", width)?,
            norm2: norm("norm2")?,
            to_text: attention("attn2", shape.text_width)?,
            norm3: norm("norm3")?,
            widen: Linear::new(&weights.at("ff.net.0.proj"), width, 2 * inner)?,
            narrow: Linear::new(&weights.at("ff.net.2"), inner, width)?,
        })
    }

    fn forward(&self, mut states: Tensor, text: &Tensor) -> Tensor {
        let normed = self.norm1.forward(&states);
        states += self.to_itself.forward(&normed, &normed);
        states += self.to_text.forward(&self.norm2.forward(&states), text);
        let wide = self.widen.forward(&self.norm3.forward(&states));
        let [value, gate] = [0, 1].map(|half| {
            let width = wide.size()[2] / 2;
            wide.narrow(2, half * width, width)
        });
        states += self.narrow.forward(&(value * gate.gelu("none")));
        states
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::networks::Tensors;

    /// Weights that are all equal.
    struct Equal;

    impl Tensors for Equal {
        fn tensor(&self, _name: &str, shape: &[i64]) -> Result<Tensor, Error> {
            Ok(Tensor::full(shape, 0.1, (Kind::Float, Device::Cpu)))
        }
    }

    #[test]
    fn pictures_of_a_batch_leave_a_transformer_contiguous() {
        for linear_projection in [true, false] {
            let shape = TransformerShape {
                channels: 32,
                heads: 4,
                text_width: 8,
                layers: 1,
                linear_projection,
            };
            let transformer = SpatialTransformer::new(&Weights::root(&Equal), shape).unwrap();
            let picture = Tensor::ones([2, 32, 9, 4], (Kind::Float, Device::Cpu));
            let text = Tensor::ones([2, 5, 8], (Kind::Float, Device::Cpu));
            assert!(transformer.forward(&picture, &text).is_contiguous());
        }
    }
}
