//! Uploads. Each file has a random key and at most `--max-upload` bytes.
//!
//! A file arrives whole, or in parts that may arrive concurrently and through different routers:
//! each part is a file of its own in the storage, and the last call joins them. The n-th part
//! begins at (n − 1) · 10 MiB of the file, as fal's clients send it, so a part is bounded by its
//! size and number, and routers share no counter. Contents are not inspected: the name determines
//! the type (`names`).

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use futures::StreamExt;
use serde::Deserialize;
use utoipa::ToSchema;
use warmq_objects::{FileWriter, ObjectStorage};

use super::{FileKey, names};

/// Folder of uploads in the storage. An app's owner may have this name, too: ids of jobs differ
/// from those of uploads.
const FOLDER: &str = "uploads";

/// Size of all parts except the last, bytes.
const PART_BYTES: u64 = 10 << 20;

/// Timeout of a client that sends nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum that is read of a refused body, bytes: otherwise a client that is still sending would
/// see a broken connection instead of the error.
const MAX_DRAIN_BYTES: u64 = 16 << 20;

/// Why an upload failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    #[error("the file is larger than {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("received no data for {} s; upload the file again", IDLE_TIMEOUT.as_secs())]
    Stalled,
    #[error("the connection closed before the end of the file: {0}")]
    Interrupted(axum::Error),
    #[error(
        "part {number} does not exist: a file of at most {limit_bytes} bytes has parts 1 to {max_number}"
    )]
    NoSuchPart {
        number: u64,
        max_number: u64,
        limit_bytes: u64,
    },
    #[error("the list must contain each part from 1 to the last exactly once")]
    NotAllParts,
    #[error("part {0} is missing or has another etag; upload it again")]
    PartMissing(u64),
    #[error(transparent)]
    Storage(#[from] warmq_objects::Error),
}

/// A part in the list of an upload's parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part {
    /// Number, from 1.
    pub part_number: u64,
    /// Etag in the response to its upload.
    pub etag: String,
}

/// A cheap handle for storing uploads.
#[derive(Clone)]
pub(crate) struct Uploads {
    storage: ObjectStorage,
    max_bytes: u64,
}

impl Uploads {
    /// Returns a handle for files of at most `max_bytes` each.
    pub(crate) fn new(storage: ObjectStorage, max_bytes: u64) -> Self {
        Self { storage, max_bytes }
    }

    /// Returns a key for a new file of this name and content type.
    pub(crate) fn new_key(name: &str, content_type: &str) -> Option<FileKey> {
        let id = hex::encode(rand::random::<[u8; 16]>());
        FileKey::parse(&format!(
            "{FOLDER}/{id}/{}",
            names::safe(name, content_type)
        ))
    }

    /// Writes a whole file, or nothing.
    pub(crate) async fn store(&self, key: &FileKey, body: Body) -> Result<(), UploadError> {
        let mut incoming = Incoming::new(body, self.max_bytes);
        let stored = self.store_pieces(key, &mut incoming).await;
        incoming.drain(&stored).await;
        stored
    }

    async fn store_pieces(
        &self,
        key: &FileKey,
        incoming: &mut Incoming,
    ) -> Result<(), UploadError> {
        incoming.check_announced()?;
        let mut file = self.storage.write(key.as_str()).await?;
        loop {
            match incoming.next().await {
                Ok(Some(piece)) => file.write(&piece).await?,
                Ok(None) => return Ok(file.finish().await?),
                Err(error) => {
                    file.abandon().await;
                    return Err(error);
                }
            }
        }
    }

    /// Writes one part of a file, and returns its etag.
    pub(crate) async fn store_part(
        &self,
        key: &FileKey,
        number: u64,
        body: Body,
    ) -> Result<String, UploadError> {
        let max_number = self.max_bytes.div_ceil(PART_BYTES);
        if !(1..=max_number).contains(&number) {
            return Err(UploadError::NoSuchPart {
                number,
                max_number,
                limit_bytes: self.max_bytes,
            });
        }
        let mut incoming = Incoming::new(body, PART_BYTES);
        let collected = incoming.collect().await;
        incoming.drain(&collected).await;
        let part_key = part_key(key, number);
        Ok(self.storage.put_at(&part_key, collected?.into()).await?)
    }

    /// Joins a file's parts, listed in any order: fal's Python client lists them as they arrived.
    /// Afterwards the parts are deleted, and a repeated call succeeds.
    ///
    /// # Errors
    /// See [`UploadError`]. The parts are kept.
    pub(crate) async fn complete(
        &self,
        key: &FileKey,
        mut parts: Vec<Part>,
    ) -> Result<(), UploadError> {
        parts.sort_by_key(|part| part.part_number);
        let numbers = parts.iter().map(|part| part.part_number);
        if parts.is_empty() || !numbers.eq(1..=parts.len() as u64) {
            return Err(UploadError::NotAllParts);
        }
        match self.join(key, &parts).await {
            Ok(()) => {}
            Err(UploadError::PartMissing(_)) if self.storage.has(key.as_str()).await? => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        for part in parts {
            let part_key = part_key(key, part.part_number);
            if let Err(error) = self.storage.delete(&part_key).await {
                tracing::warn!(%error, file.key = part_key, "could not delete a part of an upload");
            }
        }
        Ok(())
    }

    async fn join(&self, key: &FileKey, parts: &[Part]) -> Result<(), UploadError> {
        let mut file = self.storage.write(key.as_str()).await?;
        match self.join_into(&mut file, key, parts).await {
            Ok(()) => Ok(file.finish().await?),
            Err(error) => {
                file.abandon().await;
                Err(error)
            }
        }
    }

    async fn join_into(
        &self,
        file: &mut FileWriter,
        key: &FileKey,
        parts: &[Part],
    ) -> Result<(), UploadError> {
        let mut left = self.max_bytes;
        for part in parts {
            let missing = || UploadError::PartMissing(part.part_number);
            let part_key = part_key(key, part.part_number);
            let mut found = self.storage.read(&part_key).await?.ok_or_else(missing)?;
            if found.tag != part.etag.trim_matches('"') {
                return Err(missing());
            }
            left = left
                .checked_sub(found.size_bytes)
                .ok_or(UploadError::TooLarge {
                    limit_bytes: self.max_bytes,
                })?;
            while let Some(piece) = found.body.next().await {
                file.write(&piece?).await?;
            }
        }
        Ok(())
    }
}

/// Returns the key of a part, beside its file. It is not a [`FileKey`], so no URL can refer to it.
fn part_key(key: &FileKey, number: u64) -> String {
    let folder = key.as_str().strip_suffix(key.name());
    format!("{}.parts/{number}", folder.unwrap_or_default())
}

/// An incoming body of bounded size.
struct Incoming {
    body: BodyDataStream,
    /// Announced size, bytes.
    announced: Option<u64>,
    limit: u64,
    left: u64,
}

impl Incoming {
    fn new(body: Body, limit: u64) -> Self {
        Self {
            announced: body.size_hint().exact(),
            body: body.into_data_stream(),
            limit,
            left: limit,
        }
    }

    /// Checks the announced size before anything is written.
    fn check_announced(&self) -> Result<(), UploadError> {
        match self.announced {
            Some(size) if size > self.limit => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, UploadError> {
        let piece = tokio::time::timeout(IDLE_TIMEOUT, self.body.next()).await;
        let piece = piece.map_err(|_| UploadError::Stalled)?;
        let Some(piece) = piece.transpose().map_err(UploadError::Interrupted)? else {
            return Ok(None);
        };
        let left = self.left.checked_sub(piece.len() as u64);
        self.left = left.ok_or_else(|| self.too_large())?;
        Ok(Some(piece))
    }

    async fn collect(&mut self) -> Result<Vec<u8>, UploadError> {
        self.check_announced()?;
        let mut collected = Vec::new();
        while let Some(piece) = self.next().await? {
            collected.extend_from_slice(&piece);
        }
        Ok(collected)
    }

    /// Reads the rest of a body that was too large, so that the client can read the response.
    async fn drain<T>(&mut self, outcome: &Result<T, UploadError>) {
        if matches!(outcome, Err(UploadError::TooLarge { .. })) {
            self.left = MAX_DRAIN_BYTES;
            while let Ok(Some(_)) = self.next().await {}
        }
    }

    fn too_large(&self) -> UploadError {
        UploadError::TooLarge {
            limit_bytes: self.limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_types::ids::JobId;

    struct TestUploads {
        uploads: Uploads,
        folder: std::path::PathBuf,
    }

    impl TestUploads {
        fn new(max_bytes: u64) -> Self {
            let folder = std::env::temp_dir().join(format!("warmq-uploads-{}", JobId::generate()));
            let url = format!("file://{}", folder.display());
            let storage = ObjectStorage::open(&url.parse().unwrap()).unwrap();
            Self {
                uploads: Uploads::new(storage, max_bytes),
                folder,
            }
        }

        async fn content(&self, key: &FileKey) -> Option<Bytes> {
            self.uploads.storage.get(key.as_str()).await.unwrap()
        }

        /// Counts the files, including parts and incomplete ones.
        fn files(&self) -> usize {
            fn count(folder: &std::path::Path) -> usize {
                let entries = std::fs::read_dir(folder).unwrap();
                let count_entry = |entry: std::io::Result<std::fs::DirEntry>| {
                    let path = entry.unwrap().path();
                    if path.is_dir() { count(&path) } else { 1 }
                };
                entries.map(count_entry).sum()
            }
            count(&self.folder)
        }
    }

    impl Drop for TestUploads {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    fn part(part_number: u64, etag: &str) -> Part {
        Part {
            part_number,
            etag: etag.to_owned(),
        }
    }

    /// A body without an announced size.
    fn pieces(size: usize) -> Body {
        let pieces = (0..size).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"x")));
        Body::from_stream(futures::stream::iter(pieces))
    }

    #[tokio::test]
    async fn a_file_of_the_maximum_size_is_stored_and_a_larger_one_leaves_nothing() {
        let test = TestUploads::new(10);
        let key = Uploads::new_key("a.bin", "").unwrap();
        for body in [Body::from(vec![b'x'; 11]), pieces(11)] {
            let refused = test.uploads.store(&key, body).await;
            let refused = refused.unwrap_err().to_string();
            assert_eq!(refused, "the file is larger than 10 bytes");
        }
        let broken = futures::stream::iter([
            Ok(Bytes::from_static(b"x")),
            Err(std::io::Error::other("gone")),
        ]);
        let broken = test.uploads.store(&key, Body::from_stream(broken)).await;
        assert!(
            matches!(broken, Err(UploadError::Interrupted(_))),
            "{broken:?}"
        );
        assert_eq!(test.files(), 0);
        for body in [Body::from(vec![b'x'; 10]), pieces(10)] {
            test.uploads.store(&key, body).await.unwrap();
            assert_eq!(test.content(&key).await.unwrap(), "x".repeat(10));
        }
    }

    #[tokio::test]
    async fn parts_become_one_file_and_are_deleted() {
        let test = TestUploads::new(PART_BYTES + 3);
        let key = Uploads::new_key("a.bin", "").unwrap();
        let put = async |number, body: Vec<u8>| {
            let etag = test.uploads.store_part(&key, number, body.into()).await;
            part(number, &etag.unwrap())
        };
        let second = put(2, b"two".to_vec()).await;
        let first = put(1, vec![b'1'; PART_BYTES as usize]).await;
        let parts = vec![second, first];
        test.uploads.complete(&key, parts.clone()).await.unwrap();
        let content = test.content(&key).await.unwrap();
        assert_eq!(content.len() as u64, PART_BYTES + 3);
        assert!(content.starts_with(b"11") && content.ends_with(b"1two"));
        assert_eq!(test.files(), 1);
        // The response may have been lost.
        test.uploads.complete(&key, parts).await.unwrap();
    }

    #[tokio::test]
    async fn missing_changed_and_excess_parts_are_refused() {
        let test = TestUploads::new(PART_BYTES + 3);
        let key = Uploads::new_key("a.bin", "").unwrap();
        let put = async |number, body: &'static str| {
            test.uploads.store_part(&key, number, body.into()).await
        };
        for number in [0, 3] {
            let refused = put(number, "x").await;
            assert!(
                matches!(refused, Err(UploadError::NoSuchPart { .. })),
                "{number}"
            );
        }
        let first = put(1, "one").await.unwrap();
        for (parts, expected) in [
            (vec![], "exactly once"),
            (vec![part(2, &first)], "exactly once"),
            (vec![part(1, &first), part(1, &first)], "exactly once"),
            (vec![part(1, "other")], "part 1 is missing"),
            (vec![part(1, &first), part(2, "x")], "part 2 is missing"),
        ] {
            let refused = test.uploads.complete(&key, parts).await.unwrap_err();
            assert!(refused.to_string().contains(expected), "{refused}");
        }
        let second = put(2, "four").await.unwrap();
        // fal's Python client gives etags back as the header has them, in quotes.
        let parts = vec![part(1, &format!("\"{first}\"")), part(2, &second)];
        test.uploads.complete(&key, parts).await.unwrap();
        assert_eq!(test.content(&key).await.unwrap(), "onefour");
    }

    #[tokio::test]
    async fn parts_that_are_too_large_together_are_refused() {
        let test = TestUploads::new(PART_BYTES + 3);
        let key = Uploads::new_key("a.bin", "").unwrap();
        let full = vec![b'1'; PART_BYTES as usize];
        let first = test.uploads.store_part(&key, 1, full.into()).await.unwrap();
        let second = test
            .uploads
            .store_part(&key, 2, "four".into())
            .await
            .unwrap();
        let parts = vec![part(1, &first), part(2, &second)];
        let refused = test.uploads.complete(&key, parts).await;
        assert!(
            matches!(refused, Err(UploadError::TooLarge { .. })),
            "{refused:?}"
        );
        let huge = vec![b'1'; PART_BYTES as usize + 1];
        let refused = test.uploads.store_part(&key, 1, huge.into()).await;
        assert!(
            matches!(refused, Err(UploadError::TooLarge { .. })),
            "{refused:?}"
        );
        assert!(test.content(&key).await.is_none());
    }

    #[test]
    fn keys_are_random() {
        let [one, other] = [0; 2].map(|_| Uploads::new_key("a.png", "").unwrap());
        assert_ne!(one, other);
        assert_eq!(part_key(&one, 3), one.as_str().replace("a.png", ".parts/3"));
    }
}
