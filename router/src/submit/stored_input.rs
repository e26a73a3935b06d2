//! Large inputs on their way into the object storage, and back where a flow's steps are made of
//! them.

use serde_json::Value;
use warmq_objects::InputError;
use warmq_types::job::{JobSpec, MAX_INLINE_INPUT_BYTES, StoredInput};

use super::{SubmitError, Submitter};
use crate::large_json::LargeJsonPermit;

impl Submitter {
    /// Replaces an input that is too large for messages and records by a reference to an object.
    /// `permit` ends before the storage is written.
    ///
    /// # Errors
    /// The storage fails.
    pub(super) async fn store_input(
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
            let stored = self.artifacts.store_input(&job.app, job.id, json.into());
            job.stored_input = Some(stored.await?);
        }
        Ok(())
    }

    /// Puts a stored input back into its place.
    ///
    /// # Errors
    /// See [`InputError`].
    pub async fn load_input(&self, job: &mut JobSpec) -> Result<(), InputError> {
        let Some(stored) = &job.stored_input else {
            return Ok(());
        };
        let json = self.artifacts.load_input(stored).await?;
        let permit = self.large.permit(json.len()).await;
        let read = permit.run(|| serde_json::from_slice(&json));
        job.input = read.map_err(|_| InputError::Damaged {
            key: stored.key.clone(),
        })?;
        Ok(())
    }

    /// Deletes an input that no job refers to: its submission was refused, or was known already.
    /// `kept`: the recorded job's.
    pub(super) async fn drop_input(&self, stored: Option<StoredInput>, kept: Option<&StoredInput>) {
        if let Some(stored) = stored
            && kept != Some(&stored)
            && let Err(error) = self.artifacts.delete_input(&stored).await
        {
            tracing::warn!(%error, file.key = stored.key, "an input that no job needs stays in the storage");
        }
    }
}
