//! Paths of settings in the file.

use std::fmt;

/// A segment of a path to a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    Key(String),
    Item(usize),
}

/// Path of a setting: `routes."acme/images".rules[0].to`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingPath(pub(super) Vec<Segment>);

impl SettingPath {
    /// Returns the path of a top-level setting.
    pub fn of(key: &str) -> Self {
        Self::default().key(key)
    }

    /// Returns the path of a setting in this table.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.and(Segment::Key(key.to_owned()))
    }

    /// Returns the path of an item of this array, counted from 0.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        self.and(Segment::Item(index))
    }

    fn and(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }
}

impl fmt::Display for SettingPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_bare = |key: &str| {
            key.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        };
        for (n, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) => {
                    let dot = if n == 0 { "" } else { "." };
                    match !key.is_empty() && is_bare(key) {
                        true => write!(f, "{dot}{key}")?,
                        false => write!(f, "{dot}\"{}\"", key.escape_default())?,
                    }
                }
                Segment::Item(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
