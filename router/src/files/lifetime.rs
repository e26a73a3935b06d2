//! How long links hold, if the submitter says so: fal's header `X-Fal-Object-Lifecycle-Preference`.

use serde_json::Value;

/// The longest that a link may hold: ten years.
const LONGEST_S: u64 = 10 * 365 * 24 * 3600;

/// The seconds in `{"expiration_duration_seconds": N, …}`; `None` if it asks for nothing. What else it says (who may read the
/// file, at fal) is not looked at: here whoever has the link may.
///
/// # Errors
/// It is no such JSON, or no such time.
pub fn seconds(header: &str) -> Result<Option<u64>, String> {
    let expected = r#"{"expiration_duration_seconds": 3600} is expected"#;
    let Ok(Value::Object(preference)) = serde_json::from_str(header) else {
        return Err(format!("it is no JSON object: {expected}"));
    };
    match preference.get("expiration_duration_seconds") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(seconds @ 1..=LONGEST_S) => Ok(Some(seconds)),
            _ => Err(format!(
                "the time is a whole number of seconds from 1 to {LONGEST_S}: {expected}"
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_of_seconds_or_nothing() {
        let year =
            r#"{"expiration_duration_seconds": 31536000, "initial_acl": {"default": "hide"}}"#;
        assert_eq!(seconds(year), Ok(Some(31_536_000)));
        assert_eq!(seconds("{}"), Ok(None));
        for wrong in [
            "",
            "3600",
            "[]",
            r#"{"expiration_duration_seconds": 0}"#,
            r#"{"expiration_duration_seconds": -1}"#,
            r#"{"expiration_duration_seconds": 1e99}"#,
            r#"{"expiration_duration_seconds": "1h"}"#,
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
