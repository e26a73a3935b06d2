//! Files as streams, since they may exceed memory.

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::{ObjectStoreExt, WriteMultipart};

use super::{Artifacts, Error};

/// Maximum number of parts of a file in flight to the storage.
const PIECES_UNDER_WAY: usize = 2;

/// Size of a part, bytes: the minimum of S3.
const PIECE_BYTES: usize = 5 << 20;

/// Maximum memory of a [`FileWriter`], bytes: the parts in flight and the one being filled.
pub const WRITE_BUFFER_BYTES: u64 = ((PIECES_UNDER_WAY + 1) * PIECE_BYTES) as u64;

/// A file that is being read.
pub struct StoredFile {
    /// Size, bytes.
    pub size_bytes: u64,
    /// Tag that changes with the content.
    pub tag: String,
    /// Content, part by part.
    pub body: BoxStream<'static, Result<Bytes, Error>>,
}

/// A file that is being written. It exists once finished; if dropped earlier, it never exists.
#[derive(Debug)]
pub struct FileWriter(WriteMultipart);

impl FileWriter {
    /// Appends to the file.
    ///
    /// # Errors
    /// The storage refuses.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.wait_for_capacity(PIECES_UNDER_WAY).await?;
        // Copied: small parts would each keep the buffer that they were received in.
        self.0.write(bytes);
        Ok(())
    }

    /// Publishes the whole file at once.
    ///
    /// # Errors
    /// The storage refuses.
    pub async fn finish(self) -> Result<(), Error> {
        self.0.finish().await?;
        Ok(())
    }

    /// Aborts, and removes the parts as far as the storage allows.
    pub async fn abandon(self) {
        if let Err(error) = self.0.abort().await {
            tracing::warn!(%error, "a file that was not written to its end may take up space");
        }
    }
}

impl Artifacts {
    /// Opens the file at `key`; `None` if it does not exist.
    ///
    /// # Errors
    /// The storage refuses.
    pub async fn read(&self, key: &str) -> Result<Option<StoredFile>, Error> {
        match self.store.get(&self.path(key)).await {
            Ok(found) => Ok(Some(StoredFile {
                size_bytes: found.meta.size,
                tag: tag(found.meta.e_tag.as_deref(), found.meta.size),
                body: found.into_stream().map(|piece| Ok(piece?)).boxed(),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns whether a file exists at `key`.
    ///
    /// # Errors
    /// The storage refuses.
    pub async fn has(&self, key: &str) -> Result<bool, Error> {
        match self.store.head(&self.path(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Begins a file at `key`.
    ///
    /// # Errors
    /// The storage refuses.
    pub async fn write(&self, key: &str) -> Result<FileWriter, Error> {
        let upload = self.store.put_multipart(&self.path(key)).await?;
        let writer = WriteMultipart::new_with_chunk_size(upload, PIECE_BYTES);
        Ok(FileWriter(writer))
    }

    /// Writes a file that fits into memory, and returns its tag.
    ///
    /// # Errors
    /// The storage refuses.
    pub async fn put_at(&self, key: &str, body: Bytes) -> Result<String, Error> {
        let size = body.len() as u64;
        let put = self.store.put(&self.path(key), body.into()).await?;
        Ok(tag(put.e_tag.as_deref(), size))
    }

    /// Deletes the file at `key`.
    ///
    /// # Errors
    /// The storage refuses; some storages also if the file does not exist.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        Ok(self.store.delete(&self.path(key)).await?)
    }
}

/// Returns the storage's tag without quotes, or the size if it has none.
fn tag(e_tag: Option<&str>, size_bytes: u64) -> String {
    match e_tag {
        Some(tag) => tag.trim_matches('"').to_owned(),
        None => size_bytes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_types::ids::JobId;

    #[tokio::test]
    async fn a_file_is_there_once_it_is_finished_and_not_before() {
        let folder = std::env::temp_dir().join(format!("warmq-streams-{}", JobId::generate()));
        let url = format!("file://{}", folder.display());
        let artifacts = Artifacts::open(&url.parse().unwrap()).unwrap();
        let mut dropped = artifacts.write("a/dropped").await.unwrap();
        dropped.write(b"half").await.unwrap();
        drop(dropped);
        let mut file = artifacts.write("a/whole").await.unwrap();
        file.write(b"one ").await.unwrap();
        file.write(b"two").await.unwrap();
        assert!(!artifacts.has("a/whole").await.unwrap());
        file.finish().await.unwrap();
        let mut found = artifacts.read("a/whole").await.unwrap().unwrap();
        assert_eq!(found.size_bytes, 7);
        let mut content = Vec::new();
        while let Some(piece) = found.body.next().await {
            content.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(content, b"one two");
        assert!(artifacts.read("a/dropped").await.unwrap().is_none());

        let first = artifacts.put_at("a/part", Bytes::from_static(b"1")).await;
        let read = artifacts.read("a/part").await.unwrap().unwrap();
        assert_eq!(first.unwrap(), read.tag);
        artifacts.delete("a/part").await.unwrap();
        assert!(!artifacts.has("a/part").await.unwrap());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
