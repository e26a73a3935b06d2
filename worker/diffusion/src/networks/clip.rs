//! CLIP's text transformer: token ids `[batch, context]` → a state for each token, and one for the
//! prompt as a whole.

use tch::{Kind, Tensor};

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
    projection: Option<Linear>,
    end_token: Option<i64>,
}

/// The result for a batch of prompts.
pub(crate) struct TextStates {
    /// States after the last layer, normalized: `[batch, context, hidden]`.
    pub(crate) last: Tensor,
    /// States before the last layer.
    pub(crate) penultimate: Tensor,
    /// The last state of each prompt's end token, projected if there is a projection: `[batch,
    /// hidden or projection]`.
    pub(crate) pooled: Tensor,
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
            projection: (spec.projection)
                .map(|width| {
                    let weights = weights.at("text_projection");
                    Linear::without_bias(&weights, spec.hidden_size, width)
                })
                .transpose()?,
            end_token: spec.end_token,
        })
    }

    pub(crate) fn forward(&self, ids: &Tensor) -> TextStates {
        let context = ids.size()[1];
        let tokens = Tensor::embedding(&self.tokens, ids, -1, false, false);
        let mut states = tokens + self.positions.narrow(0, 0, context);
        let mut penultimate = states.shallow_clone();
        for layer in &self.layers {
            penultimate = states.shallow_clone();
            states = layer.forward(states);
        }
        let last = self.norm.forward(&states);
        TextStates {
            pooled: self.pooled(ids, &last),
            last,
            penultimate,
        }
    }

    fn pooled(&self, ids: &Tensor, states: &Tensor) -> Tensor {
        // Position of the first end token in each prompt.
        let ends = match self.end_token {
            Some(end) => ids.eq(end).to_kind(Kind::Int).argmax(-1, true),
            None => ids.argmax(-1, true),
        };
        let width = states.size()[2];
        let ends = ends.unsqueeze(-1).expand([-1, -1, width], false);
        let pooled = states.gather(1, &ends, false).squeeze_dim(1);
        match &self.projection {
            Some(projection) => projection.forward(&pooled),
            None => pooled,
        }
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
