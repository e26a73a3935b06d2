//! The worker: runs the jobs of one app and keeps their models in memory between them.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`commands`] | the command line, `generate` and `models check` |
//! | [`config`] | flags, environment, `warmq.toml` |
//! | [`runner`] | takes one job at a time, joins again after each disconnect |
//! | `runner_models` | the models of an idle runner, and their record in Redis |
//! | [`context`] | what all runners of a process share |
//! | [`incarnation`] | a runner from joining to leaving: epoch, own queue, registration |
//! | [`consume_channel`] | the channel on which all runners of the process consume |
//! | [`consumer`] | the runner's own queue and the shared queue, never two jobs at once |
//! | `attempt` | one delivery: start, run, store the end, ack |
//! | [`cancellations`] | one subscription per process to cancellations |
//! | [`lease`] | renews a running job's lease, detects its loss |
//! | [`redis_grace`] | how long a runner waits for Redis before it continues without |
//! | [`input_files`] | fetches the files that an input names, before the run |
//! | [`fault`] | a fault of a runner |
//! | `self_test`, `recovery` | a runner's self-test; no jobs until it passes |
//! | [`stored_input`] | loads a large input from the storage, before the run |
//! | [`progress`], [`output_files`], [`announce`] | progress, output files, the event at the end |
//! | [`timeline`] | when the stages of a run began, for traces |
//! | [`engine`] | executes jobs: `diffusion`, `upscale`, `cutout`, `http`, `timed` |
//! | [`metrics`] | what the runners did and hold, for Prometheus |
//! | [`model_cache`] | loaded models within a memory budget, LRU eviction |
//!
//! Path of a job: `consumer` → `attempt` → `start.lua` → stored input, input files → engine thread
//! → output files → `finish.lua` → event → ack. **Invariant:** a message is acknowledged only when
//! its job's end is announced or a confirmed copy is queued; see `attempt`.

pub mod announce;
mod attempt;
pub mod cancellations;
pub mod commands;
pub mod config;
pub mod consume_channel;
pub mod consumer;
pub mod context;
pub mod engine;
pub mod fault;
pub mod incarnation;
pub mod input_files;
pub mod lease;
pub mod metrics;
pub mod model_cache;
pub mod output_files;
pub mod progress;
mod recovery;
pub mod redis_grace;
pub mod runner;
mod runner_models;
mod self_test;
pub mod stored_input;
pub mod timeline;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warmq_broker::{PublishError, Publisher, Topology};
use warmq_config::{EXIT_BAD_CONFIG, EXIT_UNAVAILABLE};
use warmq_fetch::Fetcher;
use warmq_objects::ObjectStorage;
use warmq_process::retry::until_available;
use warmq_process::shutdown::Signals;
use warmq_store::Store;
use warmq_traces::Traces;
use warmq_types::protocol::Protocol;

use crate::cancellations::Cancellations;
use crate::config::Config;
use crate::consume_channel::ConsumeChannel;
use crate::context::{Intervals, WorkerContext};
use crate::fault::Fault;
use crate::input_files::FileFetcher;
use crate::metrics::Metrics;
use crate::runner::{Runner, RunnerStart};

/// Why a worker could not start, or exited by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis is unreachable.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    /// RabbitMQ is unreachable.
    #[error(transparent)]
    Publisher(#[from] PublishError),
    /// RabbitMQ or Redis rejected the runner.
    #[error(transparent)]
    Join(#[from] incarnation::Error),
    /// The storage cannot be opened.
    #[error(transparent)]
    Storage(#[from] warmq_objects::Error),
    /// The metrics cannot be served.
    #[error(transparent)]
    Metrics(#[from] metrics::server::BindError),
    /// The metrics cannot be described.
    #[error(transparent)]
    Described(#[from] warmq_metrics::BuildError),
    /// The exporter of traces cannot be built.
    #[error(transparent)]
    Traces(#[from] warmq_traces::ExporterBuildError),
    /// The HTTP client cannot be built.
    #[error(transparent)]
    Fetch(#[from] warmq_fetch::Error),
    /// The engine cannot be built.
    #[error(transparent)]
    Engine(#[from] engine::BuildError),
    /// A bug.
    #[error("a runner task panicked: {0}")]
    Runner(#[from] tokio::task::JoinError),
    /// An engine hangs, or a device context failed: only a new process can recover.
    #[error("this process cannot run further jobs and exits for its supervisor to restart it: {0}")]
    Unrecoverable(Fault),
}

/// Exit status of a process that must be restarted to run jobs (`EX_SOFTWARE`).
const EXIT_UNRECOVERABLE: u8 = 70;

impl Error {
    /// Returns the process's exit status.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Engine(engine::BuildError::Setting(_)) => EXIT_BAD_CONFIG,
            Self::Join(incarnation::Error::NameTaken { .. }) => EXIT_BAD_CONFIG,
            Self::Store(warmq_store::Error::Incompatible(_)) => EXIT_BAD_CONFIG,
            Self::Unrecoverable(_) => EXIT_UNRECOVERABLE,
            Self::Runner(_) => 1,
            _ => EXIT_UNAVAILABLE,
        }
    }
}

/// Runs the configured runners until `stop`, then finishes their jobs within the drain timeout.
///
/// # Errors
/// The storage or the engine cannot be opened, or a server rejects the worker. Unreachable servers
/// are retried.
pub async fn run(config: Config, signals: Signals) -> Result<(), Error> {
    let intervals = Intervals::within(config.servers.consumer_timeout);
    run_at(intervals, config, signals).await
}

/// As [`run`], with other intervals (tests).
///
/// # Errors
/// As [`run`].
pub async fn run_at(
    intervals: Intervals,
    config: Config,
    signals: impl Into<Signals>,
) -> Result<(), Error> {
    let config = config.with_class_settings().await;
    let Some(context) = connect(intervals, config, signals.into()).await? else {
        return Ok(());
    };
    let mut runners = JoinSet::new();
    let started = start(&context, &mut runners).await;
    if started.is_err() {
        context.stop.cancel();
    }
    let ended = until_ended(runners, &context.stop).await;
    tokio::join!(
        context.store.outbox().flush(),
        context.traces.shut_down(),
        incarnation::disconnect(&context)
    );
    context.shared.stop().await;
    started?;
    ended?;
    tracing::info!("stopped");
    Ok(())
}

/// Connects to the servers. Returns `None` if the worker stops first.
async fn connect(
    intervals: Intervals,
    config: Config,
    signals: Signals,
) -> Result<Option<WorkerContext>, Error> {
    let stop = signals.stop.clone();
    let metrics = Metrics::new()?;
    metrics::server::start(metrics.clone(), config.metrics_listen, stop.clone()).await?;
    let servers = &config.servers;
    let connect = || Store::connect(&servers.redis_url, servers.namespace.clone());
    let Some(store) = until_available(&stop, warmq_store::Error::is_final, connect).await? else {
        return Ok(None);
    };
    let check = || store.protocols().check(Protocol::OURS);
    let checked = until_available(&stop, warmq_store::Error::is_final, check);
    if checked.await?.is_none() {
        return Ok(None);
    }
    let renewing = store.clone();
    tokio::spawn(async move { renewing.protocols().renew(Protocol::OURS).await });
    let publisher = Publisher::new(servers.amqp_url.clone(), "warmq-worker publish");
    let opened = until_available(&stop, PublishError::is_final, || publisher.channel());
    if opened.await?.is_none() {
        return Ok(None);
    }
    let (concurrency, hang_grace) = (config.runners.len(), config.hang_grace);
    let shared = engine::Shared::start(&config.engine, concurrency, hang_grace).await?;
    let give_up = give_up_after(signals, config.drain_timeout);
    let storage = ObjectStorage::open(&servers.storage)?;
    let file_fetcher = FileFetcher {
        storage: storage.clone(),
        web: Fetcher::new(config.fetch_allow.clone())?,
        cache: config.lora_cache.clone(),
    };
    let topology = Topology::new(servers.namespace.clone(), servers.queue_type);
    let consume_channel = ConsumeChannel::new(servers.amqp_url.clone(), topology.clone());
    let instance = uuid::Uuid::new_v4().to_string();
    let collector = servers.otlp_endpoint.as_ref();
    let traces = Traces::to(collector, "warmq-worker", instance.clone())?;
    Ok(Some(WorkerContext {
        metrics,
        traces,
        cancellations: Cancellations::follow(store.clone(), config.app.clone(), give_up.clone()),
        topology,
        storage,
        file_fetcher,
        shared,
        store,
        publisher,
        consume_channel,
        intervals,
        stop,
        give_up,
        instance: instance.into(),
        config: Arc::new(config),
    }))
}

/// Starts the runners one after the other. Each works as soon as it has joined: the next one may
/// load models for longer than a lease.
async fn start(context: &WorkerContext, runners: &mut JoinSet<Option<Fault>>) -> Result<(), Error> {
    let mut description = None;
    for id in &context.config.runners {
        let mut runner = Runner::new(context.clone(), id.clone()).await?;
        let Some(start) = runner.start().await? else {
            break;
        };
        if matches!(start, RunnerStart::Joined(_)) {
            description.get_or_insert_with(|| runner.description().clone());
        }
        runners.spawn(runner.run(start));
    }
    if let Some(description) = description {
        log_ready(&context.config, &description);
    }
    Ok(())
}

/// Waits until all runners ended. After a failure the others stop first.
async fn until_ended(
    mut runners: JoinSet<Option<Fault>>,
    stop: &CancellationToken,
) -> Result<(), Error> {
    let mut failure = None;
    while let Some(ended) = runners.join_next().await {
        let error = match ended {
            Ok(None) => continue,
            Ok(Some(fault)) => Error::Unrecoverable(fault),
            Err(error) => error.into(),
        };
        stop.cancel();
        failure.get_or_insert(error);
    }
    failure.map_or(Ok(()), Err)
}

/// Returns a token that is cancelled after the drain timeout, or at the second signal.
fn give_up_after(signals: Signals, drain_timeout: Duration) -> CancellationToken {
    let token = CancellationToken::new();
    let give_up = token.clone();
    tokio::spawn(async move {
        let drained = async {
            signals.stop.cancelled().await;
            tokio::time::sleep(drain_timeout).await;
        };
        tokio::select! {
            () = drained => {}
            () = signals.abort.cancelled() => {}
        }
        give_up.cancel();
    });
    token
}

fn log_ready(config: &Config, description: &engine::Description) {
    let runners: Vec<&str> = config.runners.iter().map(|id| id.as_str()).collect();
    let models = match description.models.as_slice() {
        [] => "any".to_owned(),
        names => names.join(", "),
    };
    tracing::info!(
        runner = %runners.join(", "), app = %config.app, engine = %config.engine.kind,
        device = description.device,
        memory_budget = %config.engine.memory_budget, models, namespace = %config.servers.namespace,
        "ready for jobs"
    );
}
