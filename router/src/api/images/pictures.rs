//! Finds the pictures in an app's output: `images` or `image`, each a URL or an object with one, as
//! fal's image apps have them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use warmq_objects::ObjectStorage;

use crate::api::ApiError;
use crate::files::references;

/// Size limit of a picture in base64, bytes.
const MAX_PICTURE_BYTES: usize = 64 << 20;

/// A picture of the response.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Picture {
    /// Its URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Its content.
    #[serde(skip_serializing_if = "Option::is_none")]
    b64_json: Option<String>,
}

/// Returns the pictures with their URLs.
pub(super) fn by_url(output: &Value) -> Vec<Picture> {
    let urls = urls(output).into_iter();
    urls.map(|url| Picture {
        url: Some(url.to_owned()),
        b64_json: None,
    })
    .collect()
}

/// Returns the pictures with their content, read from the storage.
///
/// # Errors
/// A picture is elsewhere, too large, or cannot be read.
pub(super) async fn by_content(
    output: &Value,
    storage: &ObjectStorage,
) -> Result<Vec<Picture>, ApiError> {
    let mut pictures = Vec::new();
    for url in urls(output) {
        let content = match (references::key_of(url), data(url)) {
            (Some(key), _) => {
                let read = storage.get_at_most(key.as_str(), MAX_PICTURE_BYTES).await;
                let read = read.map_err(|error| {
                    tracing::warn!(%error, "could not read a picture");
                    ApiError::unavailable("a picture could not be read from the storage")
                })?;
                let missing = || ApiError::not_found("a picture of the result has been deleted");
                STANDARD.encode(read.ok_or_else(missing)?)
            }
            (None, Some(content)) => content.to_owned(),
            (None, None) => {
                let message = "the app's pictures are at another host: use response_format url";
                return Err(ApiError::bad_request(message));
            }
        };
        pictures.push(Picture {
            url: None,
            b64_json: Some(content),
        });
    }
    Ok(pictures)
}

/// Returns the base64 part of a `data:` URI.
fn data(url: &str) -> Option<&str> {
    let (head, content) = url.strip_prefix("data:")?.split_once(',')?;
    head.ends_with(";base64").then_some(content)
}

fn urls(output: &Value) -> Vec<&str> {
    let several = output.get("images").and_then(Value::as_array);
    let pictures: Vec<&Value> = match several {
        Some(images) => images.iter().collect(),
        None => output.get("image").into_iter().collect(),
    };
    let url = |picture: &&'_ Value| picture.as_str().is_some() || picture["url"].is_string();
    let pictures = pictures.into_iter().filter(url);
    pictures
        .filter_map(|picture| picture.as_str().or_else(|| picture["url"].as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pictures_are_found_in_the_shapes_of_fals_apps() {
        for output in [
            json!({"images": [{"url": "http://h/a"}], "seed": 1}),
            json!({"images": ["http://h/a"]}),
            json!({"image": {"url": "http://h/a"}}),
            json!({"image": "http://h/a"}),
        ] {
            assert_eq!(urls(&output), ["http://h/a"], "{output}");
        }
        for output in [
            json!(null),
            json!({}),
            json!({"images": [7, {}]}),
            json!([]),
        ] {
            assert_eq!(urls(&output), [""; 0], "{output}");
        }
    }

    #[test]
    fn only_base64_is_content() {
        assert_eq!(data("data:image/png;base64,cG5n"), Some("cG5n"));
        assert_eq!(data("data:text/plain,hello"), None);
        assert_eq!(data("http://h/a"), None);
    }
}
