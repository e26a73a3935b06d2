//! The metrics: name, unit, help. docs/operations.md lists them.

use warmq_metrics::{Metric, Metrics};

/// All of them.
pub(super) const METRICS: Metrics<'static> = Metrics {
    counters: &COUNTERS,
    gauges: &GAUGES,
    histograms: &HISTOGRAMS,
    buckets: &BUCKETS_S,
};

/// Counters, per app and hint; [`DISPATCHED`] per app and target, [`RUNNER_FAULTS`] per app and
/// reason, [`SCALE_HOOK_FAILURES`] per app, [`WEBHOOKS`] per app and outcome, [`FLOWS`] and
/// [`FLOW_STEPS`] per route.
const COUNTERS: [Metric; 10] = [
    WARM_HITS,
    COLD_LOADS,
    SWAPS_AVOIDED,
    REFUSED_CLAIMS,
    DISPATCHED,
    RUNNER_FAULTS,
    SCALE_HOOK_FAILURES,
    WEBHOOKS,
    FLOWS,
    FLOW_STEPS,
];

/// Histograms, per app and hint.
const HISTOGRAMS: [Metric; 2] = [HOLD, LOAD];

/// Gauges, per app.
const GAUGES: [Metric; 9] = [
    LEADER,
    HELD_JOBS,
    OVERFLOW_QUEUES,
    QUEUED_JOBS,
    WORK_PENDING,
    IDLE_RUNNERS,
    LIVE_RUNNERS,
    FAULTY_RUNNERS,
    WANTED_RUNNERS,
];

pub(super) const WARM_HITS: Metric = Metric::count(
    "warmq_warm_hits_total",
    "Successful runs that found their model loaded, as runners report them.",
);
pub(super) const COLD_LOADS: Metric = Metric::count(
    "warmq_cold_loads_total",
    "Successful runs that had to load their model first, as runners report them.",
);
pub(super) const SWAPS_AVOIDED: Metric = Metric::count(
    "warmq_swaps_avoided_total",
    "Jobs that were held and then sent to a runner with their model: holding avoided at most \
     this many loads.",
);
pub(super) const REFUSED_CLAIMS: Metric = Metric::count(
    "warmq_refused_claims_total",
    "Claims of a runner that another job had taken in between; the job was placed again.",
);
pub(super) const DISPATCHED: Metric = Metric::count(
    "warmq_dispatched_total",
    "Jobs sent, by target: 'runner' is a claimed runner's own queue, 'shared' the shared \
     queue. A job that is placed again counts again.",
);
pub(super) const RUNNER_FAULTS: Metric = Metric::count(
    "warmq_runner_faults_total",
    "Attempts that failed by their runner's fault, by reason: 'storage', 'model', 'budget', \
     'memory', 'device', 'engine', 'hang'.",
);
pub(super) const SCALE_HOOK_FAILURES: Metric = Metric::count(
    "warmq_scale_hook_failures_total",
    "Calls of --scale-hook that failed, did not end in time, or could not be started.",
);
pub(super) const WEBHOOKS: Metric = Metric::count(
    "warmq_webhooks_total",
    "Delivery attempts of webhooks, by outcome: 'delivered', 'retried' if another attempt follows, \
     'given_up' otherwise.",
);
pub(super) const FLOWS: Metric = Metric::count(
    "warmq_flows_total",
    "Sequences and fallbacks that ended, by route and outcome: their final state.",
);
pub(super) const FLOW_STEPS: Metric = Metric::count(
    "warmq_flow_steps_total",
    "Steps of flows that ended, by route, step and outcome: the final state, or 'given_up' \
     after a timeout or without any runner.",
);
pub(super) const HOLD: Metric = Metric::seconds(
    "warmq_hold_seconds",
    "Time that held jobs were held before they were sent. Jobs sent at once are not included.",
);
pub(super) const LOAD: Metric = Metric::seconds(
    "warmq_load_seconds",
    "Load time of models, as runners report it.",
);
pub(super) const LEADER: Metric = Metric::count(
    "warmq_leader",
    "1 while this router dispatches the app; the app's other gauges are 0 on all other routers.",
);
pub(super) const HELD_JOBS: Metric = Metric::count(
    "warmq_held_jobs",
    "Jobs that the dispatcher holds for a runner now.",
);
pub(super) const OVERFLOW_QUEUES: Metric = Metric::count(
    "warmq_overflow_queues",
    "Overflow queues: one for each API key whose jobs fill a lane of the app.",
);
pub(super) const QUEUED_JOBS: Metric =
    Metric::count("warmq_queued_jobs", "Jobs that no runner has started yet.");
pub(super) const WORK_PENDING: Metric = Metric::seconds(
    "warmq_seconds_of_work_pending",
    "Time that the jobs that no runner has started will occupy runners, loads included: by the \
     measured times of their models.",
);
pub(super) const IDLE_RUNNERS: Metric =
    Metric::count("warmq_idle_runners", "Runners that can be claimed now.");
pub(super) const LIVE_RUNNERS: Metric = Metric::count(
    "warmq_live_runners",
    "Runners with a heartbeat within their lease.",
);
pub(super) const FAULTY_RUNNERS: Metric = Metric::count(
    "warmq_faulty_runners",
    "Live runners that take no jobs until their self-test passes; `warmq runners` shows why.",
);

pub(super) const WANTED_RUNNERS: Metric = Metric::count(
    "warmq_wanted_runners",
    "Runners that the app needs by its `min`, `max`, `keep_alive` and `scale_target`; only for \
     apps with `max`.",
);

/// Upper bounds of the histograms' buckets, s: from a small file in the page cache to a big
/// checkpoint over the network.
const BUCKETS_S: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0];
