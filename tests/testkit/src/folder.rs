//! A testbed's folder: logs, stored pictures, and the configuration of its processes.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::error::Error;

/// The folder; a temporary one is deleted with the testbed, unless a test failed, for its logs.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Folder {
    pub(crate) fn temporary() -> Result<Self, Error> {
        let temporary = tempfile::Builder::new()
            .prefix("warmq-")
            .tempdir()
            .map_err(Error::io("a temporary folder"))?;
        Ok(Self {
            path: temporary.path().to_owned(),
            temporary: Some(temporary),
        })
    }

    /// Uses `path`, and creates it if missing.
    pub(crate) fn given(path: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(path)
            .and_then(|()| path.canonicalize())
            .map(|path| Self {
                path,
                temporary: None,
            })
            .map_err(Error::io(format!("folder {}", path.display())))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(temporary) = self.temporary.take()
        {
            eprintln!("the logs are kept in {}", temporary.keep().display());
        }
    }
}
