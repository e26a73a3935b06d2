//! Numbers that Python's diffusers and transformers computed.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use tch::{Kind, Tensor};
use warmq_diffusion::Start;

/// Relative L2 distance of equal computations with different rounding.
const BOUND: f64 = 1e-5;

pub struct Reference {
    pub facts: HashMap<String, String>,
    pub tensors: HashMap<String, Tensor>,
}

impl Reference {
    pub fn read(path: &Path) -> Reference {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(name, view)| {
            let kind = match view.dtype() {
                Dtype::F32 => Kind::Float,
                Dtype::I64 => Kind::Int64,
                other => panic!("{name} is of type {other}"),
            };
            let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
            (
                name.to_owned(),
                Tensor::from_data_size(view.data(), &shape, kind),
            )
        });
        Reference {
            tensors: tensors.collect(),
            facts: header.metadata().clone().unwrap(),
        }
    }

    pub fn fact(&self, name: &str) -> &str {
        &self.facts[name]
    }

    /// The encoded picture to start from, all of which is redrawn.
    pub fn start(&self) -> Start {
        Start {
            latents: self.tensors["encoded"].shallow_clone(),
            mask: None,
            masked: None,
        }
    }

    pub fn holds(&self, name: &str, ours: &Tensor) {
        self.holds_within(name, ours, BOUND);
    }

    pub fn holds_within(&self, name: &str, ours: &Tensor, bound: f64) {
        let theirs = &self.tensors[name];
        assert_eq!(ours.size(), theirs.size(), "{name}");
        let distance = ((ours - theirs).norm() / theirs.norm()).double_value(&[]);
        println!("{name}: relative L2 {distance:.1e}");
        assert!(
            distance <= bound,
            "{name} is {distance:e} away from Python's"
        );
    }
}
