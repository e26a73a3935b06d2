//! The folder of LoRA files, which requests name.

use std::path::{Component, Path, PathBuf};

use warmq_types::job::JobError;

use super::input::{LORA_PATH, LORAS};

const EXTENSION: &str = "safetensors";

/// The folder; `None` if the worker has none.
#[derive(Debug)]
pub(super) struct LoraFolder(Option<PathBuf>);

impl LoraFolder {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self(folder)
    }

    /// Returns the file that a request names, with or without its extension.
    ///
    /// # Errors
    /// A 422 at `loras.<index>.path`; it lists the names that exist.
    pub(super) fn find(&self, index: usize, name: &str) -> Result<PathBuf, JobError> {
        let invalid = |message: String| {
            let path = [LORAS, &index.to_string(), LORA_PATH];
            Err(JobError::field(&path, "value_error", message))
        };
        let known = || match &self.0 {
            Some(folder) => format!("known: {}", names(folder)),
            None => "this worker has no folder of them (--loras)".to_owned(),
        };
        if is_repository(name) {
            return invalid(format!(
                "'{name}' is neither a file's name nor a URL; a repository of Hugging Face's hub \
                 is named by the URL of its file, \
                 https://huggingface.co/{name}/resolve/main/FILE.safetensors; {}",
                known()
            ));
        }
        if !is_file_name(name) {
            let known = known();
            return invalid(format!(
                "'{name}' is neither a file's name nor a URL; {known}"
            ));
        }
        let candidates = [name.to_owned(), format!("{name}.{EXTENSION}")];
        let mut paths =
            (self.0.iter()).flat_map(|folder| candidates.iter().map(|name| folder.join(name)));
        let is_lora =
            |path: &PathBuf| path.extension().is_some_and(|end| end == EXTENSION) && path.is_file();
        match paths.find(is_lora) {
            Some(path) => Ok(path),
            None => invalid(format!("'{name}' not found; {}", known())),
        }
    }
}

/// Returns whether a text names a file that is fetched, not one of the folder.
pub(super) fn is_url(text: &str) -> bool {
    text.contains(':')
}

/// Returns whether a text is the name of a repository of Hugging Face's hub: `owner/name`.
fn is_repository(text: &str) -> bool {
    let mut parts = text.split('/').map(is_file_name);
    matches!(
        (parts.next(), parts.next(), parts.next()),
        (Some(true), Some(true), None)
    )
}

fn is_file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
}

/// Returns the names of the files in the folder, sorted, in one line.
fn names(folder: &Path) -> String {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let mut names: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|end| end == EXTENSION))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_name_in_the_folder_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("comic.safetensors"), "").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "").unwrap();
        let loras = LoraFolder::new(Some(folder.path().to_owned()));
        for name in ["comic", "comic.safetensors"] {
            let path = loras.find(0, name).unwrap();
            assert_eq!(path, folder.path().join("comic.safetensors"));
        }
        for name in ["", "..", "../comic", "/etc/passwd", "a/b/c", "notes.txt"] {
            let error = loras.find(1, name).unwrap_err();
            assert_eq!(error.detail[0].loc, ["body", "loras", "1", "path"]);
            assert!(error.message.ends_with("known: comic"), "{error:?}");
        }
        let without = LoraFolder::new(None).find(0, "comic").unwrap_err();
        assert!(without.message.contains("--loras"), "{without:?}");
    }

    #[test]
    fn a_repository_is_answered_by_the_url_that_its_file_has() {
        let error = LoraFolder::new(None).find(0, "owner/name").unwrap_err();
        let url = "https://huggingface.co/owner/name/resolve/main/";
        assert!(error.message.contains(url), "{error:?}");
    }
}
