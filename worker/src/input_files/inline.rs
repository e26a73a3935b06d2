//! Replaces references to stored files by `data:` URIs, for engines that run elsewhere: only
//! workers read the storage.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use warmq_objects::REFERENCE_PREFIX;
use warmq_types::job::{JobError, JobSpec};

use super::error::Error;
use super::{FileFetcher, failure};
use crate::engine::Failure;

/// Size limit of all stored files of one input, bytes.
const MAX_BYTES: usize = 64 << 20;

impl FileFetcher {
    /// Replaces each reference in the job's input by the file, as a `data:` URI. `cancel` stops at
    /// once.
    ///
    /// # Errors
    /// A 422 that names the field, or a fault if the storage fails.
    pub async fn inline(
        &self,
        job: &mut JobSpec,
        cancel: &CancellationToken,
    ) -> Result<(), Failure> {
        let mut input = std::mem::take(&mut job.input);
        let mut references = Vec::new();
        find(&mut input, "", &mut references);
        let mut room = MAX_BYTES;
        for (field, text) in references {
            let key = text
                .strip_prefix(REFERENCE_PREFIX)
                .unwrap_or_default()
                .to_owned();
            let read = self.stored(&key, room, job);
            let Some(read) = cancel.run_until_cancelled(read).await else {
                return Err(Failure::Cancelled);
            };
            let bytes = read.map_err(|error| match error {
                Error::TooLarge { .. } => too_large(&field).into(),
                error => failure(error, std::slice::from_ref(&field)),
            })?;
            room -= bytes.len();
            let media_type = media_type(&key);
            *text = format!("data:{media_type};base64,{}", STANDARD.encode(&bytes));
        }
        job.input = input;
        Ok(())
    }
}

/// Collects the references in `value`, each with its top-level field.
fn find<'v>(value: &'v mut Value, field: &str, found: &mut Vec<(String, &'v mut String)>) {
    match value {
        Value::String(text) if text.starts_with(REFERENCE_PREFIX) => {
            found.push((field.to_owned(), text));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| find(item, field, found)),
        Value::Object(fields) => {
            for (name, item) in fields {
                find(item, if field.is_empty() { name } else { field }, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn too_large(field: &str) -> JobError {
    let limit = MAX_BYTES >> 20;
    let message = format!("the files of the input exceed {limit} MiB: pass URLs of a host instead");
    JobError::field(&[field], "file_too_large", message)
}

/// Returns the media type that a file's name suggests.
fn media_type(key: &str) -> &'static str {
    let extension = key.rsplit_once('.').map(|(_, extension)| extension);
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("gif") => "image/gif",
        Some("mp4") => "video/mp4",
        Some("wav") => "audio/wav",
        Some("mp3") => "audio/mpeg",
        Some("json") => "application/json",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn references_are_found_at_any_depth_with_their_field() {
        let mut input = json!({
            "image": {"url": "warmq://files/a/b/0.png"},
            "prompt": "see warmq://files/x",
            "more": ["warmq://files/a/b/1.png"],
        });
        let mut found = Vec::new();
        find(&mut input, "", &mut found);
        let fields: Vec<&str> = found.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields.len(), 2);
        assert!(fields.contains(&"image") && fields.contains(&"more"));
    }
}
