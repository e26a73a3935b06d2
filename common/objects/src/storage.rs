//! The storage: files by key, files of jobs, stored inputs.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::{Path, PathPart};
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::StoredInput;
use warmq_types::server_url::ServerUrl;

use crate::error::{Error, InputError};
use crate::streams::{FileWriter, StoredFile};

/// Prefix of every reference to a file.
pub const REFERENCE_PREFIX: &str = "warmq://files/";

/// Folder of stored inputs. Neither URLs nor references lead there, since no part of a file's key
/// begins with a dot.
const INPUTS_FOLDER: &str = ".inputs";

/// A stored file in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Key.
    pub key: String,
    /// Size, bytes.
    pub bytes: u64,
    /// Time of the last write.
    pub modified: SystemTime,
}

/// Object storage for the files of jobs, uploads and stored inputs.
#[derive(Debug, Clone)]
pub struct ObjectStorage {
    store: Arc<dyn ObjectStore>,
    root: Path,
}

impl ObjectStorage {
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
                .map_err(|()| fail("expected file:///absolute/folder".into()))?;
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
    pub async fn put(
        &self,
        app: &AppId,
        job: JobId,
        file_name: &str,
        body: Bytes,
    ) -> Result<String, Error> {
        let key = format!("{app}/{job}/{file_name}");
        self.put_at(&key, body).await?;
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
            tracing::debug!(%error, "could not delete a probe file");
        }
        match read == body {
            true => Ok(()),
            false => Err(Error::Altered),
        }
    }

    /// Reads the file at `key`; `None` if it does not exist.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        self.get_at_most(key, usize::MAX).await
    }

    /// Reads a file of at most `most` bytes; `None` if it does not exist.
    ///
    /// # Errors
    /// The file is larger, or the storage refuses the read.
    pub async fn get_at_most(&self, key: &str, most: usize) -> Result<Option<Bytes>, Error> {
        let Some(found) = if_found(self.store.get(&self.path(key)).await)? else {
            return Ok(None);
        };
        let bytes = found.meta.size;
        match bytes > most as u64 {
            true => Err(Error::TooLarge { bytes, most }),
            false => Ok(Some(found.bytes().await?)),
        }
    }

    /// Opens the file at `key`; `None` if it does not exist.
    pub async fn read(&self, key: &str) -> Result<Option<StoredFile>, Error> {
        let found = if_found(self.store.get(&self.path(key)).await)?;
        Ok(found.map(|found| StoredFile {
            size_bytes: found.meta.size,
            tag: tag(found.meta.e_tag.as_deref(), found.meta.size),
            body: found.into_stream().map(|piece| Ok(piece?)).boxed(),
        }))
    }

    /// Returns whether a file exists at `key`.
    pub async fn has(&self, key: &str) -> Result<bool, Error> {
        let found = if_found(self.store.head(&self.path(key)).await)?;
        Ok(found.is_some())
    }

    /// Begins a file at `key`.
    pub async fn write(&self, key: &str) -> Result<FileWriter, Error> {
        let upload = self.store.put_multipart(&self.path(key)).await?;
        Ok(FileWriter::new(upload))
    }

    /// Writes a file that fits into memory, and returns its tag.
    pub async fn put_at(&self, key: &str, body: Bytes) -> Result<String, Error> {
        let size = body.len() as u64;
        let put = self.store.put(&self.path(key), body.into()).await?;
        Ok(tag(put.e_tag.as_deref(), size))
    }

    /// Lists the files below a folder, or all with `""`. Those that are being written are not
    /// listed.
    pub fn list(&self, folder: &str) -> BoxStream<'_, Result<ListedFile, Error>> {
        let below = match folder {
            "" => self.root.clone(),
            folder => self.path(folder),
        };
        let listed = self.store.list(Some(&below)).map_err(Error::from);
        let files = listed.try_filter_map(async |found| {
            let key = found.location.prefix_match(&self.root);
            let key = key.map(|parts| parts.map(|part| part.as_ref().to_owned()).collect());
            Ok(key.map(|parts: Vec<String>| ListedFile {
                key: parts.join("/"),
                bytes: found.size,
                modified: found.last_modified.into(),
            }))
        });
        files.boxed()
    }

    /// Deletes the file at `key`.
    ///
    /// # Errors
    /// The storage refuses; some storages also if the file does not exist.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.store.delete(&self.path(key)).await?)
    }

    /// Stores the input of a job as JSON. The same input of the same job is the same object.
    pub async fn store_input(
        &self,
        app: &AppId,
        job: JobId,
        json: Bytes,
    ) -> Result<StoredInput, Error> {
        let bytes = json.len() as u64;
        let sha256 = digest(json.clone()).await;
        let key = format!("{INPUTS_FOLDER}/{app}/{job}/{sha256}.json");
        self.put_at(&key, json).await?;
        Ok(StoredInput { key, bytes, sha256 })
    }

    /// Reads a stored input.
    ///
    /// # Errors
    /// See [`InputError`].
    pub async fn load_input(&self, stored: &StoredInput) -> Result<Bytes, InputError> {
        let StoredInput { key, bytes, sha256 } = stored;
        let damaged = || InputError::Damaged { key: key.clone() };
        let most = usize::try_from(*bytes).unwrap_or(usize::MAX);
        let json = match self.get_at_most(key, most).await {
            Ok(found) => found.ok_or_else(|| InputError::Missing { key: key.clone() })?,
            Err(Error::TooLarge { .. }) => return Err(damaged()),
            Err(error) => return Err(error.into()),
        };
        match digest(json.clone()).await == *sha256 {
            true => Ok(json),
            false => Err(damaged()),
        }
    }

    /// Deletes a stored input, if it exists.
    pub async fn delete_input(&self, stored: &StoredInput) -> Result<(), Error> {
        match self.delete(&stored.key).await {
            Err(Error::Store(object_store::Error::NotFound { .. })) => Ok(()),
            deleted => deleted,
        }
    }

    /// Returns the path of a key. `PathPart::from` encodes what could leave the root (`..`, empty
    /// segments).
    fn path(&self, key: &str) -> Path {
        let parts = key.split('/').map(|part| PathPart::from(part.to_owned()));
        self.root.parts().chain(parts).collect()
    }
}

/// Maps a missing file to `None`.
fn if_found<T>(result: object_store::Result<T>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Returns the storage's tag without quotes, or the size if it has none.
fn tag(e_tag: Option<&str>, size_bytes: u64) -> String {
    match e_tag {
        Some(tag) => tag.trim_matches('"').to_owned(),
        None => size_bytes.to_string(),
    }
}

/// Returns the SHA-256 in hex, computed on a thread for blocking work: megabytes take tens of
/// milliseconds.
async fn digest(json: Bytes) -> String {
    let digest = tokio::task::spawn_blocking(move || hex::encode(Sha256::digest(&json)));
    digest.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_cannot_leave_the_folder() {
        let folder = std::env::temp_dir().join(format!("warmq-storage-{}", JobId::generate()));
        std::fs::create_dir_all(folder.join("inside")).unwrap();
        std::fs::write(folder.join("secret"), "s").unwrap();
        let url = format!("file://{}", folder.join("inside").display());
        let storage = ObjectStorage::open(&url.parse().unwrap()).unwrap();
        let app = AppId::parse("a/b").unwrap();
        let job = JobId::generate();
        let reference = storage
            .put(&app, job, "0.png", Bytes::from_static(b"png"))
            .await
            .unwrap();
        let key = reference.strip_prefix(REFERENCE_PREFIX).unwrap();
        assert_eq!(storage.get(key).await.unwrap().unwrap(), "png");
        let read = storage.get_at_most(key, 3).await;
        assert_eq!(read.unwrap().unwrap(), "png");
        let refused = storage.get_at_most(key, 2).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the file has 3 bytes, more than the limit of 2"
        );
        storage.probe(&app, "r", 1000).await.unwrap();
        assert!(storage.get("a/b/probes/r").await.unwrap().is_none());
        for hostile in ["../secret", "a/../../secret", "/../secret", "..%2fsecret"] {
            assert!(storage.get(hostile).await.unwrap().is_none(), "{hostile}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_stored_input_is_read_whole_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("warmq-inputs-{}", JobId::generate()));
        let url = format!("file://{}", folder.display());
        let storage = ObjectStorage::open(&url.parse().unwrap()).unwrap();
        let app = AppId::parse("a/b").unwrap();
        let json = Bytes::from_static(b"{\"n\":1}");
        let stored = storage.store_input(&app, JobId::generate(), json.clone());
        let stored = stored.await.unwrap();
        assert_eq!(storage.load_input(&stored).await.unwrap(), json);
        for other in ["{\"n\":2}", "{\"n\":1", "{\"n\":1}\n"] {
            let put = storage.put_at(&stored.key, Bytes::from_static(other.as_bytes()));
            put.await.unwrap();
            let read = storage.load_input(&stored).await;
            assert!(
                matches!(read, Err(InputError::Damaged { .. })),
                "{other}: {read:?}"
            );
        }
        for _ in 0..2 {
            storage.delete_input(&stored).await.unwrap();
            let read = storage.load_input(&stored).await;
            assert!(matches!(read, Err(InputError::Missing { .. })), "{read:?}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[tokio::test]
    async fn a_file_exists_once_it_is_finished_and_not_before() {
        let folder = std::env::temp_dir().join(format!("warmq-streams-{}", JobId::generate()));
        let url = format!("file://{}", folder.display());
        let storage = ObjectStorage::open(&url.parse().unwrap()).unwrap();
        let mut dropped = storage.write("a/dropped").await.unwrap();
        dropped.write(b"half").await.unwrap();
        drop(dropped);
        let mut file = storage.write("a/whole").await.unwrap();
        file.write(b"one ").await.unwrap();
        file.write(b"two").await.unwrap();
        assert!(!storage.has("a/whole").await.unwrap());
        file.finish().await.unwrap();
        let mut found = storage.read("a/whole").await.unwrap().unwrap();
        assert_eq!(found.size_bytes, 7);
        let mut content = Vec::new();
        while let Some(piece) = found.body.next().await {
            content.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(content, b"one two");
        assert!(storage.read("a/dropped").await.unwrap().is_none());

        let first = storage.put_at("a/part", Bytes::from_static(b"1")).await;
        let read = storage.read("a/part").await.unwrap().unwrap();
        assert_eq!(first.unwrap(), read.tag);
        storage.delete("a/part").await.unwrap();
        assert!(!storage.has("a/part").await.unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
