//! Pictures and other files of jobs, in object storage. Workers write them, routers serve them.
//!
//! Inputs and outputs name a file by its **reference**, `warmq://files/<key>`. The router replaces
//! references with links in responses, and links with references in inputs, so workers need no
//! address of a router. A submission can contain links only, so a worker may read whatever a
//! reference names.

mod inputs;
mod streams;

pub use inputs::InputError;
pub use streams::{FileWriter, StoredFile, WRITE_BUFFER_BYTES};

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use warmq_types::ids::{AppId, JobId};
use warmq_types::server_url::ServerUrl;

/// Prefix of every reference to a file.
pub const REFERENCE_PREFIX: &str = "warmq://files/";

/// Errors of the storage.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder is missing and cannot be created, or the URL is invalid.
    #[error("storage {url} cannot be opened: {reason}")]
    Open {
        /// The URL, without secrets.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The file exceeds the reader's limit.
    #[error("{bytes} bytes; at most {most} are read")]
    TooLarge {
        /// Size of the file, bytes.
        bytes: u64,
        /// The limit, bytes.
        most: usize,
    },
    /// A file differs from what was written.
    #[error("a file that was just written is read back as something else")]
    Altered,
    /// A read or write failed.
    #[error(transparent)]
    Store(#[from] object_store::Error),
}

/// Object storage for artifacts.
#[derive(Debug, Clone)]
pub struct Artifacts {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl Artifacts {
    /// Opens `file:///folder` (created if missing) or `s3://bucket/prefix` (credentials from the
    /// usual `AWS_*` variables).
    ///
    /// # Errors
    /// The folder cannot be created, or the URL is invalid.
    pub fn open(url: &ServerUrl) -> Result<Self, Error> {
        let fail = |reason: String| Error::Open {
            url: url.to_string(),
            reason,
        };
        if url.scheme() == "file" {
            let folder = url
                .as_url()
                .to_file_path()
                .map_err(|()| fail("file:///absolute/folder is expected".into()))?;
            std::fs::create_dir_all(&folder).map_err(|error| fail(error.to_string()))?;
        }
        let environment = std::env::vars().filter(|(name, _)| name.starts_with("AWS_"));
        let (store, root) = object_store::parse_url_opts(
            url.as_url(),
            environment.map(|(name, value)| (name.to_ascii_lowercase(), value)),
        )
        .map_err(|error| fail(error.to_string()))?;
        Ok(Self {
            store: store.into(),
            root,
        })
    }

    /// Writes a file of a job and returns its reference.
    ///
    /// # Errors
    /// The storage refuses.
    pub async fn put(
        &self,
        app: &AppId,
        job: JobId,
        file_name: &str,
        body: Bytes,
    ) -> Result<String, Error> {
        let key = format!("{app}/{job}/{file_name}");
        self.store.put(&self.path(&key), body.into()).await?;
        Ok(format!("{REFERENCE_PREFIX}{key}"))
    }

    /// Writes a file of `bytes` below an app's folder, reads it back and deletes it. `name`
    /// separates concurrent probes.
    ///
    /// # Errors
    /// The storage refuses the write or the read. A refused deletion is ignored: a few bytes remain
    /// until the next probe.
    pub async fn probe(&self, app: &AppId, name: &str, bytes: usize) -> Result<(), Error> {
        let path = self.path(&format!("{app}/probes/{name}"));
        // No run of equal bytes: some file systems store those as nothing.
        let body: Bytes = (0..bytes).map(|at| (at % 251) as u8).collect();
        self.store.put(&path, body.clone().into()).await?;
        let read = self.store.get(&path).await?.bytes().await?;
        if let Err(error) = self.store.delete(&path).await {
            tracing::debug!(%error, "a probe of the storage stays");
        }
        match read == body {
            true => Ok(()),
            false => Err(Error::Altered),
        }
    }

    /// Reads the file at `key`; `None` if it does not exist.
    ///
    /// # Errors
    /// The storage refuses.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        match self.store.get(&self.path(key)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a file of at most `most` bytes.
    ///
    /// # Errors
    /// The file is larger, or the storage refuses the read.
    pub async fn get_at_most(&self, key: &str, most: usize) -> Result<Option<Bytes>, Error> {
        match self.store.get(&self.path(key)).await {
            Ok(found) if found.meta.size > most as u64 => Err(Error::TooLarge {
                bytes: found.meta.size,
                most,
            }),
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// `Path::from` encodes what could leave the root (`..`, empty segments).
    fn path(&self, key: &str) -> Path {
        let parts = self.root.parts().chain(
            key.split('/')
                .map(|part| object_store::path::PathPart::from(part.to_owned())),
        );
        parts.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_can_not_climb_out_of_the_folder() {
        let folder = std::env::temp_dir().join(format!("warmq-artifacts-{}", JobId::generate()));
        std::fs::create_dir_all(folder.join("inside")).unwrap();
        std::fs::write(folder.join("secret"), "s").unwrap();
        let url = format!("file://{}", folder.join("inside").display());
        let artifacts = Artifacts::open(&url.parse().unwrap()).unwrap();
        let app = AppId::parse("a/b").unwrap();
        let job = JobId::generate();
        let reference = artifacts
            .put(&app, job, "0.png", Bytes::from_static(b"png"))
            .await
            .unwrap();
        let key = reference.strip_prefix(REFERENCE_PREFIX).unwrap();
        assert_eq!(artifacts.get(key).await.unwrap().unwrap(), "png");
        let read = artifacts.get_at_most(key, 3).await;
        assert_eq!(read.unwrap().unwrap(), "png");
        let refused = artifacts.get_at_most(key, 2).await.unwrap_err();
        assert_eq!(refused.to_string(), "3 bytes; at most 2 are read");
        artifacts.probe(&app, "r", 1000).await.unwrap();
        assert!(artifacts.get("a/b/probes/r").await.unwrap().is_none());
        for hostile in ["../secret", "a/../../secret", "/../secret", "..%2fsecret"] {
            assert!(artifacts.get(hostile).await.unwrap().is_none(), "{hostile}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
