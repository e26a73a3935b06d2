//! The value of a file field: the file itself, or where it is.

use bytes::Bytes;
use data_url::DataUrl;
use data_url::forgiving_base64::DecodeError;
use warmq_objects::REFERENCE_PREFIX;

use super::error::Error;

/// The location of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source<'a> {
    /// A `data:` URI.
    Data(&'a str),
    /// An HTTP URL.
    Web(&'a str),
    /// A key in the storage. Only the router writes such references: it rejects those of users.
    Storage(&'a str),
}

impl<'a> Source<'a> {
    /// Parses a file reference.
    ///
    /// # Errors
    /// The text is not a file reference.
    pub(super) fn read(text: &'a str) -> Result<Self, Error> {
        let text = text.trim();
        if let Some(key) = text.strip_prefix(REFERENCE_PREFIX) {
            return Ok(Self::Storage(key));
        }
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        match scheme.map(str::to_ascii_lowercase).as_deref() {
            Some("data") => Ok(Self::Data(text)),
            Some("http" | "https") => Ok(Self::Web(text)),
            _ => Err(Error::NoSource),
        }
    }

    /// Returns whether reading the file needs I/O.
    pub(super) fn needs_io(self) -> bool {
        !matches!(self, Self::Data(_))
    }
}

/// Decodes a `data:` URI of at most `max_bytes`. The declared type is ignored: the engine detects
/// the format.
pub(super) fn decode(uri: &str, max_bytes: usize) -> Result<Bytes, Error> {
    let url = DataUrl::process(uri).map_err(|error| Error::Data(error.to_string()))?;
    let mut body = Vec::new();
    let decoded = url.decode(|bytes| {
        if body.len() + bytes.len() > max_bytes {
            return Err(Error::TooLarge { max_bytes });
        }
        body.extend_from_slice(bytes);
        Ok(())
    });
    match decoded {
        Ok(_) => Ok(body.into()),
        Err(DecodeError::WriteError(error)) => Err(error),
        Err(DecodeError::InvalidBase64(error)) => Err(Error::Data(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reference_is_parsed_or_rejected() {
        for (text, source) in [
            (
                "data:image/png;base64,AAAA",
                Source::Data("data:image/png;base64,AAAA"),
            ),
            ("DATA:,x", Source::Data("DATA:,x")),
            (
                " https://example.com/a ",
                Source::Web("https://example.com/a"),
            ),
            ("HTTP://example.com", Source::Web("HTTP://example.com")),
            ("warmq://files/a/b", Source::Storage("a/b")),
        ] {
            assert_eq!(Source::read(text).unwrap(), source);
        }
        for text in [
            "",
            "a.png",
            "/etc/passwd",
            "file:///etc/passwd",
            "warmq://other/a",
            "gopher://x",
        ] {
            assert!(matches!(Source::read(text), Err(Error::NoSource)), "{text}");
        }
    }

    #[test]
    fn a_data_uri_is_read_up_to_the_limit() {
        let decode = |uri| decode(uri, 4);
        assert_eq!(decode("data:image/png;base64,cG5n").unwrap(), "png");
        assert_eq!(decode("data:;base64,cG5nIQ==").unwrap(), "png!");
        assert_eq!(decode("data:,a%20b").unwrap(), "a b");
        assert!(matches!(
            decode("data:;base64,cG5nISE="),
            Err(Error::TooLarge { .. })
        ));
        for garbage in [
            "data:",
            "data:image/png;base64",
            "data:;base64,!!!!",
            "data:;base64,cG5nI",
        ] {
            assert!(matches!(decode(garbage), Err(Error::Data(_))), "{garbage}");
        }
    }
}
