//! Files that stay on disk for later jobs, within a size limit.
//!
//! The folder is the only state: it survives restarts, and several workers can share it. A file's
//! name is a hash of its key. Times of access order eviction; a lock on each file in use keeps it
//! from eviction. Files that are still being written have locks as well, so what a crash leaves
//! behind is evicted like any other file.

use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// A folder of files, and its size limit; cheap to clone.
#[derive(Debug, Clone)]
pub struct DiskCache {
    folder: Arc<Path>,
    limit_bytes: u64,
}

/// A file of the cache, which is not evicted until this is dropped.
#[derive(Debug)]
pub struct CachedFile {
    path: PathBuf,
    _lock: File,
}

impl CachedFile {
    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A file that is being written.
#[derive(Debug)]
pub(super) struct NewFile(NamedTempFile);

impl NewFile {
    /// Returns a handle to write the content with.
    pub(super) fn writer(&self) -> io::Result<tokio::fs::File> {
        Ok(tokio::fs::File::from_std(self.0.reopen()?))
    }
}

impl DiskCache {
    /// Creates the cache. The folder need not exist yet.
    pub fn new(folder: PathBuf, limit_bytes: u64) -> Self {
        Self {
            folder: folder.into(),
            limit_bytes,
        }
    }

    /// Returns the size limit of one file, bytes.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Returns the file of a key, if it is in the cache, as the most recently used one.
    pub(super) fn find(&self, key: &str) -> Option<CachedFile> {
        let path = self.path(key);
        let file = File::open(&path).ok()?;
        flock(&file, FlockOperation::LockShared).ok()?;
        // It may have been evicted before it was locked.
        let (locked, named) = (file.metadata().ok()?, fs::metadata(&path).ok()?);
        if (locked.dev(), locked.ino()) != (named.dev(), named.ino()) {
            return None;
        }
        let now = FileTimes::new().set_accessed(SystemTime::now());
        // Only the order of eviction depends on it.
        let _ = file.set_times(now);
        Some(CachedFile { path, _lock: file })
    }

    /// Begins a file. Without [`DiskCache::insert`] it is removed.
    pub(super) fn begin(&self) -> io::Result<NewFile> {
        fs::create_dir_all(&self.folder)?;
        let file = NamedTempFile::new_in(&self.folder)?;
        flock(file.as_file(), FlockOperation::LockShared)?;
        Ok(NewFile(file))
    }

    /// Adds a written file under a key, and evicts the least recently used ones that exceed the
    /// limit.
    pub(super) fn insert(&self, key: &str, file: NewFile) -> io::Result<CachedFile> {
        let path = self.path(key);
        let lock = file.0.persist(&path)?;
        self.evict()?;
        Ok(CachedFile { path, _lock: lock })
    }

    fn evict(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in self.folder.read_dir()? {
            let path = entry?.path();
            // Another worker may have removed it.
            let found = fs::metadata(&path).ok().filter(fs::Metadata::is_file);
            files.extend(found.map(|found| (found.accessed().ok(), found.len(), path)));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files {
            if total <= self.limit_bytes {
                break;
            }
            if is_unused(&path) && fs::remove_file(&path).is_ok() {
                total -= bytes;
            }
        }
        Ok(())
    }

    fn path(&self, key: &str) -> PathBuf {
        let hash = hex::encode(Sha256::digest(key));
        self.folder.join(format!("{hash}.safetensors"))
    }
}

/// Returns whether no job uses a file.
fn is_unused(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| {
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive);
        locked.is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn add(cache: &DiskCache, key: &str, bytes: usize) -> CachedFile {
        let mut new = cache.begin().unwrap();
        new.0.write_all(&vec![7; bytes]).unwrap();
        cache.insert(key, new).unwrap()
    }

    fn files(folder: &Path) -> usize {
        folder.read_dir().unwrap().count()
    }

    #[test]
    fn the_least_recently_used_files_are_evicted_unless_they_are_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(folder.path().join("new"), 100);
        let used = add(&cache, "used", 40);
        drop(add(&cache, "old", 40));
        assert!(cache.find("old").is_some());
        drop(add(&cache, "new", 40));
        assert!(cache.find("old").is_none(), "the only unused one");
        assert!(cache.find("new").is_some());
        drop(used);
        drop(cache.find("used"));
        drop(add(&cache, "newer", 40));
        assert!(cache.find("used").is_some(), "used after the new one");
        assert!(cache.find("new").is_none());
        assert_eq!(files(&folder.path().join("new")), 2);
    }

    #[test]
    fn a_file_stays_until_its_last_user_is_done() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(folder.path().to_owned(), 10);
        let first = add(&cache, "a", 8);
        let second = cache.find("a").unwrap();
        drop(first);
        drop(add(&cache, "b", 8));
        assert_eq!(fs::read(second.path()).unwrap(), [7; 8]);
        drop(second);
        drop(add(&cache, "c", 8));
        assert!(cache.find("a").is_none() && cache.find("b").is_none());
    }

    #[test]
    fn a_file_that_was_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = DiskCache::new(folder.path().to_owned(), 10);
        drop(cache.begin().unwrap());
        assert_eq!(files(folder.path()), 0);
        // A crash leaves it unlocked.
        fs::write(folder.path().join(".tmp"), [0; 10]).unwrap();
        drop(add(&cache, "a", 8));
        assert_eq!(files(folder.path()), 1);
        assert!(cache.find("a").is_some());
    }
}
