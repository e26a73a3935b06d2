//! Comments, documentation, error texts and log messages use the field's words, and lines of
//! comments fit into 100 columns.
//!
//! Documentation comments are also the help of clap and the descriptions of utoipa.

use std::path::{Path, PathBuf};

const FOLDERS: [&str; 6] = ["cli", "common", "dev", "router", "tests", "worker"];

/// Folders that are not checked yet.
const NOT_YET: [&str; 0] = [];

/// Words that are not used of components; docs/glossary.md has those that are.
const WORDS: [&str; 15] = [
    "tell",
    "tells",
    "told",
    "hear",
    "hears",
    "heard",
    "whoever",
    "somebody",
    "nobody",
    "everybody",
    "anybody",
    "can not",
    "wish",
    "wishes",
    "minds",
];

/// Lines that may contain one of the words: end of the file's path, part of the line.
const EXCEPTIONS: [(&str, &str); 0] = [];

/// A comment in code that allows the words of its line, followed by the reason.
const ALLOWANCE: &str = "// plain: ";

const MAX_COLUMNS: usize = 100;

/// A piece of text that people read, within one line.
#[derive(Debug, PartialEq)]
struct Prose {
    /// From 1.
    line: usize,
    text: String,
    is_comment: bool,
}

/// Splits Rust into comments, and the strings of `#[error(…)]` and of tracing's macros.
struct Reader<'a> {
    rest: &'a str,
    line: usize,
    /// Nesting of parentheses.
    depth: usize,
    /// The nesting within which strings are messages.
    message: Option<usize>,
    found: Vec<Prose>,
}

impl Reader<'_> {
    fn read(source: &str) -> Vec<Prose> {
        let mut reader = Reader {
            rest: source,
            line: 1,
            depth: 0,
            message: None,
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
        match self.message {
            Some(_) => self.add(length, false),
            None => self.skip(length),
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

/// Returns whether what follows is `#[error(` or a macro of tracing.
fn starts_message(rest: &str) -> bool {
    let macros = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
    rest.starts_with("#[error(") || macros.iter().any(|start| rest.starts_with(start))
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

/// Returns the words of [`WORDS`] in `prose`, each with its line. A word may go over a line's end.
fn words(prose: &[Prose]) -> Vec<(usize, &'static str)> {
    let mut tokens: Vec<(usize, String)> = Vec::new();
    for Prose { line, text, .. } in prose {
        let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
        let words = words.filter(|word| !word.is_empty());
        tokens.extend(words.map(|word| (*line, word.to_lowercase())));
    }
    let mut found = Vec::new();
    for (at, (line, first)) in tokens.iter().enumerate() {
        let second = tokens.get(at + 1).filter(|(next, _)| *next <= line + 1);
        let second = second.map_or("", |(_, word)| word);
        for word in WORDS {
            let is_here = match word.split_once(' ') {
                Some((one, two)) => first == one && second == two,
                None => first == word,
            };
            if is_here {
                found.push((*line, word));
            }
        }
    }
    found
}

/// Returns whether a comment could be wrapped: a long address cannot.
fn has_room_to_wrap(line: &str) -> bool {
    let comment = line.trim_start().trim_start_matches(['/', '!', '-', ' ']);
    comment.contains(' ')
}

/// Returns what is wrong with a file.
fn complaints(path: &str, source: &str) -> Vec<String> {
    let prose = match path.ends_with(".lua") {
        true => lua(source),
        false => Reader::read(source),
    };
    let lines: Vec<&str> = source.lines().collect();
    let is_allowed = |line: usize| {
        let text = lines[line - 1];
        let reason = text.split_once(ALLOWANCE).map(|(_, reason)| reason.trim());
        let excepted = |(file, part): &(&str, &str)| path.ends_with(file) && text.contains(part);
        reason.is_some_and(|reason| !reason.is_empty()) || EXCEPTIONS.iter().any(excepted)
    };
    let mut found: Vec<String> = words(&prose)
        .into_iter()
        .filter(|(line, _)| !is_allowed(*line))
        .map(|(line, word)| format!("{path}:{line}: '{word}': {}", lines[line - 1].trim()))
        .collect();
    for Prose { line, .. } in prose.iter().filter(|prose| prose.is_comment) {
        let text = lines[line - 1];
        let columns = text.chars().count();
        if columns > MAX_COLUMNS && has_room_to_wrap(text) {
            found.push(format!("{path}:{line}: {columns} columns"));
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the Rust and Lua files under a folder, by their paths from the root.
fn files(folder: &str) -> Vec<PathBuf> {
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

#[test]
fn texts_use_the_fields_words() {
    let mut found = Vec::new();
    for folder in FOLDERS {
        if NOT_YET.contains(&folder) {
            continue;
        }
        let files = files(folder);
        assert!(!files.is_empty(), "no sources under {folder}");
        for path in files {
            let source = std::fs::read_to_string(root().join(&path)).unwrap();
            found.extend(complaints(path.to_str().unwrap(), &source));
        }
    }
    let (count, found) = (found.len(), found.join("\n"));
    assert!(
        found.is_empty(),
        "{count} lines; docs/glossary.md has the field's words:\n{found}"
    );
}

#[test]
fn comments_error_texts_and_log_messages_are_checked_and_code_is_not() {
    let sample = r##"
        //! Tell.
        /// The job can
        /// not be found.
        fn heard<'a>(c: char) -> bool { c == '"' || c == '\'' }
        const TOLD: &str = "told \" // told";
        #[error("whoever: {0}")]
        let x = r#"nobody "told" it"#;
        warn!(%error, r"it hears {x}"); f("wish");
        info!(job = %f("x"), "somebody"); // plain: quoted from a header
        /* Everybody */
    "##;
    let found = complaints("sample.rs", sample);
    let lines: Vec<&str> = found
        .iter()
        .filter_map(|text| text.split('\'').nth(1))
        .collect();
    assert_eq!(
        lines,
        ["tell", "can not", "whoever", "hears", "everybody"],
        "{found:#?}"
    );
    let script = "-- Nobody renews it.\nlocal told = 1";
    assert_eq!(complaints("a.lua", script).len(), 1);
}

#[test]
fn long_comments_are_found_and_long_code_and_addresses_are_not() {
    let word = "x".repeat(MAX_COLUMNS);
    let long = format!("// a {word}\n// https://{word}\nlet {word} = \"{word}\";\n");
    assert_eq!(complaints("a.rs", &long), ["a.rs:1: 105 columns"]);
}
