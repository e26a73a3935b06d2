//! The files that a job's input names, got before its engine runs: the engine is given bytes, and knows no network.
//!
//! An engine says which fields of its input name files ([`FileField`]); each holds a `data:` URI, an `http(s)://` URL, or a
//! reference to a file in the storage ([`Source`]). Whatever is wrong with one is the job's fault and names its field (422),
//! but for a storage that does not answer.

mod error;
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

/// How long a URL may take to be read.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// How often the storage is asked, with growing delays between (about 3 s in all).
const MAX_STORAGE_ATTEMPTS: u32 = 6;

/// A field of an input that may name a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileField {
    /// Its name, at the top of the input.
    pub name: &'static str,
    /// The largest file that it may name.
    pub max_bytes: usize,
}

/// The files of one job, by field.
#[derive(Debug, Clone, Default)]
pub struct InputFiles(Vec<(&'static str, Bytes)>);

impl InputFiles {
    /// The file that a field names, if it names one.
    pub fn get(&self, field: &str) -> Option<&Bytes> {
        let found = self.0.iter().find(|(name, _)| *name == field);
        found.map(|(_, bytes)| bytes)
    }
}

/// Where files come from; cheap to clone.
#[derive(Clone)]
pub struct FileFetcher {
    /// The storage.
    pub artifacts: Artifacts,
    /// The network, as far as users may reach it.
    pub web: Fetcher,
}

impl FileFetcher {
    /// Gets the files that `fields` of the job's input name. `cancel` ends that at once.
    ///
    /// # Errors
    /// The job fails with a 422 that names the field; the runner, if the storage does not answer.
    pub async fn get(
        &self,
        job: &JobSpec,
        fields: &[FileField],
        progress: &ProgressReporter,
        cancel: &CancellationToken,
    ) -> Result<InputFiles, Failure> {
        let mut files = InputFiles::default();
        for field in fields {
            // What is no text is for the engine to refuse.
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

/// The job's fault, in fal's names for such errors, or the runner's: its storage does not answer.
fn failure(error: Error, field: &str) -> Failure {
    let message = error.to_string();
    let error_type = match error {
        Error::NoSource | Error::Data(_) => "value_error",
        Error::TooLarge { .. } => "file_too_large",
        Error::NotFound | Error::Web(_) => "file_download_error",
        Error::Storage(error) => {
            let fault = Fault::new(FaultKind::Storage, "the storage does not give out a file");
            return fault.because(error).into();
        }
    };
    JobError::field(&[field], error_type, message).into()
}
