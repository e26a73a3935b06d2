//! Reads the configs of a model's folder.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::folder::{bad, read_json};

/// A model's folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folder<'a> {
    pub(super) path: &'a Path,
    /// The model's name, for errors.
    pub(super) model: &'a str,
}

impl Folder<'_> {
    pub(super) fn json<T: DeserializeOwned>(self, file: &str) -> Result<T, Error> {
        read_json(self.path, self.model, file)
    }

    /// Reads a component's config, unless it has a setting that is not supported.
    pub(super) fn config<T: DeserializeOwned>(
        self,
        file: &str,
        check: fn(&Map<String, Value>) -> Result<(), String>,
    ) -> Result<T, Error> {
        let config: Map<String, Value> = self.json(file)?;
        check(&config).map_err(|message| self.bad(file, message))?;
        serde_json::from_value(Value::Object(config))
            .map_err(|e| self.bad(file, format!("invalid: {e}")).because(e))
    }

    pub(super) fn exists(self, file: &str) -> bool {
        self.path.join(file).exists()
    }

    pub(super) fn bad(self, file: &str, message: impl Into<String>) -> Error {
        bad(self.model, file, message)
    }
}
