//! The folders of the parts that a single file lacks.

use std::collections::BTreeMap;
use std::path::Path;

/// Parts that all files of a family can share: in the models folder, or in the model's own folder.
pub(super) const SHARED: [&str; 5] = [
    TOKENIZER,
    "tokenizer_2",
    "text_encoder",
    "text_encoder_2",
    "vae",
];

/// Configs of a model: in its own folder.
pub(super) const OWN: [&str; 2] = ["transformer", "scheduler"];

/// Folder of CLIP's vocabulary.
pub(super) const TOKENIZER: &str = "tokenizer";

/// Folders relative to the models folder, by their names in diffusers' layout.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct PartFolders(BTreeMap<&'static str, String>);

impl PartFolders {
    /// Finds the folders that exist for a model.
    pub(super) fn find(models: &Path, model: &str) -> Self {
        let own = |part: &str| format!("{model}/{part}");
        let shared = SHARED.map(|part| (part, vec![own(part), part.to_owned()]));
        let parts = shared
            .into_iter()
            .chain(OWN.map(|part| (part, vec![own(part)])));
        let found = parts.filter_map(|(part, candidates)| {
            let mut candidates = candidates.into_iter();
            let folder = candidates.find(|folder| models.join(folder).is_dir())?;
            Some((part, folder))
        });
        Self(found.collect())
    }

    /// Returns the folders of the parts that `is_read` selects.
    pub(super) fn only(mut self, is_read: impl Fn(&str) -> bool) -> Self {
        self.0.retain(|part, _| is_read(part));
        self
    }

    /// Uses the folder of `part` for another part as well.
    pub(super) fn share(&mut self, part: &str, with: &'static str) {
        if let Some(folder) = self.0.get(part).cloned() {
            self.0.insert(with, folder);
        }
    }

    pub(crate) fn have(&self, part: &str) -> bool {
        self.0.contains_key(part)
    }

    /// Returns where a file of diffusers' layout is, e.g. `vae/config.json`.
    pub(crate) fn located(&self, file: &str) -> String {
        let (part, rest) = file.split_once('/').unwrap_or((file, ""));
        match (self.0.get(part), rest) {
            (None, _) => file.to_owned(),
            (Some(folder), "") => folder.clone(),
            (Some(folder), rest) => format!("{folder}/{rest}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_models_own_folder_is_preferred_and_configs_are_never_shared() {
        let models = tempfile::tempdir().unwrap();
        for folder in ["tokenizer", "vae", "a/vae", "scheduler", "b/scheduler"] {
            std::fs::create_dir_all(models.path().join(folder)).unwrap();
        }
        let [a, b] = ["a", "b"].map(|model| PartFolders::find(models.path(), model));
        assert_eq!(a.located("vae/config.json"), "a/vae/config.json");
        assert_eq!(b.located("vae/config.json"), "vae/config.json");
        assert_eq!(a.located("tokenizer"), "tokenizer");
        assert!(!a.have("scheduler") && b.have("scheduler"));
        assert_eq!(a.located("unet/config.json"), "unet/config.json");
        let mut tokenizers = a.only(|part| part == TOKENIZER);
        tokenizers.share(TOKENIZER, "tokenizer_2");
        assert_eq!(tokenizers.located("tokenizer_2/x"), "tokenizer/x");
        assert!(!tokenizers.have("vae"));
    }
}
