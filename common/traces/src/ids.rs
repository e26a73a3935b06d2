//! Ids of new spans and traces: a job's first span begins the trace whose id is the job's, so that
//! the id of a job finds its trace.

use std::cell::Cell;

use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

thread_local! {
    /// The id of the next trace that this thread begins.
    static NEXT_TRACE: Cell<Option<TraceId>> = const { Cell::new(None) };
}

/// Runs `begin`, in which a trace that begins has this id.
pub(crate) fn with_trace_id<T>(id: TraceId, begin: impl FnOnce() -> T) -> T {
    NEXT_TRACE.set(Some(id));
    let begun = begin();
    NEXT_TRACE.set(None);
    begun
}

/// Random ids, except within [`with_trace_id`].
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        NEXT_TRACE.take().unwrap_or_else(|| self.0.new_trace_id())
    }

    fn new_span_id(&self) -> SpanId {
        self.0.new_span_id()
    }
}
