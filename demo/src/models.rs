//! The models that the demo needs, and how much memory is room for exactly two of them.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use warmq_common::config::ByteSize;

/// The parts of `manifest.json` that tell how much memory a model takes.
#[derive(Debug, Deserialize)]
struct Manifest {
    vram_bytes_estimate: Option<u64>,
    #[serde(default)]
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    path: String,
    bytes: u64,
}

impl Manifest {
    /// What the worker reckons with before a load: the manifest's estimate, or twice the stored weights.
    fn memory_bytes(&self) -> u64 {
        self.vram_bytes_estimate.unwrap_or_else(|| {
            let weights = self
                .files
                .iter()
                .filter(|file| file.path.ends_with(".safetensors"));
            weights.map(|file| file.bytes * 2).sum()
        })
    }
}

/// A budget that holds any two of `models` and never all three: 2.5 times the largest.
///
/// # Errors
/// A model is missing or its manifest can not be read.
pub fn room_for_two(folder: &Path, models: &[&str]) -> anyhow::Result<ByteSize> {
    let mut sizes = Vec::new();
    for model in models {
        let path = folder.join(model).join("manifest.json");
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{} can not be read: the demo runs in a checkout of warmq, or with --models and its models folder",
                path.display()
            )
        })?;
        let manifest: Manifest = serde_json::from_str(&text)
            .with_context(|| format!("{} is not as expected", path.display()))?;
        sizes.push(manifest.memory_bytes());
    }
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let budget = largest * 5 / 2;
    if budget == 0 || sizes.iter().sum::<u64>() <= budget {
        bail!(
            "the models differ too much in size for a memory budget that holds two of them: give --memory-budget"
        );
    }
    Ok(ByteSize(budget))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(manifests: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (model, manifest) in manifests {
            std::fs::create_dir(folder.path().join(model)).unwrap();
            std::fs::write(folder.path().join(model).join("manifest.json"), manifest).unwrap();
        }
        folder
    }

    #[test]
    fn two_fit_and_three_do_not() {
        let folder = folder(&[
            ("a", r#"{"vram_bytes_estimate": 1000, "family": "tiny"}"#),
            (
                "b",
                r#"{"files": [{"path": "unet/x.safetensors", "bytes": 450}, {"path": "x.json", "bytes": 9}]}"#,
            ),
            ("c", r#"{"vram_bytes_estimate": 800}"#),
        ]);
        let budget = room_for_two(folder.path(), &["a", "b", "c"]).unwrap();
        assert_eq!(budget, ByteSize(2500));
    }

    #[test]
    fn a_missing_model_is_named() {
        let folder = folder(&[]);
        let error = room_for_two(folder.path(), &["shapes"]).unwrap_err();
        assert!(
            error.to_string().contains("shapes/manifest.json"),
            "{error}"
        );
    }
}
