//! Detects changes of a model's files by a few `stat` calls, without reading them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::single_file;

/// Identity of a model's files: inode, length, modification and change time of each file in its
/// folder and in the folders of its components. The change time also reveals a copy in place that
/// keeps length and modification time, as `rsync --inplace` does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, Option<Identity>)>);

type Identity = (u64, u64, [i64; 4]);

impl Stamp {
    /// Returns the stamp of a model's folder or single file.
    pub(crate) fn of(model: &Path) -> Self {
        let mut files = Vec::new();
        let paths: Vec<PathBuf> = match model.is_file() {
            true => with_parts(model).collect(),
            false => entries(model).collect(),
        };
        for path in paths {
            match path.is_dir() {
                true => files.extend(entries(&path)),
                false => files.push(path),
            }
        }
        files.sort();
        let stamped = files.into_iter().map(|path| {
            let identity = identity(&path);
            (path, identity)
        });
        Self(stamped.collect())
    }
}

/// Returns a single file and the folders that may have its other parts.
fn with_parts(file: &Path) -> impl Iterator<Item = PathBuf> {
    let parts = single_file::part_names().flat_map(|part| {
        let own = file.with_extension("").join(part);
        [file.with_file_name(part), own]
    });
    [file.to_owned()].into_iter().chain(parts)
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

fn identity(file: &Path) -> Option<Identity> {
    let found = fs::metadata(file).ok()?;
    let times = [
        found.mtime(),
        found.mtime_nsec(),
        found.ctime(),
        found.ctime_nsec(),
    ];
    Some((found.ino(), found.len(), times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_any_file_of_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = || Stamp::of(folder.path());
        let mut stamps = vec![stamp()];
        fs::create_dir(folder.path().join("unet")).unwrap();
        let weights = folder.path().join("unet/weights.safetensors");
        for (file, content) in [
            (folder.path().join("manifest.json"), "{}"),
            (weights.clone(), "old"),
            (weights, "new!"),
            (folder.path().join("unet/config.json"), "{}"),
        ] {
            fs::write(file, content).unwrap();
            assert_eq!(stamp(), stamp());
            stamps.push(stamp());
        }
        stamps.dedup();
        assert_eq!(stamps.len(), 5);
    }
    #[test]
    fn weights_overwritten_in_place_with_their_length_and_time_kept_change_the_stamp() {
        let folder = tempfile::tempdir().unwrap();
        let weights = folder.path().join("weights.safetensors");
        fs::write(&weights, "old").unwrap();
        let (before, time) = (
            Stamp::of(folder.path()),
            fs::metadata(&weights).unwrap().modified().unwrap(),
        );
        fs::write(&weights, "new").unwrap();
        let file = fs::File::options().write(true).open(&weights).unwrap();
        file.set_modified(time).unwrap();
        assert_ne!(Stamp::of(folder.path()), before);
    }
}
