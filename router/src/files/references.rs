//! Links in what users see, references in what workers see.
//!
//! A worker reads what a reference in an input names, straight from the storage. So no user may
//! write one: the submission's own are refused, and only a link, whose signature says that its
//! owner may read the file, becomes one. The link may then expire while the job waits.

use serde_json::Value;
use warmq_objects::REFERENCE_PREFIX;
use warmq_types::job::{FieldError, JobRecord};
use warmq_types::message::outcome_body;

use super::links::expires_s;
use super::{FileKey, Links};

/// What is ours in a URL: no user may write one with this scheme.
const SCHEME: &str = "warmq://";

impl Links {
    /// Puts a link, good until `expires_s` (Unix s), in the place of each reference.
    pub fn show(&self, value: &mut Value, expires_s: u64) {
        each_text(value, &mut Vec::new(), &mut |text, _| {
            let key = text.strip_prefix(REFERENCE_PREFIX).and_then(FileKey::parse);
            if let Some(key) = key {
                *text = self.to_read(&key, expires_s);
            }
        });
    }

    /// Puts a reference in the place of each of our links that is good at `now_s` (Unix s). Other
    /// texts stay.
    ///
    /// # Errors
    /// Where the input has references of its own.
    pub fn take(&self, input: &mut Value, now_s: u64) -> Result<(), Vec<FieldError>> {
        let mut refused = Vec::new();
        each_text(input, &mut vec!["body".into()], &mut |text, place| {
            if is_ours_alone(text) {
                refused.push(FieldError {
                    loc: place.to_vec(),
                    msg: format!(
                        "{SCHEME}… cannot be used in an input: give the link that an upload or a job's result gave you"
                    ),
                    error_type: "file_reference".to_owned(),
                });
            } else if let Some(key) = self.file_of(text, now_s) {
                *text = format!("{REFERENCE_PREFIX}{key}");
            }
        });
        match refused.is_empty() {
            true => Ok(()),
            false => Err(refused),
        }
    }

    /// Returns a job's outcome for replies and webhooks, with links to its files.
    pub fn outcome(&self, record: &JobRecord) -> Value {
        let mut body = outcome_body(record);
        self.show(&mut body, expires_s(record));
        body
    }
}

/// Returns whether a text is a reference, which only routers may write. Schemes are compared as
/// browsers do: ignoring case and leading spaces.
fn is_ours_alone(text: &str) -> bool {
    let begin = text.trim_start_matches(|c: char| c.is_whitespace() || c.is_control());
    let begin = begin.as_bytes().get(..SCHEME.len());
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(SCHEME.as_bytes()))
}

/// Refuses references in the input of a flow's step that no text of `sources` is: expressions made
/// them up, from the names of fields or from parts that are harmless by themselves.
///
/// # Errors
/// Where they are.
pub fn refuse_made_up<'v>(
    input: &mut Value,
    sources: impl IntoIterator<Item = &'v Value>,
) -> Result<(), Vec<FieldError>> {
    let mut refused = Vec::new();
    each_text(input, &mut vec!["body".into()], &mut |text, place| {
        if is_ours_alone(text) {
            refused.push((text.clone(), place.to_vec()));
        }
    });
    if !refused.is_empty() {
        let sources: Vec<&Value> = sources.into_iter().collect();
        refused.retain(|(text, _)| !sources.iter().any(|source| has_text(source, text)));
    }
    let made_up = refused.into_iter().map(|(_, loc)| FieldError {
        loc,
        msg: format!("{SCHEME}… cannot be made by a route: give a link to a file"),
        error_type: "file_reference".to_owned(),
    });
    match made_up.collect::<Vec<_>>() {
        none if none.is_empty() => Ok(()),
        made_up => Err(made_up),
    }
}

/// Whether `text` is one of the texts in `value`.
fn has_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Array(items) => items.iter().any(|item| has_text(item, text)),
        Value::Object(fields) => fields.values().any(|field| has_text(field, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Calls `each` with every text in `value` and its place. Of the names of fields only with those
/// that no input may have: a route, or an app, could make a text of them.
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
                if is_ours_alone(name) {
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

    fn links() -> Links {
        Links::new("http://h".into(), [7; 32])
    }

    #[test]
    fn references_become_links_at_any_depth_and_links_become_references() {
        let output = json!({"images": [{"url": "warmq://files/a/b/1/0.png"}], "seed": 7});
        let mut shown = output.clone();
        links().show(&mut shown, 100);
        let link = shown["images"][0]["url"].as_str().unwrap();
        assert!(link.starts_with("http://h/files/100-"), "{link}");
        let mut late = shown.clone();
        links().take(&mut late, 100).unwrap();
        assert_eq!(late, shown, "an expired link stays as it is");
        links().take(&mut shown, 99).unwrap();
        assert_eq!(shown, output);
    }

    #[test]
    fn no_input_may_have_references_of_its_own() {
        let mut input = json!({
            "image_url": "warmq://files/a/b/1/0.png",
            "more": ["\t WARMQ://files/x", "see warmq://files/x", "warmq"],
            "warmq://files/y": 1,
        });
        let refused = links().take(&mut input, 1).unwrap_err();
        let places: Vec<_> = refused.into_iter().map(|field| field.loc).collect();
        let image = vec![json!("body"), json!("image_url")];
        let more = vec![json!("body"), json!("more"), json!(0)];
        let name = vec![json!("body"), json!("warmq://files/y")];
        assert_eq!(places, [image, more, name]);
    }

    #[test]
    fn a_steps_input_has_references_that_were_given_and_none_that_were_made_up() {
        let given = json!({"image": ["warmq://files/a/b/1/0.png"]});
        let outputs = json!({"url": "warmq://files/a/b/2/0.png", "warmq://files/x": 1});
        let mut input = json!({
            "from": "warmq://files/a/b/1/0.png",
            "and": "warmq://files/a/b/2/0.png",
            "name": "warmq://files/x",
        });
        let refused = refuse_made_up(&mut input, [&given, &outputs]).unwrap_err();
        let places: Vec<_> = refused.into_iter().map(|field| field.loc).collect();
        assert_eq!(places, [vec![json!("body"), json!("name")]]);
        input["name"] = Value::Null;
        assert!(refuse_made_up(&mut input, [&given, &outputs]).is_ok());
    }

    #[test]
    fn a_reference_that_is_no_key_never_becomes_a_link() {
        for hostile in [
            "warmq://files/../secret",
            "warmq://files//etc/passwd",
            "warmq://files/",
        ] {
            let mut output = json!([hostile]);
            links().show(&mut output, 100);
            assert_eq!(output, json!([hostile]));
        }
    }
}
