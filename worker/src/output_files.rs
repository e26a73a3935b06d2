//! The files of a job's output: stored, and referenced in the output.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use warmq_objects::ObjectStorage;
use warmq_process::retry::Delays;
use warmq_types::job::JobSpec;

use crate::engine::Produced;

/// Attempts to store a file, with growing delays (about 3 s in all).
const MAX_STORE_ATTEMPTS: u32 = 6;

/// Timeout for storing one file.
const STORE_TIMEOUT: Duration = Duration::from_secs(60);

/// A file could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The storage failed repeatedly, or did not respond.
    #[error("{file} of {bytes} bytes: {reason}")]
    Refused {
        /// The file's name.
        file: String,
        /// The file's size, bytes.
        bytes: usize,
        /// The storage's error.
        reason: String,
    },
    /// The output lacks the file's pointer: a bug of the engine.
    #[error("the output has no field {0} for a file")]
    NoField(String),
}

/// Stores a job's files and puts their references into its output. `attempt` is part of their keys,
/// so that a late attempt overwrites nothing.
///
/// # Errors
/// A file could not be stored.
pub async fn store_files(
    storage: &ObjectStorage,
    job: &JobSpec,
    attempt: &str,
    produced: Produced,
) -> Result<Value, StoreError> {
    let Produced { mut output, files } = produced;
    for file in files {
        let body = Bytes::from(file.bytes);
        let name = format!("{attempt}/{}", file.name);
        let mut delays = Delays::reconnect();
        let mut tries = 1;
        let reference = loop {
            let put = storage.put(&job.app, job.id, &name, body.clone());
            let reason = match tokio::time::timeout(STORE_TIMEOUT, put).await {
                Ok(Ok(reference)) => break reference,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no response within {} s", STORE_TIMEOUT.as_secs()),
            };
            tracing::warn!(job.id = %job.id, file = file.name, reason, "storing a file failed");
            if tries == MAX_STORE_ATTEMPTS {
                return Err(StoreError::Refused {
                    bytes: body.len(),
                    file: file.name,
                    reason,
                });
            }
            tries += 1;
            tokio::time::sleep(delays.next_delay()).await;
        };
        match output.pointer_mut(&file.pointer) {
            Some(field) => *field = Value::String(reference),
            None => return Err(StoreError::NoField(file.pointer)),
        }
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warmq_types::ids::{AppId, JobId};

    use super::*;
    use crate::engine::File;

    #[tokio::test]
    async fn files_are_stored_and_named_in_the_output() {
        let folder = std::env::temp_dir().join(format!("warmq-report-{}", JobId::generate()));
        let url = format!("file://{}", folder.display());
        let storage = ObjectStorage::open(&url.parse().unwrap()).unwrap();
        let job = JobSpec::new(AppId::parse("a/b").unwrap(), Value::Null);
        let produced = |pointer: &str| Produced {
            output: json!({"images": [{"url": null, "width": 8}]}),
            files: vec![File {
                name: "0.png".to_owned(),
                pointer: pointer.to_owned(),
                bytes: b"png".to_vec(),
            }],
        };
        let output = store_files(&storage, &job, "2", produced("/images/0/url"))
            .await
            .unwrap();
        let url = format!("warmq://files/a/b/{}/2/0.png", job.id);
        assert_eq!(output, json!({"images": [{"url": url, "width": 8}]}));
        let misplaced = store_files(&storage, &job, "2", produced("/images/1/url")).await;
        assert!(matches!(misplaced, Err(StoreError::NoField(_))));
        std::fs::remove_dir_all(folder).unwrap();
    }
}
