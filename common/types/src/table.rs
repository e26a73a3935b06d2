//! Tables of text.

use crate::text::escape;

/// A table: a header, and rows with as many cells.
#[derive(Debug, Clone)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<usize>,
}

impl Table {
    /// Creates a table with this header.
    pub fn new<T: Into<String>>(header: impl IntoIterator<Item = T>) -> Self {
        Self {
            rows: vec![header.into_iter().map(Into::into).collect()],
            right: Vec::new(),
        }
    }

    /// Aligns these columns (from 0) to the right: numbers.
    #[must_use]
    pub fn right(mut self, columns: impl IntoIterator<Item = usize>) -> Self {
        self.right.extend(columns);
        self
    }

    /// Adds a row. Control characters are escaped, so that a cell stays one line in its column.
    pub fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        let cells = cells
            .into_iter()
            .map(|cell| escape(&cell.into()).into_owned());
        self.rows.push(cells.collect());
    }
}

impl std::fmt::Display for Table {
    /// Formats one line per row, two spaces between columns, no line break at the end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).enumerate();
            let cells = cells.map(|(column, (cell, width))| {
                if self.right.contains(&column) {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        f.write_str(&lines.collect::<Vec<_>>().join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_cannot_forge_a_row() {
        let mut table = Table::new(["id", "reason"]);
        table.row(["1", "no\n2  all is well\u{1b}[1A"]);
        assert_eq!(table.to_string().lines().count(), 2);
        assert!(!table.to_string().contains('\u{1b}'));
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["name", "ms"]).right([1]);
        table.row(["a", "7"]);
        table.row(["größer", "1234"]);
        assert_eq!(
            table.to_string(),
            "name      ms\na          7\ngrößer  1234"
        );
    }
}
