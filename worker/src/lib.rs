//! The worker: runs the jobs of one app and keeps their models in memory between them.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`config`] | flags, environment, `warmq.toml` |
//! | [`runner`] | one slot: idle, a job, idle; life after life |
//! | [`context`] | what all runners of a process share |
//! | [`incarnation`] | one life between two connections: epoch, own queue, registration |
//! | [`consumer`] | the own queue and the shared one, never two jobs at once |
//! | `attempt` | one delivery: start, run, store the end, acknowledge |
//! | [`cancellations`] | one subscription per process to the jobs that were cancelled |
//! | [`lease`] | keeps a running job's lease, notices when the job is lost |
//! | [`redis_grace`] | how long Redis is waited for before a job goes on without |
//! | [`input_files`] | the files that an input names, got before the run |
//! | [`fault`], `recovery` | a runner's fault; its self-test, and its time without jobs until that passes |
//! | [`stored_input`] | an input that is an object in the storage, read before the run |
//! | [`report`] | progress, files and the event at the end |
//! | [`engine`] | what runs jobs, on a thread of its own: `diffusion`, `pictures`, `timed` |
//! | [`model_cache`] | loaded models within a memory budget, least recently used out first |
//!
//! A job's way: `consumer` → `attempt` → `start.lua` → stored input, input files → engine thread → artifacts → `finish.lua` → event → ack.
//! **Invariant:** a message is acknowledged only when its job is in safe hands; see `attempt`.

pub mod announce;
pub mod artifacts;
mod attempt;
pub mod cancellations;
pub mod config;
pub mod consumer;
pub mod context;
pub mod engine;
pub mod fault;
pub mod incarnation;
pub mod input_files;
pub mod lease;
pub mod model_cache;
pub mod progress;
mod recovery;
pub mod redis_grace;
pub mod runner;
pub mod stored_input;

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use warmq_broker::{PublishError, Publisher, Topology};
use warmq_config::{EXIT_BAD_CONFIG, EXIT_UNAVAILABLE};
use warmq_fetch::Fetcher;
use warmq_objects::Artifacts;
use warmq_process::retry::until_available;
use warmq_process::shutdown::Signals;
use warmq_store::Store;

use crate::cancellations::Cancellations;
use crate::config::Config;
use crate::context::{Intervals, WorkerContext};
use crate::fault::Fault;
use crate::input_files::FileFetcher;
use crate::runner::{Runner, RunnerStart};

/// Why a worker could not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis does not answer.
    #[error(transparent)]
    Store(#[from] warmq_store::Error),
    /// RabbitMQ does not answer.
    #[error(transparent)]
    Publisher(#[from] PublishError),
    /// RabbitMQ or Redis refused the runner.
    #[error(transparent)]
    Join(#[from] incarnation::Error),
    /// The storage can not be opened.
    #[error(transparent)]
    Storage(#[from] warmq_objects::Error),
    /// No HTTP requests can be made.
    #[error(transparent)]
    Fetch(#[from] warmq_fetch::Error),
    /// There is no engine.
    #[error(transparent)]
    Engine(#[from] engine::BuildError),
    /// A bug.
    #[error("a runner ended by itself: {0}")]
    Runner(#[from] tokio::task::JoinError),
    /// An engine hangs, or a device context failed: only a new process can help.
    #[error("this process can run no more jobs; its supervisor starts it anew: {0}")]
    Unrecoverable(Fault),
}

/// Exit status of a process that can run no more jobs, until it is started anew (`EX_SOFTWARE`).
const EXIT_UNRECOVERABLE: u8 = 70;

impl Error {
    /// The exit status that says so.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Engine(engine::BuildError::Setting(_)) => EXIT_BAD_CONFIG,
            Self::Join(incarnation::Error::NameTaken { .. }) => EXIT_BAD_CONFIG,
            Self::Unrecoverable(_) => EXIT_UNRECOVERABLE,
            Self::Runner(_) => 1,
            _ => EXIT_UNAVAILABLE,
        }
    }
}

/// Runs the configured runners until `stop`, and then their jobs to the end, as long as the drain timeout allows.
///
/// # Errors
/// The storage or the engine cannot be had, or a server refuses. Servers that are away are waited for.
pub async fn run(config: Config, signals: Signals) -> Result<(), Error> {
    let intervals = Intervals::within(config.servers.consumer_timeout);
    run_at(intervals, config, signals).await
}

/// As [`run`], at another pace than the routers' (tests).
///
/// # Errors
/// As [`run`].
pub async fn run_at(
    intervals: Intervals,
    config: Config,
    signals: impl Into<Signals>,
) -> Result<(), Error> {
    let signals = signals.into();
    let stop = signals.stop.clone();
    let servers = &config.servers;
    let connect = || Store::connect(&servers.redis_url, servers.namespace.clone());
    let Some(store) = until_available(&stop, warmq_store::Error::is_final, connect).await? else {
        return Ok(());
    };
    let publisher = Publisher::new(servers.amqp_url.clone(), "warmq-worker publish");
    let connect = || publisher.channel();
    if until_available(&stop, PublishError::is_final, connect)
        .await?
        .is_none()
    {
        return Ok(());
    }
    let give_up = give_up_after(signals, config.drain_timeout);
    let artifacts = Artifacts::open(&servers.storage)?;
    let file_fetcher = FileFetcher {
        artifacts: artifacts.clone(),
        web: Fetcher::new(config.fetch_allow.clone())?,
    };
    let context = WorkerContext {
        cancellations: Cancellations::follow(store.clone(), config.app.clone(), give_up.clone()),
        topology: Topology::new(servers.namespace.clone(), servers.queue_type),
        artifacts,
        file_fetcher,
        store,
        publisher,
        intervals,
        stop,
        give_up,
        instance: uuid::Uuid::new_v4().to_string().into(),
        config: Arc::new(config),
    };

    let mut joined = Vec::new();
    for id in &context.config.runners {
        let mut runner = Runner::new(context.clone(), id.clone()).await?;
        let Some(start) = runner.start().await? else {
            break;
        };
        joined.push((runner, start));
    }
    log_ready(&context.config, &joined);

    let mut runners = JoinSet::new();
    for (runner, start) in joined {
        runners.spawn(runner.run(start));
    }
    let mut failure = None;
    while let Some(ended) = runners.join_next().await {
        let error = match ended {
            Ok(None) => continue,
            Ok(Some(fault)) => Error::Unrecoverable(fault),
            Err(error) => error.into(),
        };
        // The others end in order first.
        context.stop.cancel();
        failure.get_or_insert(error);
    }
    match failure {
        Some(error) => Err(error),
        None => {
            tracing::info!("stopped");
            Ok(())
        }
    }
}

/// Cancelled when what runs is to be given up: the time to drain is over, or there was a second signal.
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
            () = signals.hurry.cancelled() => {}
        }
        give_up.cancel();
    });
    token
}

fn log_ready(config: &Config, runners: &[(Runner, RunnerStart)]) {
    let healthy = (runners.iter()).find(|(_, start)| matches!(start, RunnerStart::Joined(_)));
    let Some(description) = healthy.map(|(runner, _)| runner.description()) else {
        return;
    };
    let runners: Vec<&str> = config.runners.iter().map(|id| id.as_str()).collect();
    let models = match description.models.as_slice() {
        [] => "any".to_owned(),
        names => names.join(", "),
    };
    tracing::info!(
        runner = %runners.join(", "), app = %config.app, engine = %config.engine.kind, device = description.device,
        memory_budget = %config.engine.memory_budget, models, namespace = %config.servers.namespace,
        "ready for jobs"
    );
}
