//! Locations of settings in the file, for messages.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::setting_path::{Segment, SettingPath};

/// Locations of a file's settings. The file is parsed again for each one: mistakes are few.
#[derive(Debug, Default)]
pub(super) struct SourceLocations {
    name: String,
    text: String,
}

impl SourceLocations {
    /// Returns the locations of `text`; none if it is not valid TOML.
    pub(super) fn new(text: &str, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            text: text.to_owned(),
        }
    }

    /// Formats a location: `warmq.toml, line 3, column 8`, or the file's name if the setting is
    /// missing. A table is located by its name, any other setting by its value.
    pub(super) fn of(&self, path: &SettingPath) -> String {
        self.at(self.span(path).map(|span| span.start))
    }

    /// Formats the location `offset` bytes after the begin of a text; that of the begin if the text
    /// has escapes.
    pub(super) fn within(&self, path: &SettingPath, text: &str, offset: usize) -> String {
        let place = self.span(path).map(|span| {
            let written = self.text.get(span.clone()).unwrap_or_default();
            let quotes = ["\"\"\"\n", "'''\n", "\"\"\"", "'''", "\"", "'"]
                .into_iter()
                .find(|quotes| written.starts_with(quotes))
                .unwrap_or_default();
            let place = span.start + quotes.len() + offset;
            let is_printable = written[quotes.len()..].starts_with(text);
            match is_printable && self.text.is_char_boundary(place) {
                true => place,
                false => span.start,
            }
        });
        self.at(place)
    }

    fn at(&self, offset: Option<usize>) -> String {
        let name = &self.name;
        match offset.and_then(|offset| self.text.get(..offset)) {
            Some(before) => {
                let line = before.matches('\n').count() + 1;
                let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
                format!("{name}, line {line}, column {column}")
            }
            None => name.clone(),
        }
    }

    fn span(&self, path: &SettingPath) -> Option<Range<usize>> {
        let (last, way) = path.0.split_last()?;
        let root = DeTable::parse(&self.text).ok()?;
        let (mut table, mut array): (_, Option<&DeArray<'_>>) = (Some(root.get_ref()), None);
        for step in way {
            let value: &Spanned<DeValue<'_>> = match step {
                Segment::Key(key) => table?.get(key.as_str())?,
                Segment::Item(index) => array?.get(*index)?,
            };
            (table, array) = match value.get_ref() {
                DeValue::Table(inner) => (Some(inner), None),
                DeValue::Array(items) => (None, Some(items)),
                _ => (None, None),
            };
        }
        match last {
            Segment::Item(index) => Some(array?.get(*index)?.span()),
            Segment::Key(key) => {
                let (key, value) = table?.get_key_value(key.as_str())?;
                Some(match value.get_ref() {
                    DeValue::Table(_) => key.span(),
                    _ => value.span(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "top = 1\n[a.'b/c']\n# é\nlist = [\n  { x = 'é', when = \"1 +\" },\n]\n";

    #[test]
    fn settings_are_found_by_line_and_column() {
        let places = SourceLocations::new(FILE, "f.toml");
        let table = SettingPath::of("a").key("b/c");
        let item = table.key("list").item(0);
        assert_eq!(
            places.of(&SettingPath::of("top")),
            "f.toml, line 1, column 7"
        );
        assert_eq!(places.of(&table), "f.toml, line 2, column 4");
        assert_eq!(places.of(&item), "f.toml, line 5, column 3");
        assert_eq!(places.of(&item.key("when")), "f.toml, line 5, column 21");
        assert_eq!(places.of(&item.key("none")), "f.toml");
        assert_eq!(places.of(&table.item(3)), "f.toml");
        assert_eq!(item.key("x").to_string(), "a.\"b/c\".list[0].x");
    }

    #[test]
    fn an_offset_in_a_text_counts_from_its_first_quote() {
        let places = SourceLocations::new("a = '''\nx\ny'''\nb = 'xy'\nc = \"\\u0078y\"", "f");
        let within = |key: &str, text| places.within(&SettingPath::of(key), text, 1);
        assert_eq!(within("a", "x\ny"), "f, line 2, column 2");
        assert_eq!(within("b", "xy"), "f, line 4, column 7");
        assert_eq!(within("c", "xy"), "f, line 5, column 5");
    }

    #[test]
    fn an_invalid_file_has_no_locations() {
        let places = SourceLocations::new("a = ", "f.toml");
        assert_eq!(places.of(&SettingPath::of("a")), "f.toml");
    }
}
