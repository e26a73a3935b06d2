//! The spans of an attempt: fetch, load, run and store, and below the run its steps and decodings.

use std::time::{Duration, SystemTime};

use warmq_traces::{Parent, Span, SpanKind, Traces};
use warmq_types::job::{JobSpec, Timings};
use warmq_types::traceparent::Traceparent;

use crate::lease::StartedAttempt;
use crate::timeline::{Stage, Timeline};

/// The open span of an attempt. Without a collector nothing is recorded.
pub(super) struct AttemptTrace {
    traces: Traces,
    span: Span,
    timeline: Timeline,
}

/// A time span of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    name: &'static str,
    start: SystemTime,
    end: SystemTime,
    /// Number of the step.
    step: Option<u32>,
}

impl AttemptTrace {
    /// Begins the span of an attempt that has just started.
    pub(super) fn begin(traces: &Traces, started: &StartedAttempt) -> Self {
        let (job, start) = (&started.job, SystemTime::now());
        let mut span = traces.span("attempt", SpanKind::Consumer, Parent::of(job), start);
        span.set_job(job);
        span.set("warmq.runner", started.runner.to_string());
        Self {
            traces: traces.clone(),
            span,
            timeline: Timeline::new(traces.are_recorded()),
        }
    }

    /// Returns the record of the run's stages.
    pub(super) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Returns the job as the engine gets it: what a model server records continues this span.
    pub(super) fn continued(&self, job: JobSpec) -> JobSpec {
        let trace = self.span.traceparent().or(job.trace);
        JobSpec { trace, ..job }
    }

    /// Records the spans of the run, which ends now.
    pub(super) fn run_ended(&mut self, timings: Timings) {
        let stages = self.timeline.take();
        let (load, end) = (Duration::from_millis(timings.load_ms), SystemTime::now());
        self.span.set("warmq.warm", timings.warm);
        let Some(attempt) = self.span.traceparent() else {
            return;
        };
        let mut run = None;
        for part in parts(&stages, load, end) {
            let below = match part.name {
                "step" | "decode" => run.unwrap_or(attempt),
                _ => attempt,
            };
            let position = self.record(part, below);
            if part.name == "run" {
                run = position;
            }
        }
    }

    /// Ends the attempt. `outcome`: the job's state, or that it is queued again.
    pub(super) fn end(mut self, outcome: &'static str, failure: Option<String>) {
        self.span.set("warmq.outcome", outcome);
        if let Some(failure) = failure {
            self.span.fail(failure);
        }
    }

    /// Returns the position of the part's span.
    fn record(&self, part: Part, below: Traceparent) -> Option<Traceparent> {
        let below = Parent::Span(below);
        let mut span = (self.traces).span(part.name, SpanKind::Internal, below, part.start);
        if let Some(step) = part.step {
            span.set("warmq.step", i64::from(step));
        }
        let position = span.traceparent();
        span.end_at(part.end);
        position
    }
}

/// Returns the parts of a run that ended at `end`, each after the one that it is below. `load`: the
/// measured time of the load; what follows it, such as encoding the prompt, belongs to the run.
fn parts(stages: &[(SystemTime, Stage)], load: Duration, end: SystemTime) -> Vec<Part> {
    let begin_of = |wanted: Stage| stages.iter().find(|(_, stage)| *stage == wanted);
    let part = |name, start, end: SystemTime| Part {
        name,
        start,
        end: end.max(start),
        step: None,
    };
    let store = begin_of(Stage::Store).map(|(at, _)| *at);
    let engine_end = store.unwrap_or(end);
    let mut parts = Vec::new();
    let begin = begin_of(Stage::Begin).map(|(at, _)| *at);
    if let Some((fetch, _)) = begin_of(Stage::Fetch) {
        parts.push(part("fetch", *fetch, begin.unwrap_or(end)));
    }
    let loaded = begin_of(Stage::Load).map(|(at, _)| (*at, (*at + load).min(engine_end)));
    if let Some((start, end)) = loaded {
        parts.push(part("load", start, end));
    }
    if let Some(start) = loaded.map(|(_, end)| end).or(begin) {
        parts.push(part("run", start, engine_end));
    }
    let ends = stages.iter().skip(1).map(|(at, _)| *at).chain([end]);
    for ((start, stage), end) in stages.iter().zip(ends) {
        match stage {
            Stage::Step(step) => parts.push(Part {
                step: Some(*step),
                ..part("step", *start, end)
            }),
            Stage::Decode => parts.push(part("decode", *start, end)),
            Stage::Fetch | Stage::Begin | Stage::Load | Stage::Store => {}
        }
    }
    parts.extend(store.map(|start| part("store", start, end)));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    fn described(stages: &[(u64, Stage)], load_ms: u64, end_ms: u64) -> Vec<(&str, u64, u64)> {
        let stages: Vec<_> = stages.iter().map(|(ms, stage)| (at(*ms), *stage)).collect();
        let ms = |at: SystemTime| {
            let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            u64::try_from(since.as_millis()).unwrap()
        };
        parts(&stages, Duration::from_millis(load_ms), at(end_ms))
            .into_iter()
            .map(|part| (part.name, ms(part.start), ms(part.end)))
            .collect()
    }

    #[test]
    fn a_cold_run_has_all_parts() {
        let stages = [
            (0, Stage::Fetch),
            (10, Stage::Begin),
            (11, Stage::Load),
            (60, Stage::Step(1)),
            (80, Stage::Step(2)),
            (100, Stage::Decode),
            (130, Stage::Store),
        ];
        let parts = described(&stages, 40, 140);
        let expected = [
            ("fetch", 0, 10),
            ("load", 11, 51),
            ("run", 51, 130),
            ("step", 60, 80),
            ("step", 80, 100),
            ("decode", 100, 130),
            ("store", 130, 140),
        ];
        assert_eq!(parts, expected);
    }

    #[test]
    fn a_warm_run_without_steps_is_one_part() {
        assert_eq!(described(&[(5, Stage::Begin)], 0, 9), [("run", 5, 9)]);
    }

    #[test]
    fn a_run_that_ends_during_its_load_has_no_negative_part() {
        let stages = [(0, Stage::Begin), (1, Stage::Load)];
        let parts = described(&stages, 500, 20);
        assert_eq!(parts, [("load", 1, 20), ("run", 20, 20)]);
    }

    #[test]
    fn an_attempt_whose_files_cannot_be_fetched_has_one_part() {
        assert_eq!(described(&[(0, Stage::Fetch)], 0, 7), [("fetch", 0, 7)]);
    }
}
