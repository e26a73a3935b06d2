//! The input of the diffusion engine.

use std::path::Path;

use schemars::JsonSchema;
use serde::Deserialize;
use warmq_diffusion::{Lora, Mask, Picture, Request};
use warmq_types::job::{JobError, JobSpec};

use super::image_size::{ImageSize, check_side};
use super::limits;
use super::loras::{self, LoraFolder};
use super::output::Delivery;
use crate::engine::input;
use crate::engine::picture::{IMAGE_URL, OutputFormat};

/// The list of LoRAs, and the field of each that names it.
pub(super) const LORAS: &str = "loras";
pub(super) const LORA_PATH: &str = "path";

/// The input field that names the mask.
pub(super) const MASK_URL: &str = "mask_url";

const MAX_PROMPT_CHARS: usize = 2_000;

/// Input of the diffusion engine. Omitted fields take the model's defaults.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "DiffusionInput", extend("x-warmq-cost" = limits::cost_keyword()))]
pub(super) struct Input {
    /// The prompt: the content of the picture.
    #[schemars(length(min = 1, max = 2000))]
    prompt: String,
    /// The model; by default the job's hint.
    #[schemars(extend("x-warmq-hint" = true))]
    model: Option<String>,
    /// The negative prompt: content to avoid.
    #[schemars(length(max = 2000))]
    negative_prompt: Option<String>,
    /// A picture to start from: the URL of a PNG, JPEG or WebP of up to 10 MB and 4096 x 4096
    /// pixels, or a data: URI. It is stretched to the output's size, by default its own proportions
    /// with as many pixels as the model draws by default. Transparent parts are white.
    image_url: Option<String>,
    /// The part of the picture at `image_url` to redraw: white in a picture of the same kinds,
    /// which is stretched to the output's size.
    mask_url: Option<String>,
    /// How much of the picture at `image_url` is redrawn: the fraction of the steps that run, at
    /// least one. Near 0 the picture stays as it is, at 1 almost nothing of it remains; 0.8 by
    /// default, 1 with a mask.
    #[schemars(range(max = 1), extend("exclusiveMinimum" = 0))]
    strength: Option<f64>,
    /// Width and height: square_hd (1024 x 1024), square (512 x 512), portrait_4_3 (768 x 1024),
    /// portrait_16_9 (576 x 1024), landscape_4_3 (1024 x 768), landscape_16_9 (1024 x 576), or an
    /// object of both.
    image_size: Option<ImageSize>,
    /// Width in pixels.
    #[schemars(range(min = 8, max = 2048), extend("multipleOf" = 8))]
    width: Option<u32>,
    /// Height in pixels.
    #[schemars(range(min = 8, max = 2048), extend("multipleOf" = 8))]
    height: Option<u32>,
    /// Denoising steps: more are slower and, up to about 30, better. Alias: `num_inference_steps`.
    #[serde(alias = "num_inference_steps")]
    #[schemars(range(min = 1, max = 200), extend("x-warmq-aliases" = ["num_inference_steps"]))]
    steps: Option<u32>,
    /// How closely the picture follows the prompt. Alias: `guidance_scale`.
    #[serde(alias = "guidance_scale")]
    #[schemars(range(min = 0, max = 30), extend("x-warmq-aliases" = ["guidance_scale"]))]
    guidance: Option<f64>,
    /// The same seed gives the same picture, and the output contains it. By default, and for -1,
    /// the seed is derived from the job's id.
    #[schemars(range(min = -1, max = u64::MAX))]
    seed: Option<i128>,
    /// Number of pictures.
    #[schemars(range(min = 1, max = 4))]
    num_images: Option<u32>,
    /// The sampler, one of those that the model allows: `ddim`, `euler`, …
    scheduler: Option<String>,
    /// LoRA files to apply, by URLs or by their names on the worker.
    #[schemars(length(max = 16))]
    loras: Option<Vec<LoraInput>>,
    /// The pictures' format, png by default; WebP is lossless.
    #[schemars(extend("enum" = ["png", "jpeg", "jpg", "webp", null]))]
    output_format: Option<OutputFormat>,
    /// Whether the pictures are data: URIs in the output, instead of files.
    sync_mode: Option<bool>,
    /// Accepted for clients of fal's apps. There is no safety checker; the output notes it.
    enable_safety_checker: Option<bool>,
    /// Whether the status contains a small preview of the picture (`progress.preview`), about after
    /// each quarter of the steps.
    preview: Option<bool>,
}

/// A LoRA file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LoraInput {
    /// The URL of a safetensors file, or its name in the folder that the worker has for such files.
    #[schemars(length(min = 1))]
    path: String,
    /// Weight of the change; 1 by default.
    #[schemars(range(min = -10, max = 10))]
    scale: Option<f64>,
}

impl Input {
    /// Parses a job's input and checks the bounds of the schema.
    ///
    /// # Errors
    /// A 422 that names the field at fault.
    pub(super) fn read(job: &JobSpec) -> Result<Self, JobError> {
        let input: Self = input::parse(&job.input)?;
        characters("prompt", &input.prompt, 1)?;
        characters(
            "negative_prompt",
            input.negative_prompt.as_deref().unwrap_or_default(),
            0,
        )?;
        input.check_size()?;
        input::check_range(&["steps"], input.steps.unwrap_or(1), 1..=200)?;
        input::check_range(&["guidance"], input.guidance.unwrap_or(0.0), 0.0..=30.0)?;
        if let Some(strength) = input.strength
            && !(strength > 0.0 && strength <= 1.0)
        {
            let message = format!("{strength} must be greater than 0 and at most 1");
            return Err(JobError::field(&["strength"], "out_of_range", message));
        }
        let seed = input.seed.unwrap_or(-1);
        input::check_range(&["seed"], seed, -1..=i128::from(u64::MAX))?;
        input::check_range(&["num_images"], input.num_images.unwrap_or(1), 1..=4)?;
        for (index, lora) in input.loras().iter().enumerate() {
            let path = ["loras", &index.to_string(), "scale"];
            input::check_range(&path, lora.scale(), -10.0..=10.0)?;
        }
        Ok(input)
    }

    fn check_size(&self) -> Result<(), JobError> {
        let pairs = [("width", self.width), ("height", self.height)];
        for (field, side) in pairs {
            if let Some(side) = side {
                check_side(&[field], side)?;
            }
        }
        let Some(size) = self.image_size else {
            return Ok(());
        };
        let sides = size.sides();
        for ((field, side), pixels) in pairs.into_iter().zip([sides.width, sides.height]) {
            check_side(&size.path(field), pixels)?;
            if let Some(side) = side.filter(|side| *side != pixels) {
                let message = format!("{side}, but image_size has {pixels}: give one of them");
                return Err(JobError::field(&[field], "value_error", message));
            }
        }
        Ok(())
    }

    /// Returns the model: the requested one, otherwise the job's hint.
    ///
    /// # Errors
    /// A 422 if there is neither; it lists the `known` models.
    pub(super) fn model(&self, job: &JobSpec, known: &[String]) -> Result<String, JobError> {
        let hint = job.hint.as_ref().map(|hint| hint.as_str());
        let model = self.model.as_deref().or(hint);
        model.map(str::to_owned).ok_or_else(|| {
            let known = known.join(", ");
            let message = format!(
                "Field required: set a model here or as the runner hint; known models: {known}"
            );
            JobError::field(&["model"], "missing", message)
        })
    }

    fn loras(&self) -> &[LoraInput] {
        self.loras.as_deref().unwrap_or_default()
    }

    /// Returns the LoRA files of the request. `fetched`: the file at a URL.
    ///
    /// # Errors
    /// A 422 that names the file that does not exist.
    pub(super) fn lora_files<'a>(
        &self,
        folder: &LoraFolder,
        fetched: impl Fn(&str) -> Option<&'a Path>,
    ) -> Result<Vec<Lora>, JobError> {
        let loras = self.loras().iter().enumerate();
        let found = loras.map(|(index, lora)| {
            let path = match fetched(&lora.path).filter(|_| loras::is_url(&lora.path)) {
                Some(path) => path.to_owned(),
                None => folder.find(index, &lora.path)?,
            };
            Ok(Lora {
                path,
                name: lora.path.clone(),
                scale: lora.scale(),
            })
        });
        found.collect()
    }

    /// Returns whether there is a picture to start from.
    pub(super) fn starts_from_picture(&self) -> bool {
        self.image_url.is_some()
    }

    /// Returns whether only a part of that picture is redrawn.
    pub(super) fn has_mask(&self) -> bool {
        self.mask_url.is_some()
    }

    /// Returns how the pictures are delivered.
    pub(super) fn delivery(&self) -> Delivery {
        Delivery {
            format: self.output_format.unwrap_or_default(),
            inline: self.sync_mode.unwrap_or(false),
            safety_checker: self.enable_safety_checker.unwrap_or(false),
        }
    }

    /// Returns the fields of the request under their names in this input.
    pub(super) fn field_names(&self) -> FieldNames {
        FieldNames {
            image_size: self.image_size,
        }
    }

    /// Builds the pipeline's request.
    pub(super) fn request(self, job: &JobSpec, files: Files) -> Request {
        let sides = self.image_size.map(ImageSize::sides);
        Request {
            prompt: self.prompt,
            negative_prompt: self.negative_prompt,
            width: self.width.or(sides.map(|sides| sides.width)),
            height: self.height.or(sides.map(|sides| sides.height)),
            steps: self.steps,
            guidance: self.guidance,
            // Derived from the id, so that another attempt draws the same. 32 bits, since
            // JavaScript clients would round a longer number and could not request the picture
            // again.
            seed: (self.seed.and_then(|seed| u64::try_from(seed).ok()))
                .unwrap_or(job.id.coin() & u64::from(u32::MAX)),
            num_images: self.num_images.unwrap_or(1),
            scheduler: self.scheduler,
            image: files.image,
            mask: files.mask,
            loras: files.loras,
            strength: self.strength,
            previews: self.preview.unwrap_or(false),
            ..Request::default()
        }
    }
}

/// The files that an input names.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) image: Option<Picture>,
    pub(super) mask: Option<Mask>,
    pub(super) loras: Vec<Lora>,
}

impl LoraInput {
    fn scale(&self) -> f64 {
        self.scale.unwrap_or(1.0)
    }
}

/// The names of a request's fields in the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct FieldNames {
    image_size: Option<ImageSize>,
}

impl FieldNames {
    /// Returns the path of a field of [`Request`].
    pub(super) fn path(self, field: &'static str) -> Vec<&'static str> {
        match (field, self.image_size) {
            ("width" | "height", Some(size)) => size.path(field),
            ("image", _) => vec![IMAGE_URL],
            ("mask", _) => vec![MASK_URL],
            _ => vec![field],
        }
    }
}

fn characters(field: &str, text: &str, least: usize) -> Result<(), JobError> {
    let count = text.chars().count();
    if (least..=MAX_PROMPT_CHARS).contains(&count) {
        return Ok(());
    }
    let message = format!("expected {least} to {MAX_PROMPT_CHARS} characters, got {count}");
    Err(JobError::field(&[field], "length", message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::job;
    use serde_json::{Value, json};

    fn at_fault(input: Value) -> Value {
        Input::read(&job("", input)).unwrap_err().detail[0].loc[1].clone()
    }

    #[test]
    fn the_field_at_fault_is_named() {
        assert_eq!(at_fault(json!({})), "prompt");
        assert_eq!(at_fault(json!({"prompt": ""})), "prompt");
        for (field, value) in [
            ("width", json!(12)),
            ("height", json!(4096)),
            ("steps", json!(0)),
            ("guidance", json!(31)),
            ("num_images", json!(5)),
            ("seed", json!(-2)),
            ("seed", json!(18_446_744_073_709_551_616_f64)),
            ("loras", json!("a")),
            ("loras", json!([{"path": "a.safetensors", "scale": 11}])),
            ("mask_url", json!(7)),
            ("image_size", json!("large")),
            ("output_format", json!("gif")),
            ("sync_mode", json!("yes")),
            ("scheduler", json!(7)),
            ("image_url", json!(7)),
            ("strength", json!(0)),
            ("strength", json!(1.1)),
            ("preview", json!("yes")),
        ] {
            assert_eq!(at_fault(json!({"prompt": "x", field: value})), field);
        }
    }

    #[test]
    fn a_size_beside_another_one_must_equal_it() {
        let at_fault = |width: u32| {
            let size = json!({"width": 64, "height": 128});
            let input = json!({"prompt": "x", "width": width, "image_size": size});
            let spec = job("", input);
            let size = |input: Input| {
                let request = input.request(&spec, Files::default());
                (request.width, request.height)
            };
            Input::read(&spec).map(size).map_err(|error| error.message)
        };
        assert_eq!(at_fault(64), Ok((Some(64), Some(128))));
        let error = "width: 72, but image_size has 64: give one of them".to_owned();
        assert_eq!(at_fault(72), Err(error));
    }

    #[test]
    fn a_side_of_an_image_size_is_named_by_its_path() {
        let spec = |size: Value| job("", json!({"prompt": "x", "image_size": size}));
        let error = Input::read(&spec(json!({"width": 63, "height": 64}))).unwrap_err();
        assert_eq!(error.detail[0].loc, ["body", "image_size", "width"]);
        let names = |size: Value| Input::read(&spec(size)).unwrap().field_names();
        let sides = names(json!({"width": 64.0, "height": 64}));
        assert_eq!(sides.path("width"), ["image_size", "width"]);
        assert_eq!(names(json!("square")).path("height"), ["image_size"]);
        assert_eq!(names(Value::Null).path("height"), ["height"]);
    }

    #[test]
    fn a_lora_is_validated() {
        let refusal = |loras: Value| {
            let spec = job("", json!({"prompt": "x", "loras": loras}));
            Input::read(&spec).map(drop).map_err(|error| error.message)
        };
        assert_eq!(refusal(json!([])), Ok(()));
        let lora = json!([{"path": "a.safetensors", "scale": 0.5}]);
        assert_eq!(refusal(lora), Ok(()));
        for (lora, place) in [
            (json!({"path": "a", "scale": "1"}), "loras.0.scale"),
            (json!({"scale": 1}), "loras.0.path"),
            (json!({"path": "a", "weight": 1}), "loras.0.weight"),
        ] {
            let error = refusal(json!([lora])).unwrap_err();
            assert!(error.starts_with(place), "{error}");
        }
    }

    #[test]
    fn the_format_is_png_unless_another_one_is_given() {
        let delivery = |fields: Value| {
            let mut input = json!({"prompt": "x"});
            input
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            Input::read(&job("", input)).unwrap().delivery()
        };
        assert_eq!(delivery(json!({})).format, OutputFormat::Png);
        for format in ["jpeg", "jpg"] {
            let format = delivery(json!({"output_format": format})).format;
            assert_eq!(format, OutputFormat::Jpeg);
        }
        let inline = delivery(json!({"sync_mode": true, "output_format": "webp"}));
        assert!(inline.inline && inline.format == OutputFormat::Webp);
    }

    #[test]
    fn fals_names_are_read_too_and_the_model_comes_from_the_hint() {
        let spec = job(
            "shapes",
            json!({"prompt": "x", "num_inference_steps": 7, "guidance_scale": 2.5}),
        );
        let input = Input::read(&spec).unwrap();
        assert_eq!(input.model(&spec, &[]).unwrap(), "shapes");
        let request = input.request(&spec, Files::default());
        assert_eq!((request.steps, request.guidance), (Some(7), Some(2.5)));
        assert!(request.seed <= u64::from(u32::MAX));
        let nameless = job("", json!({"prompt": "x"}));
        let known = ["digits".to_owned(), "shapes".to_owned()];
        let input = Input::read(&nameless).unwrap();
        let error = input.model(&nameless, &known).unwrap_err();
        assert_eq!(error.detail[0].loc, ["body", "model"]);
        assert!(error.message.ends_with("digits, shapes"), "{error:?}");
    }

    #[test]
    fn a_seed_is_used_as_given_and_minus_one_asks_for_one() {
        let seed = |seed: Value| {
            let spec = job("m", json!({"prompt": "x", "seed": seed}));
            let drawn = spec.id.coin() & u64::from(u32::MAX);
            (
                Input::read(&spec)
                    .unwrap()
                    .request(&spec, Files::default())
                    .seed,
                drawn,
            )
        };
        assert_eq!(seed(json!(u64::MAX)).0, u64::MAX);
        assert_eq!(seed(json!(42.0)).0, 42);
        for asked in [json!(-1), json!(-1.0), Value::Null] {
            let (used, drawn) = seed(asked);
            assert_eq!(used, drawn);
        }
    }

    #[test]
    fn the_schema_has_the_bounds() {
        let schema = input::schema::<Input>();
        let width = &schema["properties"]["width"];
        assert_eq!(
            (&width["minimum"], &width["maximum"], &width["multipleOf"]),
            (&json!(8), &json!(2048), &json!(8))
        );
        assert_eq!(schema["required"], json!(["prompt"]));
        let seed = &schema["properties"]["seed"];
        assert_eq!(
            (&seed["minimum"], &seed["maximum"]),
            (&json!(-1), &json!(u64::MAX))
        );
        let cost = |steps: u32| {
            let input = json!({"width": 2048, "height": 2048, "steps": steps, "num_images": 4});
            warmq_types::input_cost::excess(&schema, &input)
        };
        // Without a picture to start from 0.8 is too little, but the router does not know.
        assert_eq!(cost(80), None);
        assert_eq!(cost(81).unwrap().loc, ["body", "steps"]);
        let formats = &schema["properties"]["output_format"]["enum"];
        assert_eq!(formats, &json!(["png", "jpeg", "jpg", "webp", null]));
        let hint = warmq_types::input_schema::hint_path(&schema);
        assert_eq!(hint.unwrap().to_string(), "input.model");
        assert!(!schema.to_string().contains("$ref"));
    }
}
