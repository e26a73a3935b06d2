//! One app's metrics, counted by its leader, so that only one router reports them.

use std::sync::Arc;

use warmq_metrics::{Counter, Gauge, Histogram, Label, Metric, Registry};
use warmq_policy::work::HeldWork;
use warmq_store::{Counts, FreeRunner, Ran, RunnerEvent};
use warmq_types::hint::Hint;
use warmq_types::ids::AppId;
use warmq_types::job::{Decision, Target};

use super::labels::Labels;
use super::names::{
    COLD_LOADS, DISPATCHED, FAULTY_RUNNERS, HELD_JOBS, HOLD, IDLE_RUNNERS, LEADER, LIVE_RUNNERS,
    LOAD, OVERFLOW_QUEUES, QUEUED_JOBS, REFUSED_CLAIMS, RUNNER_FAULTS, SCALE_HOOK_FAILURES,
    SWAPS_AVOIDED, WANTED_RUNNERS, WARM_HITS, WORK_PENDING,
};

/// An app's metrics. Clones count together.
#[derive(Clone)]
pub struct AppMetrics {
    registry: Registry,
    app: AppId,
    labels: Arc<Labels>,
}

impl AppMetrics {
    pub(super) fn new(registry: Registry, app: AppId) -> Self {
        Self {
            registry,
            app,
            labels: Arc::default(),
        }
    }

    /// Counts a sent job with this hint.
    pub fn dispatched(&self, hint: Option<&Hint>, decision: &Decision) {
        let target = match decision.target {
            Target::Runner { .. } => "runner",
            Target::Shared => "shared",
        };
        self.counter(&DISPATCHED, Label::from_static_parts("target", target))
            .increment(1);
        if decision.held_ms > 0 {
            self.histogram(&HOLD, hint).record(s(decision.held_ms));
            if decision.warm && hint.is_some() {
                self.counter(&SWAPS_AVOIDED, self.label(hint)).increment(1);
            }
        }
    }

    /// Counts a refused claim: the runner chosen for a job with this hint was taken.
    pub fn refused(&self, hint: Option<&Hint>) {
        self.counter(&REFUSED_CLAIMS, self.label(hint)).increment(1);
    }

    /// Counts the run that a freed runner reports.
    pub fn runner_event(&self, change: &RunnerEvent) {
        let ran = match change {
            RunnerEvent::Freed(FreeRunner { ran: Some(ran), .. }) => ran,
            RunnerEvent::Faulted { kind, .. } => {
                let reason = Label::from_static_parts("reason", kind.as_str());
                return self.counter(&RUNNER_FAULTS, reason).increment(1);
            }
            _ => return,
        };
        let Ran { hint, timings } = ran;
        self.labels.add(hint);
        let hint = Some(hint);
        match timings.warm {
            true => self.counter(&WARM_HITS, self.label(hint)).increment(1),
            false => {
                self.counter(&COLD_LOADS, self.label(hint)).increment(1);
                self.histogram(&LOAD, hint).record(s(timings.load_ms));
            }
        }
    }

    /// Returns the app's gauges, with the leader's at 1.
    pub fn lead(&self) -> Gauges {
        let gauge = |metric| self.gauge(metric);
        let gauges = Gauges {
            leader: gauge(&LEADER),
            held: gauge(&HELD_JOBS),
            queued: gauge(&QUEUED_JOBS),
            work: gauge(&WORK_PENDING),
            idle: gauge(&IDLE_RUNNERS),
            live: gauge(&LIVE_RUNNERS),
            faulty: gauge(&FAULTY_RUNNERS),
        };
        gauges.leader.set(1);
        gauges
    }

    /// Counts a call of the scale hook that failed.
    pub fn scale_hook_failed(&self) {
        let counter = (self.registry).counter(&SCALE_HOOK_FAILURES, self.with_app(None));
        counter.increment(1);
    }

    /// Returns the gauge of the wanted number of runners.
    pub fn wanted_runners(&self) -> CountGauge {
        CountGauge(self.gauge(&WANTED_RUNNERS))
    }

    /// Returns the gauge of the number of overflow queues.
    pub fn overflow_queues(&self) -> CountGauge {
        CountGauge(self.gauge(&OVERFLOW_QUEUES))
    }

    fn label(&self, hint: Option<&Hint>) -> Label {
        Label::new("hint", self.labels.of(hint))
    }

    fn counter(&self, metric: &Metric, label: Label) -> Counter {
        self.registry.counter(metric, self.with_app(Some(label)))
    }

    fn histogram(&self, metric: &Metric, hint: Option<&Hint>) -> Histogram {
        let labels = self.with_app(Some(self.label(hint)));
        self.registry.histogram(metric, labels)
    }

    fn gauge(&self, metric: &Metric) -> Gauge {
        self.registry.gauge(metric, self.with_app(None))
    }

    fn with_app(&self, label: Option<Label>) -> Vec<Label> {
        let app = Label::new("app", self.app.to_string());
        std::iter::once(app).chain(label).collect()
    }
}

/// The gauges of an app that this router leads. They fall to 0 when dropped: the next leader has
/// its own.
pub struct Gauges {
    leader: Gauge,
    held: Gauge,
    queued: Gauge,
    work: Gauge,
    idle: Gauge,
    live: Gauge,
    faulty: Gauge,
}

impl Gauges {
    /// Sets the gauges. `held`: the work in the jobs that the dispatcher holds.
    pub fn show(&self, held: HeldWork, counts: Counts) {
        let queued = usize::try_from(counts.queued).unwrap_or(usize::MAX);
        self.held.set(held.jobs as f64);
        self.queued.set(counts.queued as f64);
        self.work.set(held.of_waiting(queued));
        self.idle.set(counts.idle as f64);
        self.live.set(counts.live as f64);
        self.faulty.set(counts.faulty as f64);
    }
}

/// A number of an app that this router leads; 0 once dropped.
pub struct CountGauge(Gauge);

impl CountGauge {
    /// Sets the gauge.
    pub fn show(&self, count: usize) {
        self.0.set(count as f64);
    }
}

impl Drop for CountGauge {
    fn drop(&mut self) {
        self.show(0);
    }
}

impl Drop for Gauges {
    fn drop(&mut self) {
        self.leader.set(0);
        self.show(HeldWork::default(), Counts::default());
    }
}

fn s(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
