//! Attention between the tokens of text and picture.

use tch::Tensor;

use super::super::Weights;
use super::super::layers::{Linear, RmsNorm};
use super::Shape;
use super::rotary::Rotary;
use crate::error::Error;

const NORM_EPSILON: f64 = 1e-6;

/// The names of the layers before attention.
pub(super) struct Names {
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) query_norm: &'static str,
    pub(super) key_norm: &'static str,
}

/// The names of the picture's layers, and of those in common.
pub(super) const PICTURE: Names = Names {
    query: "to_q",
    key: "to_k",
    value: "to_v",
    query_norm: "norm_q",
    key_norm: "norm_k",
};

/// The names of the text's layers.
pub(super) const TEXT: Names = Names {
    query: "add_q_proj",
    key: "add_k_proj",
    value: "add_v_proj",
    query_norm: "norm_added_q",
    key_norm: "norm_added_k",
};

/// The layers before attention.
pub(super) struct Projections {
    query: Linear,
    key: Linear,
    value: Linear,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    heads: i64,
}

/// What attention needs of tokens: three tensors `[1, heads, tokens, head_size]`.
pub(super) struct Heads {
    query: Tensor,
    key: Tensor,
    value: Tensor,
}

impl Projections {
    pub(super) fn new(weights: &Weights<'_>, names: &Names, shape: Shape) -> Result<Self, Error> {
        let Shape { width, heads } = shape;
        let linear = |name| Linear::new(&weights.at(name), width, width);
        // Without it, attention's scores may grow without bound (Dehghani et al., 2023).
        let norm = |name| RmsNorm::new(&weights.at(name), width / heads, NORM_EPSILON);
        Ok(Self {
            query: linear(names.query)?,
            key: linear(names.key)?,
            value: linear(names.value)?,
            query_norm: norm(names.query_norm)?,
            key_norm: norm(names.key_norm)?,
            heads,
        })
    }

    /// Projects tokens `[1, n, width]`.
    pub(super) fn forward(&self, tokens: &Tensor) -> Heads {
        let split = |linear: &Linear| linear.forward(tokens).unflatten(-1, [self.heads, -1]);
        Heads {
            query: self.query_norm.forward(&split(&self.query)).transpose(1, 2),
            key: self.key_norm.forward(&split(&self.key)).transpose(1, 2),
            value: split(&self.value).transpose(1, 2),
        }
    }
}

impl Heads {
    /// Appends the tokens of `other`.
    pub(super) fn followed_by(self, other: Self) -> Self {
        let both = |one, other| Tensor::cat(&[one, other], 2);
        Self {
            query: both(self.query, other.query),
            key: both(self.key, other.key),
            value: both(self.value, other.value),
        }
    }

    /// Attends from each token to all: `[1, tokens, width]`.
    pub(super) fn attend(&self, rotary: &Rotary) -> Tensor {
        let mixed = Tensor::scaled_dot_product_attention(
            &rotary.rotate(&self.query),
            &rotary.rotate(&self.key),
            &self.value,
            None::<Tensor>,
            0.0,
            false,
            None,
            false,
        );
        mixed.transpose(1, 2).flatten(-2, -1)
    }
}
