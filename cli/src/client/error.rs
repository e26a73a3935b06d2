//! What can go wrong between us and a router, in words for people.

use serde::Deserialize;
use serde_json::Value;
use warmq_types::job::FieldError;

/// Why there is no answer, or none that we wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting is wrong.
    #[error("{what}: {reason}")]
    Setting {
        /// Which.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers.
    #[error(
        "no router answers at {url} ({}). Start one with `make up`, or say where it is with --url or WARMQ_URL",
        root_cause(source)
    )]
    Unreachable {
        /// The router's address.
        url: String,
        /// The HTTP client's reason.
        #[source]
        source: reqwest::Error,
    },
    /// Somebody answers, who can not prove to be the router.
    #[error(
        "the certificate of {url} is not trusted: {reason}. If its authority is your own, name a PEM file with it in \
         SSL_CERT_FILE"
    )]
    Untrusted {
        /// The router's address.
        url: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The router says no.
    #[error("{message} (HTTP {status})")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// fal's `error_type`, if there is one.
        error_type: Option<String>,
        /// What is wrong; one line per field.
        message: String,
    },
    /// What came back is not what a router of this version says.
    #[error("what answers at {url} is no warmq router, or of another version: {source}")]
    Unreadable {
        /// The router's address.
        url: String,
        /// What is wrong with the answer.
        #[source]
        source: serde_json::Error,
    },
}

/// An error's body, in both of fal's shapes.
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

/// Reads the answer to a request that was not accepted.
pub(super) fn refusal(status: u16, body: &[u8]) -> Error {
    let Ok(Body { detail, error_type }) = serde_json::from_slice(body) else {
        let text = String::from_utf8_lossy(body);
        let message = match text.trim() {
            "" => "the router refused without saying why".to_owned(),
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
        401 => format!("{message}. Say which key is yours with WARMQ_KEY or --key"),
        _ => message,
    };
    Error::Refused {
        status,
        error_type,
        message,
    }
}

/// The innermost reason: `Connection refused (os error 111)`, not five layers of wrapping.
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
    fn who_is_asked_for_a_key_is_told_how_to_say_it() {
        let error = refusal(401, br#"{"detail":"this router asks for a key"}"#).to_string();
        assert!(error.starts_with("this router asks for a key. ") && error.contains("WARMQ_KEY"));
    }

    #[test]
    fn an_answer_that_is_no_json_is_shown_as_it_is() {
        let error = refusal(502, b"<html>bad gateway");
        assert_eq!(error.to_string(), "<html>bad gateway (HTTP 502)");
    }
}
