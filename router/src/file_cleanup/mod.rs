//! Deletes files that nothing refers to (of expired jobs, old uploads, abandoned parts) and the
//! oldest ones of an app above its size bound.
//!
//! | module | what it does |
//! | --- | --- |
//! | `owner` | the owner of a file, by its key; pure |
//! | `rule` | the age from which a file may be deleted; pure |
//! | `size_bound` | the files above the size bound of their app; pure |
//! | `installation` | whether others use the storage, too |
//!
//! A cleanup lists the storage. Files that are old enough are deleted unless Redis knows their job,
//! or has an entry that keeps them. Files that warmq did not write stay.

mod installation;
mod owner;
mod rule;
mod size_bound;

use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use tokio_util::sync::CancellationToken;
use warmq_config::KeepFor;
use warmq_objects::{ListedFile, ObjectStorage};
use warmq_process::retry;
use warmq_store::{Secret, Store};
use warmq_types::ids::{AppId, JobId};

use crate::apps::AppDirectory;
use installation::Others;
use owner::Owner;
use size_bound::FileSizes;

/// Interval at which a router checks whether a cleanup is due.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// Number of files whose jobs are looked up in one round trip.
const BATCH: usize = 500;

/// Deletes files while a router runs.
pub(crate) struct FileCleanup {
    pub(crate) store: Store,
    pub(crate) storage: ObjectStorage,
    pub(crate) apps: AppDirectory,
    pub(crate) keep_uploads: KeepFor,
    pub(crate) interval: Duration,
}

/// Result of a cleanup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Deleted {
    files: u64,
    bytes: u64,
}

/// Why a cleanup ended early.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    #[error("the storage cannot be listed: {0}")]
    Storage(#[from] warmq_objects::Error),
    #[error("{0}")]
    NotAlone(String),
}

impl FileCleanup {
    /// Cleans up once per interval, as one of all routers, until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut checks = tokio::time::interval(self.interval.min(CHECK_INTERVAL));
        checks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = checks.tick() => {}
            }
            let begin = || self.store.file_retention().begin_cleanup(self.interval);
            match retry::until_success("beginning a cleanup", &shutdown, begin).await {
                None => return Ok(()),
                Some(false) => continue,
                Some(true) => {}
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                cleaned = self.clean_up() => match cleaned {
                    Ok(Deleted { files: 0, .. }) => tracing::debug!("no files to delete"),
                    Ok(Deleted { files, bytes }) => {
                        tracing::info!(files, bytes, "deleted files that are not needed");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no files were deleted; the next cleanup tries again");
                    }
                }
            }
        }
    }

    async fn clean_up(&self) -> Result<Deleted, Error> {
        let secrets = self.store.secrets();
        let id = secrets.secret(Secret::Installation, rand::random()).await?;
        let others = Others::find(&self.storage, &hex::encode(&id[..16])).await?;
        if let Some(refusal) = others.refusal() {
            return Err(Error::NotAlone(refusal));
        }
        let (mut deleted, mut batch) = (Deleted::default(), Vec::new());
        let mut sizes = FileSizes::default();
        let mut files = self.storage.list("");
        while let Some(file) = files.try_next().await? {
            let Some(owner) = Owner::of(&file.key) else {
                continue;
            };
            if let Owner::Job(app, _) = &owner
                && self.apps.config(app).max_files.is_some()
            {
                sizes.add(app.clone(), file.modified, file.bytes);
            }
            if self.is_old(&file, &owner) {
                batch.push((file, owner));
            }
            if batch.len() == BATCH {
                self.delete_unneeded(std::mem::take(&mut batch), &mut deleted)
                    .await?;
            }
        }
        self.delete_unneeded(batch, &mut deleted).await?;
        let max_bytes = |app: &AppId| Some(self.apps.config(app).max_files?.0);
        for (app, until) in sizes.excess(max_bytes) {
            self.delete_excess(&app, until, &mut deleted).await?;
        }
        Ok(deleted)
    }

    /// Deletes the files of ended jobs of an app that were modified before `until`.
    async fn delete_excess(
        &self,
        app: &AppId,
        until: SystemTime,
        deleted: &mut Deleted,
    ) -> Result<(), Error> {
        let until = until.min(SystemTime::now() - rule::MIN_AGE);
        let mut files = self.storage.list(app.as_str());
        let mut batch = Vec::new();
        while let Some(file) = files.try_next().await? {
            if file.modified >= until {
                continue;
            }
            if let Some(Owner::Job(_, job)) = Owner::of(&file.key) {
                batch.push((file, job));
            }
            if batch.len() == BATCH {
                self.delete_of_ended(app, std::mem::take(&mut batch), deleted)
                    .await?;
            }
        }
        self.delete_of_ended(app, batch, deleted).await
    }

    /// Deletes the files of the jobs that have ended and whose submitters requested no lifetime.
    async fn delete_of_ended(
        &self,
        app: &AppId,
        batch: Vec<(ListedFile, JobId)>,
        deleted: &mut Deleted,
    ) -> Result<(), Error> {
        let jobs: Vec<JobId> = batch.iter().map(|(_, job)| *job).collect();
        let may_go = self.store.file_retention().may_go(app, &jobs).await?;
        for ((file, _), may_go) in batch.into_iter().zip(may_go) {
            if may_go {
                self.delete(&file, deleted).await;
            }
        }
        Ok(())
    }

    /// Returns whether a file is old enough to be deleted.
    fn is_old(&self, file: &ListedFile, owner: &Owner) -> bool {
        let age = SystemTime::now().duration_since(file.modified);
        age.is_ok_and(|age| {
            rule::is_old(owner, age, self.keep_uploads, |app| self.apps.config(app))
        })
    }

    async fn delete_unneeded(
        &self,
        batch: Vec<(ListedFile, Owner)>,
        deleted: &mut Deleted,
    ) -> Result<(), Error> {
        let folders: Vec<_> = batch
            .iter()
            .filter_map(|(_, owner)| owner.folder())
            .collect();
        let needed = self.store.file_retention().are_needed(&folders).await?;
        let mut needed = needed.into_iter();
        for (file, owner) in batch {
            let is_needed = owner.folder().is_some() && needed.next().unwrap_or(true);
            if is_needed {
                continue;
            }
            self.delete(&file, deleted).await;
        }
        Ok(())
    }

    async fn delete(&self, file: &ListedFile, deleted: &mut Deleted) {
        match self.storage.delete(&file.key).await {
            Ok(()) => {
                deleted.files += 1;
                deleted.bytes += file.bytes;
            }
            // Another process deleted it, or the storage refuses: the next cleanup finds it.
            Err(error) => tracing::debug!(key = file.key, %error, "could not delete a file"),
        }
    }
}
