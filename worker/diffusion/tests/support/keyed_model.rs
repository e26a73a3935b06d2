//! A model of tests/references: its folder there has no weights, which are computed instead.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::Tensor;
use warmq_diffusion::{Catalog, Device, Error, Manifest, Pipeline};

use super::{copy, keyed};

pub struct KeyedModel {
    models: tempfile::TempDir,
    name: &'static str,
}

impl KeyedModel {
    /// A copy of the references' folder, with weights.
    pub fn new(name: &'static str) -> KeyedModel {
        warmq_diffusion::set_threads(1);
        let models = tempfile::tempdir().unwrap();
        copy(&references().join(name), &models.path().join(name));
        let model = KeyedModel { models, name };
        model.write_weights(|_| true);
        model
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.models.path().join(self.name).join(file)
    }

    /// Writes the tensors that `exists` selects by name.
    pub fn write_weights(&self, exists: impl Fn(&str) -> bool) {
        let text = fs::read(self.path("tensors.json")).unwrap();
        let files: BTreeMap<String, BTreeMap<String, Vec<i64>>> =
            serde_json::from_slice(&text).unwrap();
        for (file, shapes) in files {
            let component = file.split('/').next().unwrap();
            let tensors: Vec<(&str, Tensor)> = shapes
                .iter()
                .filter(|(name, _)| exists(name))
                .map(|(name, shape)| (name.as_str(), tensor(&format!("{component}/{name}"), shape)))
                .collect();
            Tensor::write_safetensors(&tensors, self.path(&file)).unwrap();
        }
    }

    /// Changes a key of a config.
    pub fn edit(&self, file: &str, key: &str, value: Value) {
        let path = self.path(file);
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        config[key] = value;
        fs::write(path, config.to_string()).unwrap();
    }

    pub fn manifest(&self) -> Result<Manifest, Error> {
        Catalog::open(self.models.path())
            .unwrap()
            .manifest(self.name)
    }

    pub fn load(&self) -> Result<Pipeline, Error> {
        Pipeline::load(&self.manifest()?, &Device::Cpu, &mut |_| {})
    }
}

pub fn references() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/references")
}

pub fn tensor(key: &str, shape: &[i64]) -> Tensor {
    Tensor::from_slice(&keyed::numbers(key, shape)).view(shape)
}
