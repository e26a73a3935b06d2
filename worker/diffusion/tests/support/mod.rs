//! Shared by the tests: the models' folder, and a generator of small models.

#![allow(dead_code, reason = "each test file uses its own part of this")]

pub mod keyed;
pub mod keyed_model;
pub mod reference;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use warmq_diffusion::{
    Catalog, Device, Error, Manifest, Pipeline, SchedulerKind, write_random_weights,
};

/// The repository's models, or another folder of the same shape.
pub fn models() -> PathBuf {
    let shipped = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models"));
    std::env::var_os("WARMQ_MODELS").map_or_else(shipped, PathBuf::from)
}

/// A shipped model on the CPU, on one thread as the worker runs it.
pub fn load(name: &str) -> Pipeline {
    warmq_diffusion::set_threads(1);
    let manifest = Catalog::open(&models()).unwrap().manifest(name).unwrap();
    Pipeline::load(&manifest, &Device::Cpu, &mut |_| {}).unwrap()
}

/// The schedulers of models with a UNet.
pub fn schedulers_of_unets() -> Vec<SchedulerKind> {
    let all = SchedulerKind::ALL.into_iter();
    all.filter(|kind| !kind.needs_flow()).collect()
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)
        } else {
            fs::copy(from, to).map(drop).unwrap()
        }
    }
}

/// A models folder with one model, of minimal widths and random weights.
pub struct SmallModel {
    models: tempfile::TempDir,
}

pub const NAME: &str = "small";
pub const TEXT: &str = "text_encoder/model.safetensors";
pub const UNET: &str = "unet/diffusion_pytorch_model.safetensors";
pub const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

impl SmallModel {
    pub fn new() -> SmallModel {
        SmallModel::with(|_| {})
    }

    /// With a manifest that is changed before the weights are generated.
    pub fn with(change: impl FnOnce(&mut Value)) -> SmallModel {
        warmq_diffusion::set_threads(1);
        let model = SmallModel {
            models: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(model.path("tokenizer")).unwrap();
        model.edit_manifest(|manifest| {
            *manifest = small_manifest();
            change(manifest);
        });
        write_tokenizer(&model.path("tokenizer"));
        write_random_weights(&model.manifest().unwrap(), VOCABULARY, 1).unwrap();
        model
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.models.path().join(NAME).join(file)
    }

    pub fn manifest(&self) -> Result<Manifest, Error> {
        Catalog::open(self.models.path()).unwrap().manifest(NAME)
    }

    pub fn load(&self) -> Result<Pipeline, Error> {
        Pipeline::load(&self.manifest()?, &Device::Cpu, &mut |_| {})
    }

    /// Replaces the tokenizer by that of another model.
    pub fn use_tokenizer(&self, folder: &Path) {
        for file in ["vocab.json", "merges.txt"] {
            fs::copy(folder.join(file), self.path("tokenizer").join(file)).unwrap();
        }
    }

    pub fn edit_manifest(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path("manifest.json");
        let mut manifest =
            fs::read(&path).map_or(Value::Null, |text| serde_json::from_slice(&text).unwrap());
        change(&mut manifest);
        fs::write(path, manifest.to_string()).unwrap();
    }

    /// Rewrites the bytes of a file.
    pub fn edit_file(&self, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.path(file)).unwrap();
        change(&mut bytes);
        fs::write(self.path(file), bytes).unwrap();
    }

    /// Rewrites the header of a safetensors file, leaving the data as it is.
    pub fn edit_header(&self, file: &str, change: impl FnOnce(&mut Value)) {
        self.edit_file(file, |bytes| {
            let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
            let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
            change(&mut header);
            let header = header.to_string();
            let data = bytes.split_off(8 + length);
            *bytes = [
                &(header.len() as u64).to_le_bytes(),
                header.as_bytes(),
                &data,
            ]
            .concat();
        });
    }
}

/// Rows for 256 byte symbols, the same at a word's end, the two ends of a prompt, and a few spare
/// ones.
const VOCABULARY: i64 = 1024;

fn write_tokenizer(folder: &Path) {
    let printable = (33..=126).chain(161..=172).chain(174..=255);
    let symbols: Vec<char> = printable
        .chain(256..324)
        .filter_map(char::from_u32)
        .collect();
    let ends = ["<|startoftext|>", "<|endoftext|>"].map(String::from);
    let words = symbols
        .iter()
        .map(char::to_string)
        .chain(symbols.iter().map(|c| format!("{c}</w>")))
        .chain(ends);
    let vocabulary: BTreeMap<String, usize> = words.zip(0..).collect();
    fs::write(
        folder.join("vocab.json"),
        serde_json::to_string(&vocabulary).unwrap(),
    )
    .unwrap();
    fs::write(folder.join("merges.txt"), "#version: 0.2\n").unwrap();
}

fn small_manifest() -> Value {
    json!({
        "schema": 1, "name": NAME, "revision": "1", "license": "CC0-1.0", "family": "tiny", "dtype": "f32",
        "image": {"default": 16, "min": 16, "max": 32, "multiple_of": 8},
        "tokenizer": {"kind": "clip-bpe", "context": 8, "pad": "<|endoftext|>"},
        "text": {
            "hidden_size": 8, "layers": 1, "heads": 2, "intermediate_size": 16, "activation": "quick_gelu"
        },
        "unet": {
            "block_out_channels": [32, 32], "attention_blocks": [true, false], "layers_per_block": 1,
            "heads": 2, "cross_attention_dim": 8, "use_linear_projection": false
        },
        "vae": {
            "block_out_channels": [4, 4, 4, 4], "layers_per_block": 1, "norm_groups": 2,
            "latent_channels": 4, "scaling_factor": 0.5
        },
        "scheduler": {
            "allowed": ["ddim", "euler"], "default": "ddim", "prediction_type": "epsilon",
            "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1
        },
        "defaults": {"steps": 4, "guidance": 2.0}
    })
}
