//! The catalog: a folder with one folder per model.

use std::path::{Component, Path, PathBuf};

use crate::error::Error;
use crate::hugging_face;
use crate::manifest::Manifest;
use crate::stamp::Stamp;

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
