//! The weights files of a component: one safetensors file, or several behind an index.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::error::Error;
use crate::folder::{read_json, stays_inside};
use crate::manifest::Manifest;
use crate::single_file::Component;
use crate::unsupported;

/// What a file name may have between its stem and `safetensors`, in order of preference.
const VARIANTS: [&str; 3] = ["", ".fp16", ".bf16"];

/// Files relative to the model's folder.
#[derive(Debug)]
pub(crate) struct WeightFiles {
    names: Vec<String>,
    /// The component's part of a single file.
    component: Option<Component>,
}

/// Hugging Face's index of the files of a component.
#[derive(Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    /// Finds the files of a component, e.g. of `unet/diffusion_pytorch_model`.
    ///
    /// # Errors
    /// There are none, or the index is damaged.
    pub(crate) fn find(manifest: &Manifest, stem: &str) -> Result<Self, Error> {
        let component = Component::of(manifest, stem);
        if let Some(file) = manifest
            .single_file
            .as_ref()
            .filter(|_| component.is_some())
        {
            return Ok(Self {
                names: vec![file.name.clone()],
                component,
            });
        }
        let stem = &manifest.located(stem);
        let exists = |name: &str| manifest.folder().join(name).is_file();
        for variant in VARIANTS {
            let single = format!("{stem}{variant}.safetensors");
            if exists(&single) {
                return Ok(Self::of_folder(vec![single]));
            }
            let index = format!("{stem}.safetensors.index{variant}.json");
            if exists(&index) {
                return Ok(Self::of_folder(indexed(manifest, stem, &index)?));
            }
        }
        let missing = format!("{stem}.safetensors");
        let other = ["bin", "ckpt", "gguf"].map(|end| format!("{stem}.{end}"));
        let other = other.iter().find(|name| exists(name));
        let reason = other.and_then(|name| unsupported::weights_message(Path::new(name)));
        let message = match other.zip(reason) {
            Some((other, reason)) => format!("missing; {other} exists, but {reason}"),
            None => "missing".to_owned(),
        };
        Err(manifest.bad(&missing, message))
    }

    fn of_folder(names: Vec<String>) -> Self {
        Self {
            names,
            component: None,
        }
    }

    /// Returns the component's part of the only file, if all components share it.
    pub(crate) fn component(&self) -> Option<&Component> {
        self.component.as_ref()
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

fn indexed(manifest: &Manifest, stem: &str, index: &str) -> Result<Vec<String>, Error> {
    let Index { weight_map } = read_json(manifest.folder(), &manifest.name, index)?;
    let files: BTreeSet<String> = weight_map.into_values().collect();
    if files.is_empty() {
        return Err(manifest.bad(index, "lists no file"));
    }
    if let Some(outside) = files.iter().find(|file| !stays_inside(file)) {
        return Err(manifest.bad(index, format!("{outside:?} leads out of the folder")));
    }
    let folder = stem.rsplit_once('/').map_or("", |(folder, _)| folder);
    Ok(files
        .iter()
        .map(|file| format!("{folder}/{file}"))
        .collect())
}
