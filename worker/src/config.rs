//! Flags, environment and `warmq.toml` of a worker.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use uuid::Uuid;
use warmq_config::{ByteSize, Problems, ServerArgs, Servers, Settings};
use warmq_fetch::Allowed;
use warmq_types::hint::Hint;
use warmq_types::ids::{AppId, RunnerId};

use crate::engine::selection::ModelSelection;
use crate::engine::{self, EngineKind, http};
use crate::input_files::DiskCache;

/// Length limit of a name, which leaves room for a slot's number.
const MAX_NAME_LEN: usize = 72;

/// Runs the jobs of one app and keeps models in memory between them.
#[derive(Debug, Clone, Default, clap::Parser)]
#[command(name = "warmq-worker", version)]
pub struct Args {
    /// RabbitMQ, Redis, storage.
    #[command(flatten)]
    pub servers: ServerArgs,
    /// The app whose jobs the worker runs
    #[arg(long, env = "WARMQ_APP", value_name = "OWNER/NAME")]
    pub app: Option<String>,
    /// Engine: diffusion; upscale or cutout (edit pictures, on the CPU); http (a model server, at
    /// --upstream, by --spawn or by --fal); timed (for tests)
    /// [default: http with one of these, otherwise diffusion]
    #[arg(long, env = "WARMQ_ENGINE", value_name = "ENGINE")]
    pub engine: Option<String>,
    /// The model server of engine http.
    #[command(flatten)]
    pub http: http::options::HttpArgs,
    /// Folder with one folder per model [default: ./models]
    #[arg(long, env = "WARMQ_MODELS", value_name = "FOLDER")]
    pub models: Option<String>,
    /// The models to serve, of those that the engine can load; * is any text: flux*,sdxl
    /// [default: all]
    #[arg(long, env = "WARMQ_ONLY", value_name = "MODELS")]
    pub only: Option<String>,
    /// Folder of LoRA files that jobs may name [default: none]
    #[arg(long, env = "WARMQ_LORAS", value_name = "FOLDER")]
    pub loras: Option<String>,
    /// Folder for LoRA files that jobs name by URL, which workers can share [default: warmq/loras
    /// in the user's cache folder]
    #[arg(long, env = "WARMQ_LORA_CACHE", value_name = "FOLDER")]
    pub lora_cache: Option<String>,
    /// Size limit of that folder [default: 8GiB]
    #[arg(long, env = "WARMQ_LORA_CACHE_SIZE", value_name = "SIZE")]
    pub lora_cache_size: Option<String>,
    /// Memory budget for the loaded models of one runner [default: 512MiB]
    #[arg(long, env = "WARMQ_MEMORY_BUDGET", value_name = "SIZE")]
    pub memory_budget: Option<String>,
    /// Budget of host memory for the evicted models of one runner: they return to the device
    /// without being read again [default: 0]
    #[arg(long, env = "WARMQ_RAM_BUDGET", value_name = "SIZE")]
    pub ram_budget: Option<String>,
    /// Models to load before the first job, in this order: shapes,digits [default: none]
    #[arg(long, env = "WARMQ_PRELOAD", value_name = "MODELS")]
    pub preload: Option<String>,
    /// Models to load before the first job and never to evict: shapes [default: none]
    #[arg(long, env = "WARMQ_PIN", value_name = "MODELS")]
    pub pin: Option<String>,
    /// Device for the models: auto (a GPU if there is one), cpu, cuda:0 [default: auto]
    #[arg(long, env = "WARMQ_DEVICE", value_name = "DEVICE")]
    pub device: Option<String>,
    /// Runners in this process, each with its own memory budget, or jobs at a time on the model
    /// server; 1 for a GPU [default: 1, or max_multiplexing of --fal]
    #[arg(long, env = "WARMQ_CONCURRENCY", value_name = "N")]
    pub concurrency: Option<String>,
    /// Models that the timed engine holds [default: 2]
    #[arg(long, env = "WARMQ_SLOTS", value_name = "N")]
    pub slots: Option<String>,
    /// Name of the runner, unique among live runners [default: the host's name and six random
    /// digits]
    #[arg(long, env = "WARMQ_RUNNER_NAME", value_name = "NAME")]
    pub runner_name: Option<String>,
    /// A sent job that the runner does not accept within this time returns to the router, ms
    /// [default: 2000]
    #[arg(long, env = "WARMQ_ACCEPT_TIMEOUT_MS", value_name = "MS")]
    pub accept_timeout_ms: Option<String>,
    /// Drain timeout of running jobs after the stop signal, s [default: 30]
    #[arg(long, env = "WARMQ_DRAIN_TIMEOUT_S", value_name = "S")]
    pub drain_timeout_s: Option<String>,
    /// Time without progress after which a cancelled engine counts as hung and its process exits, s
    /// [default: 60]
    #[arg(long, env = "WARMQ_HANG_GRACE_S", value_name = "S")]
    pub hang_grace_s: Option<String>,
    /// Private addresses that URLs in inputs may resolve to: 10.1.0.0/16,fd00::/8 [default: none]
    #[arg(long, env = "WARMQ_FETCH_ALLOW", value_name = "RANGES")]
    pub fetch_allow: Option<String>,
    /// Address at which /metrics, for Prometheus, and /healthz are served: 127.0.0.1:9102
    /// [default: not served]
    #[arg(long, env = "WARMQ_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<String>,
}

/// A worker's settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// RabbitMQ, Redis, storage.
    pub servers: Servers,
    /// The app whose jobs the worker runs
    pub app: AppId,
    /// The engine's options.
    pub engine: engine::Options,
    /// Names of the runners, at least one.
    pub runners: Vec<RunnerId>,
    /// The name that those of the runners derive from.
    pub name: String,
    /// The number of runners, if it is set.
    pub concurrency: Option<u16>,
    /// Timeout for a job in a runner's queue.
    pub accept_timeout: Duration,
    /// Drain timeout of running jobs after the stop signal.
    pub drain_timeout: Duration,
    /// Time without progress after which a cancelled engine counts as hung.
    pub hang_grace: Duration,
    /// Private addresses that URLs in inputs may resolve to.
    pub fetch_allow: Allowed,
    /// LoRA files that jobs name by URL.
    pub lora_cache: DiskCache,
    /// Address of the metrics, if they are served.
    pub metrics_listen: Option<SocketAddr>,
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// All mistakes in the settings.
    pub fn read(args: &Args) -> Result<Self, Problems> {
        Self::from_settings(Settings::read(args.servers.config_file()), args)
    }

    /// Completes the settings by those of a fal app's class, which it imports.
    pub async fn with_class_settings(mut self) -> Self {
        let Some(server) = &mut self.engine.http else {
            return self;
        };
        server.read_class().await;
        if self.concurrency.is_none()
            && let Some(jobs) = server.class().max_multiplexing
            && let Some(names) = runners(
                &self.name,
                jobs.clamp(*CONCURRENCY.start(), *CONCURRENCY.end()),
            )
        {
            self.runners = names;
        }
        self
    }

    fn from_settings(mut settings: Settings, args: &Args) -> Result<Self, Problems> {
        let from = &mut settings;
        let servers = Servers::read(from, &args.servers);
        let app = from.take::<App>("app", args.app.as_deref(), "");
        let upstream = http::options::Options::read(from, &args.http);
        let default_kind = upstream.as_ref().map_or("diffusion", |_| "http");
        let kind = from.take::<EngineKind>("engine", args.engine.as_deref(), default_kind);
        let only = from.take::<ModelSelection>("only", args.only.as_deref(), "");
        let models = from.take::<PathBuf>("models", args.models.as_deref(), "./models");
        let loras = from.take_optional::<PathBuf>("loras", args.loras.as_deref());
        let lora_cache = from.take_optional::<PathBuf>("lora_cache", args.lora_cache.as_deref());
        let lora_cache_size =
            from.take::<ByteSize>("lora_cache_size", args.lora_cache_size.as_deref(), "8GiB");
        let memory_budget =
            from.take::<Budget>("memory_budget", args.memory_budget.as_deref(), "512MiB");
        let ram_budget = from.take::<RamBudget>("ram_budget", args.ram_budget.as_deref(), "0");
        let preload = from.take::<Models>("preload", args.preload.as_deref(), "");
        let pin = from.take::<Models>("pin", args.pin.as_deref(), "");
        let device = from.take::<Device>("device", args.device.as_deref(), "auto");
        let concurrency = from.take_optional("concurrency", args.concurrency.as_deref());
        let concurrency =
            concurrency.and_then(|number| within(from, "concurrency", number, CONCURRENCY));
        let slots = number(from, "slots", &args.slots, "2", 1..=u16::MAX);
        let name = from.take_optional::<Name>("runner_name", args.runner_name.as_deref());
        let accept_ms = number(
            from,
            "accept_timeout_ms",
            &args.accept_timeout_ms,
            "2000",
            50..=600_000,
        );
        let drain_s = number(
            from,
            "drain_timeout_s",
            &args.drain_timeout_s,
            "30",
            0..=86_400,
        );
        let hang_s = number(from, "hang_grace_s", &args.hang_grace_s, "60", 1..=86_400);
        let fetch_allow = from.take::<Allowed>("fetch_allow", args.fetch_allow.as_deref(), "");
        let metrics_listen = from.take_optional("metrics_listen", args.metrics_listen.as_deref());
        let config = || {
            let name = name.unwrap_or_else(Name::of_this_host).0;
            Some(Self {
                servers: servers?,
                app: app?.0,
                engine: engine::Options {
                    kind: kind?,
                    models: models?,
                    loras,
                    memory_budget: memory_budget?.0,
                    ram_budget: ram_budget?.0,
                    preload: preload?.0,
                    pin: pin?.0,
                    device: device?.0,
                    slots: slots?,
                    only: only?,
                    http: upstream,
                },
                runners: runners(&name, concurrency.unwrap_or(1))?,
                name,
                concurrency,
                accept_timeout: Duration::from_millis(accept_ms?),
                drain_timeout: Duration::from_secs(drain_s?),
                hang_grace: Duration::from_secs(hang_s?),
                fetch_allow: fetch_allow?,
                metrics_listen,
                lora_cache: DiskCache::new(
                    lora_cache.unwrap_or_else(default_lora_cache),
                    lora_cache_size?.0,
                ),
            })
        };
        let config = config();
        settings.finish(config)
    }
}

/// Number of runners in one process.
const CONCURRENCY: RangeInclusive<u16> = 1..=256;

/// Returns the folder for files from URLs: in the user's cache folder, by the XDG specification.
fn default_lora_cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = cache.or_else(home).unwrap_or_else(std::env::temp_dir);
    cache.join("warmq/loras")
}

/// Reads a number within `range`; records any other value as a problem.
fn number<T>(
    settings: &mut Settings,
    key: &str,
    flag: &Option<String>,
    default: &str,
    range: RangeInclusive<T>,
) -> Option<T>
where
    T: FromStr<Err = std::num::ParseIntError> + PartialOrd + std::fmt::Display,
{
    let value = settings.take::<T>(key, flag.as_deref(), default)?;
    within(settings, key, value, range)
}

/// Returns a number within `range`; records any other as a problem.
fn within<T: PartialOrd + std::fmt::Display>(
    settings: &mut Settings,
    key: &str,
    value: T,
    range: RangeInclusive<T>,
) -> Option<T> {
    if range.contains(&value) {
        return Some(value);
    }
    settings.problem(format!(
        "{}: {value} is not in {} to {}",
        key.replace('_', "-"),
        range.start(),
        range.end()
    ));
    None
}

/// Returns the runners' names. One runner: `name`; several: `name-0`, `name-1`, …
fn runners(name: &str, concurrency: u16) -> Option<Vec<RunnerId>> {
    if concurrency == 1 {
        return Some(vec![RunnerId::parse(name).ok()?]);
    }
    (0..concurrency)
        .map(|slot| RunnerId::parse(&format!("{name}-{slot}")).ok())
        .collect()
}

/// The app's name; has no default.
struct App(AppId);

impl FromStr for App {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("set the app whose jobs this worker runs: --app owner/name".to_owned());
        }
        AppId::parse(text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

/// Smallest memory budget: a smaller value is a mistake in the unit.
const MIN_BUDGET: ByteSize = ByteSize(1 << 20);

/// A memory budget that a model can fit into.
struct Budget(ByteSize);

/// A budget of host memory; 0 for none.
struct RamBudget(ByteSize);

impl FromStr for RamBudget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "0" => Ok(Self(ByteSize(0))),
            _ => text.parse().map(|Budget(size)| Self(size)),
        }
    }
}

/// Names of models, separated by commas.
struct Models(Vec<Hint>);

impl FromStr for Models {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty()).map(Hint::parse);
        let names: Result<Vec<Hint>, _> = names.collect();
        names.map(Self).map_err(|error| error.to_string())
    }
}

impl FromStr for Budget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let size: ByteSize = text.parse()?;
        if size >= MIN_BUDGET {
            return Ok(Self(size));
        }
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        Err(format!(
            "'{text}' is {} bytes; did you mean {number}GiB? The minimum is {MIN_BUDGET}",
            size.0
        ))
    }
}

/// A device's name; whether the device exists is checked by the engine.
struct Device(String);

impl FromStr for Device {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let index = text.strip_prefix("cuda:").map(str::parse::<u16>);
        if matches!(text, "auto" | "cpu" | "cuda") || matches!(index, Some(Ok(_))) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("'{text}' is not auto, cpu or cuda:0"))
        }
    }
}

/// A runner's name: invalid characters become dashes.
struct Name(String);

impl Name {
    /// Returns the host's name and six random digits, so that names do not collide.
    fn of_this_host() -> Self {
        let random = Uuid::new_v4().simple().to_string();
        let mut name = sanitised(&host());
        name.truncate(MAX_NAME_LEN - 7);
        Self(format!("{name}-{}", &random[..6]))
    }
}

impl FromStr for Name {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_ascii_alphanumeric()) {
            Ok(Self(sanitised(text)))
        } else {
            Err(format!("'{text}' contains neither a letter nor a digit"))
        }
    }
}

fn sanitised(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    text.chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if allowed(c) { c } else { '-' })
        .take(MAX_NAME_LEN)
        .collect()
}

/// Returns this machine's name.
pub fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "worker".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, args: &Args) -> Result<Config, Problems> {
        Config::from_settings(Settings::from_toml(file, "warmq.toml"), args)
    }

    #[test]
    fn an_app_is_enough() {
        let config = read("app = 'warmq/diffusion'", &Args::default()).unwrap();
        assert_eq!(config.engine.kind, EngineKind::Diffusion);
        assert_eq!(config.runners.len(), 1);
        assert_eq!(config.accept_timeout, Duration::from_secs(2));
    }

    #[test]
    fn every_mistake_is_reported() {
        let args = Args {
            engine: Some("gpu".into()),
            memory_budget: Some("much".into()),
            device: Some("tpu".into()),
            concurrency: Some("0".into()),
            slots: Some("two".into()),
            runner_name: Some("...".into()),
            ..Args::default()
        };
        let problems = read("", &args).unwrap_err();
        assert_eq!(problems.sentences().len(), 7, "{problems}");
        assert!(problems.to_string().contains("--app owner/name"));
    }

    #[test]
    fn a_budget_below_any_model_is_refused_with_an_example() {
        let args = |budget: &str| Args {
            app: Some("a/b".into()),
            memory_budget: Some(budget.into()),
            ..Args::default()
        };
        for (budget, meant) in [("20B", "20GiB"), ("512 KiB", "512GiB")] {
            let problems = read("", &args(budget)).unwrap_err().to_string();
            assert!(
                problems.contains(&format!("did you mean {meant}?")),
                "{problems}"
            );
        }
        let config = read("", &args("1MiB")).unwrap();
        assert_eq!(config.engine.memory_budget, MIN_BUDGET);
    }

    #[test]
    fn models_are_named_in_a_list_and_ram_has_no_budget_by_default() {
        let args = Args {
            app: Some("a/b".into()),
            preload: Some("sdxl, org/flux".into()),
            ram_budget: Some("32GiB".into()),
            ..Args::default()
        };
        let engine = read("", &args).unwrap().engine;
        let names: Vec<&str> = engine.preload.iter().map(Hint::as_str).collect();
        assert_eq!(names, ["sdxl", "org/flux"]);
        assert_eq!(
            (engine.ram_budget, engine.pin.len()),
            (ByteSize(32 << 30), 0)
        );
        assert_eq!(
            read("app = 'a/b'", &Args::default())
                .unwrap()
                .engine
                .ram_budget
                .0,
            0
        );
        let too_small = Args {
            ram_budget: Some("20B".into()),
            ..args
        };
        let problems = read("", &too_small).unwrap_err().to_string();
        assert!(problems.contains("did you mean 20GiB?"), "{problems}");
    }

    #[test]
    fn a_name_is_sanitised_and_shortened() {
        let args = Args {
            app: Some("a/b".into()),
            concurrency: Some("2".into()),
            runner_name: Some("GPU.1@example".into()),
            ..Args::default()
        };
        let config = read("", &args).unwrap();
        let names: Vec<&str> = config.runners.iter().map(RunnerId::as_str).collect();
        assert_eq!(names, ["gpu-1-example-0", "gpu-1-example-1"]);
        let long = Name::from_str(&"x".repeat(500)).unwrap();
        assert!(runners(&long.0, 256).is_some());
    }
}
