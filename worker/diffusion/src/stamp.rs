//! Detects changes of a model's files by a few `stat` calls, without reading them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::hugging_face;
use crate::manifest::{FILE, TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS};

/// Configs other than the manifest that determine what is loaded.
const CONFIGS: [&str; 4] = [
    "text_encoder/config.json",
    "unet/config.json",
    "vae/config.json",
    "scheduler/scheduler_config.json",
];

/// Identity of a model's files: inode, length and modification time of each that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<Option<(u64, u64, i64, i64)>>);

impl Stamp {
    pub(crate) fn of(folder: &Path) -> Self {
        let weights = [TEXT_WEIGHTS, UNET_WEIGHTS, VAE_WEIGHTS]
            .into_iter()
            .flat_map(|stem| {
                ["safetensors", "fp16.safetensors"].map(|end| format!("{stem}.{end}"))
            });
        let texts = [FILE, hugging_face::INDEX].into_iter().chain(CONFIGS);
        let files = texts.map(str::to_owned).chain(weights);
        Self(files.map(|file| identity(&folder.join(file))).collect())
    }
}

fn identity(file: &Path) -> Option<(u64, u64, i64, i64)> {
    let found = fs::metadata(file).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_any_file_of_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = || Stamp::of(folder.path());
        let mut stamps = vec![stamp()];
        fs::create_dir(folder.path().join("unet")).unwrap();
        let weights = folder.path().join(format!("{UNET_WEIGHTS}.safetensors"));
        for (file, content) in [
            (folder.path().join(FILE), "{}"),
            (weights.clone(), "old"),
            (weights, "new!"),
            (folder.path().join(CONFIGS[1]), "{}"),
        ] {
            fs::write(file, content).unwrap();
            assert_eq!(stamp(), stamp());
            stamps.push(stamp());
        }
        stamps.dedup();
        assert_eq!(stamps.len(), 5);
    }
}
