//! Links between documents lead to files and headings that exist, and so do paths in their text.

use std::path::PathBuf;

use super::{documents, root};

/// Returns the targets of Markdown links and pictures outside of fenced blocks.
fn targets(text: &str) -> Vec<String> {
    let outside = text.split("\n```").step_by(2);
    let links = outside.flat_map(|part| part.split("](").skip(1));
    links
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.to_owned())
        .collect()
}

/// Returns the anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_target_exists() {
    let documents = documents();
    let mut count = 0;
    for (path, text) in &documents {
        for target in targets(text) {
            if target.starts_with("https://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = match file {
                "" => root().join(path),
                file => root().join(path).parent().unwrap().join(file),
            };
            assert!(file.exists(), "{path}: {target} does not exist");
            if !anchor.is_empty() {
                let text = std::fs::read_to_string(&file).unwrap();
                let exists = anchors(&text).iter().any(|found| found == anchor);
                assert!(exists, "{path}: {target} has no such heading");
            }
        }
    }
    assert!(count > 50, "{count} links");
}

/// Endings of a path that is checked.
const PATH_ENDINGS: [&str; 6] = [".rs", ".lua", ".md", ".toml", ".sh", "/"];

/// Folders without files of the repository.
const UNTRACKED: [&str; 5] = [".git", ".venv", "node_modules", "out", "target"];

/// What ends like a path and is none of this repository's: folders that programs make, and
/// prefixes of fal's endpoint ids.
const NO_PATHS: [&str; 4] = ["out/", "scaled/", "workflows/", "comfy/"];

/// Returns the paths of this repository that a document has in backticks.
fn paths(text: &str) -> Vec<&str> {
    let outside = text.split("\n```").step_by(2);
    let quoted = outside.flat_map(|part| part.split('`').skip(1).step_by(2));
    quoted
        .filter(|path| path.contains('/') && PATH_ENDINGS.iter().any(|end| path.ends_with(end)))
        .filter(|path| !path.starts_with(['/', '.', '<']))
        .filter(|path| !path.contains([' ', ':', '*', '=', '…']))
        .filter(|path| !NO_PATHS.iter().any(|prefix| path.starts_with(prefix)))
        .collect()
}

/// Returns every file and folder of the repository, by its path from the root.
fn tree() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let name = entry.unwrap().file_name();
            let path = folder.join(&name);
            let is_tracked = UNTRACKED.iter().all(|untracked| name != *untracked);
            if is_tracked && root().join(&path).is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

#[test]
fn every_path_in_a_document_exists() {
    let tree = tree();
    let mut count = 0;
    let mut missing = Vec::new();
    for (document, text) in documents() {
        for path in paths(&text) {
            count += 1;
            // A path may begin within the crate that the text is about.
            let exists = tree.iter().any(|found| found.ends_with(path));
            if !exists {
                missing.push(format!("{document}: {path}"));
            }
        }
    }
    assert!(count > 80, "{count} paths");
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}
