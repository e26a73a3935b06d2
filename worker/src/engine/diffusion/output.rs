//! The output of the diffusion engine, in the shape of fal's image apps.

use serde_json::{Value, json};
use warmq_diffusion::{Picture, Request, Truncation};
use warmq_types::job::Timings;
use warmq_types::text::shortened;

use super::picture;
use crate::engine::picture::OutputFormat;
use crate::engine::{File, Produced};
use crate::fault::Fault;

/// Size limit of pictures in an output, which Redis holds.
const MAX_INLINE_BYTES: usize = 16 << 20;

/// Length limit of a quoted part of a prompt, bytes.
const MAX_QUOTE_BYTES: usize = 120;

/// How a job's pictures are delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) format: OutputFormat,
    /// Whether they are data: URIs in the output.
    pub(super) inline: bool,
    /// Whether the job asked for a safety checker, which the engine does not have.
    pub(super) safety_checker: bool,
}

/// A job's pictures.
pub(super) struct Drawn<'a> {
    pub(super) pictures: Vec<Picture>,
    pub(super) truncations: Vec<Truncation>,
    pub(super) model: String,
    pub(super) request: &'a Request,
    pub(super) timings: Timings,
}

/// Encodes the pictures and builds the output.
///
/// # Errors
/// A picture cannot be encoded.
pub(super) fn produce(drawn: &Drawn<'_>, delivery: Delivery) -> Result<Produced, Fault> {
    let Drawn {
        pictures, timings, ..
    } = drawn;
    let encoded = pictures
        .iter()
        .map(|drawn| picture::encode(drawn, delivery.format))
        .collect::<Result<Vec<_>, _>>()?;
    let fits = encoded.iter().map(Vec::len).sum::<usize>() <= MAX_INLINE_BYTES;
    let content_type = delivery.format.content_type();
    let mut files = Vec::new();
    let mut images = Vec::with_capacity(pictures.len());
    for (index, (drawn, bytes)) in pictures.iter().zip(encoded).enumerate() {
        let url = match delivery.inline && fits {
            true => Value::from(picture::data_uri(content_type, &bytes)),
            false => {
                files.push(File {
                    name: format!("{index}.{}", delivery.format.extension()),
                    pointer: format!("/images/{index}/url"),
                    bytes,
                });
                Value::Null
            }
        };
        images.push(json!({
            "url": url,
            "width": drawn.width,
            "height": drawn.height,
            "content_type": content_type,
        }));
    }
    let mut output = json!({
        "images": images,
        "seed": drawn.request.seed,
        "prompt": drawn.request.prompt,
        "model": drawn.model,
        "timings": {
            "inference": timings.run_ms as f64 / 1000.0,
            "load_ms": timings.load_ms,
            "inference_ms": timings.run_ms,
        },
        "has_nsfw_concepts": vec![false; pictures.len()],
    });
    let mut notes = notes(&drawn.truncations, delivery);
    if delivery.inline && !fits {
        notes.push(format!(
            "sync_mode has no effect: the pictures exceed {} MiB",
            MAX_INLINE_BYTES >> 20
        ));
    }
    if !notes.is_empty() {
        output["notes"] = notes.into();
    }
    Ok(Produced { output, files })
}

/// Returns what the owner of a job may not expect of its pictures.
fn notes(truncations: &[Truncation], delivery: Delivery) -> Vec<String> {
    let mut notes: Vec<String> = truncations.iter().map(truncation_note).collect();
    if delivery.safety_checker {
        notes.push("no safety checker ran: this engine does not have one".to_owned());
    }
    notes
}

/// Formats a truncation for the prompt's owner.
pub(crate) fn truncation_note(truncation: &Truncation) -> String {
    let Truncation {
        field,
        context,
        rest,
    } = truncation;
    let (field, rest) = (
        field.replace('_', " "),
        shortened(rest.clone(), MAX_QUOTE_BYTES),
    );
    format!("the {field} was cut after {context} tokens: '{rest}' has no effect")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::picture::testing::noise;

    const FILES: Delivery = Delivery {
        format: OutputFormat::Png,
        inline: false,
        safety_checker: false,
    };

    fn produced(truncations: Vec<Truncation>, delivery: Delivery) -> Produced {
        let picture = Picture {
            width: 2,
            height: 1,
            rgb: vec![9; 6],
        };
        produced_of(picture, truncations, delivery)
    }

    fn produced_of(picture: Picture, truncations: Vec<Truncation>, delivery: Delivery) -> Produced {
        let request = Request {
            prompt: "a fox".to_owned(),
            seed: 7,
            ..Request::default()
        };
        let drawn = Drawn {
            pictures: vec![picture.clone(), picture],
            truncations,
            model: "shapes".to_owned(),
            request: &request,
            timings: Timings {
                run_ms: 1234,
                ..Timings::default()
            },
        };
        produce(&drawn, delivery).unwrap()
    }

    #[test]
    fn the_output_has_the_shape_of_fals_image_apps() {
        let Produced { output, files } = produced(Vec::new(), FILES);
        let image = json!({"url": null, "width": 2, "height": 1, "content_type": "image/png"});
        assert_eq!(output["images"], json!([image, image]));
        assert_eq!(output["has_nsfw_concepts"], json!([false, false]));
        assert_eq!(output["timings"]["inference"], 1.234);
        assert_eq!(
            (&output["seed"], &output["prompt"]),
            (&json!(7), &json!("a fox"))
        );
        assert_eq!(output.get("notes"), None);
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["0.png", "1.png"]);
        assert_eq!(output.pointer(&files[1].pointer), Some(&Value::Null));
    }

    #[test]
    fn inline_pictures_are_data_uris_and_no_files() {
        let delivery = Delivery {
            inline: true,
            format: OutputFormat::Jpeg,
            ..FILES
        };
        let Produced { output, files } = produced(Vec::new(), delivery);
        assert!(files.is_empty());
        let url = output["images"][1]["url"].as_str().unwrap();
        assert!(url.starts_with("data:image/jpeg;base64,/9j/"), "{url}");
        assert_eq!(output["images"][1]["content_type"], "image/jpeg");
    }

    #[test]
    fn pictures_too_large_for_an_output_are_files_after_all() {
        let large = Picture {
            width: 2048,
            height: 2048,
            rgb: noise(2048, 2048).into_raw(),
        };
        let delivery = Delivery {
            inline: true,
            ..FILES
        };
        let Produced { output, files } = produced_of(large, Vec::new(), delivery);
        assert_eq!(files.len(), 2);
        let note = "sync_mode has no effect: the pictures exceed 16 MiB";
        assert_eq!(output["notes"], json!([note]));
    }

    #[test]
    fn a_cut_prompt_and_a_missing_safety_checker_are_noted() {
        let cut = Truncation {
            field: "negative_prompt",
            context: 77,
            rest: "blurry".to_owned(),
        };
        let delivery = Delivery {
            safety_checker: true,
            ..FILES
        };
        let notes = [
            "the negative prompt was cut after 77 tokens: 'blurry' has no effect",
            "no safety checker ran: this engine does not have one",
        ];
        assert_eq!(produced(vec![cut], delivery).output["notes"], json!(notes));
    }
}
