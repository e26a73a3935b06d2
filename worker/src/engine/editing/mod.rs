//! Engines that edit pictures on the CPU: steps before and after a model's.
//!
//! | module | contents |
//! | --- | --- |
//! | [`upscale`] | enlarges a picture |
//! | [`cutout`] | removes the background |
//! | `background` | detects the background; pure |
//!
//! An engine is defined by its input type, an [`Edit`]; [`Editor`] is the rest. There are no
//! models, so runners report none, and a hint has no effect.

mod background;
pub mod cutout;
pub mod upscale;

use std::marker::PhantomData;
use std::time::Instant;

use image::DynamicImage;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use warmq_store::RunnerReport;
use warmq_types::job::{JobError, JobSpec, Phase, Progress, Timings};

use super::picture::{self, IMAGE_URL, OutputFormat};
use super::{Description, Ended, Engine, Failure, File, Produced, RunContext, input, millis};
use crate::input_files::FileField;

/// Size limit of an input file: the largest output of these engines (4096 x 4096 pixels of 4 bytes,
/// uncompressed, and a margin), so that they can be chained.
const MAX_FILE_BYTES: usize = 65 << 20;

/// Progress reports per run: decoded, edited, encoded.
const STAGES: u32 = 3;

/// An edit: the input of a job whose `image_url` names the picture.
pub trait Edit: DeserializeOwned + JsonSchema {
    /// Checks the bounds of the schema.
    ///
    /// # Errors
    /// A 422 that names the field at fault.
    fn check(&self) -> Result<(), JobError>;

    /// Returns the edited picture, of 8 bits per channel.
    ///
    /// # Errors
    /// A 422 that names the field that this picture does not allow.
    fn apply(&self, picture: DynamicImage) -> Result<DynamicImage, JobError>;
}

/// The engine for one kind of edit.
pub struct Editor<E>(PhantomData<fn() -> E>);

impl<E> Default for Editor<E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Edit> Engine for Editor<E> {
    fn describe(&self) -> Description {
        Description {
            device: "cpu".to_owned(),
            models: Vec::new(),
            input_schema: input::schema::<E>(),
            files: vec![FileField::InMemory {
                name: IMAGE_URL,
                max_bytes: MAX_FILE_BYTES,
            }],
            inlines_files: false,
        }
    }

    fn report(&self) -> RunnerReport {
        RunnerReport {
            slots: 1,
            ..RunnerReport::default()
        }
    }

    fn check_input(&mut self, job: &JobSpec) -> Result<(), Failure> {
        Ok(input::parse::<E>(&job.input)?.check()?)
    }

    fn run(&mut self, job: &JobSpec, context: &mut dyn RunContext) -> Ended {
        let begun = Instant::now();
        let result = produce::<E>(job, context);
        let timings = Timings {
            // There is no model to load.
            warm: true,
            run_ms: millis(begun),
            ..Timings::default()
        };
        Ended {
            result,
            timings,
            model: None,
        }
    }
}

fn produce<E: Edit>(job: &JobSpec, context: &mut dyn RunContext) -> Result<Produced, Failure> {
    let edit: E = input::parse(&job.input)?;
    edit.check()?;
    let file = context.file(IMAGE_URL);
    let file = file.ok_or_else(|| JobError::field(&[IMAGE_URL], "missing", "Field required"))?;
    let given = picture::read(file).map_err(|error| error.in_field(IMAGE_URL))?;
    report_stage(1, context)?;
    let made = edit.apply(given)?;
    report_stage(2, context)?;
    let (width, height) = (made.width(), made.height());
    let colours = made.color().into();
    let png = OutputFormat::Png.encode(made.as_bytes(), width, height, colours)?;
    report_stage(STAGES, context)?;
    Ok(Produced {
        output: json!({"image": {
            "url": Value::Null,
            "width": width,
            "height": height,
            "content_type": "image/png",
        }}),
        files: vec![File {
            name: "image.png".to_owned(),
            pointer: "/image/url".to_owned(),
            bytes: png,
        }],
    })
}

/// Reports a stage. Fails if the job is cancelled.
fn report_stage(stage: u32, context: &mut dyn RunContext) -> Result<(), Failure> {
    let progress = Progress::at(Phase::Running, stage, STAGES);
    match context.progress(progress).is_break() {
        true => Err(Failure::Cancelled),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::cutout::Cutout;
    use super::upscale::Upscale;
    use super::*;
    use crate::engine::picture::testing::noise;
    use crate::engine::testing::{RecordingContext, job};

    fn given(file: Vec<u8>) -> RecordingContext {
        RecordingContext {
            file: Some(file),
            ..RecordingContext::default()
        }
    }

    fn a_png() -> Vec<u8> {
        let picture = DynamicImage::from(noise(16, 8));
        let colours = picture.color().into();
        OutputFormat::Png
            .encode(picture.as_bytes(), 16, 8, colours)
            .unwrap()
    }

    fn input() -> Value {
        json!({"image_url": "https://example.com/a.png"})
    }

    #[test]
    fn an_edited_picture_is_a_file_referenced_in_the_output() {
        let mut recorded = given(a_png());
        let ended = Editor::<Upscale>::default().run(&job("", input()), &mut recorded);
        let Produced { output, files } = ended.result.unwrap();
        let image = json!({"url": null, "width": 32, "height": 16, "content_type": "image/png"});
        assert_eq!(output, json!({"image": image}));
        assert_eq!(output.pointer(&files[0].pointer), Some(&Value::Null));
        assert_eq!(picture::read(&files[0].bytes).unwrap().width(), 32);
        let steps: Vec<u32> = recorded
            .progress
            .iter()
            .map(|progress| progress.step)
            .collect();
        assert_eq!(steps, [1, 2, 3]);
    }

    #[test]
    fn a_hint_changes_nothing_and_nothing_is_loaded() {
        let mut engine = Editor::<Cutout>::default();
        for hint in ["", "shapes"] {
            let ended = engine.run(&job(hint, input()), &mut given(a_png()));
            assert_eq!((ended.timings.warm, ended.timings.load_ms), (true, 0));
            assert!(ended.result.is_ok());
            assert!(engine.report().hints.is_empty());
        }
    }

    #[test]
    fn a_cancelled_job_ends_after_any_stage() {
        for stages in 1..=3 {
            let mut recorded = given(a_png());
            recorded.stop_after = Some(stages);
            let ended = Editor::<Cutout>::default().run(&job("", input()), &mut recorded);
            assert_eq!(ended.result, Err(Failure::Cancelled));
            assert_eq!(recorded.progress.len(), stages);
        }
    }

    #[test]
    fn the_field_at_fault_is_named() {
        let at_fault = |input: Value, file| {
            let ended = Editor::<Cutout>::default().run(&job("", input), &mut given(file));
            match ended.result {
                Err(Failure::Job(error)) => (error.status, error.detail[0].loc.clone()),
                other => panic!("{other:?}"),
            }
        };
        let named = |field: &str| (422, vec![json!("body"), json!(field)]);
        assert_eq!(at_fault(json!({}), a_png()), named("image_url"));
        assert_eq!(at_fault(input(), b"text".to_vec()), named("image_url"));
        let mut far = input();
        far["tolerance"] = json!(1.5);
        assert_eq!(at_fault(far, a_png()), named("tolerance"));
    }
}
