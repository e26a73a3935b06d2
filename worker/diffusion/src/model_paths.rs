//! Where the models of a folder lie, and their names:
//!
//! | path in the models folder | name |
//! | --- | --- |
//! | `NAME/` | `NAME` |
//! | `OWNER/NAME/`, if `OWNER/` is no model | `OWNER/NAME` |
//! | `NAME.safetensors`, a single file with all networks | `NAME` |
//! | `models--OWNER--NAME/`, the cache of Hugging Face's hub | `OWNER/NAME` |
//!
//! The hub's cache has a folder per revision, whose files are links to `blobs/`; `refs/main` names
//! the current one.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use crate::hugging_face;
use crate::manifest;
use crate::single_file;

/// How the name of a folder of the hub's cache begins.
const HUB_PREFIX: &str = "models--";

/// What stands for the slash of a name there.
const HUB_SLASH: &str = "--";

/// A revision is a hash of 40 digits, or the name of a branch.
const MAX_REVISION_BYTES: u64 = 255;

/// A place in a models folder where a model can be.
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// Returns the path of a model; `None` if there is none of this name, or the name is a path.
pub(crate) fn find(models: &Path, name: &str) -> Option<PathBuf> {
    let paths = match name.split_once('/') {
        None if is_plain(name) => [Some(models.join(name)), hub_snapshot(models, name)],
        Some((owner, rest)) if is_plain(owner) && is_plain(rest) => {
            let owner = models.join(owner);
            let plain = (!is_folder(&owner)).then(|| owner.join(rest));
            [plain, hub_snapshot(models, &name.replace('/', HUB_SLASH))]
        }
        _ => [None, None],
    };
    let folder = paths.into_iter().flatten().find(|path| is_folder(path));
    let file = || models.join(format!("{name}.{}", single_file::EXTENSION));
    folder.or_else(|| Some(file()).filter(|file| is_plain(name) && is_single_file(file)))
}

/// Returns all places in a models folder where a model can be, sorted by name.
pub(crate) fn candidates(models: &Path) -> Vec<Candidate> {
    let mut found = Vec::new();
    for (name, path) in entries(models) {
        if let Some(repository) = name.strip_prefix(HUB_PREFIX) {
            found.extend(hub_snapshot(models, repository).map(|path| Candidate {
                name: repository.replacen(HUB_SLASH, "/", 1),
                path,
            }));
            continue;
        }
        if path.is_dir() && !is_model(&path) && !name.starts_with('.') {
            let inner = entries(&path).into_iter().filter(|(_, path)| path.is_dir());
            found.extend(inner.map(|(inner, path)| Candidate {
                name: format!("{name}/{inner}"),
                path,
            }));
        }
        let name = match is_single_file(&path) {
            true => stem(&path),
            false => name,
        };
        found.push(Candidate { name, path });
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

/// Returns whether a model is at this path.
pub(crate) fn is_model(path: &Path) -> bool {
    is_folder(path) || is_single_file(path)
}

/// Returns a file's name without its extension.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// Hidden files are downloads that have not ended.
fn is_single_file(path: &Path) -> bool {
    let hidden = path
        .file_name()
        .and_then(|name| name.to_str()?.chars().next())
        == Some('.');
    path.extension()
        .is_some_and(|end| end == single_file::EXTENSION)
        && !hidden
        && path.is_file()
}

fn is_folder(path: &Path) -> bool {
    path.join(manifest::FILE).is_file() || path.join(hugging_face::INDEX).is_file()
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let named = entries.map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    named.flatten().collect()
}

/// Returns the folder of the current revision in the hub's cache. `repository`: `OWNER--NAME`.
fn hub_snapshot(models: &Path, repository: &str) -> Option<PathBuf> {
    let folder = models.join(format!("{HUB_PREFIX}{repository}"));
    let reference = folder.join("refs/main");
    if !reference.is_file() {
        return None;
    }
    let mut revision = String::new();
    let file = File::open(reference).ok()?;
    file.take(MAX_REVISION_BYTES)
        .read_to_string(&mut revision)
        .ok()?;
    let revision = revision.trim();
    is_plain(revision).then(|| folder.join("snapshots").join(revision))
}

/// Returns whether a name is that of an entry of a folder, not a path to somewhere else.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name)
        && !name.contains(['\\', '\0'])
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn model(folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(hugging_face::INDEX), "{}").unwrap();
    }

    fn names(models: &Path) -> Vec<String> {
        let models = candidates(models).into_iter();
        let models = models.filter(|candidate| is_model(&candidate.path));
        models.map(|candidate| candidate.name).collect()
    }

    #[test]
    fn folders_of_an_owner_have_names_with_a_slash() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path();
        model(&models.join("plain"));
        model(&models.join("plain/inner"));
        model(&models.join("owner/name"));
        model(&models.join("owner/folder/deep"));
        model(&models.join(".hidden/name"));
        assert_eq!(names(models), ["owner/name", "plain"]);
        assert_eq!(find(models, "owner/name"), Some(models.join("owner/name")));
        for unknown in [
            "plain/inner",
            "owner",
            "owner/",
            "/name",
            "owner/folder/deep",
            "owner/../plain",
            "../owner/name",
            "./plain",
        ] {
            assert_eq!(find(models, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_current_revision_in_the_cache_of_the_hub_is_a_model() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path();
        let repository = models.join("models--owner--a--name");
        for made in ["blobs", "refs", "snapshots/old", "snapshots/new"] {
            fs::create_dir_all(repository.join(made)).unwrap();
        }
        fs::write(repository.join("blobs/0a"), "{}").unwrap();
        for revision in ["old", "new"] {
            let link = repository.join("snapshots").join(revision);
            symlink("../../blobs/0a", link.join(hugging_face::INDEX)).unwrap();
        }
        assert!(names(models).is_empty(), "no reference yet");
        for revision in ["old", "new\n"] {
            fs::write(repository.join("refs/main"), revision).unwrap();
            let path = repository.join("snapshots").join(revision.trim());
            assert_eq!(names(models), ["owner/a--name"]);
            assert_eq!(find(models, "owner/a--name"), Some(path));
        }
        model(&models.join("elsewhere"));
        for revision in ["../../../elsewhere", "..", "", "missing", "/"] {
            fs::write(repository.join("refs/main"), revision).unwrap();
            assert_eq!(find(models, "owner/a--name"), None, "{revision:?}");
        }
    }
}
