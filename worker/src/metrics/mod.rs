//! The metrics of a worker, by runner.

mod names;
pub mod server;

use warmq_metrics::{BuildError, Gauge, Label, Metric, Registry};
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

    /// Shows a runner as busy until the result is dropped.
    pub(crate) fn busy(&self, runner: &RunnerId) -> Shown {
        self.shown(&names::BUSY, runner)
    }

    /// Shows a runner as faulty until the result is dropped.
    pub(crate) fn faulty(&self, runner: &RunnerId) -> Shown {
        self.shown(&names::FAULTY, runner)
    }

    fn shown(&self, metric: &Metric, runner: &RunnerId) -> Shown {
        let gauge = self.0.gauge(metric, vec![of(runner)]);
        gauge.set(1);
        Shown(gauge)
    }

    /// Shows a runner's memory budgets, bytes.
    pub(crate) fn budgets(&self, runner: &RunnerId, device: u64, ram: u64) {
        self.by_tier(&names::BUDGET_BYTES, runner, [device, ram]);
    }

    /// Shows the models that a runner holds.
    pub(crate) fn holds(&self, runner: &RunnerId, report: &RunnerReport) {
        let counts = [&report.hints, &report.ram_hints].map(|hints| hints.len() as u64);
        self.by_tier(&names::MODELS, runner, counts);
        let bytes = [report.memory_bytes, report.ram_bytes];
        self.by_tier(&names::MODEL_BYTES, runner, bytes);
    }

    /// Counts the models that left a runner's device.
    pub(crate) fn evicted(&self, runner: &RunnerId, models: usize) {
        let counter = self.0.counter(&names::EVICTIONS, vec![of(runner)]);
        counter.increment(models as u64);
    }

    /// Counts an attempt that ended. `outcome`: a state, or `requeued`.
    pub(crate) fn ended(&self, runner: &RunnerId, outcome: &'static str, timings: Timings) {
        let labels = vec![of(runner), Label::from_static_parts("outcome", outcome)];
        self.0.counter(&names::JOBS, labels).increment(1);
        if outcome != "succeeded" {
            return;
        }
        let run = self.0.histogram(&names::RUN, Vec::new());
        run.record(seconds(timings.run_ms));
        let from = match timings.tier() {
            Tier::Device => return,
            Tier::Ram => "ram",
            Tier::Disk => "disk",
        };
        let from = vec![Label::from_static_parts("from", from)];
        let load = self.0.histogram(&names::LOAD, from);
        load.record(seconds(timings.load_ms));
    }

    /// Sets a gauge of the device and of RAM.
    fn by_tier(&self, metric: &Metric, runner: &RunnerId, values: [u64; 2]) {
        for (tier, value) in ["device", "ram"].into_iter().zip(values) {
            let labels = vec![of(runner), Label::from_static_parts("tier", tier)];
            self.0.gauge(metric, labels).set(value as f64);
        }
    }
}

/// A gauge at 1; it falls to 0 when dropped.
pub(crate) struct Shown(Gauge);

impl Drop for Shown {
    fn drop(&mut self) {
        self.0.set(0);
    }
}

fn of(runner: &RunnerId) -> Label {
    Label::new("runner", runner.to_string())
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
        metrics.budgets(&runner, 1000, 0);
        metrics.holds(&runner, &report);
        metrics.evicted(&runner, 2);
        let busy = metrics.busy(&runner);
        let timings = Timings {
            load_ms: 3000,
            run_ms: 1500,
            ..Timings::default()
        };
        metrics.ended(&runner, "succeeded", timings);
        metrics.ended(&runner, "requeued", timings);
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
