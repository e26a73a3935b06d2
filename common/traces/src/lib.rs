//! Traces of jobs, exported by OpenTelemetry's protocol (OTLP over HTTP).
//!
//! A job's spans are recorded by several processes. What connects them is the position of the
//! submission's span, a [`Traceparent`], which the job carries. Times are those of each host.
//!
//! | module | contents |
//! | --- | --- |
//! | this one | the exporting process |
//! | [`Span`] | one span, exported when it ends |
//! | `ids` | ids of new spans and traces |
//! | `exporter` | sends spans to a collector, and logs when that fails |

mod exporter;
mod ids;
mod span;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use warmq_types::ids::JobId;
use warmq_types::job::JobSpec;
use warmq_types::server_url::ServerUrl;
use warmq_types::traceparent::Traceparent;

use exporter::CollectorExporter;
use ids::Ids;

pub use opentelemetry_otlp::ExporterBuildError;
pub use span::{Span, SpanKind};

/// Timeout of the last export when the process stops.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// What a span belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    /// An earlier span.
    Span(Traceparent),
    /// None: it is the first of the trace whose id is the job's.
    Job(JobId),
}

impl Parent {
    /// Returns the parent of a job's spans: that of its submission, if it has one.
    pub fn of(job: &JobSpec) -> Self {
        job.trace.map_or(Self::Job(job.id), Self::Span)
    }
}

/// A cheap handle for recording spans; without a collector, nothing is recorded.
#[derive(Clone)]
pub struct Traces(Option<Arc<Recorder>>);

struct Recorder {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Exports spans to `<collector>/v1/traces`, in batches, from a thread of its own; without a
    /// collector, records nothing. A collector that is away delays nothing: spans are dropped, and
    /// that is logged. A trace whose `traceparent` says that it is not recorded is not exported.
    ///
    /// # Errors
    /// The HTTP client cannot be built.
    pub fn to(
        collector: Option<&ServerUrl>,
        service: &'static str,
        instance: String,
    ) -> Result<Self, ExporterBuildError> {
        let Some(collector) = collector else {
            return Ok(Self(None));
        };
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.instance.id", instance))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_id_generator(Ids::default())
            .with_batch_exporter(CollectorExporter::to(collector)?)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("warmq");
        Ok(Self(Some(Arc::new(Recorder { provider, tracer }))))
    }

    /// Returns whether spans are recorded.
    pub fn are_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Returns a span that began at `start`.
    pub fn span(
        &self,
        name: &'static str,
        kind: SpanKind,
        parent: Parent,
        start: SystemTime,
    ) -> Span {
        match &self.0 {
            Some(recorder) => Span::begin(&recorder.tracer, name, kind, parent, start),
            None => Span::not_recorded(parent),
        }
    }

    /// Exports what is left. Later spans are dropped.
    pub async fn shut_down(&self) {
        let Some(recorder) = &self.0 else { return };
        let provider = recorder.provider.clone();
        // It waits for the exporter's thread.
        let shut_down = move || provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(shut_down).await {
            tracing::warn!(%error, "the last spans may not have been exported");
        }
    }
}
