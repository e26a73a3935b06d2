//! Writes the tables into a document.

use std::path::Path;

use anyhow::Context;

/// Lines before and after the tables.
const BEGIN: &str = "<!-- begin of `make bench-peers` -->\n";
const END: &str = "<!-- end of `make bench-peers` -->\n";

/// Replaces the tables of a document.
///
/// # Errors
/// The document has no place for them, or cannot be written.
pub fn update(path: &Path, tables: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let text = replaced(&text, tables)
        .with_context(|| format!("{}: no lines {BEGIN}{END}", path.display()))?;
    Ok(std::fs::write(path, text)?)
}

/// Returns the text with other tables; `None` if it has no place for them.
fn replaced(text: &str, tables: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_tables_are_replaced() {
        let text = format!("# Title\n{BEGIN}\n| old |\n\n{END}\nThe end.\n");
        let once = replaced(&text, "| new |\n").unwrap();
        assert_eq!(
            once,
            format!("# Title\n{BEGIN}\n| new |\n\n{END}\nThe end.\n")
        );
        assert_eq!(replaced(&once, "| new |\n"), Some(once.clone()));
        assert_eq!(replaced("# Title\n", "| new |\n"), None);
    }
}
