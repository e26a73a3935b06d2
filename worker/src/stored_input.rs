//! Large inputs: objects in the storage, loaded before a job runs.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use warmq_objects::{InputError, ObjectStorage};
use warmq_process::retry::Delays;
use warmq_types::fault::FaultKind;
use warmq_types::job::JobSpec;

use crate::engine::Failure;
use crate::fault::Fault;

/// Attempts to read an input, with growing delays (about 3 s in all).
const MAX_READ_ATTEMPTS: u32 = 6;

/// Timeout of one attempt to read.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the job with its stored input in place. `cancel` stops at once.
///
/// # Errors
/// [`Failure::Runner`] if the input cannot be read: another runner may reach the storage, or the
/// object may appear later.
pub async fn load(
    storage: &ObjectStorage,
    job: &JobSpec,
    cancel: &CancellationToken,
) -> Result<JobSpec, Failure> {
    if job.stored_input.is_none() {
        return Ok(job.clone());
    }
    let loaded = tokio::select! {
        biased;
        () = cancel.cancelled() => return Err(Failure::Cancelled),
        loaded = load_with_retries(storage, job) => loaded,
    };
    loaded.map_err(|error| {
        let fault = match &error {
            InputError::Storage(details) => {
                Fault::new(FaultKind::Storage, "the job's stored input cannot be read")
                    .because(details)
            }
            _ => Fault::new(FaultKind::Storage, error.to_string()),
        };
        fault.into()
    })
}

async fn load_with_retries(storage: &ObjectStorage, job: &JobSpec) -> Result<JobSpec, InputError> {
    let mut delays = Delays::reconnect();
    for _ in 1..MAX_READ_ATTEMPTS {
        match read(storage, job).await {
            Err(error) => {
                tracing::debug!(job.id = %job.id, %error, "reading a stored input failed")
            }
            read => return read,
        }
        tokio::time::sleep(delays.next_delay()).await;
    }
    read(storage, job).await
}

async fn read(storage: &ObjectStorage, job: &JobSpec) -> Result<JobSpec, InputError> {
    let Some(stored) = &job.stored_input else {
        return Ok(job.clone());
    };
    let json = tokio::time::timeout(READ_TIMEOUT, storage.load_input(stored));
    let json = json.await.map_err(|_| InputError::TimedOut {
        seconds: READ_TIMEOUT.as_secs(),
    })??;
    // Parsing megabytes of JSON would block other tasks.
    let input = tokio::task::spawn_blocking(move || serde_json::from_slice(&json)).await;
    let input = input.ok().and_then(Result::ok);
    let input = input.ok_or_else(|| InputError::Damaged {
        key: stored.key.clone(),
    })?;
    Ok(JobSpec {
        input,
        ..job.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::{Value, json};
    use warmq_types::ids::AppId;

    #[tokio::test(start_paused = true)]
    async fn an_input_that_cannot_be_read_is_the_runners_fault() {
        let folder = std::env::temp_dir().join(format!("warmq-stored-{}", std::process::id()));
        let url = format!("file://{}", folder.display());
        let storage = ObjectStorage::open(&url.parse().unwrap()).unwrap();
        let cancel = CancellationToken::new();
        let mut job = JobSpec::new(AppId::parse("a/b").unwrap(), json!({"inline": true}));
        let loaded = load(&storage, &job, &cancel).await.unwrap();
        assert_eq!(loaded, job);

        let json = Bytes::from_static(b"{\"n\":1}");
        let stored = storage.store_input(&job.app, job.id, json).await.unwrap();
        (job.input, job.stored_input) = (Value::Null, Some(stored.clone()));
        let loaded = load(&storage, &job, &cancel).await.unwrap();
        assert_eq!(loaded.input, json!({"n": 1}));

        storage.delete_input(&stored).await.unwrap();
        let failed = load(&storage, &job, &cancel).await.unwrap_err();
        assert!(matches!(failed, Failure::Runner(_)), "{failed:?}");
        cancel.cancel();
        let cancelled = load(&storage, &job, &cancel).await.unwrap_err();
        assert!(matches!(cancelled, Failure::Cancelled), "{cancelled:?}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
