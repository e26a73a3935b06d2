//! Stable Diffusion: an adapter between jobs and the crate `warmq-diffusion`, the only way to tensors.
//!
//! A hint is a model's name. Pipelines are kept in a [`ModelCache`] and live on this engine's thread.

mod input;
mod picture;

use std::num::NonZero;
use std::ops::ControlFlow;
use std::time::Instant;

use serde_json::{Value, json};
use warmq_common::hint::Hint;
use warmq_common::job::{JobError, JobSpec, Phase, Progress, Timings};
use warmq_common::store::RunnerReport;
use warmq_diffusion::{
    Catalog, Device, Error, Family, LoadStep, Manifest, Observer, Picture, Pipeline,
};

use super::picture::IMAGE_URL;
use super::{
    BuildError, Description, Ended, Engine, Failure, File, Options, Produced, RUNNER_ERROR,
    RunContext, input as seam, millis,
};
use crate::input_files::FileField;
use crate::model_cache::{self, Loaded, Loader, ModelCache};
use input::Input;

/// Largest file of a picture that is read.
const MOST_PICTURE_BYTES: usize = 10 << 20;

/// The engine.
pub struct Diffusion {
    cache: ModelCache<Models>,
    // Set by the user: then torch has read it, and we leave it alone.
    threads_are_set: bool,
}

impl Diffusion {
    /// An engine for the models and the device of `options`.
    ///
    /// # Errors
    /// There are no models, or no such device.
    pub fn new(options: &Options) -> Result<Self, BuildError> {
        let catalog = Catalog::open(&options.models).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            BuildError::Setting(format!(
                "models: {error}{}; name a folder of model folders with --models",
                cause.unwrap_or_default()
            ))
        })?;
        if catalog.names().is_empty() {
            return Err(BuildError::Setting(format!(
                "models: {} holds no model (a folder with a manifest.json or a model_index.json); name another with \
                 --models",
                options.models.display()
            )));
        }
        let device = Device::parse(&options.device)
            .map_err(|error| BuildError::Unavailable(error.to_string()))?;
        Ok(Self {
            cache: ModelCache::new(Models { catalog, device }, options.memory_budget.0),
            threads_are_set: std::env::var_os("OMP_NUM_THREADS").is_some(),
        })
    }

    fn produce(
        &mut self,
        job: &JobSpec,
        context: &mut dyn RunContext,
        timings: &mut Timings,
    ) -> Result<Produced, Failure> {
        let input = Input::read(job)?;
        let model = input.model(job, &self.cache.loader().catalog.names())?;
        let image = match input.starts_from_picture() {
            true => context.file(IMAGE_URL).map(picture::read).transpose()?,
            false => None,
        };
        let request = input.request(job, image);

        timings.warm = self.cache.contains(&model);
        if !timings.warm {
            // Before anything is dropped for it.
            let manifest = self
                .cache
                .loader()
                .catalog
                .manifest(&model)
                .map_err(failure)?;
            request.check(&manifest).map_err(failure)?;
        }
        let begun = Instant::now();
        let pipeline = self.cache.get(&model, &mut *context);
        if !timings.warm {
            timings.load_ms = millis(begun);
        }
        let pipeline = match pipeline {
            Ok(pipeline) => pipeline,
            Err(model_cache::Error::Load(error)) => return Err(self.failure(error)),
            Err(model_cache::Error::TooLarge(refused)) => return Err(refused.into()),
        };
        if context.cancelled() {
            return Err(Failure::Cancelled);
        }

        if !self.threads_are_set {
            warmq_diffusion::set_threads(threads(pipeline.manifest()));
        }
        let begun = Instant::now();
        let pictures = pipeline.generate(&request, &mut Steps::told_to(context));
        timings.run_ms = millis(begun);
        let pictures = pictures.map_err(|error| self.failure(error))?;

        let mut produced = Produced::default();
        let mut images = Vec::with_capacity(pictures.len());
        for (index, drawn) in pictures.iter().enumerate() {
            images.push(json!({
                "url": Value::Null,
                "width": drawn.width,
                "height": drawn.height,
                "content_type": "image/png",
            }));
            produced.files.push(File {
                name: format!("{index}.png"),
                pointer: format!("/images/{index}/url"),
                bytes: picture::png(drawn)?,
            });
        }
        produced.output = json!({
            "images": images,
            "seed": request.seed,
            "prompt": request.prompt,
            "model": model,
            "timings": {"load_ms": timings.load_ms, "inference_ms": timings.run_ms},
        });
        Ok(produced)
    }

    /// As [`failure`]. Out of memory, everything is dropped, so that the next job finds the device empty.
    fn failure(&mut self, error: Error) -> Failure {
        if matches!(error, Error::OutOfMemory { .. }) {
            self.cache.clear();
            self.cache.loader().device.release_unused_memory();
        }
        failure(error)
    }
}

impl Engine for Diffusion {
    fn describe(&self) -> Description {
        let Models { catalog, device } = self.cache.loader();
        Description {
            device: device.to_string(),
            models: catalog.names(),
            input_schema: seam::schema::<Input>(),
            files: vec![FileField {
                name: IMAGE_URL,
                most_bytes: MOST_PICTURE_BYTES,
            }],
        }
    }

    fn report(&self) -> RunnerReport {
        let names = self.cache.names();
        RunnerReport {
            hints: names
                .into_iter()
                .filter_map(|name| Hint::parse(name).ok())
                .collect(),
            memory_bytes: self.cache.bytes(),
            slots: self.cache.slots(),
        }
    }

    fn run(&mut self, job: &JobSpec, context: &mut dyn RunContext) -> Ended {
        let mut timings = Timings::default();
        let result = self.produce(job, context, &mut timings);
        Ended { result, timings }
    }
}

/// The models of a folder, loaded onto a device.
struct Models {
    catalog: Catalog,
    device: Device,
}

impl Loader for Models {
    type Model = Pipeline;
    type Error = Error;
    type Context<'a> = &'a mut dyn RunContext;

    fn estimate_bytes(&self, name: &str) -> Result<u64, Error> {
        Ok(self.catalog.manifest(name)?.memory_bytes())
    }

    fn load(
        &mut self,
        name: &str,
        context: &mut dyn RunContext,
    ) -> Result<Loaded<Pipeline>, Error> {
        let manifest = self.catalog.manifest(name)?;
        let mut told = None;
        let mut progress = |step: LoadStep| {
            let percent = step.bytes.saturating_mul(100) / step.total_bytes.max(1);
            if told.replace(percent) != Some(percent) {
                // A load can not be stopped half-way; whether the job is still wanted is asked after it.
                let percent = u32::try_from(percent).unwrap_or(100).min(100);
                let _ = context.progress(Progress::at(Phase::Loading, percent, 100));
            }
        };
        progress(LoadStep {
            part: warmq_diffusion::Part::TextEncoder,
            bytes: 0,
            total_bytes: 1,
        });
        let model = Pipeline::load(&manifest, &self.device, &mut progress)?;
        Ok(Loaded {
            bytes: model.memory_bytes(),
            model,
        })
    }
}

/// Passes the steps and previews on, and the wish to stop back.
struct Steps<'a> {
    context: &'a mut dyn RunContext,
    last: Progress,
}

impl<'a> Steps<'a> {
    fn told_to(context: &'a mut dyn RunContext) -> Self {
        let last = Progress::at(Phase::Running, 0, 0);
        Self { context, last }
    }
}

impl Observer for Steps<'_> {
    fn step(&mut self, step: u32, steps: u32) -> ControlFlow<()> {
        self.last = Progress::at(Phase::Running, step, steps);
        self.context.progress(self.last.clone())
    }

    fn preview(&mut self, preview: Picture) {
        // Whether the job is still wanted is asked before the next step.
        let _ = self.context.progress(Progress {
            preview: picture::data_uri(&preview),
            ..self.last.clone()
        });
    }
}

/// The job's fault or ours, in fal's shapes.
fn failure(error: Error) -> Failure {
    let message = error.to_string();
    let error = match error {
        Error::Cancelled => return Failure::Cancelled,
        Error::UnknownModel { .. } => JobError::field(&["model"], "model_not_found", message),
        Error::InvalidRequest { field, message } => {
            let field = if field == "image" { IMAGE_URL } else { field };
            JobError::field(&[field], "value_error", message)
        }
        _ => JobError::internal(RUNNER_ERROR, message),
    };
    Failure::Job(error)
}

/// Threads for one tensor operation on the CPU: tiny models are fastest on one.
fn threads(manifest: &Manifest) -> usize {
    match manifest.family {
        Family::Tiny => 1,
        _ => std::thread::available_parallelism().map_or(1, NonZero::get),
    }
}
