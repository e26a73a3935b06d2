//! Turns a request of OpenAI's images API into an app's input. Pure.

use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use warmq_config::Apps;
use warmq_types::ids::AppId;
use warmq_types::job::{FieldError, JobError};

use crate::api::ApiError;

/// Fields of OpenAI's that no app has.
const WITHOUT_EFFECT: [&str; 7] = [
    "background",
    "moderation",
    "output_compression",
    "partial_images",
    "quality",
    "style",
    "user",
];

/// Number of pictures that OpenAI allows at most.
const MAX_PICTURES: u32 = 10;

/// Body of the call.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct GenerationRequest {
    /// The prompt: the content of the picture.
    prompt: String,
    /// A model of an app's `image_models`, or the name of an app or route.
    #[schema(example = "warmq/diffusion")]
    model: Option<String>,
    /// Number of pictures, 1 by default.
    #[schema(minimum = 1, maximum = 10)]
    n: Option<u32>,
    /// `1024x1024`, or `auto` for the model's default.
    #[schema(example = "1024x1024")]
    size: Option<String>,
    /// Whether the response has URLs, as by default, or the pictures themselves.
    response_format: Option<Form>,
    /// Events are not offered.
    stream: Option<bool>,
    /// The app's own fields.
    #[serde(flatten)]
    #[schema(ignore)]
    more: Map<String, Value>,
}

/// How the response has the pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
pub(super) enum Form {
    /// As URLs.
    #[default]
    #[serde(rename = "url")]
    Url,
    /// In base64.
    #[serde(rename = "b64_json")]
    Base64,
}

/// What to submit.
#[derive(Debug)]
pub(super) struct Parsed {
    /// `owner/name` of the app or route.
    pub(super) app: String,
    /// The model, unless it names the app.
    pub(super) hint: Option<String>,
    pub(super) input: Value,
    pub(super) form: Form,
}

/// Parses a body.
///
/// # Errors
/// A field is wrong, or no app serves the model.
pub(super) fn parse(body: &[u8], apps: &Apps) -> Result<Parsed, ApiError> {
    let request: GenerationRequest = serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is not a request: {error}")))?;
    if request.stream == Some(true) {
        return Err(wrong(
            "stream",
            "events are not offered here: use POST /run/{app}/stream",
        ));
    }
    if !(1..=MAX_PICTURES).contains(&request.n.unwrap_or(1)) {
        return Err(wrong("n", format!("must be from 1 to {MAX_PICTURES}")));
    }
    let (app, hint) = target(request.model.as_deref(), apps)?;
    let mut input = request.more;
    input.retain(|field, _| !WITHOUT_EFFECT.contains(&field.as_str()));
    input.insert("prompt".to_owned(), request.prompt.into());
    if let Some(n) = request.n {
        input.insert("num_images".to_owned(), n.into());
    }
    if let Some(size) = request.size.filter(|size| size != "auto") {
        input.insert("image_size".to_owned(), image_size(&size)?);
    }
    if let Some(model) = &hint {
        input.insert("model".to_owned(), model.as_str().into());
    }
    Ok(Parsed {
        app,
        hint,
        input: input.into(),
        form: request.response_format.unwrap_or_default(),
    })
}

/// Returns the app for a model, and the model unless it names the app.
fn target(model: Option<&str>, apps: &Apps) -> Result<(String, Option<String>), ApiError> {
    let app = apps.of_image_model(model.unwrap_or_default());
    match (app, model) {
        (Some(app), model) => Ok((app.to_string(), model.map(str::to_owned))),
        (None, Some(name)) if AppId::parse(name).is_ok() => Ok((name.to_owned(), None)),
        (None, Some(model)) => {
            let model: String = model.chars().take(80).collect();
            let message = format!(
                "no app serves the model '{model}': add it to image_models of an app, or use an \
                 app's name, owner/name"
            );
            Err(ApiError::plain(
                StatusCode::NOT_FOUND,
                "model_not_found",
                message,
            ))
        }
        (None, None) => Err(wrong(
            "model",
            "is required: no app has image_models = [\"*\"]",
        )),
    }
}

fn image_size(size: &str) -> Result<Value, ApiError> {
    let sides = size.split_once('x').and_then(|(width, height)| {
        let side = |text: &str| text.parse::<u32>().ok().filter(|side| *side > 0);
        Some((side(width)?, side(height)?))
    });
    let (width, height) = sides.ok_or_else(|| wrong("size", "expected 1024x1024, or auto"))?;
    Ok(json!({"width": width, "height": height}))
}

fn wrong(field: &str, message: impl Into<String>) -> ApiError {
    let error = FieldError {
        loc: vec!["body".into(), field.into()],
        msg: message.into(),
        error_type: "invalid_value".to_owned(),
    };
    JobError {
        status: 400,
        ..JobError::fields(vec![error])
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_config::Settings;

    fn apps() -> Apps {
        let text = "[apps.'acme/sdxl']\nimage_models = ['sdxl', 'turbo']";
        Apps::read(&mut Settings::from_toml(text, "warmq.toml"))
    }

    fn parse(body: Value) -> Result<Parsed, JobError> {
        super::parse(body.to_string().as_bytes(), &apps()).map_err(JobError::from)
    }

    #[test]
    fn a_model_is_the_hint_and_leads_to_its_app() {
        let body = json!({
            "model": "turbo", "prompt": "cat", "n": 2, "size": "640x512",
            "response_format": "b64_json", "quality": "hd", "user": "u", "seed": 7,
        });
        let parsed = parse(body).unwrap();
        assert_eq!(
            (parsed.app.as_str(), parsed.hint.as_deref()),
            ("acme/sdxl", Some("turbo"))
        );
        assert_eq!(parsed.form, Form::Base64);
        let size = json!({"width": 640, "height": 512});
        let expected = json!({
            "model": "turbo", "prompt": "cat", "num_images": 2, "image_size": size, "seed": 7,
        });
        assert_eq!(parsed.input, expected);
    }

    #[test]
    fn a_model_may_be_an_apps_name_and_then_is_no_hint() {
        let parsed = parse(json!({"model": "acme/other", "prompt": "cat", "size": "auto"}));
        let parsed = parsed.unwrap();
        assert_eq!((parsed.app.as_str(), parsed.hint), ("acme/other", None));
        assert_eq!(parsed.input, json!({"prompt": "cat"}));
        assert_eq!(parsed.form, Form::Url);
    }

    #[test]
    fn wrong_requests_are_refused_with_the_field() {
        for (body, status, message) in [
            (json!({"model": "sdxl"}), 400, "prompt"),
            (json!({"prompt": "cat"}), 400, "model"),
            (json!({"prompt": "cat", "model": "sdxl", "n": 11}), 400, "n"),
            (
                json!({"prompt": "cat", "model": "sdxl", "size": "big"}),
                400,
                "size",
            ),
            (
                json!({"prompt": "cat", "model": "sdxl", "stream": true}),
                400,
                "stream",
            ),
            (
                json!({"prompt": "cat", "model": "dall-e-9"}),
                404,
                "dall-e-9",
            ),
            (json!([]), 400, "body"),
        ] {
            let error = parse(body.clone()).unwrap_err();
            assert_eq!(error.status, status, "{body}");
            assert!(error.message.contains(message), "{body}: {}", error.message);
        }
    }
}
