//! Links between documents lead to files and headings that exist.

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
fn every_link_leads_to_a_file_and_a_heading() {
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
