//! Runs jobs on a model server by HTTP, as docs/runner-protocol.md describes. The server keeps its
//! models; the worker reports the hints that it names.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`options`] | settings |
//! | `server` | the server that all runners of a worker share: address, readiness, hints |
//! | `monitor` | probes the server |
//! | `process` | starts and restarts a server of the worker's own |
//! | `call` | posts a job and reads its result |
//! | [`check`] | checks whether a server follows the protocol |
//! | [`fal`] | a class of fal's package as the server |
//! | `offer` | pure: the models and inputs that the server lists |
//! | `client` | the HTTP client, with bounded bodies |
//! | `request`, `response`, `output`, `sse` | pure: what is sent, and what is received |
//! | `hints`, `readiness`, `durations` | pure: what the server holds, when it is ready, its times |

mod call;
pub mod check;
mod client;
mod durations;
pub mod fal;
mod hints;
mod monitor;
mod offer;
pub mod options;
mod output;
mod process;
mod readiness;
mod request;
mod response;
mod server;
mod sse;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use warmq_store::RunnerReport;
use warmq_types::job::{JobSpec, Phase, Progress, Timings};

use self::options::{Options, Target};
use self::server::Server;
use super::{BuildError, Description, Ended, Engine, EngineState, Failure, RunContext, millis};
use crate::engine::selection::ModelSelection;
use crate::fault::Fault;

/// The model server of a worker. Stops probing when it is dropped.
pub struct ModelServer {
    server: Arc<Server>,
    handle: Handle,
    tasks: Vec<JoinHandle<()>>,
}

impl ModelServer {
    /// Starts to probe the server, and starts its process if it is the worker's. `concurrency`:
    /// jobs that it runs at a time; `only`: the models that the worker serves; `hang_grace`: a
    /// process that does not respond for this long is restarted.
    ///
    /// # Errors
    /// The command of the process does not exist.
    pub async fn start(
        options: Options,
        concurrency: usize,
        only: ModelSelection,
        hang_grace: Duration,
    ) -> Result<Self, BuildError> {
        let command = match &options.target {
            Target::Spawned { command, upstream } => Some((command.clone(), upstream.clone())),
            Target::Fal(app) => Some((app.command(), None)),
            Target::Running(_) => None,
        };
        let server = Server::new(options, concurrency, only).map_err(BuildError::Unavailable)?;
        let server = Arc::new(server);
        let mut tasks = Vec::new();
        if let Some((command, upstream)) = command {
            let supervised = process::start(server.clone(), command, upstream).await?;
            tasks.push(tokio::spawn(supervised));
        }
        tasks.push(tokio::spawn(monitor::watch(server.clone(), hang_grace)));
        Ok(Self {
            server,
            handle: Handle::current(),
            tasks,
        })
    }

    /// Returns the engine of one runner.
    pub fn engine(&self) -> Http {
        Http {
            server: self.server.clone(),
            handle: self.handle.clone(),
        }
    }

    /// Stops the probes and the worker's process.
    pub async fn stop(&self) {
        self.server.stop.cancel();
        while !self.tasks.iter().all(JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for ModelServer {
    fn drop(&mut self) {
        self.server.stop.cancel();
    }
}

/// The engine of one runner.
pub struct Http {
    server: Arc<Server>,
    handle: Handle,
}

impl Engine for Http {
    fn describe(&self) -> Description {
        let machine = self.server.options.class().machine_type.clone();
        Description {
            device: machine.unwrap_or_else(|| "server".to_owned()),
            models: self.server.models().unwrap_or_default(),
            input_schema: self.server.input_schema(),
            files: Vec::new(),
            inlines_files: true,
        }
    }

    fn report(&self) -> RunnerReport {
        self.server.state().report
    }

    fn run(&mut self, job: &JobSpec, context: &mut dyn RunContext) -> Ended {
        let server = &self.server;
        let progress = Progress::at(Phase::Running, 0, 0);
        if context.progress(progress).is_break() {
            return Ended::failed(Failure::Cancelled);
        }
        let hint = job.hint.as_ref();
        let (warm, begun) = (server.is_warm(hint), Instant::now());
        let running = server.begin(job.id);
        let cancel = context.cancellation();
        let mut on_event = |event| context.event(event);
        let result = self.handle.block_on(async {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(Failure::Cancelled),
                result = call::call(server, job, &mut on_event) => result,
            }
        });
        drop(running);
        if result == Err(Failure::Cancelled) {
            let (server, job) = (server.clone(), job.id);
            self.handle.spawn(async move { server.cancel(job).await });
        }
        let timings = match &result {
            Err(Failure::Cancelled) => Timings::default(),
            result => server.timings((hint, warm), millis(begun), result.is_ok()),
        };
        Ended {
            result,
            timings,
            model: None,
        }
    }

    fn check(&mut self) -> Result<Description, Fault> {
        self.handle.block_on(async {
            self.server.probe().await;
            self.server.refresh_offer().await;
        });
        if let Some(fault) = self.server.state().fault {
            return Err(fault);
        }
        self.server.models()?;
        Ok(self.describe())
    }

    fn watch(&self) -> Option<watch::Receiver<EngineState>> {
        Some(self.server.watch())
    }
}
