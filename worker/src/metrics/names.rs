//! The metrics: name, unit, help. docs/operations.md lists them.

use warmq_metrics::{Metric, Metrics};

/// All of them.
pub(super) const METRICS: Metrics<'static> = Metrics {
    counters: &[JOBS, EVICTIONS],
    gauges: &[BUSY, FAULTY, MODELS, MODEL_BYTES, BUDGET_BYTES],
    histograms: &[RUN, LOAD],
    buckets: &BUCKETS_S,
};

pub(super) const JOBS: Metric = Metric::count(
    "warmq_worker_jobs_total",
    "Attempts that ended, by runner and outcome: 'succeeded', 'failed', 'cancelled' (also if \
     another runner has the job), or 'requeued' if another attempt follows.",
);
pub(super) const EVICTIONS: Metric = Metric::count(
    "warmq_worker_evictions_total",
    "Models that left a runner's device, for another one or on request.",
);
pub(super) const BUSY: Metric = Metric::count("warmq_worker_busy", "1 while the runner has a job.");
pub(super) const FAULTY: Metric = Metric::count(
    "warmq_worker_faulty",
    "1 while the runner takes no jobs until its self-test passes.",
);
pub(super) const MODELS: Metric = Metric::count(
    "warmq_worker_models",
    "Models that a runner holds, by tier: 'device' or 'ram'.",
);
pub(super) const MODEL_BYTES: Metric = Metric::bytes(
    "warmq_worker_model_bytes",
    "Memory of the models that a runner holds, by tier.",
);
pub(super) const BUDGET_BYTES: Metric = Metric::bytes(
    "warmq_worker_model_budget_bytes",
    "Memory budget of a runner, by tier.",
);
pub(super) const RUN: Metric = Metric::seconds(
    "warmq_worker_run_seconds",
    "Runs of succeeded jobs, without loading and storing.",
);
pub(super) const LOAD: Metric = Metric::seconds(
    "warmq_worker_load_seconds",
    "Loads of models for succeeded jobs, by the tier that they came from: 'disk' or 'ram'.",
);

/// Upper bounds of the histograms' buckets, s: from a move within memory to a long video.
const BUCKETS_S: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0,
];
