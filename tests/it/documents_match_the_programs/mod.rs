//! Documents do what they say: each command and snippet in them is run here or named with the
//! reason why it is not, settings and names match the programs, and links lead somewhere.

mod blocks;
mod names;
mod references;
mod source_names;

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns README.md, ARCHITECTURE.md and all of docs/: paths from the root, and texts.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("ARCHITECTURE.md")];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let path = folder.join(entry.unwrap().file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                paths.push(path);
            }
        }
    }
    let named = |path: PathBuf| {
        let path = path.to_str().unwrap().to_owned();
        let text = document(&path);
        (path, text)
    };
    paths.into_iter().map(named).collect()
}

fn document(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn documents_stay_short() {
    for (path, text) in documents() {
        let limit = match path.as_str() {
            "README.md" => 200,
            "ARCHITECTURE.md" => 250,
            path if path.starts_with("docs/decisions/") => 40,
            _ => continue,
        };
        let lines = text.lines().count();
        assert!(
            lines <= limit,
            "{path} has {lines} lines, the limit is {limit}"
        );
    }
}
