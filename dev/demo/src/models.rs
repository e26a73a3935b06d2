//! Computes a memory budget for exactly two of the demo's models.

use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;
use warmq_config::ByteSize;

/// The parts of `manifest.json` that determine a model's memory.
#[derive(Debug, Deserialize)]
struct Manifest {
    vram_bytes_estimate: Option<u64>,
    dtype: String,
    #[serde(default)]
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    path: String,
    bytes: u64,
}

/// A model's sizes as workers compute them, bytes.
#[derive(Debug, Clone, Copy)]
struct Size {
    /// Free memory that a load requires: the model and one picture.
    needed: u64,
    /// Memory after the load: the weights.
    held: u64,
}

impl Manifest {
    fn size(&self, device: &str) -> Size {
        let weights = self
            .files
            .iter()
            .filter(|file| file.path.ends_with(".safetensors"));
        let stored: u64 = weights.map(|file| file.bytes).sum();
        // A CPU computes in single precision, a GPU in the stored one.
        let widened = if self.dtype == "f32" {
            stored
        } else {
            stored * 2
        };
        let held = if device == "cpu" { widened } else { stored };
        Size {
            needed: self.vram_bytes_estimate.unwrap_or(widened).max(held),
            held,
        }
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
        sizes.push(manifest.size(device));
    }
    let most = |of: fn(&Size) -> u64| sizes.iter().map(of).max().unwrap_or(0);
    let least = |of: fn(&Size) -> u64| sizes.iter().map(of).min().unwrap_or(0);
    // Any second model fits beside any first; no third fits beside any two.
    let enough = most(|size| size.held) + most(|size| size.needed);
    let too_much = 2 * least(|size| size.held) + least(|size| size.needed);
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

    /// Creates a folder with models of these estimates (0: none) and weights, in half precision.
    fn folder(models: &[(&str, u64, u64)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (model, estimate, weights) in models {
            let mut manifest = serde_json::json!({
                "family": "tiny", "dtype": "f16",
                "files": [{"path": "unet/x.safetensors", "bytes": weights}, {"path": "x.json", "bytes": 9}]
            });
            if *estimate > 0 {
                manifest["vram_bytes_estimate"] = (*estimate).into();
            }
            std::fs::create_dir(folder.path().join(model)).unwrap();
            let path = folder.path().join(model).join("manifest.json");
            std::fs::write(path, manifest.to_string()).unwrap();
        }
        folder
    }

    fn budget(models: &[(&str, u64, u64)], device: &str) -> anyhow::Result<u64> {
        let folder = folder(models);
        let names: Vec<&str> = models.iter().map(|model| model.0).collect();
        Ok(room_for_two(folder.path(), &names, device)?.0)
    }

    #[test]
    fn two_fit_and_a_third_does_not() {
        let models = [("a", 2800, 500), ("b", 2800, 520), ("c", 2800, 500)];
        // On a CPU a loaded model takes about 1000: beside one, 2800 must be free, beside two not.
        let on_cpu = budget(&models, "cpu").unwrap();
        assert!((3840..4800).contains(&on_cpu), "{on_cpu}");
        let on_gpu = budget(&models, "cuda:0").unwrap();
        assert!((3320..3800).contains(&on_gpu), "{on_gpu}");
    }

    #[test]
    fn without_an_estimate_the_widened_weights_count() {
        let models = [("a", 0, 100), ("b", 0, 100), ("c", 0, 100)];
        assert_eq!(budget(&models, "cpu").unwrap(), 500);
    }

    #[test]
    fn models_of_very_different_sizes_need_a_budget_by_hand() {
        let error = budget(&[("a", 0, 100), ("b", 0, 1000)], "cpu").unwrap_err();
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
