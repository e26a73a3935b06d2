//! Fetches the files that a job's input names, before its engine runs. Engines receive bytes, or
//! paths of large files, and do no other I/O.
//!
//! An engine declares which fields of its input name files ([`FileField`]); each contains a `data:`
//! URI, an `http(s)://` URL, or a reference to a file in the storage ([`Source`]). Errors are the
//! job's and name the field (422), except for a storage that fails; if a URL's host is busy or does
//! not answer in time, the job gets another attempt first.
//!
//! | module | contents |
//! | --- | --- |
//! | `fields` | the fields that name files |
//! | `source` | where a file is |
//! | `disk_cache` | large files, which stay on disk for later jobs |
//! | `inline` | stored files as `data:` URIs, for engines that run elsewhere |
//! | `error` | texts for the job's owner |

mod disk_cache;
mod error;
mod fields;
mod inline;
mod source;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use warmq_fetch::Fetcher;
use warmq_objects::ObjectStorage;
use warmq_process::retry::Delays;
use warmq_types::fault::FaultKind;
use warmq_types::job::{JobError, JobSpec};

use disk_cache::NewFile;
pub use disk_cache::{CachedFile, DiskCache};
use error::Error;
pub use fields::FileField;
use fields::Named;
use source::Source;

use crate::engine::Failure;
use crate::fault::Fault;
use crate::progress::ProgressReporter;

/// fal's error type of a file that cannot be fetched.
const DOWNLOAD_ERROR: &str = "file_download_error";

/// Timeout for fetching a URL.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts to read a file, with growing delays (about 3 s in all).
const MAX_STORAGE_ATTEMPTS: u32 = 6;

/// Timeout for the first byte of a large file, and for each next piece.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Timeout for fetching a large file.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(600);

/// The files of one job.
#[derive(Debug, Clone, Default)]
pub struct InputFiles {
    /// By field.
    in_memory: Vec<(&'static str, Bytes)>,
    /// By the text that names them.
    on_disk: Vec<(String, Arc<CachedFile>)>,
}

impl InputFiles {
    /// Returns the file that a field names, if any.
    pub fn get(&self, field: &str) -> Option<&Bytes> {
        let found = self.in_memory.iter().find(|(name, _)| *name == field);
        found.map(|(_, bytes)| bytes)
    }

    /// Returns the large file that a text of the input names, if any.
    pub fn path(&self, text: &str) -> Option<&Path> {
        let found = self.on_disk.iter().find(|(named, _)| named == text);
        found.map(|(_, file)| file.path())
    }
}

/// Returns whether fetching the files that `fields` of the job's input name needs I/O.
pub fn need_io(job: &JobSpec, fields: &[FileField]) -> bool {
    let named = fields.iter().flat_map(|field| field.named(&job.input));
    named
        .into_iter()
        .any(|named| Source::read(named.text).is_ok_and(Source::needs_io))
}

/// Fetches files from the storage and from URLs; cheap to clone.
#[derive(Clone)]
pub struct FileFetcher {
    /// The storage.
    pub storage: ObjectStorage,
    /// The HTTP client for users' URLs.
    pub web: Fetcher,
    /// Large files.
    pub cache: DiskCache,
}

impl FileFetcher {
    /// Fetches the files that `fields` of the job's input name. `cancel` stops at once.
    ///
    /// # Errors
    /// A 422 that names the field, for now or for good, or a fault if the storage fails.
    pub async fn get(
        &self,
        job: &JobSpec,
        fields: &[FileField],
        progress: &ProgressReporter,
        cancel: &CancellationToken,
    ) -> Result<InputFiles, Failure> {
        let mut files = InputFiles::default();
        for named in fields.iter().flat_map(|field| field.named(&job.input)) {
            let fetched = async {
                let source = Source::read(named.text)?;
                if source.needs_io() {
                    progress.fetching();
                }
                self.fetch(&named, source, job, &mut files).await
            };
            let fetched = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Failure::Cancelled),
                fetched = fetched => fetched,
            };
            fetched.map_err(|error| failure(error, &named.path))?;
        }
        Ok(files)
    }

    async fn fetch(
        &self,
        named: &Named<'_>,
        source: Source<'_>,
        job: &JobSpec,
        files: &mut InputFiles,
    ) -> Result<(), Error> {
        match named.field {
            FileField::InMemory { name, max_bytes } => {
                let bytes = match source {
                    Source::Data(uri) => source::decode(uri, max_bytes)?,
                    Source::Web(url) => self.web.get(url, max_bytes, FETCH_TIMEOUT).await?.bytes,
                    Source::Storage(key) => self.stored(key, max_bytes, job).await?,
                };
                files.in_memory.push((name, bytes));
            }
            FileField::OnDisk { max_bytes, .. } if files.path(named.text).is_none() => {
                let file = match source {
                    Source::Data(_) => return Err(Error::NoUrl),
                    Source::Web(url) => {
                        let file = self.downloaded(url, max_bytes);
                        let timeout = || Error::from(warmq_fetch::Error::Timeout);
                        let file = tokio::time::timeout(DOWNLOAD_TIMEOUT, file).await;
                        file.map_err(|_| timeout())??
                    }
                    Source::Storage(key) => {
                        let bytes = self.stored(key, max_bytes, job).await?;
                        let file = self.cache.begin().map_err(Error::Disk)?;
                        write(&file, &bytes).await?;
                        self.cache.insert(key, file).map_err(Error::Disk)?
                    }
                };
                files.on_disk.push((named.text.to_owned(), Arc::new(file)));
            }
            FileField::OnDisk { .. } => {}
        }
        Ok(())
    }

    /// Fetches a URL to the disk, unless its current version is there: the response's head shows
    /// which one that is.
    async fn downloaded(&self, url: &str, max_bytes: usize) -> Result<CachedFile, Error> {
        let limit = usize::try_from(self.cache.limit_bytes()).unwrap_or(usize::MAX);
        let mut resource = in_time(self.web.open(url, max_bytes.min(limit))).await?;
        let key = match resource.version() {
            Some(version) => format!("{url}\n{version}"),
            // Without a version no other job can use it.
            None => format!("{url}\n{}", Uuid::new_v4()),
        };
        if let Some(found) = self.cache.find(&key) {
            return Ok(found);
        }
        let file = self.cache.begin().map_err(Error::Disk)?;
        let mut writer = file.writer().map_err(Error::Disk)?;
        while let Some(chunk) = in_time(resource.chunk()).await? {
            writer.write_all(&chunk).await.map_err(Error::Disk)?;
        }
        writer.flush().await.map_err(Error::Disk)?;
        self.cache.insert(&key, file).map_err(Error::Disk)
    }

    async fn stored(&self, key: &str, max_bytes: usize, job: &JobSpec) -> Result<Bytes, Error> {
        let mut delays = Delays::reconnect();
        let mut attempt = 1;
        loop {
            match self.storage.get_at_most(key, max_bytes).await {
                Ok(found) => return found.ok_or(Error::NotFound),
                Err(warmq_objects::Error::TooLarge { .. }) => {
                    return Err(Error::TooLarge { max_bytes });
                }
                Err(error) if attempt == MAX_STORAGE_ATTEMPTS => return Err(Error::Storage(error)),
                Err(error) => {
                    tracing::warn!(job.id = %job.id, %error, "reading a file failed");
                }
            }
            attempt += 1;
            tokio::time::sleep(delays.next_delay()).await;
        }
    }
}

async fn write(file: &NewFile, bytes: &[u8]) -> Result<(), Error> {
    let mut writer = file.writer().map_err(Error::Disk)?;
    writer.write_all(bytes).await.map_err(Error::Disk)?;
    writer.flush().await.map_err(Error::Disk)
}

/// Waits for the next part of a large file.
async fn in_time<T>(
    part: impl Future<Output = Result<T, warmq_fetch::Error>>,
) -> Result<T, warmq_fetch::Error> {
    let waited = tokio::time::timeout(STALL_TIMEOUT, part).await;
    waited.unwrap_or(Err(warmq_fetch::Error::Timeout))
}

/// Maps an error to the job's error, with fal's error types, or to a fault of the runner's storage.
fn failure(error: Error, path: &[String]) -> Failure {
    let message = error.to_string();
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if let Error::Disk(cause) = &error {
        tracing::warn!(error = %cause, "the folder of --lora-cache cannot be written");
    }
    if matches!(error, Error::Unavailable(_) | Error::Disk(_)) {
        return Failure::Unavailable(JobError::field(&path, DOWNLOAD_ERROR, message));
    }
    let error_type = match error {
        Error::NoSource | Error::NoUrl | Error::Data(_) => "value_error",
        Error::TooLarge { .. } => "file_too_large",
        Error::NotFound | Error::Web(_) | Error::Unavailable(_) | Error::Disk(_) => DOWNLOAD_ERROR,
        Error::Storage(error) => {
            let fault = Fault::new(FaultKind::Storage, "the storage failed to read a file");
            return fault.because(error).into();
        }
    };
    JobError::field(&path, error_type, message).into()
}
