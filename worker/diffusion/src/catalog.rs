//! The catalog: a folder with one folder per model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::folder::bad;
use crate::manifest::Manifest;
use crate::model_paths::{Candidate, candidates, find, is_model};
use crate::stamp::Stamp;
use crate::unsupported;

/// A folder with one folder per model, each with a `manifest.json` or in Hugging Face's diffusers
/// layout. An owner's folder of such folders, the cache of Hugging Face's hub, and single
/// safetensors files in the original layout are read as well. Every call reads it anew, so that
/// models added later are found.
#[derive(Clone)]
pub struct Catalog {
    folder: PathBuf,
    is_offered: Arc<dyn Fn(&str) -> bool + Send + Sync>,
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
                is_offered: Arc::new(|_| true),
            }),
            Err(source) => Err(Error::Catalog {
                path: folder.to_owned(),
                source,
            }),
        }
    }

    /// Hides the models whose names `is_offered` rejects, as if the folder did not contain them.
    #[must_use]
    pub fn restricted(self, is_offered: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self {
            is_offered: Arc::new(is_offered),
            ..self
        }
    }

    /// Returns the names of the models in the folder, sorted. Their manifests and files are not
    /// checked.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.names_of(is_model);
        names.retain(|name| (self.is_offered)(name));
        names.dedup();
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
        self.names_of(|path| path.is_dir() && path.read_dir().is_err())
    }

    /// Returns an error for each entry that is not a model, but contains weights in an unsupported
    /// format, sorted by name.
    pub fn unsupported(&self) -> Vec<Error> {
        let mut candidates = candidates(&self.folder);
        candidates.retain(|candidate| !is_model(&candidate.path));
        candidates.iter().filter_map(unsupported_weights).collect()
    }

    /// Returns the names of the places in the folder that `is_meant` selects, sorted.
    fn names_of(&self, is_meant: impl Fn(&Path) -> bool) -> Vec<String> {
        let candidates = candidates(&self.folder).into_iter();
        let meant = candidates.filter(|candidate| is_meant(&candidate.path));
        meant.map(|candidate| candidate.name).collect()
    }

    /// Returns the identity of a model's files, which changes whenever they do.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if it does not exist, or `name` is a path.
    pub fn stamp(&self, name: &str) -> Result<Stamp, Error> {
        Ok(Stamp::of(&self.model_path(name)?))
    }

    /// Returns a model's manifest.
    ///
    /// # Errors
    /// [`Error::UnknownModel`] if it does not exist, or `name` is a path; [`Error::BadCheckpoint`]
    /// if its manifest is invalid.
    pub fn manifest(&self, name: &str) -> Result<Manifest, Error> {
        Manifest::read(&self.model_path(name)?, name)
    }

    fn model_path(&self, name: &str) -> Result<PathBuf, Error> {
        let path = find(&self.folder, name).filter(|_| (self.is_offered)(name));
        path.ok_or_else(|| Error::UnknownModel {
            name: name.to_owned(),
            known: self.names(),
        })
    }
}

/// Returns the error of a file of weights, or of a folder of them, in an unsupported format.
fn unsupported_weights(Candidate { name, path }: &Candidate) -> Option<Error> {
    let entries = path.read_dir().into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files.insert(0, path.to_owned());
    files.iter().filter(|file| file.is_file()).find_map(|file| {
        let message = unsupported::weights_message(file)?;
        let model = match path.is_dir() {
            true => name.into(),
            false => path.file_stem()?.to_string_lossy(),
        };
        Some(bad(&model, &file.file_name()?.to_string_lossy(), message))
    })
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
