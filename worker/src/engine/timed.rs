//! An engine that sleeps: for tests of routing and load, without tensors. A job's hint is its
//! model.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use warmq_store::RunnerReport;
use warmq_types::ids::RunnerId;
use warmq_types::job::{JobError, JobSpec, Phase, Progress, Timings};
use warmq_types::runner::ModelChange;
use warmq_types::tier::Tier;

use super::cached_models::{WithoutJob, change_models, report};
use super::{
    BuildError, Description, Ended, Engine, Failure, Options, Produced, RefusedChange, RunContext,
    input, millis,
};
use crate::input_files::FileField;
use crate::model_cache::{Budget, Loaded, Loader, ModelCache};

/// Interval at which a sleeping job checks for cancellation.
const CANCEL_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Progress reports per run.
const STEPS: u32 = 10;

const MAX_MS: u64 = 3_600_000;

/// Input of the timed engine, which sleeps for the given times.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(title = "TimedInput")]
struct Input {
    /// Run time, ms.
    #[serde(default = "default_run_ms")]
    #[schemars(range(max = 3_600_000))]
    run_ms: u64,
    /// Load time of the model, ms; spent when the runner is cold.
    #[serde(default = "default_load_ms")]
    #[schemars(range(max = 3_600_000))]
    load_ms: u64,
    /// Load time of the model from RAM, ms; spent instead if the runner has it there.
    #[serde(default = "default_ram_load_ms")]
    #[schemars(range(max = 3_600_000))]
    ram_load_ms: u64,
    /// If set, the job fails with this message after `run_ms`.
    fail: Option<String>,
    /// The job's output. Default: the runner's name, whether the run was warm, and the size of the
    /// file, if any.
    output: Option<Value>,
    /// A file, which is only fetched.
    #[allow(dead_code, reason = "the worker reads it by its name, for its content")]
    file_url: Option<String>,
    /// Time for which the engine hangs before it runs, ms.
    #[serde(default)]
    #[schemars(range(max = 3_600_000))]
    hang_ms: u64,
    /// If set, the engine panics with this message.
    crash: Option<String>,
}

/// The input field that names a file.
const FILE_URL: &str = "file_url";

/// Size limit of the file.
const MAX_FILE_BYTES: usize = 16 << 20;

fn default_run_ms() -> u64 {
    100
}

fn default_load_ms() -> u64 {
    500
}

fn default_ram_load_ms() -> u64 {
    50
}

/// The engine.
pub struct Timed {
    runner: RunnerId,
    /// The catalog; empty for any.
    models: Vec<String>,
    cache: ModelCache<Waiting>,
    slots: u64,
}

impl Timed {
    /// Creates an engine whose models share the memory budget evenly.
    ///
    /// # Errors
    /// The worker is to serve the models of a pattern.
    pub fn new(options: &Options, runner: RunnerId) -> Result<Self, BuildError> {
        let slots = u64::from(options.slots.max(1));
        let unit_bytes = (options.memory_budget.0 / slots).max(1);
        let budget = Budget {
            device_bytes: unit_bytes * slots,
            ..options.budget()
        };
        Ok(Self {
            runner,
            models: options.only.names().map_err(BuildError::Setting)?,
            cache: ModelCache::new(Waiting { unit_bytes }, budget),
            slots: slots + budget.ram_bytes / unit_bytes,
        })
    }

    fn produce(
        &mut self,
        job: &JobSpec,
        context: &mut dyn RunContext,
        timings: &mut Timings,
    ) -> Result<Produced, Failure> {
        let input: Input = input::parse(&job.input)?;
        input::check_range(&["run_ms"], input.run_ms, 0..=MAX_MS)?;
        input::check_range(&["load_ms"], input.load_ms, 0..=MAX_MS)?;
        input::check_range(&["ram_load_ms"], input.ram_load_ms, 0..=MAX_MS)?;
        input::check_range(&["hang_ms"], input.hang_ms, 0..=MAX_MS)?;

        if let Some(hint) = &job.hint {
            let tier = self.cache.tier(hint.as_str());
            (timings.warm, timings.from_ram) = (tier == Tier::Device, tier == Tier::Ram);
            let begun = Instant::now();
            let load = Load {
                duration: Duration::from_millis(input.load_ms),
                ram_duration: Duration::from_millis(input.ram_load_ms),
                context: &mut *context,
            };
            let loaded = self.cache.get(hint.as_str(), load).map(drop);
            if !timings.warm {
                timings.load_ms = millis(begun);
            }
            loaded?;
        }

        std::thread::sleep(Duration::from_millis(input.hang_ms));
        if let Some(message) = input.crash {
            crash(&message);
        }
        let begun = Instant::now();
        let ran = run(begun, Duration::from_millis(input.run_ms), context);
        timings.run_ms = millis(begun);
        ran?;
        if let Some(message) = input.fail {
            return Err(JobError::field(&[], "model_error", message).into());
        }
        Ok(Produced {
            output: input
                .output
                .unwrap_or_else(|| self.output(timings.warm, context.file(FILE_URL))),
            files: Vec::new(),
        })
    }

    /// Returns the default output.
    fn output(&self, warm: bool, file: Option<&[u8]>) -> Value {
        let mut output = json!({"runner": self.runner, "warm": warm});
        if let Some(file) = file {
            output["file_bytes"] = file.len().into();
        }
        output
    }
}

impl Engine for Timed {
    fn describe(&self) -> Description {
        Description {
            device: "none".to_owned(),
            models: self.models.clone(),
            input_schema: input::schema::<Input>(),
            files: vec![FileField::InMemory {
                name: FILE_URL,
                max_bytes: MAX_FILE_BYTES,
            }],
            inlines_files: false,
        }
    }

    fn report(&self) -> RunnerReport {
        // Any name is a model, so there are always enough others.
        let other = (String::new(), self.cache.loader().unit_bytes);
        let others: Vec<(String, u64)> = (0..self.slots).map(|_| other.clone()).collect();
        report(&self.cache, &others)
    }

    fn change_models(&mut self, change: &ModelChange) -> Vec<RefusedChange> {
        change_models(&mut self.cache, change, |cache, model| {
            let load = Load {
                duration: Duration::from_millis(default_load_ms()),
                ram_duration: Duration::from_millis(default_ram_load_ms()),
                context: &mut WithoutJob,
            };
            let loaded = cache.get(model, load).map(drop);
            loaded.map_err(|error| Failure::from(error).to_string())
        })
    }

    fn run(&mut self, job: &JobSpec, context: &mut dyn RunContext) -> Ended {
        let mut timings = Timings {
            // Without a hint there is no model to load.
            warm: job.hint.is_none(),
            ..Timings::default()
        };
        let result = self.produce(job, context, &mut timings);
        Ended {
            result,
            timings,
            model: None,
        }
    }
}

/// Models of equal size whose load only sleeps.
struct Waiting {
    unit_bytes: u64,
}

struct Load<'a> {
    duration: Duration,
    ram_duration: Duration,
    context: &'a mut dyn RunContext,
}

impl Loader for Waiting {
    type Model = ();
    type Error = Failure;
    type Context<'a> = Load<'a>;
    type Version = ();

    fn version(&self, _: &str) -> Result<(), Failure> {
        Ok(())
    }

    fn size_bytes(&self, _: &str) -> Result<u64, Failure> {
        Ok(self.unit_bytes)
    }

    fn load(&mut self, _: &str, load: Load<'_>) -> Result<Loaded<()>, Failure> {
        let progress = Progress::at(Phase::Loading, 0, 0);
        if load.context.progress(progress).is_break() {
            return Err(Failure::Cancelled);
        }
        wait_until(Instant::now() + load.duration, load.context)?;
        Ok(Loaded {
            model: (),
            bytes: self.unit_bytes,
        })
    }

    fn to_device(&mut self, (): &mut (), load: Load<'_>) -> Result<(), Failure> {
        wait_until(Instant::now() + load.ram_duration, load.context)
    }
}

#[allow(clippy::panic, reason = "the job requests it")]
fn crash(message: &str) {
    panic!("{message}");
}

fn run(begun: Instant, duration: Duration, context: &mut dyn RunContext) -> Result<(), Failure> {
    for step in 1..=STEPS {
        let progress = Progress::at(Phase::Running, step, STEPS);
        if context.progress(progress).is_break() {
            return Err(Failure::Cancelled);
        }
        wait_until(begun + duration * step / STEPS, context)?;
    }
    Ok(())
}

fn wait_until(end: Instant, context: &mut dyn RunContext) -> Result<(), Failure> {
    loop {
        if context.cancelled() {
            return Err(Failure::Cancelled);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(CANCEL_CHECK_INTERVAL));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineKind;
    use crate::engine::selection::ModelSelection;
    use crate::engine::testing::{RecordingContext, job};
    use warmq_config::ByteSize;
    use warmq_types::hint::Hint;

    fn engine(slots: u16) -> Timed {
        engine_with_ram(slots, 0)
    }

    fn engine_with_ram(slots: u16, ram_bytes: u64) -> Timed {
        let options = Options {
            kind: EngineKind::Timed,
            models: "models".into(),
            loras: None,
            memory_budget: ByteSize(1000),
            ram_budget: ByteSize(ram_bytes),
            preload: Vec::new(),
            pin: Vec::new(),
            device: "auto".to_owned(),
            slots,
            only: ModelSelection::default(),
            http: None,
        };
        Timed::new(&options, RunnerId::parse("r").unwrap()).unwrap()
    }

    fn hints(engine: &Timed) -> Vec<String> {
        let report = engine.report();
        report.hints.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_second_job_with_a_hint_is_warm_and_the_oldest_model_is_evicted() {
        let mut engine = engine(2);
        let input = json!({"run_ms": 0, "load_ms": 1});
        let warm = |engine: &mut Timed, hint| {
            let ended = engine.run(&job(hint, input.clone()), &mut RecordingContext::default());
            let output = ended.result.unwrap().output;
            assert_eq!(output, json!({"runner": "r", "warm": ended.timings.warm}));
            ended.timings.warm
        };
        assert_eq!(
            ["a", "a", "b", "a", "c", "b"].map(|hint| warm(&mut engine, hint)),
            [false, true, false, true, false, false]
        );
        assert_eq!(hints(&engine), ["c", "b"]);
        assert_eq!(engine.report().memory_bytes, 1000);
    }

    #[test]
    fn an_evicted_model_is_loaded_from_ram_in_less_time() {
        let mut engine = engine_with_ram(1, 2500);
        let input = json!({"run_ms": 0, "load_ms": 30, "ram_load_ms": 0});
        let timings = ["a", "b", "a"].map(|hint| {
            let ended = engine.run(&job(hint, input.clone()), &mut RecordingContext::default());
            ended.timings
        });
        assert_eq!(
            timings.map(|run| run.tier()),
            [Tier::Disk, Tier::Disk, Tier::Ram]
        );
        assert!(timings[1].load_ms >= 30 && timings[2].load_ms < 30);
        let report = engine.report();
        assert_eq!((report.slots, report.ram_slots), (1, 2));
        assert_eq!((report.memory_bytes, report.ram_bytes), (1000, 1000));
        assert_eq!(report.ram_hints, [Hint::parse("b").unwrap()]);
    }

    #[test]
    fn models_are_loaded_pinned_and_unloaded_between_jobs() {
        let mut engine = engine(2);
        let models = |names: &[&str]| -> Vec<Hint> {
            names
                .iter()
                .map(|name| Hint::parse(name).unwrap())
                .collect()
        };
        let change = ModelChange {
            load: models(&["a"]),
            pin: models(&["b"]),
            ..ModelChange::default()
        };
        assert_eq!(engine.change_models(&change), []);
        assert_eq!(hints(&engine), ["a", "b"]);
        let change = ModelChange {
            unload: models(&["a", "b"]),
            ..ModelChange::default()
        };
        let refused = engine.change_models(&change);
        assert_eq!(refused[0].reason, "it is pinned: unpin it first");
        assert_eq!(hints(&engine), ["b"]);
        assert_eq!(engine.report().pinned, models(&["b"]));
    }

    #[test]
    fn a_job_without_hint_is_warm_and_loads_nothing() {
        let mut engine = engine(2);
        let ended = engine.run(
            &job("", json!({"run_ms": 0})),
            &mut RecordingContext::default(),
        );
        assert_eq!((ended.timings.warm, ended.timings.load_ms), (true, 0));
        assert!(hints(&engine).is_empty());
    }

    #[test]
    fn a_run_reports_ten_times_and_obeys_cancel() {
        let mut engine = engine(2);
        let mut recorded = RecordingContext::default();
        let input = json!({"run_ms": 5, "output": [1]});
        let ended = engine.run(&job("", input.clone()), &mut recorded);
        assert_eq!(ended.result.unwrap().output, json!([1]));
        assert_eq!(recorded.progress.len(), 10);
        let mut recorded = RecordingContext {
            stop_after: Some(3),
            ..RecordingContext::default()
        };
        let ended = engine.run(&job("", input), &mut recorded);
        assert_eq!(ended.result, Err(Failure::Cancelled));
        assert_eq!(recorded.progress.len(), 3);
    }

    #[test]
    fn a_load_obeys_cancel_and_leaves_no_model() {
        let mut engine = engine(2);
        let mut recorded = RecordingContext {
            stop_after: Some(1),
            ..RecordingContext::default()
        };
        let ended = engine.run(&job("m", json!({"load_ms": 3_600_000})), &mut recorded);
        assert_eq!(ended.result, Err(Failure::Cancelled));
        assert!(hints(&engine).is_empty());
    }

    #[test]
    fn failures_have_fals_shape_and_keep_their_timings() {
        let mut engine = engine(2);
        let input = json!({"run_ms": 20, "load_ms": 0, "fail": "no luck"});
        let ended = engine.run(&job("m", input), &mut RecordingContext::default());
        assert!(ended.timings.run_ms >= 20);
        let Err(Failure::Job(error)) = ended.result else {
            panic!("{ended:?}");
        };
        assert_eq!(error.status, 422);
        assert_eq!(
            error.body(),
            json!({"detail": [{"loc": ["body"], "msg": "no luck", "type": "model_error"}]})
        );
        assert_eq!(hints(&engine), ["m"]);
    }

    #[test]
    fn an_input_out_of_range_names_its_field() {
        let mut engine = engine(2);
        let ended = engine.run(
            &job("", json!({"run_ms": 3_600_001})),
            &mut RecordingContext::default(),
        );
        assert!(
            matches!(ended.result, Err(Failure::Job(error)) if error.message.starts_with("run_ms: "))
        );
    }
}
