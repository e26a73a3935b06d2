//! The catalog: a folder with one folder per model.

use std::path::{Component, Path, PathBuf};

use crate::error::Error;
use crate::folder::bad;
use crate::hugging_face;
use crate::manifest::Manifest;
use crate::stamp::Stamp;
use crate::unsupported;

/// A folder with one folder per model, each with a `manifest.json` or in Hugging Face's diffusers
/// layout. Every call reads it anew, so that models added later are found.
#[derive(Debug, Clone)]
pub struct Catalog {
    folder: PathBuf,
}

impl Catalog {
    /// Opens a folder.
    ///
    /// # Errors
    /// [`Error::Catalog`] if the folder cannot be read.
    pub fn open(folder: &Path) -> Result<Catalog, Error> {
        match folder.read_dir() {
            Ok(_) => Ok(Catalog {
                folder: folder.to_owned(),
            }),
            Err(source) => Err(Error::Catalog {
                path: folder.to_owned(),
                source,
            }),
        }
    }

    /// Returns the names of the models in the folder, sorted. Their manifests and files are not
    /// checked.
    pub fn names(&self) -> Vec<String> {
        let entries = self.folder.read_dir().into_iter().flatten().flatten();
        let models = entries.filter(|entry| is_model(&entry.path()));
        let mut names: Vec<String> = models
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Checks that the folder can be read.
    ///
    /// # Errors
    /// [`Error::Catalog`] if it cannot.
    pub fn check(&self) -> Result<(), Error> {
        Self::open(&self.folder).map(drop)
    }

    /// Returns the names of the folders that cannot be read, sorted: there may be a model inside.
    pub fn unreadable(&self) -> Vec<String> {
        let entries = self.folder.read_dir().into_iter().flatten().flatten();
        let closed =
            entries.filter(|entry| entry.path().is_dir() && entry.path().read_dir().is_err());
        let mut names: Vec<String> = closed
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Returns an error for each entry that is not a model, but contains weights in an unsupported
    /// format, sorted by name.
    pub fn unsupported(&self) -> Vec<Error> {
        let entries = self.folder.read_dir().into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| !is_model(path));
        paths.sort();
        paths
            .iter()
            .filter_map(|path| unsupported_weights(path))
            .collect()
    }

    /// Returns the identity of a model's files, which changes whenever they do.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if it does not exist, or `name` is a path.
    pub fn stamp(&self, name: &str) -> Result<Stamp, Error> {
        Ok(Stamp::of(&self.model_folder(name)?))
    }

    /// Returns a model's manifest.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if it does not exist, or `name` is a path; [`Error::BadCheckpoint`]
    /// if its manifest is invalid.
    pub fn manifest(&self, name: &str) -> Result<Manifest, Error> {
        Manifest::read(&self.model_folder(name)?, name)
    }

    fn model_folder(&self, name: &str) -> Result<PathBuf, Error> {
        let folder = self.folder.join(name);
        match is_printable(name) && is_model(&folder) {
            true => Ok(folder),
            false => Err(Error::UnknownModel {
                name: name.to_owned(),
                known: self.names(),
            }),
        }
    }
}

fn is_model(folder: &Path) -> bool {
    folder.join("manifest.json").is_file() || folder.join(hugging_face::INDEX).is_file()
}

/// Returns the error of a file of weights, or of a folder of them, in an unsupported format.
fn unsupported_weights(path: &Path) -> Option<Error> {
    let entries = path.read_dir().into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files.insert(0, path.to_owned());
    files.iter().filter(|file| file.is_file()).find_map(|file| {
        let message = unsupported::weights_message(file)?;
        let model = path.file_stem()?.to_string_lossy();
        Some(bad(&model, &file.file_name()?.to_string_lossy(), message))
    })
}

fn is_printable(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && !name.contains(['\\', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_path_in_it_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        std::fs::write(folder.path().join("manifest.json"), "{}").unwrap();
        for name in [
            "", ".", "..", "../x", "a/b", "/", "a/", "./a", "a\\b", "a\0b",
        ] {
            assert!(
                matches!(catalog.manifest(name), Err(Error::UnknownModel { .. })),
                "{name:?}"
            );
        }
    }

    #[test]
    fn weights_in_unsupported_formats_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("old")).unwrap();
        for file in ["flux-Q4.gguf", "old/v1-5.ckpt", "README.md"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        let errors = catalog.unsupported();
        let errors: Vec<String> = errors.iter().map(Error::to_string).collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].starts_with("model \"flux-Q4\", flux-Q4.gguf: GGUF"));
        assert!(errors[1].starts_with("model \"old\", v1-5.ckpt: pickled"));
        assert!(catalog.names().is_empty());
    }

    #[test]
    fn a_model_dropped_in_later_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        assert!(catalog.names().is_empty());
        for name in ["zebra", "ant"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
            std::fs::write(folder.path().join(name).join("manifest.json"), "{}").unwrap();
        }
        std::fs::create_dir(folder.path().join("not-a-model")).unwrap();
        assert_eq!(catalog.names(), ["ant", "zebra"]);
        assert!(
            matches!(catalog.manifest("ant"), Err(Error::BadCheckpoint { file, .. }) if file == "manifest.json")
        );
        let unknown = catalog.manifest("bee").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "unknown model \"bee\"; known: ant, zebra"
        );
    }
}
