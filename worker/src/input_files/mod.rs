//! Fetches the files that a job's input names, before its engine runs. Engines receive bytes and do
//! no I/O.
//!
//! An engine declares which fields of its input name files ([`FileField`]); each contains a `data:`
//! URI, an `http(s)://` URL, or a reference to a file in the storage ([`Source`]). Errors are the
//! job's and name the field (422), except for a storage that fails; if a URL's host is busy or does
//! not answer in time, the job gets another attempt first.

mod error;
mod inline;
mod source;

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use warmq_fetch::Fetcher;
use warmq_objects::Artifacts;
use warmq_process::retry::Delays;
use warmq_types::fault::FaultKind;
use warmq_types::job::{JobError, JobSpec};

use error::Error;
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

/// A field of an input that may name a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileField {
    /// The field's name, at the top level of the input.
    pub name: &'static str,
    /// Size limit of the file, bytes.
    pub max_bytes: usize,
}

/// The files of one job, by field.
#[derive(Debug, Clone, Default)]
pub struct InputFiles(Vec<(&'static str, Bytes)>);

impl InputFiles {
    /// Returns the file that a field names, if any.
    pub fn get(&self, field: &str) -> Option<&Bytes> {
        let found = self.0.iter().find(|(name, _)| *name == field);
        found.map(|(_, bytes)| bytes)
    }
}

/// Returns whether fetching the files that `fields` of the job's input name needs I/O.
pub fn need_io(job: &JobSpec, fields: &[FileField]) -> bool {
    fields.iter().any(|field| {
        let text = job.input.get(field.name).and_then(|value| value.as_str());
        text.is_some_and(|text| Source::read(text).is_ok_and(Source::needs_io))
    })
}

/// Fetches files from the storage and from URLs; cheap to clone.
#[derive(Clone)]
pub struct FileFetcher {
    /// The storage.
    pub artifacts: Artifacts,
    /// The HTTP client for users' URLs.
    pub web: Fetcher,
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
        for field in fields {
            // The engine rejects values that are not strings.
            let Some(text) = job.input.get(field.name).and_then(|value| value.as_str()) else {
                continue;
            };
            let file = async {
                let source = Source::read(text)?;
                if source.needs_io() {
                    progress.fetching();
                }
                self.fetch(source, field.max_bytes, job).await
            };
            let file = tokio::select! {
                biased;
                () = cancel.cancelled() => return Err(Failure::Cancelled),
                file = file => file,
            };
            let file = file.map_err(|error| failure(error, field.name))?;
            files.0.push((field.name, file));
        }
        Ok(files)
    }

    async fn fetch(
        &self,
        source: Source<'_>,
        max_bytes: usize,
        job: &JobSpec,
    ) -> Result<Bytes, Error> {
        match source {
            Source::Data(uri) => source::decode(uri, max_bytes),
            Source::Web(url) => {
                let fetched = self.web.get(url, max_bytes, FETCH_TIMEOUT).await?;
                Ok(fetched.bytes)
            }
            Source::Storage(key) => self.stored(key, max_bytes, job).await,
        }
    }

    async fn stored(&self, key: &str, max_bytes: usize, job: &JobSpec) -> Result<Bytes, Error> {
        let mut delays = Delays::reconnect();
        let mut attempt = 1;
        loop {
            match self.artifacts.get_at_most(key, max_bytes).await {
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

/// Maps an error to the job's error, with fal's error types, or to a fault of the runner's storage.
fn failure(error: Error, field: &str) -> Failure {
    let message = error.to_string();
    if matches!(error, Error::Unavailable(_)) {
        return Failure::Unavailable(JobError::field(&[field], DOWNLOAD_ERROR, message));
    }
    let error_type = match error {
        Error::NoSource | Error::Data(_) => "value_error",
        Error::TooLarge { .. } => "file_too_large",
        Error::NotFound | Error::Web(_) | Error::Unavailable(_) => DOWNLOAD_ERROR,
        Error::Storage(error) => {
            let fault = Fault::new(FaultKind::Storage, "the storage failed to read a file");
            return fault.because(error).into();
        }
    };
    JobError::field(&[field], error_type, message).into()
}
