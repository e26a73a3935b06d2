//! Comments, documentation, error texts, descriptions and log messages use the field's words, and
//! lines of comments fit into 100 columns.
//!
//! Documentation comments are also the help of clap and the descriptions of utoipa.

pub(crate) mod prose;

use prose::{FOLDERS, Prose, files, prose, root};

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

/// Phrases that messages avoid, and what they have instead.
const PHRASES: [(&str, &str); 3] = [
    (" is no ", "is not a …; … does not exist"),
    (" is expected", "expected …"),
    (" are the most", "at most …"),
];

/// A comment in code that allows the words of its line, followed by the reason.
const ALLOWANCE: &str = "// plain: ";

const MAX_COLUMNS: usize = 100;

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

/// Returns the phrases of [`PHRASES`] in the messages of `prose`, each with its line.
fn phrases(prose: &[Prose]) -> impl Iterator<Item = (usize, &'static str)> {
    let messages = prose.iter().filter(|prose| !prose.is_comment);
    messages.flat_map(|prose| {
        let text = prose.text.replace("is no longer", "");
        let found = PHRASES
            .into_iter()
            .filter(move |(phrase, _)| text.contains(phrase));
        found.map(|(phrase, _)| (prose.line, phrase))
    })
}

/// Returns whether a comment could be wrapped: a long address cannot.
fn has_room_to_wrap(line: &str) -> bool {
    let comment = line.trim_start().trim_start_matches(['/', '!', '-', ' ']);
    comment.contains(' ')
}

/// Returns what is wrong with a file.
fn complaints(path: &str, source: &str) -> Vec<String> {
    let prose = prose(path, source);
    let lines: Vec<&str> = source.lines().collect();
    let is_allowed = |line: usize| {
        let reason = lines[line - 1].split_once(ALLOWANCE);
        reason.is_some_and(|(_, reason)| !reason.trim().is_empty())
    };
    let mut found: Vec<String> = words(&prose)
        .into_iter()
        .chain(phrases(&prose))
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

#[test]
fn texts_use_the_fields_words() {
    let mut found = Vec::new();
    for folder in FOLDERS {
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
        responses((status = 404, description = "somebody")); let x = "nobody";
        Err(ApiError::bad(format!("'{x}' is no time"))); ApiError::Bad; f("told");
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
        [
            "tell",
            "can not",
            "whoever",
            "somebody",
            "hears",
            "everybody",
            " is no "
        ],
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
