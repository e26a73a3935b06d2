//! The pictures and other files in an output: fields named `url` whose value points to a router's
//! `/files/`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use url::Url;
use warmq_types::ids::JobId;

use crate::client::Client;

/// Returns the URLs of the files in `output`, in order.
pub fn urls(output: &Value) -> Vec<Url> {
    let mut found = Vec::new();
    collect(output, &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<Url>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            for (name, field) in fields {
                match field.as_str().filter(|_| name == "url").map(Url::parse) {
                    Some(Ok(url)) if is_file(&url) => found.push(url),
                    _ => collect(field, found),
                }
            }
        }
        _ => {}
    }
}

fn is_file(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.path().contains("/files/")
}

/// Saves the files of a job's output as `<folder>/<job>-<file name>`, and returns their paths.
///
/// # Errors
/// A file cannot be fetched or written.
pub async fn save(
    client: &Client,
    job: JobId,
    output: &Value,
    folder: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder)
        .with_context(|| format!("folder {} cannot be created", folder.display()))?;
    let mut saved = Vec::new();
    for url in urls(output) {
        let body = client
            .file(&url)
            .await
            .with_context(|| format!("picture {url}"))?;
        let path = folder.join(format!("{job}-{}", file_name(&url)));
        std::fs::write(&path, body)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        saved.push(path);
    }
    Ok(saved)
}

/// Returns the last part of the path, with all characters replaced that could escape the folder.
fn file_name(url: &Url) -> String {
    let last = url.path_segments().and_then(|mut parts| parts.next_back());
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || "._-".contains(c) {
            c
        } else {
            '_'
        }
    };
    last.unwrap_or_default().chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_files_of_a_router_are_pictures() {
        let output = json!({
            "images": [{"url": "http://h/files/a/b/1/0.png"}, {"url": "http://h/files/a/b/1/1.png"}],
            "source": {"url": "http://elsewhere/x.png"},
            "prompt": "http://h/files/no",
        });
        let urls: Vec<String> = urls(&output).iter().map(Url::to_string).collect();
        assert_eq!(
            urls,
            ["http://h/files/a/b/1/0.png", "http://h/files/a/b/1/1.png"]
        );
    }

    #[test]
    fn a_file_name_cannot_escape_its_folder() {
        let name = |url: &str| file_name(&Url::parse(url).unwrap());
        assert_eq!(
            name("http://h/files/..%2f..%2fx.png"),
            "..%2f..%2fx.png".replace('%', "_")
        );
        assert_eq!(name("http://h/files/0.png?a=/b"), "0.png");
    }
}
