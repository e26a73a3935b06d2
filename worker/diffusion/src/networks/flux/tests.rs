//! The networks compute what diffusers' and transformers' do, in single precision and bfloat16.
//! tests/flux.rs compares whole pipelines, in single precision.

use safetensors::SafeTensors;
use tch::{Kind, Tensor};

use super::*;
use crate::manifest::T5Spec;
use crate::networks::{T5Encoder, Tensors};

#[path = "../../../tests/support/keyed.rs"]
mod keyed;

/// Relative L2 distance of equal computations with different rounding.
const BOUND: f64 = 1e-5;
const BFLOAT_BOUND: f64 = 2e-2;

/// Weights of the stored references.
struct Keyed {
    component: &'static str,
    kind: Kind,
}

impl Tensors for Keyed {
    fn tensor(&self, name: &str, shape: &[i64]) -> Result<Tensor, Error> {
        let numbers = keyed::numbers(&format!("{}/{name}", self.component), shape);
        Ok(Tensor::from_slice(&numbers).view(shape).to_kind(self.kind))
    }
}

fn reference(name: &str) -> Tensor {
    let file = include_bytes!("../../../tests/references/flux.safetensors");
    let file = SafeTensors::deserialize(file).unwrap();
    let view = file.tensor(name).unwrap();
    let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
    let kind = match view.dtype() {
        safetensors::Dtype::I64 => Kind::Int64,
        _ => Kind::Float,
    };
    Tensor::from_data_size(view.data(), &shape, kind)
}

fn holds(name: &str, ours: &Tensor, bound: f64) {
    let theirs = reference(name);
    assert_eq!(ours.size(), theirs.size(), "{name}");
    let distance = ((ours.to_kind(Kind::Float) - &theirs).norm() / theirs.norm()).double_value(&[]);
    println!("{name}: relative L2 {distance:.1e}");
    assert!(
        distance <= bound,
        "{name} is {distance:e} away from Python's"
    );
}

fn transformer(guidance: bool, kind: Kind) -> FluxTransformer {
    let component = "transformer";
    let spec = FluxTransformerSpec {
        double_blocks: 2,
        single_blocks: 2,
        heads: 2,
        head_size: 16,
        latent_channels: 16,
        text_width: 32,
        pooled_width: 32,
        guidance,
        rope_axes: [4, 6, 6],
    };
    FluxTransformer::new(&Weights::root(&Keyed { component, kind }), &spec).unwrap()
}

fn t5(kind: Kind) -> T5Encoder {
    let component = "text_encoder_2";
    let spec = T5Spec {
        hidden_size: 32,
        layers: 2,
        heads: 4,
        head_size: 12,
        intermediate_size: 64,
        position_buckets: 32,
        max_distance: 128,
        norm_epsilon: 1e-6,
        context: 512,
    };
    T5Encoder::new(&Weights::root(&Keyed { component, kind }), &spec, 84).unwrap()
}

#[test]
fn text_states_agree_with_python() {
    let tokens = reference("prompt_t5_tokens");
    for (kind, bound) in [(Kind::Float, BOUND), (Kind::BFloat16, BFLOAT_BOUND)] {
        let t5 = t5(kind);
        holds("dev_t5_states", &t5.forward(&tokens), bound);
        holds(
            "schnell_t5_states",
            &t5.forward(&tokens.narrow(1, 0, 256)),
            bound,
        );
    }
}

#[test]
fn the_transformer_agrees_with_python() {
    for (kind, bound) in [(Kind::Float, BOUND), (Kind::BFloat16, BFLOAT_BOUND)] {
        for (name, guidance) in [("dev", 3.5), ("schnell", 0.0)] {
            let prompt = FluxPrompt {
                text: &reference(&format!("{name}_t5_states")),
                pooled: &reference("pooled"),
                guidance,
            };
            let transformer = transformer(name == "dev", kind);
            let ours = transformer.predict(&reference("noise"), 600.0, &prompt);
            holds(&format!("{name}_prediction"), &ours, bound);
        }
    }
}

#[test]
fn token_ids_agree_with_python() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/references/flux");
    let t5 =
        crate::t5_tokenizer::load(folder.as_ref(), "flux", crate::t5_tokenizer::FILE, 512).unwrap();
    for name in ["prompt", "long"] {
        let file = include_bytes!("../../../tests/references/flux.safetensors");
        let (_, header) = SafeTensors::read_metadata(file).unwrap();
        let fact = if name == "long" { "long_prompt" } else { name };
        let prompt = header.metadata().as_ref().unwrap()[fact].clone();
        let tokens = t5.encode(&prompt).unwrap();
        let ids = Tensor::from_slice(&tokens).unsqueeze(0);
        assert_eq!(ids, reference(&format!("{name}_t5_tokens")));
    }
}
