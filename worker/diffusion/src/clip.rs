//! CLIP's text transformer: token ids `[batch, context]` → states `[batch, context, hidden]`.
//!
//! diffusers-rs has one too, but only in the two sizes of Stable Diffusion. Parameters carry
//! transformers' names, less `text_model.`.

use tch::nn::{self, Module, Path};
use tch::{Kind, Tensor};

use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::manifest::{Activation, TextSpec};

#[derive(Debug)]
pub(crate) struct TextTransformer {
    tokens: nn::Embedding,
    positions: nn::Embedding,
    layers: Vec<Layer>,
    norm: nn::LayerNorm,
}

impl TextTransformer {
    /// Checks the tensors that decide the network's size, before anything is allocated.
    pub(crate) fn check(
        spec: &TextSpec,
        vocabulary: i64,
        context: i64,
        weights: &Checkpoint,
    ) -> Result<(), Error> {
        weights.expect(
            "embeddings.token_embedding.weight",
            &[vocabulary, spec.hidden_size],
        )?;
        weights.expect(
            "embeddings.position_embedding.weight",
            &[context, spec.hidden_size],
        )?;
        (0..spec.layers).try_for_each(|i| {
            let name = format!("encoder.layers.{i}.mlp.fc1.weight");
            weights.expect(&name, &[spec.intermediate_size, spec.hidden_size])
        })
    }

    pub(crate) fn new(
        root: &Path,
        spec: &TextSpec,
        vocabulary: i64,
        context: i64,
    ) -> TextTransformer {
        let (embeddings, layers) = (root / "embeddings", root / "encoder" / "layers");
        let embedding = |name, rows| {
            nn::embedding(
                &embeddings / name,
                rows,
                spec.hidden_size,
                Default::default(),
            )
        };
        TextTransformer {
            tokens: embedding("token_embedding", vocabulary),
            positions: embedding("position_embedding", context),
            layers: (0..spec.layers)
                .map(|i| Layer::new(&(&layers / i), spec))
                .collect(),
            norm: nn::layer_norm(
                root / "final_layer_norm",
                vec![spec.hidden_size],
                Default::default(),
            ),
        }
    }
}

impl Module for TextTransformer {
    fn forward(&self, ids: &Tensor) -> Tensor {
        let context = ids.size().last().copied().unwrap_or(0);
        let positions = Tensor::arange(context, (Kind::Int64, ids.device()));
        let states = ids.apply(&self.tokens) + positions.apply(&self.positions);
        // −∞ above the diagonal: no token sees a later one.
        let mask = Tensor::full(
            [context, context],
            f64::NEG_INFINITY,
            (Kind::Float, ids.device()),
        )
        .triu(1);
        let states = self
            .layers
            .iter()
            .fold(states, |states, layer| layer.forward(&states, &mask));
        states.apply(&self.norm)
    }
}

#[derive(Debug)]
struct Layer {
    norm1: nn::LayerNorm,
    attention: Attention,
    norm2: nn::LayerNorm,
    widen: nn::Linear,
    narrow: nn::Linear,
    activation: Activation,
}

impl Layer {
    fn new(path: &Path, spec: &TextSpec) -> Layer {
        let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
        let norm = |name| nn::layer_norm(path / name, vec![hidden], Default::default());
        Layer {
            norm1: norm("layer_norm1"),
            attention: Attention::new(&(path / "self_attn"), spec),
            norm2: norm("layer_norm2"),
            widen: nn::linear(path / "mlp" / "fc1", hidden, inner, Default::default()),
            narrow: nn::linear(path / "mlp" / "fc2", inner, hidden, Default::default()),
            activation: spec.activation,
        }
    }

    fn forward(&self, states: &Tensor, mask: &Tensor) -> Tensor {
        let states = states + self.attention.forward(&states.apply(&self.norm1), mask);
        let wide = states.apply(&self.norm2).apply(&self.widen);
        let wide = match self.activation {
            Activation::QuickGelu => &wide * (&wide * 1.702).sigmoid(),
            Activation::Gelu => wide.gelu("none"),
        };
        states + wide.apply(&self.narrow)
    }
}

#[derive(Debug)]
struct Attention {
    query: nn::Linear,
    key: nn::Linear,
    value: nn::Linear,
    out: nn::Linear,
    heads: i64,
}

impl Attention {
    fn new(path: &Path, spec: &TextSpec) -> Attention {
        let square = |name| {
            nn::linear(
                path / name,
                spec.hidden_size,
                spec.hidden_size,
                Default::default(),
            )
        };
        Attention {
            query: square("q_proj"),
            key: square("k_proj"),
            value: square("v_proj"),
            out: square("out_proj"),
            heads: spec.heads,
        }
    }

    fn forward(&self, states: &Tensor, mask: &Tensor) -> Tensor {
        // [batch, context, hidden] → [batch, heads, context, hidden / heads]
        let split = |states: Tensor| states.unflatten(-1, [self.heads, -1]).transpose(1, 2);
        let query = split(states.apply(&self.query));
        let key = split(states.apply(&self.key));
        let value = split(states.apply(&self.value));
        let width = query.size().last().copied().unwrap_or(1);
        let scores = (query * (width as f64).sqrt().recip()).matmul(&key.transpose(-1, -2)) + mask;
        let mixed = scores
            .softmax(-1, Kind::Float)
            .to_kind(value.kind())
            .matmul(&value);
        mixed.transpose(1, 2).flatten(-2, -1).apply(&self.out)
    }
}
