//! T5's encoder, version 1.1: token ids `[batch, n]` → states `[batch, n, hidden]`.
//!
//! Raffel et al., 2020, with the gated feed-forward part of Shazeer, 2020. Positions are relative,
//! and attention is not scaled: its initial weights are.

use tch::Tensor;

use super::Weights;
use super::layers::{Linear, RmsNorm};
use crate::error::Error;
use crate::manifest::T5Spec;

pub(crate) struct T5Encoder {
    /// `[vocabulary, hidden]`
    tokens: Tensor,
    positions: RelativePositions,
    layers: Vec<Layer>,
    norm: RmsNorm,
}

impl T5Encoder {
    pub(crate) fn new(
        weights: &Weights<'_>,
        spec: &T5Spec,
        vocabulary: i64,
    ) -> Result<Self, Error> {
        let encoder = weights.at("encoder");
        let blocks = encoder.at("block");
        let first = blocks.at("0.layer.0.SelfAttention.relative_attention_bias");
        Ok(Self {
            tokens: weights.tensor(TOKENS, &[vocabulary, spec.hidden_size])?,
            positions: RelativePositions::new(&first, spec)?,
            layers: (0..spec.layers)
                .map(|index| Layer::new(&blocks.at(index).at("layer"), spec))
                .collect::<Result<_, _>>()?,
            norm: norm(&encoder.at("final_layer_norm"), spec)?,
        })
    }

    /// Encodes all tokens, those that pad a prompt as well.
    pub(crate) fn forward(&self, ids: &Tensor) -> Tensor {
        let bias = self.positions.bias(ids.size()[1]);
        let states = Tensor::embedding(&self.tokens, ids, -1, false, false);
        let states = self
            .layers
            .iter()
            .fold(states, |states, layer| layer.forward(states, &bias));
        self.norm.forward(&states)
    }
}

/// The token embedding; other T5 networks share it with a decoder. Some files have it twice.
pub(crate) const TOKENS: &str = "shared.weight";

fn norm(weights: &Weights<'_>, spec: &T5Spec) -> Result<RmsNorm, Error> {
    RmsNorm::new(weights, spec.hidden_size, spec.norm_epsilon)
}

/// A bias of attention for each class of distances; all layers use that of the first one.
struct RelativePositions {
    /// `[buckets, heads]`
    bias: Tensor,
    buckets: i64,
    max_distance: i64,
}

impl RelativePositions {
    fn new(weights: &Weights<'_>, spec: &T5Spec) -> Result<Self, Error> {
        Ok(Self {
            bias: weights.tensor("weight", &[spec.position_buckets, spec.heads])?,
            buckets: spec.position_buckets,
            max_distance: spec.max_distance,
        })
    }

    /// Returns what is added to the scores of `n` tokens: `[1, heads, n, n]`.
    fn bias(&self, n: i64) -> Tensor {
        let buckets: Vec<i64> = (0..n)
            .flat_map(|from| (0..n).map(move |to| to - from))
            .map(|offset| bucket(offset, self.buckets, self.max_distance))
            .collect();
        let buckets = Tensor::from_slice(&buckets).to_device(self.bias.device());
        // [n · n, heads] → [heads, n, n]
        let bias = self.bias.index_select(0, &buckets);
        bias.transpose(0, 1).contiguous().view([1, -1, n, n])
    }
}

/// Returns the class of an offset from one token to another: half of the `buckets` for each
/// direction, and of those, half for one distance each; the others grow with the distance.
fn bucket(offset: i64, buckets: i64, max_distance: i64) -> i64 {
    let one_way = buckets / 2;
    let exact = one_way / 2;
    let direction = if offset > 0 { one_way } else { 0 };
    let distance = offset.abs();
    if distance < exact {
        return direction + distance;
    }
    // Single precision decides on which side of a border a distance is, as in transformers.
    let ratio = |of: i64| (of as f32 / exact as f32).ln();
    let grown = ratio(distance) / ratio(max_distance) * (one_way - exact) as f32;
    direction + (exact + grown as i64).min(one_way - 1)
}

struct Layer {
    norm1: RmsNorm,
    attention: Attention,
    norm2: RmsNorm,
    feed_forward: FeedForward,
}

impl Layer {
    fn new(weights: &Weights<'_>, spec: &T5Spec) -> Result<Self, Error> {
        let (attention, feed_forward) = (weights.at(0), weights.at(1));
        Ok(Self {
            norm1: norm(&attention.at("layer_norm"), spec)?,
            attention: Attention::new(&attention.at("SelfAttention"), spec)?,
            norm2: norm(&feed_forward.at("layer_norm"), spec)?,
            feed_forward: FeedForward::new(&feed_forward.at("DenseReluDense"), spec)?,
        })
    }

    fn forward(&self, states: Tensor, bias: &Tensor) -> Tensor {
        let states = self.attention.forward(&self.norm1.forward(&states), bias) + states;
        self.feed_forward.forward(&self.norm2.forward(&states)) + states
    }
}

/// Attention without scaling, to positions with a bias.
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: i64,
}

impl Attention {
    fn new(weights: &Weights<'_>, spec: &T5Spec) -> Result<Self, Error> {
        let (hidden, inner) = (spec.hidden_size, spec.heads * spec.head_size);
        let enter = |name| Linear::without_bias(&weights.at(name), hidden, inner);
        Ok(Self {
            query: enter("q")?,
            key: enter("k")?,
            value: enter("v")?,
            out: Linear::without_bias(&weights.at("o"), inner, hidden)?,
            heads: spec.heads,
        })
    }

    /// `bias`: `[1, heads, n, n]`.
    fn forward(&self, states: &Tensor, bias: &Tensor) -> Tensor {
        // [batch, n, inner] → [batch, heads, n, head_size]
        let split = |linear: &Linear| {
            let states = linear.forward(states);
            states.unflatten(-1, [self.heads, -1]).transpose(1, 2)
        };
        let mixed = Tensor::scaled_dot_product_attention(
            &split(&self.query),
            &split(&self.key),
            &split(&self.value),
            Some(bias),
            0.0,
            false,
            1.0,
            false,
        );
        self.out.forward(&mixed.transpose(1, 2).flatten(-2, -1))
    }
}

/// A gated linear unit.
struct FeedForward {
    gate: Linear,
    widen: Linear,
    narrow: Linear,
}

impl FeedForward {
    fn new(weights: &Weights<'_>, spec: &T5Spec) -> Result<Self, Error> {
        let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
        Ok(Self {
            gate: Linear::without_bias(&weights.at("wi_0"), hidden, inner)?,
            widen: Linear::without_bias(&weights.at("wi_1"), hidden, inner)?,
            narrow: Linear::without_bias(&weights.at("wo"), inner, hidden)?,
        })
    }

    fn forward(&self, states: &Tensor) -> Tensor {
        let gate = self.gate.forward(states).gelu("tanh");
        self.narrow.forward(&(gate * self.widen.forward(states)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The borders that transformers computes for T5's 32 classes up to a distance of 128.
    #[test]
    fn distances_are_classified_as_in_transformers() {
        let of = |offset| bucket(offset, 32, 128);
        let borders: Vec<i64> = (1..512).filter(|&d| of(-d) != of(1 - d)).collect();
        assert_eq!(
            borders,
            [1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]
        );
        assert_eq!((of(0), of(-500), of(1), of(500)), (0, 15, 17, 31));
    }
}
