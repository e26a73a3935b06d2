//! Whether the storage is used by this installation alone: the routers and workers of one namespace
//! of one Redis. Each leaves a file with its id, since it cannot know the jobs of others.

use futures::TryStreamExt;
use warmq_objects::{Error, ObjectStorage};

/// Folder of the ids. No part of a file's key begins with a dot.
const FOLDER: &str = ".installations";

/// The ids of other installations in a storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Others(Vec<String>);

impl Others {
    /// Leaves the id, and returns those of others.
    pub(super) async fn find(storage: &ObjectStorage, id: &str) -> Result<Self, Error> {
        storage
            .put_at(&format!("{FOLDER}/{id}"), bytes::Bytes::new())
            .await?;
        let listed: Vec<_> = storage.list(FOLDER).try_collect().await?;
        let ids = listed.into_iter().filter_map(|file| {
            let (_, id) = file.key.rsplit_once('/')?;
            Some(id.to_owned())
        });
        Ok(Self(ids.filter(|other| other != id).collect()))
    }

    /// Returns why nothing is deleted; `None` if there are no others.
    pub(super) fn refusal(&self) -> Option<String> {
        let first = self.0.first()?;
        Some(format!(
            "the storage is used by another namespace or Redis: give each a folder or prefix of \
             its own with --storage, or delete {FOLDER}/{first} if it is no longer used"
        ))
    }
}
