//! Lifetime of the signed URLs of a job's files: as its submitter requested by the header
//! `X-Fal-Object-Lifecycle-Preference`, or a default.

use serde_json::{Value, json};
use warmq_types::input_schema::write_integers;
use warmq_types::job::JobRecord;

use super::now_s;

/// Maximum lifetime of a signed URL, s: ten years.
const MAX_LIFETIME_S: u64 = 10 * 365 * 24 * 3600;

/// Default lifetime of the URLs of a job's files after its end, s.
const DEFAULT_LIFETIME_S: u64 = 24 * 3600;

/// URLs of the files of a job that has not ended expire at a full hour, so that repeated requests
/// return the same URL.
const ROUND_S: u64 = 3600;

/// Parses `{"expiration_duration_seconds": N, …}`, s; `None` if the field is absent. `null`
/// requests no expiry and yields the maximum, since every signed URL expires. Other fields (fal's
/// access rules) are ignored: a signed URL is all that a reader needs.
///
/// # Errors
/// The JSON or the time is invalid.
pub fn seconds(header: &str) -> Result<Option<u64>, String> {
    let expected = r#"expected {"expiration_duration_seconds": 3600}"#;
    let Ok(Value::Object(preference)) = serde_json::from_str(header) else {
        return Err(format!("not a JSON object: {expected}"));
    };
    match preference.get("expiration_duration_seconds") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(MAX_LIFETIME_S)),
        Some(value) => match integer(value) {
            Some(seconds @ 1..=MAX_LIFETIME_S) => Ok(Some(seconds)),
            _ => Err(format!(
                "expiration_duration_seconds must be an integer from 1 to {MAX_LIFETIME_S}: {expected}"
            )),
        },
    }
}

/// Returns a whole number, also one with a decimal point: `60.0`.
fn integer(value: &Value) -> Option<u64> {
    let mut value = value.clone();
    write_integers(&json!({"type": "integer"}), &mut value);
    value.as_u64()
}

/// Returns the expiry of the URLs of a job's files, Unix s: that of its result, or as its submitter
/// requested. Constant after the job's end, so that caches recognize the URLs.
pub fn expires_s(record: &JobRecord) -> u64 {
    let spec = &record.spec;
    let lifetime_s = spec.links_s.or(spec.retention_s);
    let from_s = match record.finished_ms {
        Some(finished_ms) => finished_ms.div_ceil(1000),
        None => now_s().next_multiple_of(ROUND_S),
    };
    from_s.saturating_add(lifetime_s.unwrap_or(DEFAULT_LIFETIME_S))
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
        let never = r#"{"expiration_duration_seconds": null}"#;
        assert_eq!(seconds(never), Ok(Some(MAX_LIFETIME_S)));
        let point = r#"{"expiration_duration_seconds": 60.0}"#;
        assert_eq!(seconds(point), Ok(Some(60)));
        for wrong in [
            "",
            "3600",
            "[]",
            r#"{"expiration_duration_seconds": 0}"#,
            r#"{"expiration_duration_seconds": -1}"#,
            r#"{"expiration_duration_seconds": 59.5}"#,
            r#"{"expiration_duration_seconds": 1e99}"#,
            r#"{"expiration_duration_seconds": "1h"}"#,
        ] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
