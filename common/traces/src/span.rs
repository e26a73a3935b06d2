//! One span of a job.

use std::time::SystemTime;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, Status, TraceContextExt, TraceFlags, TraceId,
    TraceState,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{SdkTracer, Span as SdkSpan};
use warmq_types::job::JobSpec;
use warmq_types::traceparent::Traceparent;

use crate::Parent;
use crate::ids::with_trace_id;

pub use opentelemetry::trace::SpanKind;

/// A span, exported when it is dropped. Without a collector it only passes on its parent.
pub struct Span {
    recorded: Option<SdkSpan>,
    position: Option<Traceparent>,
}

impl Span {
    pub(crate) fn begin(
        tracer: &SdkTracer,
        name: &'static str,
        kind: SpanKind,
        parent: Parent,
        start: SystemTime,
    ) -> Self {
        let builder = SpanBuilder::from_name(name)
            .with_kind(kind)
            .with_start_time(start);
        let context = Context::new();
        let span = match parent {
            Parent::Span(position) => {
                let context = context.with_remote_span_context(context_of(position));
                builder.start_with_context(tracer, &context)
            }
            Parent::Job(job) => {
                let id = TraceId::from_bytes(job.to_bytes());
                with_trace_id(id, || builder.start_with_context(tracer, &context))
            }
        };
        Self {
            position: Some(position_of(span.span_context())),
            recorded: Some(span),
        }
    }

    pub(crate) fn not_recorded(parent: Parent) -> Self {
        Self {
            recorded: None,
            position: match parent {
                Parent::Span(position) => Some(position),
                Parent::Job(_) => None,
            },
        }
    }

    /// Returns the position that spans below it continue; without a collector its parent's.
    pub fn traceparent(&self) -> Option<Traceparent> {
        self.position
    }

    /// Sets an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(span) = &mut self.recorded {
            span.set_attribute(KeyValue::new(name, value));
        }
    }

    /// Sets the attributes by which a job's spans are found.
    pub fn set_job(&mut self, job: &JobSpec) {
        if self.recorded.is_none() {
            return;
        }
        self.set("warmq.job.id", job.id.to_string());
        self.set("warmq.app", job.app.to_string());
        if let Some(hint) = &job.hint {
            self.set("warmq.hint", hint.to_string());
        }
    }

    /// Marks it as failed.
    pub fn fail(&mut self, reason: impl Into<String>) {
        if let Some(span) = &mut self.recorded {
            span.set_status(Status::error(reason.into()));
        }
    }

    /// Ends it at `end` instead of now.
    pub fn end_at(mut self, end: SystemTime) {
        if let Some(span) = &mut self.recorded {
            span.end_with_timestamp(end);
        }
    }
}

fn context_of(position: Traceparent) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(position.trace_id),
        SpanId::from_bytes(position.span_id),
        TraceFlags::new(position.flags),
        true,
        TraceState::NONE,
    )
}

fn position_of(context: &SpanContext) -> Traceparent {
    Traceparent {
        trace_id: context.trace_id().to_bytes(),
        span_id: context.span_id().to_bytes(),
        flags: context.trace_flags().to_u8(),
    }
}
