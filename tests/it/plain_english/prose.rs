//! The texts in source files: comments, error texts, descriptions and log messages.

use std::path::{Path, PathBuf};

pub(crate) const FOLDERS: [&str; 6] = ["cli", "common", "dev", "router", "tests", "worker"];

/// A line of a text that people read.
#[derive(Debug, PartialEq)]
pub(crate) struct Prose {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) is_comment: bool,
}

/// Returns the comments and messages of a Rust file, or the comments of a Lua script.
pub(crate) fn prose(path: &str, source: &str) -> Vec<Prose> {
    match path.ends_with(".lua") {
        true => lua(source),
        false => Reader::read(source),
    }
}

/// Splits Rust into comments and messages: strings of error texts, descriptions and log lines.
struct Reader<'a> {
    rest: &'a str,
    line: usize,
    /// Nesting of parentheses.
    depth: usize,
    /// The nesting within which strings are messages.
    message: Option<usize>,
    /// Whether the next string is a description of utoipa.
    is_description: bool,
    found: Vec<Prose>,
}

impl Reader<'_> {
    fn read(source: &str) -> Vec<Prose> {
        let mut reader = Reader {
            rest: source,
            line: 1,
            depth: 0,
            message: None,
            is_description: false,
            found: Vec::new(),
        };
        let mut previous = ' ';
        while let Some(next) = reader.rest.chars().next() {
            let in_name = previous.is_alphanumeric() || previous == '_';
            previous = reader.step(next, in_name);
        }
        reader.found
    }

    /// Reads one token, or one character; returns its last character.
    fn step(&mut self, next: char, in_name: bool) -> char {
        if self.rest.starts_with("//") {
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.add(end, true);
        } else if self.rest.starts_with("/*") {
            let end = self.rest.find("*/").map_or(self.rest.len(), |at| at + 2);
            self.add(end, true);
        } else if let Some(length) = raw_string(self.rest).filter(|_| !in_name) {
            self.string(length);
        } else if next == '"' {
            self.string(string(self.rest));
        } else if let Some(length) = character(self.rest) {
            self.skip(length);
        } else {
            if !in_name && starts_message(self.rest) {
                self.message.get_or_insert(self.depth);
            }
            self.is_description |= !in_name && self.rest.starts_with("description = ");
            match next {
                '(' | '[' | '{' => self.depth += 1,
                ')' | ']' | '}' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.message = self.message.filter(|outer| *outer < self.depth);
                }
                _ => {}
            }
            self.skip(next.len_utf8());
            return next;
        }
        ' '
    }

    fn string(&mut self, length: usize) {
        match self.message.is_some() || std::mem::take(&mut self.is_description) {
            true => self.add(length, false),
            false => self.skip(length),
        }
    }

    fn add(&mut self, length: usize, is_comment: bool) {
        let lines = self.rest[..length].split('\n');
        for (line, text) in (self.line..).zip(lines) {
            let text = text.to_owned();
            self.found.push(Prose {
                line,
                text,
                is_comment,
            });
        }
        self.skip(length);
    }

    fn skip(&mut self, length: usize) {
        let (skipped, rest) = self.rest.split_at(length);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }
}

/// Calls and attributes whose strings are messages.
const MESSAGES: [&str; 17] = [
    "#[error(",
    "trace!(",
    "debug!(",
    "info!(",
    "warn!(",
    "error!(",
    "bail!(",
    "anyhow!(",
    "ensure!(",
    "context(",
    "with_context(",
    "Err(",
    "map_err(",
    "ok_or(",
    "ok_or_else(",
    "problem(",
    "problem_at(",
];

/// Returns whether what follows is one of [`MESSAGES`], or the constructor of an error or fault.
fn starts_message(rest: &str) -> bool {
    MESSAGES.iter().any(|start| rest.starts_with(start)) || starts_constructor(rest)
}

/// Returns whether what follows is `SomeError::name(` or `Fault::name(`.
fn starts_constructor(rest: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let path = rest.split_once("::").and_then(|(of, rest)| {
        let (name, _) = rest.split_once('(')?;
        Some((of, name))
    });
    path.is_some_and(|(of, name)| {
        let is_error = of.ends_with("Error") || of == "Fault";
        is_error && of.chars().chain(name.chars()).all(is_name)
    })
}

/// Returns the length of the string that begins here, its quotes included.
fn string(rest: &str) -> usize {
    let mut escaped = true;
    for (at, letter) in rest.char_indices() {
        match letter {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// Returns the length of the raw string that begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let start = rest.trim_start_matches(['b', 'c']);
    let hashes = start.strip_prefix('r')?;
    let inner = hashes.trim_start_matches('#');
    let count = hashes.len() - inner.len();
    let inner = inner.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(count));
    let length = inner.find(&end).map_or(inner.len(), |at| at + end.len());
    Some(rest.len() - inner.len() + length)
}

/// Returns the length of the character literal that begins here; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let inner = rest.strip_prefix('\'')?;
    let first = inner.chars().next()?;
    if first == '\\' {
        let escape = inner.chars().nth(1)?.len_utf8();
        let end = inner[1 + escape..].find('\'')?;
        return Some(1 + 1 + escape + end + 1);
    }
    let after = &inner[first.len_utf8()..];
    after.starts_with('\'').then_some(first.len_utf8() + 2)
}

/// Returns the comments of a Lua script.
fn lua(source: &str) -> Vec<Prose> {
    let lines = (1..).zip(source.lines());
    let comments = lines.filter_map(|(line, text)| {
        text.find("--").map(|at| Prose {
            line,
            text: text[at..].to_owned(),
            is_comment: true,
        })
    });
    comments.collect()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the Rust and Lua files under a folder, by their paths from the root.
pub(crate) fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let name = entry.unwrap().file_name();
            let path = folder.join(&name);
            if root().join(&path).is_dir() {
                if name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if path
                .extension()
                .is_some_and(|ext| ext == "rs" || ext == "lua")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
