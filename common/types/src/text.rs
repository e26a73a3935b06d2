//! Foreign text, escaped for logs and terminals: it cannot end the line, move the cursor, or change
//! how its surroundings are displayed.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Escapes everything in `text` that is not printable as Rust does: `\n`, `\u{1b}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    if text.chars().all(is_printable) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    // Writing to a String cannot fail.
    let _ = Escaped(&mut escaped).write_str(text);
    Cow::Owned(escaped)
}

/// Escapes as [`escape`] does, but keeps line breaks.
pub fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// Truncates `text` to `bytes`, with `…` at the end if something was cut.
pub fn shortened(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// Decodes the bytes of a header: UTF-8, otherwise Latin-1, in which every byte is a character.
pub fn utf8_or_latin1(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// Formats an error with its causes, separated by `: `. A cause that the previous text already
/// contains is omitted.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let sentence = error.to_string();
        if !text.contains(&sentence) {
            text = format!("{text}: {sentence}");
        }
        cause = error.source();
    }
    text
}

/// A writer that escapes everything that is not printable.
#[derive(Debug)]
pub struct Escaped<W>(pub W);

impl<W: fmt::Write> fmt::Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|letter| !is_printable(letter)) {
            let (before, after) = rest.split_at(at);
            self.0.write_str(before)?;
            let mut letters = after.chars();
            if let Some(letter) = letters.next() {
                write!(self.0, "{}", letter.escape_default())?;
            }
            rest = letters.as_str();
        }
        self.0.write_str(rest)
    }
}

/// Returns whether a character is printable: no control character (C0 with ESC, DEL, C1 with the
/// one-byte CSI), no line break of any viewer, no change of text direction.
pub fn is_printable(letter: char) -> bool {
    !letter.is_control()
        && !matches!(letter,
            '\u{2028}' | '\u{2029}'
            | '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        assert_eq!(escape("größe 猫🐈 \"x\""), "größe 猫🐈 \"x\"");
        assert_eq!(escape("a\r\nb\0"), "a\\r\\nb\\u{0}");
        assert_eq!(escape("\u{1b}[2J\u{9b}31m"), "\\u{1b}[2J\\u{9b}31m");
        assert_eq!(
            escape("\u{202e}gpj.exe\u{2028}"),
            "\\u{202e}gpj.exe\\u{2028}"
        );
        assert_eq!(escape_lines("a\nb\u{7}"), "a\nb\\u{7}");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let cut = |text: &str, bytes| shortened(text.to_owned(), bytes);
        assert_eq!(cut("größe", 7), "größe");
        assert_eq!(cut("größe", 6), "größ…");
        assert_eq!(cut("größe", 3), "gr…");
        assert_eq!(cut("é", 0), "…");
    }

    proptest! {
        #[test]
        fn any_text_becomes_one_line(text in "\\PC*|.*|[\\x00-\\x1f\\x7f-\\u{9f}]*") {
            let escaped = escape(&text);
            prop_assert!(escaped.chars().all(is_printable));
            prop_assert!(text.chars().all(is_printable) == (escaped == text));
        }
    }
}
