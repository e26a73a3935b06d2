//! Files as streams, since they may exceed memory.

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{MultipartUpload, WriteMultipart};

use crate::error::Error;

/// Maximum number of parts of a file in flight to the storage.
const MAX_PARTS_IN_FLIGHT: usize = 2;

/// Size of a part, bytes: the minimum of S3.
const PART_BYTES: usize = 5 << 20;

/// Maximum memory of a [`FileWriter`], bytes: the parts in flight and the one being filled.
pub const WRITE_BUFFER_BYTES: u64 = ((MAX_PARTS_IN_FLIGHT + 1) * PART_BYTES) as u64;

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
    pub(crate) fn new(upload: Box<dyn MultipartUpload>) -> Self {
        Self(WriteMultipart::new_with_chunk_size(upload, PART_BYTES))
    }

    /// Appends to the file.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.wait_for_capacity(MAX_PARTS_IN_FLIGHT).await?;
        // Copied: small parts would each keep the buffer that they were received in.
        self.0.write(bytes);
        Ok(())
    }

    /// Publishes the whole file at once.
    pub async fn finish(self) -> Result<(), Error> {
        self.0.finish().await?;
        Ok(())
    }

    /// Aborts, and removes the parts as far as the storage allows.
    pub async fn abandon(self) {
        if let Err(error) = self.0.abort().await {
            tracing::warn!(%error, "could not remove an incomplete file");
        }
    }
}
