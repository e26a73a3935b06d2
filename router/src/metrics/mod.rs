//! The metrics of a router.
//!
//! | module | content |
//! | --- | --- |
//! | `names` | the metrics: name, unit, help |
//! | `app` | an app's metrics, counted by its leader |
//! | `labels` | which hints have a label of their own |
//!
//! Submitters choose hints, so neither memory nor the page may grow with them: at most 100 hints of
//! an app have a label of their own, and samples are folded into buckets every few seconds, with
//! or without scrapes.

mod app;
mod labels;
mod names;

use tokio_util::sync::CancellationToken;
use warmq_metrics::{BuildError, Label, Metric, Registry};
use warmq_types::ids::AppId;
use warmq_types::state::JobState;

pub use app::{AppMetrics, CountGauge, Gauges};

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics(Registry);

impl Metrics {
    /// Describes all metrics.
    ///
    /// # Errors
    /// Never, since the list of buckets is not empty.
    pub fn new() -> Result<Self, BuildError> {
        Registry::new(&names::METRICS).map(Self)
    }

    /// Returns the metrics of an app. To be called once per app and process, since each result
    /// assigns labels of its own.
    pub fn app(&self, app: &AppId) -> AppMetrics {
        AppMetrics::new(self.0.clone(), app.clone())
    }

    /// Renders the page for Prometheus.
    pub fn page(&self) -> String {
        self.0.page()
    }

    /// Counts the end of a flow of the route.
    pub fn flow(&self, route: &AppId, state: JobState) {
        let route = Label::new("route", route.to_string());
        self.count(&names::FLOWS, vec![route], state.as_str());
    }

    /// Counts the end of a step of a flow of the route. `outcome`: a state, or `given_up`.
    pub fn flow_step(&self, route: &AppId, step: &str, outcome: &'static str) {
        let route = Label::new("route", route.to_string());
        let step = Label::new("step", step.to_owned());
        self.count(&names::FLOW_STEPS, vec![route, step], outcome);
    }

    /// Counts a delivery attempt for a job of the app. `outcome`: `delivered`, `retried` or
    /// `given_up`.
    pub fn webhook(&self, app: &AppId, outcome: &'static str) {
        let app = Label::new("app", app.to_string());
        self.count(&names::WEBHOOKS, vec![app], outcome);
    }

    fn count(&self, metric: &Metric, mut labels: Vec<Label>, outcome: &'static str) {
        labels.push(Label::from_static_parts("outcome", outcome));
        self.0.counter(metric, labels).increment(1);
    }

    /// Keeps memory bounded until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.0.upkeep(shutdown).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
