//! Large inputs, stored by routers and read by workers and flows.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use warmq_types::ids::{AppId, JobId};
use warmq_types::job::StoredInput;

use super::{Artifacts, Error};

/// Folder of stored inputs. Neither links nor references lead there, since no part of a file's key
/// begins with a dot.
const FOLDER: &str = ".inputs";

/// Why a stored input is not readable.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The object was deleted, or this process uses another storage.
    #[error(
        "the job's input is not in the storage (any more): {key} was deleted, or router and workers have different --storage"
    )]
    Missing {
        /// The object's key.
        key: String,
    },
    /// The content differs from what was stored.
    #[error("the job's input is damaged in the storage: {key} is not what was stored there")]
    Damaged {
        /// The object's key.
        key: String,
    },
    /// The storage does not respond.
    #[error("the job's input cannot be read from the storage: no answer within {seconds} s")]
    TimedOut {
        /// Duration of the wait, s.
        seconds: u64,
    },
    /// The storage fails.
    #[error("the job's input cannot be read from the storage: {0}")]
    Storage(#[from] Error),
}

impl Artifacts {
    /// Stores the input of a job as JSON. The same input of the same job is the same object.
    ///
    /// # Errors
    /// The storage refuses the write.
    pub async fn store_input(
        &self,
        app: &AppId,
        job: JobId,
        json: Bytes,
    ) -> Result<StoredInput, Error> {
        let bytes = json.len() as u64;
        let sha256 = digest(json.clone()).await;
        let key = format!("{FOLDER}/{app}/{job}/{sha256}.json");
        self.put_at(&key, json).await?;
        Ok(StoredInput { key, bytes, sha256 })
    }

    /// Reads a stored input.
    ///
    /// # Errors
    /// See [`InputError`].
    pub async fn load_input(&self, stored: &StoredInput) -> Result<Bytes, InputError> {
        let StoredInput { key, bytes, sha256 } = stored;
        let damaged = || InputError::Damaged { key: key.clone() };
        let most = usize::try_from(*bytes).unwrap_or(usize::MAX);
        let json = match self.get_at_most(key, most).await {
            Ok(found) => found.ok_or_else(|| InputError::Missing { key: key.clone() })?,
            Err(Error::TooLarge { .. }) => return Err(damaged()),
            Err(error) => return Err(error.into()),
        };
        match digest(json.clone()).await == *sha256 {
            true => Ok(json),
            false => Err(damaged()),
        }
    }

    /// Deletes a stored input, if it exists.
    ///
    /// # Errors
    /// The storage refuses the deletion.
    pub async fn delete_input(&self, stored: &StoredInput) -> Result<(), Error> {
        match self.delete(&stored.key).await {
            Err(Error::Store(object_store::Error::NotFound { .. })) => Ok(()),
            deleted => deleted,
        }
    }
}

/// Returns the SHA-256 in hex, computed on a thread for blocking work: megabytes take tens of
/// milliseconds.
async fn digest(json: Bytes) -> String {
    let digest = tokio::task::spawn_blocking(move || hex::encode(Sha256::digest(&json)));
    digest.await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stored_input_is_read_whole_or_not_at_all() {
        let folder = std::env::temp_dir().join(format!("warmq-inputs-{}", JobId::generate()));
        let url = format!("file://{}", folder.display());
        let artifacts = Artifacts::open(&url.parse().unwrap()).unwrap();
        let app = AppId::parse("a/b").unwrap();
        let json = Bytes::from_static(b"{\"n\":1}");
        let stored = artifacts.store_input(&app, JobId::generate(), json.clone());
        let stored = stored.await.unwrap();
        assert_eq!(artifacts.load_input(&stored).await.unwrap(), json);
        for other in ["{\"n\":2}", "{\"n\":1", "{\"n\":1}\n"] {
            let put = artifacts.put_at(&stored.key, Bytes::from_static(other.as_bytes()));
            put.await.unwrap();
            let read = artifacts.load_input(&stored).await;
            assert!(
                matches!(read, Err(InputError::Damaged { .. })),
                "{other}: {read:?}"
            );
        }
        for _ in 0..2 {
            artifacts.delete_input(&stored).await.unwrap();
            let read = artifacts.load_input(&stored).await;
            assert!(matches!(read, Err(InputError::Missing { .. })), "{read:?}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
