//! The metrics of a worker, by runner.

mod names;
pub mod server;

use warmq_metrics::{BuildError, Counter, Gauge, Label, Metric, Registry};
use warmq_store::RunnerReport;
use warmq_types::ids::RunnerId;
use warmq_types::job::Timings;
use warmq_types::tier::Tier;

/// The metrics of this process. Clones count together.
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

    /// Returns the metrics of a runner with these memory budgets, bytes. To be called once per
    /// runner.
    pub(crate) fn of_runner(&self, runner: &RunnerId, device: u64, ram: u64) -> RunnerMetrics {
        let label = Label::new("runner", runner.to_string());
        let gauge = |metric: &Metric| self.0.gauge(metric, vec![label.clone()]);
        let by_tier = |metric: &Metric| {
            ["device", "ram"].map(|tier| {
                let tier = Label::from_static_parts("tier", tier);
                self.0.gauge(metric, vec![label.clone(), tier])
            })
        };
        show(&by_tier(&names::BUDGET_BYTES), [device, ram]);
        RunnerMetrics {
            registry: self.0.clone(),
            busy: gauge(&names::BUSY),
            faulty: gauge(&names::FAULTY),
            models: by_tier(&names::MODELS),
            model_bytes: by_tier(&names::MODEL_BYTES),
            evictions: self.0.counter(&names::EVICTIONS, vec![label.clone()]),
            label,
        }
    }
}

/// The metrics of one runner.
pub(crate) struct RunnerMetrics {
    registry: Registry,
    label: Label,
    busy: Gauge,
    faulty: Gauge,
    /// On the device and in RAM.
    models: [Gauge; 2],
    model_bytes: [Gauge; 2],
    evictions: Counter,
}

impl RunnerMetrics {
    /// Shows the runner as busy until the result is dropped.
    pub(crate) fn busy(&self) -> Shown {
        Shown::new(&self.busy)
    }

    /// Shows the runner as faulty until the result is dropped.
    pub(crate) fn faulty(&self) -> Shown {
        Shown::new(&self.faulty)
    }

    /// Shows the models that it holds.
    pub(crate) fn holds(&self, report: &RunnerReport) {
        let counts = [&report.hints, &report.ram_hints].map(|hints| hints.len() as u64);
        show(&self.models, counts);
        show(&self.model_bytes, [report.memory_bytes, report.ram_bytes]);
    }

    /// Counts the models that left its device.
    pub(crate) fn evicted(&self, models: usize) {
        self.evictions.increment(models as u64);
    }

    /// Counts an attempt that ended. `outcome`: a state, or `requeued`.
    pub(crate) fn ended(&self, outcome: &'static str, timings: Timings) {
        let outcome_label = Label::from_static_parts("outcome", outcome);
        let labels = vec![self.label.clone(), outcome_label];
        self.registry.counter(&names::JOBS, labels).increment(1);
        if outcome != "succeeded" {
            return;
        }
        let run = self.registry.histogram(&names::RUN, Vec::new());
        run.record(seconds(timings.run_ms));
        let from = match timings.tier() {
            Tier::Device => return,
            Tier::Ram => "ram",
            Tier::Disk => "disk",
        };
        let from = vec![Label::from_static_parts("from", from)];
        let load = self.registry.histogram(&names::LOAD, from);
        load.record(seconds(timings.load_ms));
    }
}

/// A gauge at 1; it falls to 0 when dropped.
pub(crate) struct Shown(Gauge);

impl Shown {
    fn new(gauge: &Gauge) -> Self {
        gauge.set(1);
        Self(gauge.clone())
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

/// Sets the gauges of the device and of RAM.
fn show(gauges: &[Gauge; 2], values: [u64; 2]) {
    for (gauge, value) in gauges.iter().zip(values) {
        gauge.set(value as f64);
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use warmq_types::hint::Hint;

    #[test]
    fn a_runner_has_its_jobs_models_and_state() {
        let metrics = Metrics::new().unwrap();
        let runner = RunnerId::parse("gpu-a").unwrap();
        let report = RunnerReport {
            hints: vec![Hint::parse("sdxl").unwrap()],
            memory_bytes: 700,
            ..RunnerReport::default()
        };
        let shown = metrics.of_runner(&runner, 1000, 0);
        shown.holds(&report);
        shown.evicted(2);
        let busy = shown.busy();
        let timings = Timings {
            load_ms: 3000,
            run_ms: 1500,
            ..Timings::default()
        };
        shown.ended("succeeded", timings);
        shown.ended("requeued", timings);
        let page = metrics.0.page();
        for line in [
            "warmq_worker_jobs_total{runner=\"gpu-a\",outcome=\"succeeded\"} 1",
            "warmq_worker_jobs_total{runner=\"gpu-a\",outcome=\"requeued\"} 1",
            "warmq_worker_evictions_total{runner=\"gpu-a\"} 2",
            "warmq_worker_busy{runner=\"gpu-a\"} 1",
            "warmq_worker_models{runner=\"gpu-a\",tier=\"device\"} 1",
            "warmq_worker_models{runner=\"gpu-a\",tier=\"ram\"} 0",
            "warmq_worker_model_bytes{runner=\"gpu-a\",tier=\"device\"} 700",
            "warmq_worker_model_budget_bytes{runner=\"gpu-a\",tier=\"device\"} 1000",
            "warmq_worker_run_seconds_sum 1.5",
            "warmq_worker_load_seconds_bucket{from=\"disk\",le=\"5\"} 1",
            "warmq_worker_load_seconds_count{from=\"disk\"} 1",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        drop(busy);
        let page = metrics.0.page();
        assert!(
            page.contains("warmq_worker_busy{runner=\"gpu-a\"} 0"),
            "{page}"
        );
    }
}
