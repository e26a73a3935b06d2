//! Turns the body of a result into a job's output: `data:` URIs and whole bodies that are pictures
//! become files.

use data_url::DataUrl;
use serde_json::{Value, json};

use crate::engine::{File, Produced};

/// Returns the output of a JSON body.
///
/// # Errors
/// A `data:` URI is damaged; returns its pointer.
pub(super) fn of_json(mut output: Value) -> Result<Produced, String> {
    let mut files = Vec::new();
    extract(&mut output, &mut String::new(), &mut files)?;
    Ok(Produced { output, files })
}

/// Returns the output of a body that is a file, under the field that fal's apps have for its type.
pub(super) fn of_file(content_type: &str, bytes: Vec<u8>) -> Produced {
    let top = content_type.split('/').next().unwrap_or_default();
    let file = json!({"url": null, "content_type": content_type});
    let (output, pointer) = match top {
        "image" => (json!({"images": [file]}), "/images/0/url".to_owned()),
        "video" | "audio" => (json!({top: file}), format!("/{top}/url")),
        _ => (json!({"file": file}), "/file/url".to_owned()),
    };
    let name = name(0, content_type);
    let files = vec![File {
        name,
        pointer,
        bytes,
    }];
    Produced { output, files }
}

/// Moves the content of each `data:` URI in `value` to `files`.
fn extract(value: &mut Value, pointer: &mut String, files: &mut Vec<File>) -> Result<(), String> {
    match value {
        Value::String(text) if is_data(text) => {
            let damaged = || pointer.clone();
            let uri = DataUrl::process(text).map_err(|_| damaged())?;
            let (bytes, _) = uri.decode_to_vec().map_err(|_| damaged())?;
            let mime = uri.mime_type();
            files.push(File {
                name: name(files.len(), &format!("{}/{}", mime.type_, mime.subtype)),
                pointer: pointer.clone(),
                bytes,
            });
            *value = Value::Null;
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                within(pointer, &index.to_string(), |pointer| {
                    extract(item, pointer, files)
                })?;
            }
        }
        Value::Object(fields) => {
            for (field, item) in fields.iter_mut() {
                let field = field.replace('~', "~0").replace('/', "~1");
                within(pointer, &field, |pointer| extract(item, pointer, files))?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

/// Returns whether a text is a `data:` URI with a media type. Others may be a prompt.
fn is_data(text: &str) -> bool {
    let Some((head, _)) = text.split_once(',') else {
        return false;
    };
    let scheme = head.get(..5);
    scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
        && head.contains('/')
        && !head.contains(char::is_whitespace)
}

/// Calls `inner` with the pointer of a part, then restores it.
fn within<T>(pointer: &mut String, part: &str, inner: impl FnOnce(&mut String) -> T) -> T {
    let length = pointer.len();
    pointer.push('/');
    pointer.push_str(part);
    let result = inner(pointer);
    pointer.truncate(length);
    result
}

/// Returns a file's name: its number, and the usual extension of its type.
fn name(number: usize, content_type: &str) -> String {
    let extension = match content_type {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        "image/gif" => "gif",
        "image/svg+xml" => "svg",
        "video/mp4" => "mp4",
        "video/webm" => "webm",
        "audio/wav" | "audio/x-wav" => "wav",
        "audio/mpeg" => "mp3",
        "audio/flac" => "flac",
        "text/plain" => "txt",
        "application/json" => "json",
        _ => "bin",
    };
    format!("{number}.{extension}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_uris_become_files_and_urls_pass() {
        let body = json!({
            "images": [{"url": "data:image/png;base64,cG5n"}, {"url": "https://cdn/x.png"}],
            "a/b~": "DATA:text/plain,hello%20you",
            "prompt": "data: none, 1/2",
        });
        let produced = of_json(body).unwrap();
        assert_eq!(produced.output["images"][0]["url"], Value::Null);
        assert_eq!(produced.output["images"][1]["url"], "https://cdn/x.png");
        assert_eq!(produced.output["prompt"], "data: none, 1/2");
        let mut files: Vec<(&str, &str, &[u8])> = (produced.files.iter())
            .map(|file| {
                (
                    file.name.as_str(),
                    file.pointer.as_str(),
                    file.bytes.as_slice(),
                )
            })
            .collect();
        files.sort_unstable();
        let text: (&str, &str, &[u8]) = ("0.txt", "/a~1b~0", b"hello you");
        assert_eq!(files, [text, ("1.png", "/images/0/url", b"png")]);
        for file in &produced.files {
            assert_eq!(produced.output.pointer(&file.pointer), Some(&Value::Null));
        }
    }

    #[test]
    fn a_damaged_data_uri_is_refused_with_its_place() {
        let damaged = json!({"images": ["data:image/png;base64,@@"]});
        assert_eq!(of_json(damaged), Err("/images/0".to_owned()));
    }

    #[test]
    fn a_body_that_is_a_picture_has_the_shape_of_fals_image_apps() {
        let produced = of_file("image/webp", b"webp".to_vec());
        assert_eq!(produced.output["images"][0]["content_type"], "image/webp");
        assert_eq!(produced.files[0].name, "0.webp");
        assert_eq!(of_file("video/mp4", vec![]).files[0].pointer, "/video/url");
        assert_eq!(
            of_file("application/octet-stream", vec![]).files[0].pointer,
            "/file/url"
        );
    }
}
