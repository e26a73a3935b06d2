//! The key in a request's `Authorization`, and the session in its cookies.

use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, COOKIE};
use cookie::Cookie;
use warmq_types::access::{Credentials, NoCredentials, SessionToken};

/// Name of the cookie of a browser's session.
pub const SESSION_COOKIE: &str = "warmq_session";

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

/// Returns the token of a browser's session, unless the request has a key of its own.
pub fn session_token(headers: &HeaderMap) -> Option<SessionToken> {
    if headers.contains_key(AUTHORIZATION) {
        return None;
    }
    let texts = headers.get_all(COOKIE).into_iter();
    let texts = texts.filter_map(|value| value.to_str().ok());
    let mut cookies = texts.flat_map(Cookie::split_parse).flatten();
    let cookie = cookies.find(|cookie| cookie.name() == SESSION_COOKIE)?;
    cookie.value().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn a_session_is_read_from_its_cookie_unless_the_request_has_a_key() {
        let token = SessionToken::new([9; 32]);
        let cookies = format!("a=b; {SESSION_COOKIE}={}; c", token.expose());
        let cookies = HeaderValue::from_str(&cookies).unwrap();
        let mut headers: HeaderMap = [(COOKIE, cookies)].into_iter().collect();
        assert_eq!(session_token(&headers), Some(token));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Key a:b"));
        assert_eq!(session_token(&headers), None);
        let other = HeaderValue::from_static("warmq_session=short");
        assert_eq!(
            session_token(&[(COOKIE, other)].into_iter().collect()),
            None
        );
    }

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
