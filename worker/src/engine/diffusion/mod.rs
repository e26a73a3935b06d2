//! Stable Diffusion: an adapter between jobs and the crate `warmq-diffusion`, the only access to
//! tensors.
//!
//! A hint is a model's name. Pipelines are kept in a [`ModelCache`] and never leave this engine's
//! thread.

mod image_size;
mod input;
mod limits;
mod loras;
mod models;
pub(crate) mod output;
pub(crate) mod picture;
mod servable;

use std::num::NonZero;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use warmq_config::ByteSize;
use warmq_diffusion::{
    Catalog, Device, Error, Latents, Manifest, Mask, Observer, Picture, Request, Stamp, Truncation,
    Workload,
};
use warmq_store::RunnerReport;
use warmq_types::fault::FaultKind;
use warmq_types::hint::Hint;
use warmq_types::job::{JobError, JobSpec, Phase, Progress, Timings};
use warmq_types::runner::ModelChange;
use warmq_types::tier::Tier;

use super::cached_models::{WithoutJob, change_models, report};
use super::picture::IMAGE_URL;
use super::{
    BuildError, Description, Ended, Engine, Failure, Options, Produced, RefusedChange, RunContext,
    input as seam, millis,
};
use crate::fault::Fault;
use crate::input_files::FileField;
use crate::model_cache::{self, Loader, ModelCache};
use input::{FieldNames, Files, Input, LORA_PATH, LORAS, MASK_URL};
use limits::ExceededSizes;
use loras::LoraFolder;
use models::Models;
use output::Drawn;
use servable::ServableModels;

/// Size limit of an input picture's file.
const MAX_PICTURE_BYTES: usize = 10 << 20;

/// Size limit of a LoRA at a URL. Those of rank 128 for FLUX.1 have 1.4 GB.
const MAX_LORA_BYTES: usize = 2 << 30;

/// The engine.
pub struct Diffusion {
    cache: ModelCache<Models>,
    servable: ServableModels,
    exceeded: ExceededSizes,
    loras: LoraFolder,
    budget_bytes: u64,
    // Set by the user: torch has applied it already.
    threads_are_set: bool,
}

impl Diffusion {
    /// Creates an engine for the models and the device of `options`. Logs models that cannot be
    /// served.
    ///
    /// # Errors
    /// No model can be served, or the device does not exist.
    pub fn new(options: &Options) -> Result<Self, BuildError> {
        let catalog = Catalog::open(&options.models).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            BuildError::Setting(format!(
                "models: {error}{}; set a folder of models: --models",
                cause.unwrap_or_default()
            ))
        })?;
        let only = options.only.clone();
        let catalog = catalog.restricted(move |model| only.allows(model));
        for folder in catalog.unreadable() {
            tracing::warn!(
                folder,
                "a model's folder cannot be read: it is not in the catalog"
            );
        }
        let unsupported = catalog.unsupported();
        for error in &unsupported {
            tracing::warn!(%error, "not in the catalog");
        }
        if catalog.names().is_empty() {
            let found: String = unsupported
                .iter()
                .map(|error| format!("; {error}"))
                .collect();
            return Err(BuildError::Setting(format!(
                "models: {} contains no model (a folder with a model_index.json or a \
                 manifest.json, or a single .safetensors file); set another with \
                 --models{found}",
                options.models.display()
            )));
        }
        let device = Device::parse(&options.device)
            .map_err(|error| BuildError::Unavailable(error.to_string()))?;
        let budget_bytes = options.memory_budget.0;
        let models = Models::new(catalog, device);
        check_pins(&models, &options.pin, budget_bytes)?;
        let mut servable = ServableModels::default();
        servable.refresh(&models, budget_bytes);
        if servable.names().is_empty() {
            return Err(BuildError::Setting(format!(
                "no model of {} can be served: {}",
                options.models.display(),
                reasons(&servable)
            )));
        }
        if options.device == "auto"
            && let Some(file) = warmq_diffusion::unusable_gpu()
        {
            tracing::warn!(
                "{file} exists, but libtorch finds no usable GPU: models run on the CPU, many \
                 times slower. Check the driver's version, or set --device cpu"
            );
        }
        Ok(Self {
            cache: ModelCache::new(models, options.budget()),
            servable,
            exceeded: ExceededSizes::default(),
            loras: LoraFolder::new(options.loras.clone()),
            budget_bytes,
            threads_are_set: std::env::var_os("OMP_NUM_THREADS").is_some(),
        })
    }

    /// Returns the catalog: the models that can be served beside the pinned ones.
    fn offered(&self) -> Vec<String> {
        let mut names = self.servable.names();
        names.retain(|name| {
            let bytes = self.cache.loader().known_bytes(name);
            bytes.is_none_or(|bytes| bytes <= self.cache.room_beside_pins(name))
        });
        names
    }

    fn produce(
        &mut self,
        job: &JobSpec,
        context: &mut dyn RunContext,
        ended: &mut Ended,
    ) -> Result<Produced, Failure> {
        let Examined {
            input,
            names,
            model,
            stamp,
        } = self.examine(job)?;
        let files = self.files(&input, context)?;
        let delivery = input.delivery();
        let request = input.request(job, files);
        self.cache.drop_if_changed(&model);
        // Before anything is evicted for it.
        let workload = self.admit(&model, &stamp, &request, names)?;
        let timings = &mut ended.timings;
        timings.warm = self.cache.contains(&model);
        let (pictures, truncations) = match self.draw(&model, &request, context, timings) {
            Ok(drawn) => drawn,
            Err(model_cache::Error::ExceedsDevice(_)) if self.cache.contains(&model) => {
                let now = Instant::now();
                let error = (self.exceeded).record(&model, &stamp, &workload, names, now);
                return Err(error.into());
            }
            Err(error) => return Err(self.failed(&model, stamp, error, names)),
        };
        ended.model = Some(model.clone());
        let drawn = Drawn {
            pictures,
            truncations,
            model,
            request: &request,
            timings: ended.timings,
        };
        Ok(output::produce(&drawn, delivery)?)
    }

    /// Reads the files that the input names.
    fn files(&self, input: &Input, context: &dyn RunContext) -> Result<Files, JobError> {
        let mut files = Files {
            loras: input.lora_files(&self.loras, |text| context.path(text))?,
            ..Files::default()
        };
        if input.starts_from_picture()
            && let Some(file) = context.file(IMAGE_URL)
        {
            let image = picture::read(file).map_err(|error| error.in_field(IMAGE_URL))?;
            files.image = Some(image);
        }
        if input.has_mask()
            && let Some(file) = context.file(MASK_URL)
        {
            let mask = picture::read_mask(file).map_err(|error| error.in_field(MASK_URL))?;
            files.mask = Some(mask);
        }
        Ok(files)
    }

    /// Checks a job's input and its model, as far as possible without loading anything.
    fn examine(&self, job: &JobSpec) -> Result<Examined, Failure> {
        let input = Input::read(job)?;
        let names = input.field_names();
        let model = input.model(job, &self.servable.names())?;
        let stamp = match self.cache.loader().catalog.stamp(&model) {
            Ok(stamp) => stamp,
            Err(error) => return Err(self.unknown(&model, error, names)),
        };
        if let Some(fault) = self.servable.refusal(&model, &stamp) {
            return Err(fault.clone().into());
        }
        Ok(Examined {
            input,
            names,
            model,
            stamp,
        })
    }

    /// Checks that the model supports a request, and that neither its time nor its memory is known
    /// to exceed the limits. Returns its cost.
    fn admit(
        &mut self,
        model: &str,
        stamp: &Stamp,
        request: &Request,
        names: FieldNames,
    ) -> Result<Workload, Failure> {
        let manifest = self.cache.loader().catalog.manifest(model);
        let workload = match manifest.and_then(|manifest| request.check(&manifest)) {
            Ok(workload) => workload,
            Err(error) => {
                let error = model_cache::Error::Load(error);
                return Err(self.failed(model, stamp.clone(), error, names));
            }
        };
        limits::check_cost(&workload)?;
        (self.exceeded).check(model, stamp, &workload, names, Instant::now())?;
        Ok(workload)
    }

    /// Loads the model if needed, and generates; out of memory, retries with fewer other models.
    fn draw(
        &mut self,
        model: &str,
        request: &Request,
        context: &mut dyn RunContext,
        timings: &mut Timings,
    ) -> Result<(Vec<Picture>, Vec<Truncation>), model_cache::Error<Error>> {
        let threads_are_set = self.threads_are_set;
        self.cache.with_room(model, |cache| {
            let tier = cache.tier(model);
            let begun = Instant::now();
            let pipeline = cache.get(model, &mut *context);
            // A further attempt may find it loaded by the first.
            if tier != Tier::Device {
                timings.load_ms = millis(begun);
                timings.from_ram = tier == Tier::Ram;
            }
            let pipeline = pipeline?;
            if context.cancelled() {
                return Err(model_cache::Error::Load(Error::Cancelled));
            }
            if !threads_are_set {
                set_threads(pipeline.manifest());
            }
            let begun = Instant::now();
            let pictures = pipeline.generate(request, &mut Steps::new(context));
            timings.run_ms = millis(begun);
            let truncations = pipeline.truncations(request);
            pictures
                .and_then(|pictures| Ok((pictures, truncations?)))
                .map_err(model_cache::Error::Load)
        })
    }

    /// Maps an error to the job's or the runner's. A model that cannot be loaded leaves the catalog
    /// for a while.
    fn failed(
        &mut self,
        model: &str,
        stamp: Stamp,
        error: model_cache::Error<Error>,
        names: FieldNames,
    ) -> Failure {
        let (failure, is_models) = match error {
            model_cache::Error::TooLarge(refused) => (Failure::from(refused), true),
            // The model itself: a picture is the job's error.
            model_cache::Error::ExceedsDevice(error) => (failure(error, names), true),
            model_cache::Error::Load(error) => {
                let is_models =
                    matches!(error, Error::BadCheckpoint { .. } | Error::Catalog { .. });
                (failure(error, names), is_models)
            }
        };
        if let (true, Failure::Runner(fault)) = (is_models, &failure) {
            self.servable.refuse(model, stamp, fault.clone());
        }
        failure
    }

    /// Maps an unknown model to a failure: a fault if it was in the catalog before.
    fn unknown(&self, model: &str, error: Error, names: FieldNames) -> Failure {
        match self.servable.missing(model) {
            Some(fault) => fault.into(),
            None => failure(error, names),
        }
    }
}

/// Checks that the models to be pinned exist and fit together.
fn check_pins(models: &Models, pins: &[Hint], budget_bytes: u64) -> Result<(), BuildError> {
    let mut sizes = Vec::new();
    for model in pins {
        let bytes = models.size_bytes(model.as_str()).map_err(|error| {
            BuildError::Setting(format!("pin: {}", servable::fault(error).details))
        })?;
        sizes.push((model, bytes));
    }
    let total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    if total <= budget_bytes {
        return Ok(());
    }
    let sizes: Vec<String> = (sizes.iter())
        .map(|(model, bytes)| format!("{model} {}", ByteSize(*bytes)))
        .collect();
    Err(BuildError::Setting(format!(
        "pin: {} need {} together, and the memory budget is {}: pin fewer models, or raise \
         --memory-budget",
        sizes.join(", "),
        ByteSize(total),
        ByteSize(budget_bytes)
    )))
}

/// Returns the reasons why no model can be served, in one line.
fn reasons(servable: &ServableModels) -> String {
    let reasons: Vec<&str> = servable
        .refusals()
        .map(|fault| fault.details.as_str())
        .collect();
    reasons.join("; ")
}

impl Engine for Diffusion {
    fn describe(&self) -> Description {
        Description {
            device: self.cache.loader().device.to_string(),
            models: self.offered(),
            input_schema: seam::schema::<Input>(),
            files: vec![
                FileField::InMemory {
                    name: IMAGE_URL,
                    max_bytes: MAX_PICTURE_BYTES,
                },
                FileField::InMemory {
                    name: MASK_URL,
                    max_bytes: MAX_PICTURE_BYTES,
                },
                FileField::OnDisk {
                    list: LORAS,
                    name: LORA_PATH,
                    max_bytes: MAX_LORA_BYTES,
                },
            ],
            inlines_files: false,
        }
    }

    fn report(&self) -> RunnerReport {
        let models = self.cache.loader();
        let sized = |name: String| {
            let bytes = models.known_bytes(&name)?;
            Some((name, bytes))
        };
        let catalog: Vec<(String, u64)> = self.offered().into_iter().filter_map(sized).collect();
        report(&self.cache, &catalog)
    }

    fn change_models(&mut self, change: &ModelChange) -> Vec<RefusedChange> {
        let servable = &self.servable;
        change_models(&mut self.cache, change, |cache, model| {
            let loader = cache.loader();
            let stamp = loader
                .version(model)
                .map_err(|error| servable::fault(error).details)?;
            if let Some(fault) = servable.refusal(model, &stamp) {
                return Err(fault.details.clone());
            }
            cache.drop_if_changed(model);
            let loaded =
                cache.with_room(model, |cache| cache.get(model, &mut WithoutJob).map(drop));
            loaded.map_err(|error| match error {
                model_cache::Error::TooLarge(refused) => refused.to_string(),
                model_cache::Error::Load(error) | model_cache::Error::ExceedsDevice(error) => {
                    servable::fault(error).details
                }
            })
        })
    }

    fn check_input(&mut self, job: &JobSpec) -> Result<(), Failure> {
        let Examined {
            input,
            names,
            model,
            stamp,
        } = self.examine(job)?;
        // Stand for picture and mask, whose proportions no check depends on.
        let files = Files {
            image: input.starts_from_picture().then(|| Picture {
                width: 1,
                height: 1,
                rgb: vec![0; 3],
            }),
            mask: input.has_mask().then(|| Mask {
                width: 1,
                height: 1,
                luma: vec![0],
            }),
            // Stands for files that are not fetched yet.
            loras: input.lora_files(&self.loras, |_| Some(Path::new("")))?,
        };
        let request = input.request(job, files);
        self.admit(&model, &stamp, &request, names).map(drop)
    }

    fn run(&mut self, job: &JobSpec, context: &mut dyn RunContext) -> Ended {
        let mut ended = Ended::default();
        ended.result = self.produce(job, context, &mut ended);
        ended
    }

    fn check(&mut self) -> Result<Description, Fault> {
        let models = self.cache.loader();
        models.device.self_test().map_err(servable::fault)?;
        models.catalog.check().map_err(servable::fault)?;
        self.servable.refresh(models, self.budget_bytes);
        match self.servable.names().is_empty() {
            true => {
                let fault = Fault::new(FaultKind::Model, "no model can be served");
                Err(fault.because(reasons(&self.servable)))
            }
            false => Ok(self.describe()),
        }
    }
}

/// A job's input whose model exists.
struct Examined {
    input: Input,
    names: FieldNames,
    model: String,
    /// Identity of the model's files.
    stamp: Stamp,
}

/// Forwards steps and previews, and returns cancellation.
struct Steps<'a> {
    context: &'a mut dyn RunContext,
    last: Progress,
}

impl<'a> Steps<'a> {
    fn new(context: &'a mut dyn RunContext) -> Self {
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
        // Cancellation is checked before the next step.
        let _ = self.context.progress(Progress {
            preview: picture::preview(&preview),
            ..self.last.clone()
        });
    }

    fn latents(&mut self, _: Latents) {
        self.context.decoding();
    }
}

/// Maps an error to the job's error, in fal's format, or to a fault.
fn failure(error: Error, names: FieldNames) -> Failure {
    match error {
        Error::Cancelled => Failure::Cancelled,
        Error::UnknownModel { .. } => {
            JobError::field(&["model"], "model_not_found", error.to_string()).into()
        }
        Error::InvalidRequest { field, message } => {
            JobError::field(&names.path(field), "value_error", message).into()
        }
        error => servable::fault(error).into(),
    }
}

/// Networks up to this width are fastest on one thread.
const MAX_WIDTH_OF_ONE_THREAD: i64 = 256;

/// Sets the threads per tensor operation on the CPU.
pub(crate) fn set_threads(manifest: &Manifest) {
    warmq_diffusion::set_threads(match manifest.networks.width() <= MAX_WIDTH_OF_ONE_THREAD {
        true => 1,
        false => std::thread::available_parallelism().map_or(1, NonZero::get),
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineKind;
    use crate::engine::selection::ModelSelection;

    #[test]
    fn a_folder_without_models_is_refused_by_what_it_contains_instead() {
        let folder = std::env::temp_dir().join(format!("warmq-no-models-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("flux-Q4.gguf"), "GGUF").unwrap();
        let engine = Diffusion::new(&Options {
            kind: EngineKind::Diffusion,
            models: folder.clone(),
            loras: None,
            memory_budget: ByteSize(1 << 30),
            ram_budget: ByteSize(0),
            preload: Vec::new(),
            pin: Vec::new(),
            device: "cpu".to_owned(),
            slots: 1,
            only: ModelSelection::default(),
            http: None,
        });
        let error = engine.err().unwrap().to_string();
        assert!(error.contains("contains no model"), "{error}");
        assert!(error.contains("GGUF is not supported: download"), "{error}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
