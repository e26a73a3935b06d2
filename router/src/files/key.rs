//! Keys of files in the storage, which need no escape in paths, URLs and headers.

use std::fmt;

/// Maximum length of a key, bytes: below the limits of all storages.
const MAX_BYTES: usize = 512;

/// `owner/app/<job>/0.png`, `uploads/<id>/cat.png`: parts of ASCII letters, digits, `-`, `_` and
/// `.`, none of which begins with a dot, so that none is hidden or leads to a parent folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileKey(String);

impl FileKey {
    /// Parses a key; `None` if it is invalid.
    pub fn parse(text: &str) -> Option<Self> {
        let harmless = |part: &str| {
            let mut bytes = part.bytes();
            !part.is_empty() && !part.starts_with('.') && bytes.all(is_harmless)
        };
        let is_key = text.len() <= MAX_BYTES && text.split('/').all(harmless);
        is_key.then(|| Self(text.to_owned()))
    }

    /// Returns the key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what precedes the name.
    pub fn folder(&self) -> Option<&str> {
        self.0.rsplit_once('/').map(|(folder, _)| folder)
    }

    /// Returns the file's name: the last part.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

/// Returns whether a byte is allowed in a part of a key.
pub(super) fn is_harmless(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

impl fmt::Display for FileKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside_the_storage_and_need_no_escape() {
        let key = FileKey::parse("warmq/diffusion/0199-ab/0.png").unwrap();
        assert_eq!(key.name(), "0.png");
        for none in [
            "",
            "/etc/passwd",
            "a//b",
            "a/",
            "../a",
            "a/../b",
            "a/./b",
            "a/.parts/1",
            "a/%2e%2e/b",
            "a\\b",
            "a b",
            "a\0b",
            "a\r\nb",
            "a?b",
            "a#b",
            "ä.png",
            &"x".repeat(513),
        ] {
            assert_eq!(FileKey::parse(none), None, "{none}");
        }
    }
}
