//! Locates the programs beside the running one, where cargo puts them.

use std::path::{Path, PathBuf};

use crate::error::Error;

/// Returns the path of `name` in `folder`; without one, in the folder of the current executable or,
/// for a test in `target/<profile>/deps`, above it.
pub(crate) fn find(name: &'static str, folder: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(folder) = folder {
        return find_in(folder, name);
    }
    let this = std::env::current_exe().map_err(Error::io("this program's own path"))?;
    let beside = this.parent().unwrap_or(Path::new("."));
    let folder = match beside.file_name() {
        Some(deps) if deps == "deps" || deps == "examples" => beside.parent().unwrap_or(beside),
        _ => beside,
    };
    find_in(folder, name)
}

fn find_in(folder: &Path, name: &'static str) -> Result<PathBuf, Error> {
    let path = folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    if path.is_file() {
        Ok(path)
    } else {
        Err(Error::NoBinary {
            name,
            near: folder.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_binary_is_reported_with_the_build_command() {
        let folder = tempfile::tempdir().unwrap();
        let error = find_in(folder.path(), "warmq-router").unwrap_err();
        let text = error.to_string();
        assert!(text.contains("cargo build --workspace --bins"), "{text}");
        std::fs::write(folder.path().join("warmq-router"), "").unwrap();
        assert!(find_in(folder.path(), "warmq-router").is_ok());
    }
}
