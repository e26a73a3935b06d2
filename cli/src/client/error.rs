//! Errors of the client, with their remedies.

use serde::Deserialize;
use serde_json::Value;
use warmq_types::job::FieldError;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is invalid.
    #[error("{what}: {reason}")]
    Setting {
        /// The setting.
        what: &'static str,
        /// The mistake.
        reason: String,
    },
    /// The router is unreachable.
    #[error(
        "the router is unreachable at {url} ({}): start one with `make up`, or set its address with --url or WARMQ_URL",
        root_cause(source)
    )]
    Unreachable {
        /// The router's address.
        url: String,
        /// The HTTP client's error.
        #[source]
        source: reqwest::Error,
    },
    /// The server's certificate is not trusted.
    #[error(
        "the certificate of {url} is not trusted: {reason}; for a private authority set SSL_CERT_FILE to a PEM file \
         with its certificate"
    )]
    Untrusted {
        /// The router's address.
        url: String,
        /// The reason.
        reason: String,
    },
    /// The router rejected the request.
    #[error("{message} (HTTP {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// fal's `error_type`, if there is one.
        error_type: Option<String>,
        /// The errors, one line per field.
        message: String,
    },
    /// The response is not that of a router of this version.
    #[error("the server at {url} is not a warmq router, or has another version: {source}")]
    Unreadable {
        /// The router's address.
        url: String,
        /// The parse error.
        #[source]
        source: serde_json::Error,
    },
}

/// An error's body, in either of fal's formats.
#[derive(Deserialize)]
struct Body {
    detail: Detail,
    error_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Detail {
    Fields(Vec<FieldError>),
    Sentence(String),
    Other(Value),
}

/// Parses the response to a rejected request.
pub(super) fn refusal(status: u16, body: &[u8]) -> Error {
    let Ok(Body { detail, error_type }) = serde_json::from_slice(body) else {
        let text = String::from_utf8_lossy(body);
        let message = match text.trim() {
            "" => "the router rejected the request without a reason".to_owned(),
            text => text.chars().take(500).collect(),
        };
        return Error::Refused {
            status,
            error_type: None,
            message,
        };
    };
    let message = match detail {
        Detail::Fields(fields) => {
            let lines: Vec<String> = fields.iter().map(FieldError::sentence).collect();
            lines.join("\n")
        }
        Detail::Sentence(sentence) => sentence,
        Detail::Other(value) => value.to_string(),
    };
    let message = match status {
        401 => format!("{message}: set the key with WARMQ_KEY or --key"),
        _ => message,
    };
    Error::Refused {
        status,
        error_type,
        message,
    }
}

/// Returns the innermost cause, such as `Connection refused (os error 111)`.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_error_names_the_field() {
        let body = br#"{"detail":[{"loc":["body","width"],"msg":"7 is not a multiple of 8","type":"multiple_of"}]}"#;
        let error = refusal(422, body);
        assert_eq!(
            error.to_string(),
            "width: 7 is not a multiple of 8 (HTTP 422)"
        );
    }

    #[test]
    fn a_sentence_is_passed_on() {
        let error = refusal(404, br#"{"detail":"there is no app a/b"}"#);
        assert_eq!(error.to_string(), "there is no app a/b (HTTP 404)");
    }

    #[test]
    fn a_missing_key_is_an_error_with_its_remedy() {
        let error = refusal(401, br#"{"detail":"this router requires a key"}"#).to_string();
        assert!(error.starts_with("this router requires a key: ") && error.contains("WARMQ_KEY"));
    }

    #[test]
    fn a_response_that_is_not_json_is_shown_as_it_is() {
        let error = refusal(502, b"<html>bad gateway");
        assert_eq!(error.to_string(), "<html>bad gateway (HTTP 502)");
    }
}
