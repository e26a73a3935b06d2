//! Breaks a prompt into lines.

use textwrap::{Options, WordSeparator, WordSplitter};

const ELLIPSIS: &str = "...";

/// Wraps `text` into at most `lines` lines of at most `columns` characters, at spaces. Text that
/// does not fit is cut, with an ellipsis.
pub(super) fn wrap(text: &str, columns: u32, lines: u32) -> Vec<String> {
    let [columns, lines] = [columns, lines].map(|count| count as usize);
    let options = Options::new(columns)
        .break_words(false)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation);
    let wrapped = textwrap::wrap(text, options);
    let shown = wrapped.iter().take(lines).enumerate();
    let shown = shown.map(|(index, line)| {
        let is_cut = index + 1 == lines && wrapped.len() > lines;
        if !is_cut && line.chars().count() <= columns {
            return line.to_string();
        }
        let kept: String = line.chars().take(columns - ELLIPSIS.len()).collect();
        kept.trim_end().to_owned() + ELLIPSIS
    });
    shown.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces() {
        let lines = wrap("a full moon over a snowy field, in the middle", 27, 2);
        assert_eq!(lines, ["a full moon over a snowy", "field, in the middle"]);
    }

    #[test]
    fn long_text_is_cut_and_marked() {
        assert_eq!(wrap("one two three four", 8, 2), ["one two", "three..."]);
        assert_eq!(wrap("incomprehensibilities", 10, 2), ["incompr..."]);
        assert_eq!(wrap("", 10, 2), [""]);
    }
}
