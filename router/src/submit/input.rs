//! Parses a submission's body as the app's input.

use serde_json::{Map, Value};

use super::SubmitError;

/// Maximum nesting of an input. serde_json reads 127 levels; messages and records contain the input
/// some levels down, and every accepted input must be readable everywhere.
pub(super) const MAX_DEPTH: usize = 100;

/// Content encodings that make a body unreadable.
const COMPRESSIONS: [&str; 7] = [
    "gzip",
    "x-gzip",
    "deflate",
    "br",
    "zstd",
    "compress",
    "x-compress",
];

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Parses the input: JSON, or an empty body for `{}`. The last of duplicate fields counts.
///
/// # Errors
/// The body is not JSON, or nested too deep.
pub(super) fn parse(body: &[u8]) -> Result<Value, SubmitError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Object(Map::new()));
    }
    // Some editors and shells write a byte order mark.
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let input: Value = serde_json::from_slice(body).map_err(|error| {
        // serde_json exposes no error kind for this.
        match error.to_string().starts_with("recursion limit exceeded") {
            true => SubmitError::TooDeep,
            false if is_form(body) => SubmitError::Form,
            false => SubmitError::MalformedJson(error),
        }
    })?;
    match depth(&input) {
        deep if deep > MAX_DEPTH => Err(SubmitError::TooDeep),
        _ => Ok(input),
    }
}

/// # Errors
/// The body is compressed, which is not supported.
pub(super) fn check_encoding(encoding: Option<&str>) -> Result<(), SubmitError> {
    match encoding.map(str::trim).map(str::to_ascii_lowercase) {
        Some(encoding) if COMPRESSIONS.contains(&encoding.as_str()) => {
            Err(SubmitError::Encoded(encoding))
        }
        // AMQP libraries put a charset here.
        _ => Ok(()),
    }
}

/// Returns whether a body is a form (`prompt=a+cat&seed=7`, or multipart), the default of HTTP
/// libraries.
fn is_form(body: &[u8]) -> bool {
    let name = body.split(|byte| *byte == b'=').next().unwrap_or_default();
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.%+[]".contains(byte);
    let is_url_encoded = name.len() < body.len() && !name.is_empty() && name.iter().all(is_name);
    is_url_encoded || body.starts_with(b"--")
}

/// Returns the number of nested arrays and objects.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn invalid_json_and_deep_json_have_different_errors() {
        assert_eq!(parse(b" \n").unwrap(), json!({}));
        assert_eq!(parse(br#"{"a": 1, "a": 2}"#).unwrap(), json!({"a": 2}));
        assert_eq!(parse("\u{feff}{}".as_bytes()).unwrap(), json!({}));
        for form in [
            "prompt=a+cat&seed=7",
            "a%5B0%5D=",
            "--x\r\nContent-Disposition: form-data",
        ] {
            let error = parse(form.as_bytes()).unwrap_err();
            assert!(matches!(error, SubmitError::Form), "{form}: {error}");
        }
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        for levels in [MAX_DEPTH + 1, 127, 128, 100_000] {
            let error = parse(nested(levels).as_bytes()).unwrap_err();
            assert!(matches!(error, SubmitError::TooDeep), "{levels}: {error}");
        }
        for text in [
            "NaN",
            "-Infinity",
            "1e400",
            r#""\ud800""#,
            r#""\udc00\ud800""#,
            "{'a': 1}",
            "[1,]",
            "{} {}",
            "\"\0\"",
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(
                matches!(error, SubmitError::MalformedJson(_)),
                "{text}: {error}"
            );
        }
        let not_utf8 = parse(b"\"\xff\"").unwrap_err();
        assert!(
            matches!(not_utf8, SubmitError::MalformedJson(_)),
            "{not_utf8}"
        );
    }
}
