//! Converts between signed URLs, which users see, and references, which workers see.
//!
//! A worker reads the file of a reference directly from the storage. A user must therefore not
//! write references: those of a submission are rejected, and only a URL with a valid signature
//! becomes one. The URL may then expire while the job waits.

use serde_json::Value;
use warmq_objects::REFERENCE_PREFIX;
use warmq_types::job::{FieldError, JobRecord};
use warmq_types::message::outcome_body;

use super::lifetime::expires_s;
use super::{FileKey, SignedUrls};

/// Scheme of references.
const SCHEME: &str = "warmq://";

/// Replaces each reference by a signed URL that expires at `expires_s` (Unix s).
pub fn to_signed_urls(value: &mut Value, urls: &SignedUrls, expires_s: u64) {
    each_text(value, &mut Vec::new(), &mut |text, _| {
        if let Some(key) = key_of(text) {
            *text = urls.to_read(&key, expires_s);
        }
    });
}

/// Replaces each valid URL by a reference. Other texts are unchanged. `now_s`: current time, Unix
/// s.
///
/// # Errors
/// The input contains references; returns their fields.
pub fn from_signed_urls(
    input: &mut Value,
    urls: &SignedUrls,
    now_s: u64,
) -> Result<(), Vec<FieldError>> {
    let mut rejected = Vec::new();
    each_text(input, &mut vec!["body".into()], &mut |text, place| {
        if is_reference(text) {
            rejected.push(FieldError {
                loc: place.to_vec(),
                msg: format!(
                    "{SCHEME}… cannot be used in an input: use the URL of an upload or of a job's result"
                ),
                error_type: "file_reference".to_owned(),
            });
        } else if let Some(key) = urls.file_of(text, now_s) {
            *text = format!("{REFERENCE_PREFIX}{key}");
        }
    });
    match rejected.is_empty() {
        true => Ok(()),
        false => Err(rejected),
    }
}

/// Returns the key of a reference.
pub fn key_of(reference: &str) -> Option<FileKey> {
    FileKey::parse(reference.strip_prefix(REFERENCE_PREFIX)?)
}

/// Returns a job's outcome for replies and webhooks, with signed URLs of its files.
pub fn outcome(record: &JobRecord, urls: &SignedUrls) -> Value {
    let mut body = outcome_body(record);
    to_signed_urls(&mut body, urls, expires_s(record));
    body
}

/// Returns whether a text has the scheme of references. Schemes are compared as browsers do:
/// ignoring case and leading spaces.
fn is_reference(text: &str) -> bool {
    let begin = text.trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
    let begin = begin.as_bytes().get(..SCHEME.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(SCHEME.as_bytes()))
}

/// Rejects references in the input of a flow's step that are not among the texts of `sources`:
/// expressions made them of field names, or of parts that are harmless by themselves.
///
/// # Errors
/// The input contains such references; returns their fields.
pub fn reject_made_up<'v>(
    input: &mut Value,
    sources: impl IntoIterator<Item = &'v Value>,
) -> Result<(), Vec<FieldError>> {
    let mut rejected = Vec::new();
    each_text(input, &mut vec!["body".into()], &mut |text, place| {
        if is_reference(text) {
            rejected.push((text.clone(), place.to_vec()));
        }
    });
    if !rejected.is_empty() {
        let sources: Vec<&Value> = sources.into_iter().collect();
        rejected.retain(|(text, _)| !sources.iter().any(|source| has_text(source, text)));
    }
    let made_up = rejected.into_iter().map(|(_, loc)| FieldError {
        loc,
        msg: format!("{SCHEME}… cannot be made by a route: use the URL of a file"),
        error_type: "file_reference".to_owned(),
    });
    match made_up.collect::<Vec<_>>() {
        none if none.is_empty() => Ok(()),
        made_up => Err(made_up),
    }
}

/// Returns whether `text` is one of the texts in `value`.
fn has_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Array(items) => items.iter().any(|item| has_text(item, text)),
        Value::Object(fields) => fields.values().any(|field| has_text(field, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Calls `each` with every text in `value` and its path, and with field names that are references:
/// a route or an app could make a text of them.
fn each_text(
    value: &mut Value,
    place: &mut Vec<Value>,
    each: &mut impl FnMut(&mut String, &[Value]),
) {
    match value {
        Value::String(text) => each(text, place),
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                place.push(index.into());
                each_text(item, place, each);
                place.pop();
            }
        }
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                place.push(name.as_str().into());
                if is_reference(name) {
                    each(&mut name.clone(), place);
                }
                each_text(field, place, each);
                place.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn urls() -> SignedUrls {
        SignedUrls::new("http://h".into(), [7; 32])
    }

    #[test]
    fn references_become_signed_urls_at_any_depth_and_signed_urls_become_references() {
        let output = json!({"images": [{"url": "warmq://files/a/b/1/0.png"}], "seed": 7});
        let mut shown = output.clone();
        to_signed_urls(&mut shown, &urls(), 100);
        let url = shown["images"][0]["url"].as_str().unwrap();
        assert!(url.starts_with("http://h/files/100-"), "{url}");
        let mut late = shown.clone();
        from_signed_urls(&mut late, &urls(), 100).unwrap();
        assert_eq!(late, shown, "an expired URL is unchanged");
        from_signed_urls(&mut shown, &urls(), 99).unwrap();
        assert_eq!(shown, output);
    }

    #[test]
    fn inputs_with_references_are_rejected() {
        let mut input = json!({
            "image_url": "warmq://files/a/b/1/0.png",
            "more": ["\t WARMQ://files/x", "see warmq://files/x", "warmq"],
            "warmq://files/y": 1,
        });
        let refused = from_signed_urls(&mut input, &urls(), 1).unwrap_err();
        let places: Vec<_> = refused.into_iter().map(|field| field.loc).collect();
        let image = vec![json!("body"), json!("image_url")];
        let more = vec![json!("body"), json!("more"), json!(0)];
        let name = vec![json!("body"), json!("warmq://files/y")];
        assert_eq!(places, [image, more, name]);
    }

    #[test]
    fn a_steps_input_may_contain_given_references_only() {
        let given = json!({"image": ["warmq://files/a/b/1/0.png"]});
        let outputs = json!({"url": "warmq://files/a/b/2/0.png", "warmq://files/x": 1});
        let mut input = json!({
            "from": "warmq://files/a/b/1/0.png",
            "and": "warmq://files/a/b/2/0.png",
            "name": "warmq://files/x",
        });
        let refused = reject_made_up(&mut input, [&given, &outputs]).unwrap_err();
        let places: Vec<_> = refused.into_iter().map(|field| field.loc).collect();
        assert_eq!(places, [vec![json!("body"), json!("name")]]);
        input["name"] = Value::Null;
        assert!(reject_made_up(&mut input, [&given, &outputs]).is_ok());
    }

    #[test]
    fn a_reference_with_an_invalid_key_never_becomes_a_signed_url() {
        for hostile in [
            "warmq://files/../secret",
            "warmq://files//etc/passwd",
            "warmq://files/",
        ] {
            let mut output = json!([hostile]);
            to_signed_urls(&mut output, &urls(), 100);
            assert_eq!(output, json!([hostile]));
        }
    }
}
