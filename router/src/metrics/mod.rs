//! What `/metrics` shows, in Prometheus' text format. One recorder per process, handed on as a
//! connection is: nothing is global.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `names` | the metrics: name, unit, meaning |
//! | `app` | an app's numbers, which its leader counts |
//! | `labels` | which hints get a label of their own |
//! | `flows` | how flows and their steps ended |
//! | `webhooks` | what became of webhooks |
//!
//! Submitters choose hints, so neither memory nor the page may grow with them: at most 100 hints of
//! an app have a label of their own, and samples are folded into buckets every few seconds, with
//! or without a reader.

mod app;
mod flows;
mod labels;
mod names;
mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use metrics::Recorder;
use metrics_exporter_prometheus::PrometheusRecorder;
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use warmq_types::ids::AppId;

pub use app::{AppMetrics, Gauges};

/// How often samples of histograms are folded into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// The metrics of this process.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Metrics {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// Never, as long as there are buckets.
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

    /// Counts for an app. Once per app and process: what is asked for again has labels of its own
    /// to give away.
    pub fn app(&self, app: &AppId) -> AppMetrics {
        AppMetrics::new(self.recorder.clone(), app.clone())
    }

    /// The page that Prometheus reads.
    pub fn page(&self) -> String {
        self.handle.render()
    }

    /// Keeps memory bounded until `shutdown`.
    ///
    /// # Errors
    /// Never.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(UPKEEP);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.handle.run_upkeep();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
