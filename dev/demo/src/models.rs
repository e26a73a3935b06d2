//! Computes a memory budget for exactly two of the demo's models.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use warmq_config::ByteSize;

/// The parts of `manifest.json` that determine a model's memory.
#[derive(Debug, Deserialize)]
struct Manifest {
    dtype: String,
    #[serde(default)]
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    path: String,
    bytes: u64,
}

impl Manifest {
    /// Returns the size of the loaded weights, bytes, but for the files' headers.
    fn bytes(&self, device: &str) -> u64 {
        let weights = self
            .files
            .iter()
            .filter(|file| file.path.ends_with(".safetensors"));
        // A CPU computes in single precision; a GPU in half, except for the autoencoder.
        let in_memory = weights.map(|file| {
            let is_single = device == "cpu" || file.path.starts_with("vae/");
            match (self.dtype == "f32", is_single) {
                (false, true) => file.bytes * 2,
                (true, false) => file.bytes / 2,
                (true, true) | (false, false) => file.bytes,
            }
        });
        in_memory.sum()
    }
}

/// Returns a budget that holds any two of `models`, but not all three.
///
/// # Errors
/// A model is missing, its manifest cannot be read, or the sizes differ too much.
pub fn room_for_two(folder: &Path, models: &[&str], device: &str) -> anyhow::Result<ByteSize> {
    let mut sizes = Vec::new();
    for model in models {
        let path = folder.join(model).join("manifest.json");
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{} cannot be read: run the demo in a checkout of warmq, or set --models",
                path.display()
            )
        })?;
        let manifest: Manifest = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a valid manifest", path.display()))?;
        sizes.push(manifest.bytes(device));
    }
    // Any two models fit together, and no three.
    let enough = 2 * sizes.iter().max().copied().unwrap_or(0);
    let too_much = 3 * sizes.iter().min().copied().unwrap_or(0);
    if enough >= too_much {
        bail!(
            "the models differ too much in size for a budget that holds two of them: set --memory-budget"
        );
    }
    Ok(ByteSize(enough.midpoint(too_much)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Creates a folder with models of these weights, in half precision.
    fn folder(models: &[(&str, u64)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (model, weights) in models {
            let manifest = serde_json::json!({
                "family": "tiny", "dtype": "f16",
                "files": [{"path": "unet/x.safetensors", "bytes": weights}, {"path": "x.json", "bytes": 9}]
            });
            std::fs::create_dir(folder.path().join(model)).unwrap();
            let path = folder.path().join(model).join("manifest.json");
            std::fs::write(path, manifest.to_string()).unwrap();
        }
        folder
    }

    fn budget(models: &[(&str, u64)], device: &str) -> anyhow::Result<u64> {
        let folder = folder(models);
        let names: Vec<&str> = models.iter().map(|model| model.0).collect();
        Ok(room_for_two(folder.path(), &names, device)?.0)
    }

    #[test]
    fn two_fit_and_a_third_does_not() {
        // On a CPU they take twice as much.
        let models = [("a", 500), ("b", 520), ("c", 500)];
        assert_eq!(budget(&models, "cpu").unwrap(), (2080 + 3000) / 2);
        assert_eq!(budget(&models, "cuda:0").unwrap(), (1040 + 1500) / 2);
    }

    #[test]
    fn models_of_very_different_sizes_need_a_budget_by_hand() {
        let error = budget(&[("a", 100), ("b", 1000)], "cpu").unwrap_err();
        assert!(error.to_string().contains("--memory-budget"), "{error}");
    }

    #[test]
    fn a_missing_model_is_named() {
        let folder = folder(&[]);
        let error = room_for_two(folder.path(), &["shapes"], "cpu").unwrap_err();
        assert!(
            error.to_string().contains("shapes/manifest.json"),
            "{error}"
        );
    }
}
