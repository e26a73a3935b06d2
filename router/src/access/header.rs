//! The key in a request's `Authorization`.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use warmq_types::access::{Credentials, NoCredentials};

/// Why a request has no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// The header is missing.
    #[error("this router requires a key: send the header `Authorization: Key id:secret`")]
    Missing,
    /// The header has another scheme.
    #[error("the header must be `Authorization: Key id:secret`, or `Bearer` in place of `Key`")]
    Scheme,
    /// The header contains no key.
    #[error(transparent)]
    Malformed(#[from] NoCredentials),
}

/// Parses a request's key: `Key id:secret`, as fal's clients send it, or `Bearer id:secret`.
pub fn credentials(headers: &HeaderMap) -> Result<Credentials, NoKey> {
    let value = headers.get(AUTHORIZATION).ok_or(NoKey::Missing)?;
    let text = value.to_str().map_err(|_| NoKey::Scheme)?;
    let (scheme, key) = text.split_once(' ').ok_or(NoKey::Scheme)?;
    if !["key", "bearer"].contains(&scheme.to_ascii_lowercase().as_str()) {
        return Err(NoKey::Scheme);
    }
    Ok(key.trim().parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn read(value: &[u8]) -> Result<String, NoKey> {
        let value = HeaderValue::from_bytes(value).unwrap();
        credentials(&[(AUTHORIZATION, value)].into_iter().collect()).map(|key| key.expose())
    }

    #[test]
    fn a_key_is_sent_with_the_scheme_key_or_bearer() {
        for header in ["Key a-1:s", "key a-1:s", "Bearer a-1:s", "KEY  a-1:s "] {
            assert_eq!(read(header.as_bytes()).as_deref(), Ok("a-1:s"), "{header}");
        }
        // A secret may contain the separator.
        assert_eq!(read(b"Key a:b:c").as_deref(), Ok("a:b:c"));
    }

    #[test]
    fn other_headers_have_different_errors() {
        assert_eq!(credentials(&HeaderMap::new()).unwrap_err(), NoKey::Missing);
        for header in ["Basic a:s", "a:s", "Key", "Key\u{e9} a:s"] {
            assert_eq!(read(header.as_bytes()), Err(NoKey::Scheme), "{header}");
        }
        for header in ["Key any", "Key :s", "Bearer A:s", "Key Key a:s"] {
            let refused = read(header.as_bytes());
            assert_eq!(refused, Err(NoKey::Malformed(NoCredentials)), "{header}");
        }
    }
}
