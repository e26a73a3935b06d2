//! A LoRA's file: pairs of matrices by the names of the layers that they change.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use tch::{Kind, Tensor};

use super::metadata::Metadata;

/// Size limit of a file, bytes.
const MAX_BYTES: u64 = 4 << 30;

/// The matrices for one layer.
#[derive(Debug, Default)]
pub(super) struct Matrices {
    pub(super) down: Option<Tensor>,
    pub(super) up: Option<Tensor>,
    /// The product counts `alpha / rank` times; `rank` by default.
    alpha: Option<f64>,
}

/// A file's content.
pub(super) struct LoraFile {
    /// By the layer's name in the file; never empty.
    pub(super) layers: BTreeMap<String, Matrices>,
    metadata: Metadata,
}

impl LoraFile {
    /// Returns the factor of a layer's product.
    pub(super) fn factor(&self, layer: &str) -> f64 {
        let found = (self.layers.get(layer)).and_then(|found| Some((found.down.as_ref()?, found)));
        let Some((down, matrices)) = found else {
            return 1.0;
        };
        let rank = down.size().first().copied().unwrap_or(1);
        let own = matrices.alpha.map(|alpha| alpha / rank as f64);
        own.or_else(|| self.metadata.factor(layer, rank))
            .unwrap_or(1.0)
    }
}

/// A part of [`Matrices`], by the end of its name in PEFT's, kohya's and diffusers' files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Down,
    Up,
    Alpha,
}

const ENDS: [(&str, Part); 9] = [
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    (".lora_linear_layer.down.weight", Part::Down),
    (".lora_linear_layer.up.weight", Part::Up),
    (".alpha", Part::Alpha),
];

/// Other kinds of adapters, by a part of their tensors' names.
const OTHER_KINDS: [(&str, &str); 6] = [
    ("dora_scale", "DoRA is"),
    ("lora_magnitude_vector", "DoRA is"),
    ("hada_", "LoHa is"),
    ("lokr_", "LoKr is"),
    ("lora_mid", "LoCon with a third matrix is"),
    ("lora_B.bias", "LoRA with biases is"),
];

/// Reads a file.
///
/// # Errors
/// What is wrong with the file, and the tensor at fault.
pub(super) fn read(path: &Path) -> Result<LoraFile, String> {
    let unreadable = |e: std::io::Error| format!("cannot be read: {e}");
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_BYTES {
        return Err(format!("{bytes} bytes; at most {MAX_BYTES} are supported"));
    }
    let content = fs::read(path).map_err(unreadable)?;
    let damaged = |e| format!("not a safetensors file, or damaged: {e}");
    let (_, header) = SafeTensors::read_metadata(&content).map_err(damaged)?;
    let metadata = Metadata::read(header.metadata().as_ref())?;
    let file = SafeTensors::deserialize(&content).map_err(damaged)?;
    let mut layers: BTreeMap<String, Matrices> = BTreeMap::new();
    for (name, view) in file.iter() {
        let split = ENDS.iter().find_map(|(end, part)| {
            let layer = name.strip_suffix(end)?;
            Some((layer, *part))
        });
        let Some((layer, part)) = split else {
            return Err(format!(
                "tensor {name}: {} not supported, only LoRA is (lora_A and lora_B, or lora_down, \
                 lora_up and alpha)",
                kind(name)
            ));
        };
        let tensor = tensor(&view).map_err(|problem| format!("tensor {name}: {problem}"))?;
        let matrices = layers.entry(layer.to_owned()).or_default();
        match part {
            Part::Down => matrices.down = Some(tensor),
            Part::Up => matrices.up = Some(tensor),
            Part::Alpha if tensor.numel() == 1 => {
                matrices.alpha = Some(tensor.view(-1).double_value(&[0]));
            }
            Part::Alpha => return Err(format!("tensor {name}: not a single number")),
        }
    }
    match layers.is_empty() {
        true => Err("contains no tensor".to_owned()),
        false => Ok(LoraFile { layers, metadata }),
    }
}

/// Returns the kind of adapter of a tensor without use, and a verb.
fn kind(tensor: &str) -> &'static str {
    let found = (OTHER_KINDS.iter()).find(|(part, _)| tensor.contains(part));
    found.map_or("other kinds of adapters are", |(_, kind)| kind)
}

fn tensor(view: &TensorView<'_>) -> Result<Tensor, String> {
    let kind = match view.dtype() {
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::F32 => Kind::Float,
        Dtype::F64 => Kind::Double,
        other => {
            return Err(format!(
                "its type is {other}; expected F16, BF16, F32 or F64"
            ));
        }
    };
    let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
    Ok(Tensor::from_data_size(view.data(), &shape, kind))
}
