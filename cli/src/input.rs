//! `--input`: JSON from the command line, a file (`@file.json`) or standard input (`-`).

use std::io::Read;

use serde_json::Value;

/// Characters shown on each side of a mistake.
const CONTEXT_CHARS: usize = 30;

/// Why an input cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("--input: {name} cannot be read: {source}")]
    Unreadable {
        /// The file, or standard input.
        name: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The text is not JSON.
    #[error("--input: {name} is not JSON: {reason}\n{place}")]
    Json {
        /// The file, or standard input.
        name: String,
        /// The error, with line and column.
        reason: serde_json::Error,
        /// The line, and a caret below the mistake.
        place: String,
    },
}

/// Reads the input that `--input` names.
///
/// # Errors
/// The file cannot be read, or is not JSON.
pub fn read(given: &str) -> Result<Value, Error> {
    let (name, text) = match given.strip_prefix('@') {
        _ if given == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().read_to_string(&mut text);
            ("standard input".to_owned(), read.map(|_| text))
        }
        Some(path) => (path.to_owned(), std::fs::read_to_string(path)),
        None => ("the text".to_owned(), Ok(given.to_owned())),
    };
    let text = text.map_err(|source| Error::Unreadable {
        name: name.clone(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|reason| Error::Json {
        place: place(&text, reason.line(), reason.column()),
        name,
        reason,
    })
}

/// Formats the part of the line around a mistake, with a caret below it. Columns count bytes from
/// 1; 0 is the start of the line.
fn place(text: &str, line: usize, column: usize) -> String {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let mut at = column.saturating_sub(1).min(line.len());
    while !line.is_char_boundary(at) {
        at -= 1;
    }
    let before: Vec<char> = line[..at].chars().collect();
    let before: String = before[before.len().saturating_sub(CONTEXT_CHARS)..]
        .iter()
        .collect();
    let after: String = line[at..].chars().take(CONTEXT_CHARS).collect();
    let indent = " ".repeat(before.chars().count());
    format!("    {before}{after}\n    {indent}^")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_pointed_at() {
        let error = read(r#"{"prompt": a red circle}"#).unwrap_err().to_string();
        let expected = "--input: the text is not JSON: expected value at line 1 column 12\n    \
                        {\"prompt\": a red circle}\n               ^";
        assert_eq!(error, expected);
    }

    #[test]
    fn a_file_is_read_and_named_in_errors() {
        let path = std::env::temp_dir().join(format!("warmq-input-{}.json", std::process::id()));
        let given = format!("@{}", path.display());
        std::fs::write(&path, "{\"a\": 1}").unwrap();
        assert_eq!(read(&given).unwrap()["a"], 1);
        std::fs::write(&path, "{\n  \"a\": é,\n}").unwrap();
        let error = read(&given).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read(&given), Err(Error::Unreadable { .. })));
    }
}
