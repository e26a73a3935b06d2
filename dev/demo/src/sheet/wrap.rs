//! Breaks a prompt into lines.

/// Wraps `text` into at most `lines` lines of at most `columns` characters, at spaces. Text that
/// does not fit is cut, with an ellipsis.
pub(super) fn wrap(text: &str, columns: u32, lines: u32) -> Vec<String> {
    let columns = usize::try_from(columns).unwrap_or(usize::MAX).max(4);
    let lines = usize::try_from(lines).unwrap_or(usize::MAX).max(1);
    let mut wrapped: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let room = wrapped.last().map_or(0, |line| {
            let used = line.chars().count();
            columns.saturating_sub(used + usize::from(used > 0))
        });
        let word_fits = word.chars().count() <= room;
        match wrapped.last_mut() {
            Some(line) if word_fits || line.is_empty() => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => wrapped.push(word.to_owned()),
        }
    }
    let cut = wrapped.len() > lines;
    wrapped.truncate(lines);
    let last = wrapped.len() - 1;
    for (index, line) in wrapped.iter_mut().enumerate() {
        let too_long = line.chars().count() > columns;
        if too_long || (cut && index == last) {
            let keep = columns.saturating_sub(3);
            *line = line
                .chars()
                .take(keep)
                .collect::<String>()
                .trim_end()
                .to_owned()
                + "...";
        }
    }
    wrapped
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
    fn what_does_not_fit_is_cut_and_marked() {
        assert_eq!(wrap("one two three four", 8, 2), ["one two", "three..."]);
        assert_eq!(wrap("incomprehensibilities", 10, 2), ["incompr..."]);
        assert_eq!(wrap("", 10, 2), [""]);
    }
}
