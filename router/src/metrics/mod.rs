//! Metrics in Prometheus' text format. Each process has one recorder, which is passed on like a
//! connection: nothing is global.
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

use std::sync::Arc;
use std::time::Duration;

use metrics::{Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::PrometheusRecorder;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use warmq_types::ids::AppId;
use warmq_types::state::JobState;

use names::Metric;

pub use app::{AppMetrics, Gauges, WantedRunners};

/// Interval at which samples of histograms are folded into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Required by the recorder, which ignores it.
const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Describes all metrics.
    ///
    /// # Errors
    /// Never, since the list of buckets is not empty.
    pub fn new() -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&names::BUCKETS_S)?
            .build_recorder();
        for metric in &names::COUNTERS {
            recorder.describe_counter(metric.name.into(), Some(metric.unit), metric.help());
        }
        for metric in &names::GAUGES {
            recorder.describe_gauge(metric.name.into(), Some(metric.unit), metric.help());
        }
        for metric in &names::HISTOGRAMS {
            recorder.describe_histogram(metric.name.into(), Some(metric.unit), metric.help());
        }
        Ok(Self {
            handle: recorder.handle(),
            recorder: Arc::new(recorder),
        })
    }

    /// Returns the metrics of an app. To be called once per app and process, since each result
    /// assigns labels of its own.
    pub fn app(&self, app: &AppId) -> AppMetrics {
        AppMetrics::new(self.recorder.clone(), app.clone())
    }

    /// Renders the page for Prometheus.
    pub fn page(&self) -> String {
        self.handle.render()
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
        let key = Key::from_parts(metric.name, labels);
        self.recorder.register_counter(&key, &METADATA).increment(1);
    }

    /// Keeps memory bounded until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.handle.run_upkeep();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
