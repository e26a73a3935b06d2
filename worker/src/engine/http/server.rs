//! The model server that all runners of a worker share: its address, readiness and hints.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use url::Url;
use warmq_store::RunnerReport;
use warmq_types::fault::FaultKind;
use warmq_types::hint::Hint;
use warmq_types::ids::JobId;
use warmq_types::job::Timings;

use super::client::{Client, Error, Response};
use super::durations::Durations;
use super::hints::{self, Hints};
use super::offer::{self, Offer};
use super::options::{Options, Target};
use super::readiness::Readiness;
use super::request;
use crate::engine::EngineState;
use crate::engine::selection::ModelSelection;
use crate::fault::Fault;

/// Timeout of a probe. With the interval of probes, a silent server leaves the idle set within 2 s.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Minimum interval between questions for what the server lists: with its probes, a self-test then
/// takes 3 s at most.
const OFFER_INTERVAL: Duration = Duration::from_secs(1);

/// Timeout for posting a cancellation, which is best effort.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// Size limit of the response to `GET /hints`, bytes.
const MAX_HINTS_BYTES: usize = 1 << 20;

/// Header by which a server offers `POST /cancel/{id}`.
const CANCEL: &str = "x-warmq-cancel";

/// Header by which a server asks for no further jobs until it has been restarted.
const STOP_RUNNER: &str = "x-fal-stop-runner";

/// The shared model server.
pub(super) struct Server {
    pub(super) options: Options,
    pub(super) client: Client,
    /// Cancelled when the worker has stopped.
    pub(super) stop: CancellationToken,
    /// Notified when the server's process is to be restarted.
    pub(super) restart: Notify,
    concurrency: usize,
    /// The models that the worker serves.
    only: ModelSelection,
    inner: Mutex<Inner>,
    state: watch::Sender<EngineState>,
    probing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Inner {
    /// `None` while a spawned server does not run.
    base: Option<Url>,
    /// Number of processes that were started.
    starts: u64,
    /// Whether the process has been ready.
    was_ready: bool,
    /// Why the previous process ended, until the next one is ready.
    last_exit: Option<String>,
    readiness: State,
    hints: Hints,
    offer: Offer,
    /// When the server was last asked for it.
    offer_asked: Option<Instant>,
    /// Largest number of hints so far.
    slots: u32,
    offers_cancel: bool,
    running: Vec<JobId>,
    durations: Durations,
}

/// Whether the server takes jobs.
enum State {
    /// No, for this reason.
    Down(String),
    Ready,
    /// It asked for no further jobs, and has not been restarted.
    Stopping,
}

impl Default for State {
    fn default() -> Self {
        Self::Down("has not been reached yet".to_owned())
    }
}

/// A job that runs on the server, until dropped.
pub(super) struct RunningJob<'s> {
    server: &'s Server,
    job: JobId,
}

impl Drop for RunningJob<'_> {
    fn drop(&mut self) {
        self.server.inner().running.retain(|job| *job != self.job);
        self.server.restart_if_stopping();
    }
}

impl Server {
    /// Creates a server that is not ready. `concurrency`: jobs that it takes at a time; `only`: the
    /// models that the worker serves.
    ///
    /// # Errors
    /// The HTTP client cannot be created.
    pub(super) fn new(
        options: Options,
        concurrency: usize,
        only: ModelSelection,
    ) -> Result<Self, String> {
        let base = match &options.target {
            Target::Running(url) => Some(url.clone()),
            Target::Spawned { .. } | Target::Fal(_) => None,
        };
        let inner = Inner {
            base,
            ..Inner::default()
        };
        Ok(Self {
            client: Client::new()?,
            options,
            stop: CancellationToken::new(),
            restart: Notify::new(),
            concurrency,
            only,
            state: watch::Sender::new(inner.state()),
            inner: Mutex::new(inner),
            probing: tokio::sync::Mutex::default(),
        })
    }

    /// Returns a receiver of readiness and hints.
    pub(super) fn watch(&self) -> watch::Receiver<EngineState> {
        self.state.subscribe()
    }

    /// Returns the current readiness and hints.
    pub(super) fn state(&self) -> EngineState {
        self.inner().state()
    }

    /// Returns its address.
    ///
    /// # Errors
    /// A spawned server does not run.
    pub(super) fn base(&self) -> Result<Url, Fault> {
        let inner = self.inner();
        inner
            .base
            .clone()
            .ok_or_else(|| inner.fault().unwrap_or_else(down))
    }

    /// Returns the names of the models that the worker serves on it, sorted; empty for any.
    ///
    /// # Errors
    /// It lists none of those that the worker serves.
    pub(super) fn models(&self) -> Result<Vec<String>, Fault> {
        let listed = self.inner().offer.models.clone();
        let Some(mut models) = listed else {
            return self.only.names().map_err(|reason| down().because(reason));
        };
        models.retain(|model| self.only.allows(model));
        match models.is_empty() {
            true => Err(down().because("it lists no model that this worker serves")),
            false => Ok(models),
        }
    }

    /// Returns the JSON Schema of its inputs; `{}` for any.
    pub(super) fn input_schema(&self) -> Value {
        self.inner().offer.input_schema.clone()
    }

    /// Returns whether it holds what a job needs.
    pub(super) fn is_warm(&self, hint: Option<&Hint>) -> bool {
        let inner = self.inner();
        hint.is_none_or(|hint| inner.hints.current().contains(hint))
    }

    /// Returns whether it has reported hints.
    pub(super) fn reports_hints(&self) -> bool {
        matches!(self.inner().hints, Hints::Reported(_))
    }

    /// Returns whether it has `POST /cancel/{id}`.
    pub(super) fn offers_cancel(&self) -> bool {
        self.inner().offers_cancel
    }

    /// Returns the jobs that run on it.
    pub(super) fn running(&self) -> Vec<JobId> {
        self.inner().running.clone()
    }

    /// Records a job that runs on it.
    pub(super) fn begin(&self, job: JobId) -> RunningJob<'_> {
        self.inner().running.push(job);
        RunningJob { server: self, job }
    }

    /// Returns the timings of a run, and remembers them if it succeeded.
    pub(super) fn timings(
        &self,
        (hint, warm): (Option<&Hint>, bool),
        total_ms: u64,
        succeeded: bool,
    ) -> Timings {
        let durations = &mut self.inner().durations;
        let timings = durations.timings(hint, warm, total_ms);
        if let (Some(hint), true, true) = (hint, warm, succeeded) {
            durations.remember(hint, timings.run_ms);
        }
        timings
    }

    /// Takes a response's headers into account. `served`: the hint of the job that succeeded.
    pub(super) fn observe(&self, response: &Response, served: Option<&Hint>) {
        let reported = response.hints();
        let stops = response.flag(STOP_RUNNER);
        let offers_cancel = response.flag(CANCEL);
        self.change(|inner| {
            inner.offers_cancel |= offers_cancel;
            inner.observe_hints(reported, served);
            if stops {
                inner.readiness = State::Stopping;
            }
        });
        if stops {
            tracing::warn!("the model server asked to be stopped: it takes no further jobs");
            self.restart_if_stopping();
        }
    }

    /// Requests the restart of a server that asked to be stopped, once it runs no job.
    fn restart_if_stopping(&self) {
        let inner = self.inner();
        if inner.running.is_empty() && matches!(inner.readiness, State::Stopping) {
            self.restart.notify_one();
        }
    }

    /// Probes the server, and takes the result into account.
    pub(super) async fn probe(&self) {
        let Ok(_one_at_a_time) = self.probing.try_lock() else {
            // The result of the probe that is under way counts.
            drop(self.probing.lock().await);
            return;
        };
        let Ok(base) = self.base() else { return };
        let path = &self.options.health_path;
        let url = request::below(&base, path);
        let response = self.client.get(url, PROBE_TIMEOUT).await;
        let probe = response.as_ref().map(Response::status);
        match Readiness::of(probe, path, self.is_full()) {
            Readiness::Busy => {}
            Readiness::NotReady(reason) => self.down(reason),
            Readiness::Ready => {
                if self.is_down() {
                    tokio::join!(self.ask_for_hints(&base), self.ask_for_offer(&base));
                }
                if let Ok(response) = &response {
                    self.observe(response, None);
                }
                self.change(Inner::ready);
            }
        }
    }

    /// Asks a server that became ready for its hints.
    async fn ask_for_hints(&self, base: &Url) {
        let url = request::below(base, "hints");
        let Ok(response) = self.client.get(url, PROBE_TIMEOUT).await else {
            return;
        };
        if !(200..=299).contains(&response.status()) {
            return;
        }
        let in_header = response.hints();
        let in_body = response.body(MAX_HINTS_BYTES).await.ok();
        let in_body = in_body.and_then(|body| serde_json::from_slice::<Vec<String>>(&body).ok());
        let in_body = in_body.map(|names| hints::hints(names.iter().map(String::as_str)));
        self.change(|inner| inner.observe_hints(in_body.or(in_header), None));
    }

    /// Asks again for what a server that is ready lists, unless it was asked just now.
    pub(super) async fn refresh_offer(&self) {
        let is_recent = |asked: Instant| asked.elapsed() < OFFER_INTERVAL;
        if self.is_ready()
            && !self.is_full()
            && !self.inner().offer_asked.is_some_and(is_recent)
            && let Ok(base) = self.base()
        {
            self.ask_for_offer(&base).await;
        }
    }

    /// Asks for the models and the inputs that the server lists. What it does not answer in time
    /// stays as it was.
    async fn ask_for_offer(&self, base: &Url) {
        self.inner().offer_asked = Some(Instant::now());
        let lists = (
            self.listed(base, "models"),
            self.listed(base, "openapi.json"),
        );
        let (models, document) = tokio::join!(lists.0, lists.1);
        if let Some(body) = models {
            let models = body.and_then(|body| offer::models(&body));
            self.change(|inner| inner.offer.models = models);
        }
        if let Some(body) = document {
            let document = body.and_then(|body| serde_json::from_slice(&body).ok());
            let document = document.unwrap_or(Value::Null);
            let schema = offer::input_schema(&document, &self.options.path);
            self.change(|inner| inner.offer.input_schema = schema);
        }
    }

    /// Returns the body at a path, within it `None` if there is none to read; `None` without a
    /// response.
    async fn listed(&self, base: &Url, path: &str) -> Option<Option<Vec<u8>>> {
        let response = self
            .client
            .get(request::below(base, path), PROBE_TIMEOUT)
            .await;
        let response = response.ok()?;
        match response.status() {
            200..=299 => match response.body(offer::MAX_BYTES).await {
                Ok(body) => Some(Some(body)),
                Err(Error::TooLarge { .. }) => Some(None),
                Err(_) => None,
            },
            // Fails for now.
            500..=599 => None,
            _ => Some(None),
        }
    }

    /// Records why it takes no jobs. Its process may have ended, so its hints are forgotten.
    pub(super) fn down(&self, reason: String) {
        self.change(|inner| inner.down(reason));
    }

    /// Records the address of a spawned server, or that it does not run and why.
    pub(super) fn set_process(&self, base: Result<Url, String>) {
        self.change(|inner| match base {
            Ok(base) => {
                inner.base = Some(base);
                inner.starts += 1;
                inner.was_ready = false;
                inner.down("is starting".to_owned());
            }
            Err(reason) => {
                inner.base = None;
                inner.last_exit = Some(reason.clone());
                inner.down(reason);
            }
        });
    }

    /// Returns the number of processes that were started.
    pub(super) fn starts(&self) -> u64 {
        self.inner().starts
    }

    /// Returns whether it has been ready since its process was started.
    pub(super) fn was_ready(&self) -> bool {
        self.inner().was_ready
    }

    fn is_down(&self) -> bool {
        matches!(self.inner().readiness, State::Down(_))
    }

    /// Returns whether it is ready.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.inner().readiness, State::Ready)
    }

    /// Returns whether it runs as many jobs as it takes at a time.
    pub(super) fn is_full(&self) -> bool {
        self.inner().running.len() >= self.concurrency
    }

    /// Posts the cancellation of a job whose connection was closed, if the server offers it.
    pub(super) async fn cancel(&self, job: JobId) {
        let Ok(base) = self.base() else { return };
        if !self.offers_cancel() {
            return;
        }
        let url = request::below(&base, &format!("cancel/{job}"));
        let posted = self
            .client
            .post(url, Vec::new(), Vec::new(), CANCEL_TIMEOUT);
        if let Err(error) = posted.await {
            tracing::warn!(job.id = %job, %error, "could not cancel a job on the model server");
        }
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner();
        change(&mut inner);
        let now = inner.state();
        self.state.send_if_modified(|state| {
            let is_news = *state != now;
            *state = now;
            is_news
        });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn observe_hints(&mut self, reported: Option<Vec<Hint>>, served: Option<&Hint>) {
        self.hints.observe(reported, served);
        let held = u32::try_from(self.hints.current().len()).unwrap_or(u32::MAX);
        self.slots = self.slots.max(held);
    }

    fn ready(&mut self) {
        if let State::Down(_) = self.readiness {
            self.readiness = State::Ready;
            self.was_ready = true;
            self.last_exit = None;
        }
    }

    fn down(&mut self, reason: String) {
        self.hints = Hints::default();
        self.readiness = State::Down(match &self.last_exit {
            Some(exit) if *exit != reason => format!("{reason}; before, it {exit}"),
            _ => reason,
        });
    }

    fn state(&self) -> EngineState {
        EngineState {
            report: RunnerReport {
                hints: self.hints.current().to_vec(),
                memory_bytes: 0,
                // A server that has not reported hints holds at least one model.
                slots: self.slots.max(1),
                ..RunnerReport::default()
            },
            fault: self.fault(),
        }
    }

    fn fault(&self) -> Option<Fault> {
        match &self.readiness {
            State::Ready => None,
            State::Down(reason) => Some(down().because(reason)),
            State::Stopping => Some(down().because("asked to be stopped: restart it")),
        }
    }
}

fn down() -> Fault {
    Fault::new(FaultKind::Server, "the model server takes no jobs")
}
