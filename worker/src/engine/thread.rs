//! The OS thread of an engine. Tensors never leave it, and a panic ends this thread, not the
//! worker.

use std::any::Any;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use warmq_store::RunnerReport;
use warmq_types::fault::FaultKind;
use warmq_types::ids::RunnerId;
use warmq_types::job::{JobSpec, Progress};
use warmq_types::runner::ModelChange;

use super::{
    BuildError, Description, Ended, Engine, EngineState, Failure, RefusedChange, RunContext,
};
use crate::fault::Fault;
use crate::input_files::InputFiles;
use crate::timeline::{Stage, Timeline};

/// Interval at which a stopping thread is polled.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(5);

/// An engine on its own thread.
pub struct EngineThread {
    requests: mpsc::Sender<EngineRequest>,
    thread: std::thread::JoinHandle<()>,
    /// The engine's description, as of its start or its last check.
    pub description: Description,
    /// What the engine held after it was built, or after its last run.
    pub report: RunnerReport,
    /// Its state, if that changes by itself.
    state: Option<watch::Receiver<EngineState>>,
}

/// Where the reports of a run go.
pub struct RunReports {
    /// The latest progress.
    pub progress: watch::Sender<Option<Progress>>,
    /// Events of the job's stream; further ones are dropped while it is full.
    pub events: mpsc::Sender<Value>,
    /// When its stages began.
    pub timeline: Timeline,
}

/// The engine panicked during a job; its thread ended, a new engine must be built.
#[derive(Debug, thiserror::Error)]
#[error("the engine stopped: {reason}")]
pub struct EngineCrashed {
    /// The panic's message.
    pub reason: String,
}

/// A finished run, and what the engine holds after it.
#[derive(Debug)]
pub struct Done {
    /// The end of the run.
    pub ended: Ended,
    /// What the engine holds now.
    pub report: RunnerReport,
}

impl Done {
    /// Creates the result of a job that did not reach the engine, which still holds `report`.
    pub fn not_run(failure: Failure, report: RunnerReport) -> Self {
        let ended = Ended::failed(failure);
        Self { ended, report }
    }
}

/// A request to the thread.
enum EngineRequest {
    CheckInput(Box<JobSpec>, oneshot::Sender<Result<(), Failure>>),
    Run(Box<RunRequest>),
    Check(oneshot::Sender<Result<Description, Fault>>),
    ChangeModels(
        ModelChange,
        oneshot::Sender<(Vec<RefusedChange>, Description, RunnerReport)>,
    ),
}

struct RunRequest {
    job: JobSpec,
    files: InputFiles,
    reports: RunReports,
    cancel: CancellationToken,
    done: oneshot::Sender<Result<Done, EngineCrashed>>,
}

impl EngineThread {
    /// Starts a thread and builds an engine on it.
    ///
    /// # Errors
    /// The engine or the thread cannot be created.
    pub async fn start(
        runner: &RunnerId,
        build: impl FnOnce() -> Result<Box<dyn Engine>, BuildError> + Send + 'static,
    ) -> Result<Self, BuildError> {
        let (requests, inbox) = mpsc::channel(1);
        let (ready, built) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(format!("engine-{runner}"))
            .spawn(move || serve(build, ready, inbox))
            .map_err(|error| {
                BuildError::Unavailable(format!("cannot start the engine's thread: {error}"))
            })?;
        let lost = || BuildError::Unavailable("the engine panicked while it was built".to_owned());
        let Built {
            description,
            report,
            state,
        } = built.await.map_err(|_| lost())??;
        Ok(Self {
            requests,
            thread,
            description,
            report,
            state,
        })
    }

    /// As [`Engine::check_input`].
    ///
    /// # Errors
    /// Those of the input; the engine panicked.
    pub async fn check_input(&self, job: JobSpec) -> Result<(), Failure> {
        let (done, result) = oneshot::channel();
        let request = EngineRequest::CheckInput(Box::new(job), done);
        self.requests.send(request).await.map_err(|_| dead())?;
        result.await.map_err(|_| dead())?
    }

    /// Runs a job with its input files. `cancel` stops it at its next step.
    ///
    /// # Errors
    /// The engine panicked.
    pub async fn run(
        &self,
        job: JobSpec,
        files: InputFiles,
        reports: RunReports,
        cancel: CancellationToken,
    ) -> Result<Done, EngineCrashed> {
        let gone = || EngineCrashed {
            reason: "its thread has ended".to_owned(),
        };
        let (done, result) = oneshot::channel();
        let work = RunRequest {
            job,
            files,
            reports,
            cancel,
            done,
        };
        let request = EngineRequest::Run(Box::new(work));
        self.requests.send(request).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }

    /// As [`Engine::check`], and updates the description; fails if the engine is dead.
    ///
    /// # Errors
    /// The engine cannot run any job.
    pub async fn check(&mut self) -> Result<(), Fault> {
        let (done, result) = oneshot::channel();
        let sent = self.requests.send(EngineRequest::Check(done)).await;
        sent.map_err(|_| dead())?;
        self.description = result.await.map_err(|_| dead())??;
        Ok(())
    }

    /// Waits for a change of the engine's state while it runs no job, and returns it; forever if
    /// its state does not change by itself.
    pub async fn changed(&mut self) -> EngineState {
        if let Some(state) = &mut self.state
            && state.changed().await.is_ok()
        {
            let state = state.borrow_and_update().clone();
            self.report.clone_from(&state.report);
            return state;
        }
        std::future::pending().await
    }

    /// Waits until the engine can run jobs, as far as it reports that by itself.
    pub async fn recovered(&mut self) {
        while self.changed().await.fault.is_some() {}
    }

    /// Updates [`EngineThread::report`] if the engine's state changes by itself.
    pub fn refresh(&mut self) {
        if let Some(state) = &mut self.state {
            self.report = state.borrow_and_update().report.clone();
        }
    }

    /// As [`Engine::change_models`], and updates description and report.
    ///
    /// # Errors
    /// The engine panicked.
    pub async fn change_models(
        &mut self,
        change: ModelChange,
    ) -> Result<Vec<RefusedChange>, Fault> {
        let (done, result) = oneshot::channel();
        let request = EngineRequest::ChangeModels(change, done);
        self.requests.send(request).await.map_err(|_| dead())?;
        let refused;
        (refused, self.description, self.report) = result.await.map_err(|_| dead())?;
        Ok(refused)
    }

    /// Returns whether the engine crashed, so that a new one must be built.
    pub fn is_dead(&self) -> bool {
        self.requests.is_closed()
    }

    /// Stops the thread and waits, up to `timeout`, until the engine's memory is free. Returns
    /// false if it hangs.
    pub async fn stop(self, timeout: Duration) -> bool {
        drop(self.requests);
        // Polled, not joined: joining a thread that hangs would block forever.
        let ended = async {
            while !self.thread.is_finished() {
                tokio::time::sleep(STOP_CHECK_INTERVAL).await;
            }
        };
        tokio::time::timeout(timeout, ended).await.is_ok()
    }
}

fn dead() -> Fault {
    Fault::new(FaultKind::Engine, "the engine crashed")
}

/// An engine that was built.
struct Built {
    description: Description,
    report: RunnerReport,
    state: Option<watch::Receiver<EngineState>>,
}

/// Builds the engine, then serves requests until the channel closes.
fn serve(
    build: impl FnOnce() -> Result<Box<dyn Engine>, BuildError>,
    ready: oneshot::Sender<Result<Built, BuildError>>,
    mut inbox: mpsc::Receiver<EngineRequest>,
) {
    let mut engine = match build() {
        Ok(engine) => engine,
        Err(error) => {
            // Fails only if the worker is stopping.
            let _ = ready.send(Err(error));
            return;
        }
    };
    let built = Built {
        description: engine.describe(),
        report: engine.report(),
        state: engine.watch(),
    };
    if ready.send(Ok(built)).is_err() {
        return;
    }
    while let Some(request) = inbox.blocking_recv() {
        let work = match request {
            EngineRequest::Run(work) => work,
            EngineRequest::CheckInput(job, done) => {
                match answer(done, || engine.check_input(&job)) {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(()) => break,
                }
            }
            EngineRequest::ChangeModels(change, done) => {
                let changed = || {
                    let refused = engine.change_models(&change);
                    (refused, engine.describe(), engine.report())
                };
                match answer(done, changed) {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(()) => break,
                }
            }
            EngineRequest::Check(done) => match answer(done, || engine.check()) {
                ControlFlow::Continue(()) => continue,
                ControlFlow::Break(()) => break,
            },
        };
        let mut context = Context {
            files: &work.files,
            reports: &work.reports,
            cancel: &work.cancel,
        };
        // After a panic the engine is not used again, so no broken state is observed.
        let run = AssertUnwindSafe(|| {
            let ended = engine.run(&work.job, &mut context);
            let report = engine.report();
            Done { ended, report }
        });
        match catch_unwind(run) {
            // Fails only if the process is exiting.
            Ok(done) => drop(work.done.send(Ok(done))),
            Err(panic) => {
                // Frees the memory first, so that the next engine finds it free.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(engine)));
                let reason = sentence(panic.as_ref());
                // Closed before the reply: the runner builds another engine as soon as it receives
                // it.
                inbox.close();
                drop(work.done.send(Err(EngineCrashed { reason })));
                return;
            }
        }
    }
    let _ = catch_unwind(AssertUnwindSafe(|| drop(engine)));
}

/// Answers a request. Breaks if the engine panicked: it is not used again.
fn answer<T>(done: oneshot::Sender<T>, call: impl FnOnce() -> T) -> ControlFlow<()> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(answer) => {
            // Fails only if the process is exiting.
            drop(done.send(answer));
            ControlFlow::Continue(())
        }
        Err(_) => ControlFlow::Break(()),
    }
}

fn sentence(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    text.and_then(|text| text.lines().next())
        .unwrap_or("panicked without a message")
        .to_owned()
}

struct Context<'a> {
    files: &'a InputFiles,
    reports: &'a RunReports,
    cancel: &'a CancellationToken,
}

impl RunContext for Context<'_> {
    fn file(&self, field: &str) -> Option<&[u8]> {
        self.files.get(field).map(|bytes| bytes.as_ref())
    }

    fn path(&self, text: &str) -> Option<&Path> {
        self.files.path(text)
    }

    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        self.reports.timeline.report(&progress);
        self.reports.progress.send_modify(|latest| {
            // The reporter may not have read it yet.
            let preview = latest.take().and_then(|latest| latest.preview);
            *latest = Some(Progress {
                preview: progress.preview.or(preview),
                ..progress
            });
        });
        if self.cancelled() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    fn decoding(&mut self) {
        self.reports.timeline.begin(Stage::Decode);
    }

    fn event(&mut self, event: Value) {
        if self.reports.events.try_send(event).is_err() {
            tracing::debug!(
                "an event of a job's stream was dropped: redis is slower than the engine"
            );
        }
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    fn cancellation(&self) -> CancellationToken {
        self.cancel.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;
    use crate::engine::Produced;
    use crate::engine::testing::job;
    use serde_json::json;

    /// Panics if the input is a string.
    struct Fragile;

    impl Engine for Fragile {
        fn describe(&self) -> Description {
            Description {
                device: "none".to_owned(),
                models: Vec::new(),
                input_schema: json!({}),
                files: Vec::new(),
                inlines_files: false,
            }
        }

        fn report(&self) -> RunnerReport {
            RunnerReport::default()
        }

        fn run(&mut self, job: &JobSpec, _: &mut dyn RunContext) -> Ended {
            if let Some(message) = job.input.as_str() {
                panic!("{message}\nand a stack");
            }
            Ended {
                result: Ok(Produced::default()),
                ..Ended::default()
            }
        }
    }

    const STOP_TIMEOUT: Duration = Duration::from_secs(10);

    async fn run(engine: &EngineThread, input: Value) -> Result<Done, EngineCrashed> {
        let reports = RunReports {
            progress: watch::channel(None).0,
            events: mpsc::channel(1).0,
            timeline: Timeline::default(),
        };
        engine
            .run(
                job("", input),
                InputFiles::default(),
                reports,
                CancellationToken::new(),
            )
            .await
    }

    #[tokio::test]
    async fn a_panic_is_reported_and_ends_only_the_thread() {
        let runner = RunnerId::parse("r").unwrap();
        let mut engine = EngineThread::start(&runner, || Ok(Box::new(Fragile)))
            .await
            .unwrap();
        assert!(run(&engine, Value::Null).await.is_ok());
        let crashed = run(&engine, json!("out of luck")).await.unwrap_err();
        assert_eq!(crashed.to_string(), "the engine stopped: out of luck");
        let crashed = run(&engine, Value::Null).await.unwrap_err();
        assert_eq!(crashed.reason, "its thread has ended");
        assert!(engine.is_dead());
        let fault = engine.check().await.unwrap_err();
        assert_eq!(fault.to_string(), "engine: the engine crashed");
        assert!(engine.stop(STOP_TIMEOUT).await);
    }

    #[tokio::test]
    async fn an_engine_that_hangs_does_not_hang_its_runner() {
        let runner = RunnerId::parse("r").unwrap();
        let beside = Arc::new(Barrier::new(2));
        let hanging = Companion(beside.clone());
        let engine = EngineThread::start(&runner, || Ok(Box::new(hanging)));
        let engine = engine.await.unwrap();
        let forever = Duration::from_millis(50);
        let run = tokio::time::timeout(forever, run(&engine, Value::Null));
        assert!(run.await.is_err());
        assert!(!engine.stop(forever).await, "it was joined");
        beside.wait();
    }

    /// Runs only together with others.
    struct Companion(Arc<Barrier>);

    impl Engine for Companion {
        fn describe(&self) -> Description {
            Fragile.describe()
        }

        fn report(&self) -> RunnerReport {
            RunnerReport::default()
        }

        fn run(&mut self, job: &JobSpec, context: &mut dyn RunContext) -> Ended {
            self.0.wait();
            Fragile.run(job, context)
        }
    }

    #[tokio::test]
    async fn engines_run_at_the_same_time() {
        let all_run = Arc::new(Barrier::new(4));
        let mut engines = Vec::new();
        for _ in 0..4 {
            let engine = Companion(all_run.clone());
            let runner = RunnerId::parse("r").unwrap();
            let started = EngineThread::start(&runner, || Ok(Box::new(engine)));
            engines.push(started.await.unwrap());
        }
        let runs = engines.iter().map(|engine| run(engine, Value::Null));
        let done = futures::future::join_all(runs).await;
        assert!(done.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn an_engine_that_cannot_be_built_returns_the_reason() {
        let runner = RunnerId::parse("r").unwrap();
        let refused = || Err(BuildError::Setting("no models".to_owned()));
        let error = EngineThread::start(&runner, refused).await.err().unwrap();
        assert_eq!(error.to_string(), "no models");
    }
}
