//! Reads the small, untrusted files of a model's folder.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path};

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::manifest::Manifest;
use crate::unsupported::{LFS_MESSAGE, is_lfs_pointer, is_lfs_pointer_file};

/// Files up to this size are hashed before a load; of larger ones only the size is compared, since
/// a load must not read gigabytes twice. Larger text files are rejected.
const MAX_HASHED_BYTES: u64 = 64 << 20;

pub(crate) fn bad(model: &str, file: &str, message: impl Into<String>) -> Error {
    Error::BadCheckpoint {
        model: model.to_owned(),
        file: file.to_owned(),
        tensor: None,
        message: message.into(),
        source: None,
    }
}

pub(crate) fn read_text(folder: &Path, model: &str, file: &str) -> Result<String, Error> {
    let unreadable = |e: io::Error| bad(model, file, "cannot be read").because(e);
    let bytes = small_file(&folder.join(file)).map_err(unreadable)?;
    if is_lfs_pointer(&bytes) {
        return Err(bad(model, file, LFS_MESSAGE));
    }
    String::from_utf8(bytes).map_err(|e| bad(model, file, "not UTF-8").because(e))
}

pub(crate) fn read_json<T: DeserializeOwned>(
    folder: &Path,
    model: &str,
    file: &str,
) -> Result<T, Error> {
    serde_json::from_str(&without_extensions(&read_text(folder, model, file)?))
        .map_err(|e| bad(model, file, format!("invalid: {e}")).because(e))
}

/// Returns JSON without what Python adds to it: a byte-order mark, and the numbers `NaN`,
/// `Infinity` and `-Infinity`, which become null.
fn without_extensions(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut plain = String::with_capacity(text.len());
    let (mut quoted, mut escaped) = (false, false);
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let number = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|number| !quoted && rest.starts_with(number));
        if let Some(number) = number {
            plain.push_str("null");
            rest = &rest[number.len()..];
            continue;
        }
        if next == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && next == '\\' && !escaped;
        plain.push(next);
        rest = &rest[next.len_utf8()..];
    }
    plain
}

/// Returns whether a listed path stays within the folder.
pub(crate) fn stays_inside(path: &str) -> bool {
    Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
}

/// Compares a model's files with their listed sizes and, up to 64 MiB, checksums.
pub(crate) fn verify_files(manifest: &Manifest) -> Result<(), Error> {
    for entry in &manifest.files {
        let path = manifest.folder().join(&entry.path);
        let unreadable = |e: io::Error| manifest.bad(&entry.path, "cannot be read").because(e);
        let bytes = fs::metadata(&path).map_err(unreadable)?.len();
        if is_lfs_pointer_file(&path) {
            return Err(manifest.bad(&entry.path, LFS_MESSAGE));
        }
        if bytes != entry.bytes {
            let message = format!("{bytes} bytes, but the manifest lists {}", entry.bytes);
            return Err(manifest.bad(&entry.path, message));
        }
        if bytes > MAX_HASHED_BYTES {
            continue;
        }
        let digest = Sha256::digest(small_file(&path).map_err(unreadable)?);
        if format!("{digest:x}") != entry.sha256.to_ascii_lowercase() {
            let message = "its SHA-256 differs from the manifest's: damaged or replaced";
            return Err(manifest.bad(&entry.path, message));
        }
    }
    Ok(())
}

/// Reads a regular file: opening a pipe would wait for a writer, and a device may be endless.
fn small_file(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_HASHED_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_HASHED_BYTES {
        return Err(io::Error::other("larger than 64 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listed_file_cannot_lead_out_of_the_folder() {
        assert!(stays_inside("unet/config.json"));
        for path in ["../x", "/etc/passwd", "a/../../x", "./x"] {
            assert!(!stays_inside(path), "{path}");
        }
    }

    #[test]
    fn what_is_no_small_file_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let large = File::create(folder.path().join("large")).unwrap();
        large.set_len(MAX_HASHED_BYTES + 1).unwrap();
        for file in ["folder", "large", "missing"] {
            let error = read_text(folder.path(), "model", file).unwrap_err();
            assert!(
                matches!(
                    &error,
                    Error::BadCheckpoint {
                        source: Some(_),
                        ..
                    }
                ),
                "{error}"
            );
        }
        assert!(small_file(Path::new("/dev/zero")).is_err());
    }

    #[test]
    fn what_python_adds_to_json_is_removed_outside_of_strings() {
        let python = "\u{feff}{\"a\": -Infinity, \"NaN \\\" Infinity\": [NaN, Infinity, -1]}";
        let json = "{\"a\": null, \"NaN \\\" Infinity\": [null, null, -1]}";
        assert_eq!(without_extensions(python), json);
        assert_eq!(without_extensions(json), json);
    }
}
