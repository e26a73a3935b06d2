//! The folder of LoRA files, which requests name.

use std::path::{Component, Path, PathBuf};

use warmq_diffusion::Lora;
use warmq_types::job::JobError;

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
    pub(super) fn find(&self, index: usize, name: &str, scale: f64) -> Result<Lora, JobError> {
        let invalid = |message: String| {
            let index = index.to_string();
            Err(JobError::field(
                &["loras", &index, "path"],
                "value_error",
                message,
            ))
        };
        let Some(folder) = &self.0 else {
            let message = "this worker has no LoRA files: start it with --loras FOLDER";
            return invalid(message.to_owned());
        };
        if !is_file_name(name) {
            return invalid(format!(
                "'{name}' is not a file's name: URLs and other folders are not supported; known: {}",
                names(folder)
            ));
        }
        let candidates = [name.to_owned(), format!("{name}.{EXTENSION}")];
        let mut paths = candidates.iter().map(|name| folder.join(name));
        let is_lora =
            |path: &PathBuf| path.extension().is_some_and(|end| end == EXTENSION) && path.is_file();
        match paths.find(is_lora) {
            Some(path) => Ok(Lora { path, scale }),
            None => invalid(format!("'{name}' not found; known: {}", names(folder))),
        }
    }
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
            let lora = loras.find(0, name, 0.5).unwrap();
            assert_eq!(lora.path, folder.path().join("comic.safetensors"));
            assert_eq!(lora.scale, 0.5);
        }
        for name in [
            "",
            "..",
            "../comic",
            "/etc/passwd",
            "a/b",
            "notes.txt",
            "https://a.b/c",
        ] {
            let error = loras.find(1, name, 1.0).unwrap_err();
            assert_eq!(error.detail[0].loc, ["body", "loras", "1", "path"]);
            assert!(error.message.ends_with("known: comic"), "{error:?}");
        }
        let without = LoraFolder::new(None).find(0, "comic", 1.0).unwrap_err();
        assert!(without.message.contains("--loras"), "{without:?}");
    }
}
