//! Reads the configs of a model's folder.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::keys;
use crate::error::Error;
use crate::folder::{bad, read_json};
use crate::single_file::PartFolders;

/// A model's folder, or the folders of the parts that its single file lacks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Folder<'a> {
    pub(crate) path: &'a Path,
    /// The model's name, for errors.
    pub(crate) model: &'a str,
    /// Where parts are that are not below `path` under their names.
    pub(crate) parts: Option<&'a PartFolders>,
}

impl Folder<'_> {
    pub(super) fn json<T: DeserializeOwned>(self, file: &str) -> Result<T, Error> {
        read_json(self.path, self.model, &self.located(file))
    }

    /// Reads a component's config, unless it has a setting that is not supported.
    pub(super) fn config<T: DeserializeOwned>(
        self,
        file: &str,
        check: fn(&Map<String, Value>) -> Result<(), String>,
    ) -> Result<T, Error> {
        let config: Map<String, Value> = self.json(file)?;
        check(&config).map_err(|message| self.bad(file, message))?;
        keys::parsed(&config).map_err(|message| self.bad(file, message))
    }

    pub(super) fn exists(self, file: &str) -> bool {
        self.path.join(self.located(file)).exists()
    }

    pub(super) fn bad(self, file: &str, message: impl Into<String>) -> Error {
        bad(self.model, &self.located(file), message)
    }

    fn located(self, file: &str) -> String {
        (self.parts).map_or_else(|| file.to_owned(), |parts| parts.located(file))
    }
}
