//! Large inputs in the object storage.

use serde_json::Value;
use warmq_objects::{InputError, ObjectStorage};
use warmq_types::job::{JobSpec, MAX_INLINE_INPUT_BYTES, StoredInput};

use super::SubmitError;
use crate::large_json::{LargeJson, LargeJsonPermit};

/// A cheap handle on the stored inputs.
#[derive(Clone)]
pub(crate) struct InputStore {
    storage: ObjectStorage,
    large: LargeJson,
}

impl InputStore {
    pub(super) fn new(storage: ObjectStorage, large: LargeJson) -> Self {
        Self { storage, large }
    }

    /// Replaces an input that is too large for messages and records by a reference to an object.
    /// `permit` is released before the storage is written.
    pub(crate) async fn store(
        &self,
        job: &mut JobSpec,
        permit: LargeJsonPermit,
    ) -> Result<(), SubmitError> {
        let json = permit.run(|| {
            let json = serde_json::to_vec(&job.input).unwrap_or_default();
            let is_large = json.len() > MAX_INLINE_INPUT_BYTES;
            is_large.then(|| {
                job.input = Value::Null;
                json
            })
        });
        drop(permit);
        if let Some(json) = json {
            let stored = self.storage.store_input(&job.app, job.id, json.into());
            job.stored_input = Some(stored.await?);
        }
        Ok(())
    }

    /// Loads a stored input into its job.
    pub(crate) async fn load(&self, job: &mut JobSpec) -> Result<(), InputError> {
        let Some(stored) = &job.stored_input else {
            return Ok(());
        };
        let json = self.storage.load_input(stored).await?;
        let permit = self.large.permit(json.len()).await;
        let read = permit.run(|| serde_json::from_slice(&json));
        job.input = read.map_err(|_| InputError::Damaged {
            key: stored.key.clone(),
        })?;
        Ok(())
    }

    /// Deletes an input that no job refers to: its submission was refused, or is a repetition.
    pub(super) async fn delete(&self, stored: Option<StoredInput>) {
        if let Some(stored) = stored
            && let Err(error) = self.storage.delete_input(&stored).await
        {
            tracing::warn!(%error, file.key = stored.key, "could not delete an unused input");
        }
    }
}
