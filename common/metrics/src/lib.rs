//! Metrics in Prometheus' text format. Each process has one registry, which is passed on like a
//! connection: nothing is global.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Key, Level, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio_util::sync::CancellationToken;

pub use metrics::{Counter, Gauge, Histogram, Label};
pub use metrics_exporter_prometheus::BuildError;

/// Content type of [`Registry::page`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Interval at which samples of histograms are folded into their buckets.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Required by the recorder, which ignores it.
const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// A metric with its help line.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name, with its unit and suffix by Prometheus' conventions.
    pub name: &'static str,
    unit: Unit,
    help: &'static str,
}

impl Metric {
    /// Returns a metric that counts.
    pub const fn count(name: &'static str, help: &'static str) -> Self {
        let unit = Unit::Count;
        Self { name, unit, help }
    }

    /// Returns a metric in seconds.
    pub const fn seconds(name: &'static str, help: &'static str) -> Self {
        let unit = Unit::Seconds;
        Self { name, unit, help }
    }

    /// Returns a metric in bytes.
    pub const fn bytes(name: &'static str, help: &'static str) -> Self {
        let unit = Unit::Bytes;
        Self { name, unit, help }
    }

    fn help(&self) -> SharedString {
        self.help.into()
    }
}

/// The metrics of a process, by kind.
#[derive(Debug, Clone, Copy)]
pub struct Metrics<'a> {
    /// Counters; their names end in `_total`.
    pub counters: &'a [Metric],
    /// Gauges.
    pub gauges: &'a [Metric],
    /// Histograms.
    pub histograms: &'a [Metric],
    /// Upper bounds of the histograms' buckets, in the unit of the metrics.
    pub buckets: &'a [f64],
}

/// The values of this process. Clones count together.
#[derive(Clone)]
pub struct Registry {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl Registry {
    /// Describes all metrics.
    ///
    /// # Errors
    /// The list of buckets is empty.
    pub fn new(metrics: &Metrics<'_>) -> Result<Self, BuildError> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(metrics.buckets)?
            .build_recorder();
        for metric in metrics.counters {
            recorder.describe_counter(metric.name.into(), Some(metric.unit), metric.help());
        }
        for metric in metrics.gauges {
            recorder.describe_gauge(metric.name.into(), Some(metric.unit), metric.help());
        }
        for metric in metrics.histograms {
            recorder.describe_histogram(metric.name.into(), Some(metric.unit), metric.help());
        }
        Ok(Self {
            handle: recorder.handle(),
            recorder: Arc::new(recorder),
        })
    }

    /// Returns the counter with these labels.
    pub fn counter(&self, metric: &Metric, labels: Vec<Label>) -> Counter {
        let key = Key::from_parts(metric.name, labels);
        self.recorder.register_counter(&key, &METADATA)
    }

    /// Returns the gauge with these labels.
    pub fn gauge(&self, metric: &Metric, labels: Vec<Label>) -> Gauge {
        let key = Key::from_parts(metric.name, labels);
        self.recorder.register_gauge(&key, &METADATA)
    }

    /// Returns the histogram with these labels.
    pub fn histogram(&self, metric: &Metric, labels: Vec<Label>) -> Histogram {
        let key = Key::from_parts(metric.name, labels);
        self.recorder.register_histogram(&key, &METADATA)
    }

    /// Renders the page for Prometheus.
    pub fn page(&self) -> String {
        self.handle.render()
    }

    /// Keeps memory bounded, with or without scrapes, until `shutdown`.
    pub async fn upkeep(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            self.handle.run_upkeep();
        }
    }
}
