//! Multi-head attention.

use tch::Tensor;

use super::Weights;
use super::layers::Linear;
use crate::error::Error;

/// The shape of an attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttentionShape {
    /// Width of the states that attend, and of the result.
    pub(super) width: i64,
    /// Width of the attended states.
    pub(super) context_width: i64,
    /// Heads; divides `width`.
    pub(super) heads: i64,
}

/// The names of an attention's projections.
pub(super) struct Names {
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) out: &'static str,
}

/// diffusers' names.
pub(super) const DIFFUSERS: Names = Names {
    query: "to_q",
    key: "to_k",
    value: "to_v",
    out: "to_out.0",
};

pub(super) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: i64,
}

impl Attention {
    /// Builds an attention whose projections have a bias.
    pub(super) fn new(
        weights: &Weights<'_>,
        names: &Names,
        shape: AttentionShape,
    ) -> Result<Self, Error> {
        Self::with(weights, names, shape, Linear::new)
    }

    /// Builds an attention of which only the result's projection has a bias.
    pub(super) fn without_input_bias(
        weights: &Weights<'_>,
        names: &Names,
        shape: AttentionShape,
    ) -> Result<Self, Error> {
        Self::with(weights, names, shape, Linear::without_bias)
    }

    fn with(
        weights: &Weights<'_>,
        names: &Names,
        shape: AttentionShape,
        input: fn(&Weights<'_>, i64, i64) -> Result<Linear, Error>,
    ) -> Result<Self, Error> {
        let AttentionShape {
            width,
            context_width,
            heads,
        } = shape;
        Ok(Self {
            query: input(&weights.at(names.query), width, width)?,
            key: input(&weights.at(names.key), context_width, width)?,
            value: input(&weights.at(names.value), context_width, width)?,
            out: Linear::new(&weights.at(names.out), width, width)?,
            heads,
        })
    }

    /// Attends from `states` `[batch, n, width]` to `context` `[batch, m, context_width]`.
    pub(super) fn forward(&self, states: &Tensor, context: &Tensor) -> Tensor {
        self.attend(states, context, false)
    }

    /// Attends from each state to itself and the earlier ones.
    pub(super) fn forward_causal(&self, states: &Tensor) -> Tensor {
        self.attend(states, states, true)
    }

    fn attend(&self, states: &Tensor, context: &Tensor, causal: bool) -> Tensor {
        // [batch, n, width] → [batch, heads, n, width / heads]
        let split = |states: Tensor| states.unflatten(-1, [self.heads, -1]).transpose(1, 2);
        let mixed = Tensor::scaled_dot_product_attention(
            &split(self.query.forward(states)),
            &split(self.key.forward(context)),
            &split(self.value.forward(context)),
            None::<Tensor>,
            0.0,
            causal,
            None,
            false,
        );
        self.out.forward(&mixed.transpose(1, 2).flatten(-2, -1))
    }
}
