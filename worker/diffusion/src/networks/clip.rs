//! CLIP's text transformer: token ids `[batch, context]` → states `[batch, context, hidden]`.

use tch::Tensor;

use super::Weights;
use super::attention::{Attention, AttentionShape, Names};
use super::layers::{LayerNorm, Linear};
use crate::error::Error;
use crate::manifest::{Activation, TextSpec};

/// transformers' names.
const ATTENTION: Names = Names {
    query: "q_proj",
    key: "k_proj",
    value: "v_proj",
    out: "out_proj",
};

pub(crate) struct TextTransformer {
    /// `[vocabulary, hidden]`
    tokens: Tensor,
    /// `[context, hidden]`
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl TextTransformer {
    pub(crate) fn new(
        weights: &Weights<'_>,
        spec: &TextSpec,
        vocabulary: i64,
        context: i64,
    ) -> Result<Self, Error> {
        let (embeddings, layers) = (weights.at("embeddings"), weights.at("encoder.layers"));
        let embedding = |name, rows| {
            embeddings
                .at(name)
                .tensor("weight", &[rows, spec.hidden_size])
        };
        Ok(Self {
            tokens: embedding("token_embedding", vocabulary)?,
            positions: embedding("position_embedding", context)?,
            layers: (0..spec.layers)
                .map(|index| Layer::new(&layers.at(index), spec))
                .collect::<Result<_, _>>()?,
            norm: LayerNorm::new(&weights.at("final_layer_norm"), spec.hidden_size)?,
        })
    }

    pub(crate) fn forward(&self, ids: &Tensor) -> Tensor {
        let context = ids.size()[1];
        let tokens = Tensor::embedding(&self.tokens, ids, -1, false, false);
        let states = tokens + self.positions.narrow(0, 0, context);
        let states = self
            .layers
            .iter()
            .fold(states, |states, layer| layer.forward(states));
        self.norm.forward(&states)
    }
}

struct Layer {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    widen: Linear,
    narrow: Linear,
    activation: Activation,
}

impl Layer {
    fn new(weights: &Weights<'_>, spec: &TextSpec) -> Result<Self, Error> {
        let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
        let shape = AttentionShape {
            width: hidden,
            context_width: hidden,
            heads: spec.heads,
        };
        Ok(Self {
            norm1: LayerNorm::new(&weights.at("layer_norm1"), hidden)?,
            attention: Attention::new(&weights.at("self_attn"), &ATTENTION, shape)?,
            norm2: LayerNorm::new(&weights.at("layer_norm2"), hidden)?,
            widen: Linear::new(&weights.at("mlp.fc1"), hidden, inner)?,
            narrow: Linear::new(&weights.at("mlp.fc2"), inner, hidden)?,
            activation: spec.activation,
        })
    }

    fn forward(&self, states: Tensor) -> Tensor {
        let states = self.attention.forward_causal(&self.norm1.forward(&states)) + states;
        let wide = self.widen.forward(&self.norm2.forward(&states));
        let wide = match self.activation {
            Activation::QuickGelu => &wide * (&wide * 1.702).sigmoid(),
            Activation::Gelu => wide.gelu("none"),
        };
        states + self.narrow.forward(&wide)
    }
}
