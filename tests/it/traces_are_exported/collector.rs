//! A collector of OpenTelemetry that keeps what it receives.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::trace::v1::Span as Received;
use prost::Message;
use tokio::task::JoinHandle;

/// A received span.
#[derive(Debug, Clone)]
pub struct Span {
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Id of the span that it is below; empty for none.
    pub parent: String,
    pub start_ns: u64,
    pub end_ns: u64,
    pub attributes: BTreeMap<String, String>,
    /// Reason of a failure.
    pub failure: String,
}

type Spans = Arc<Mutex<Vec<Span>>>;

/// A running collector.
pub struct Collector {
    pub url: String,
    spans: Spans,
    task: JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let spans = Spans::default();
        let routes = axum::Router::new()
            .route("/v1/traces", post(receive))
            .with_state(Arc::clone(&spans));
        Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            spans,
            task: tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }),
        }
    }

    /// Returns the spans of a trace so far.
    pub fn trace(&self, id: &str) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        let of_trace = spans.iter().filter(|span| span.trace == id);
        of_trace.cloned().collect()
    }
}

async fn receive(State(spans): State<Spans>, body: Bytes) {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut spans = spans.lock().unwrap();
    for resource in request.resource_spans {
        let described = resource.resource.unwrap().attributes.into_iter();
        let described: BTreeMap<_, _> = described
            .map(|attribute| (attribute.key, attribute.value))
            .collect();
        let service = described["service.name"].clone();
        let service = text(service.and_then(|value| value.value));
        let received = resource.scope_spans.into_iter();
        let received = received.flat_map(|scope| scope.spans);
        spans.extend(received.map(|span| read(&service, span)));
    }
}

fn read(service: &str, span: Received) -> Span {
    let attributes = span.attributes.into_iter();
    Span {
        service: service.to_owned(),
        name: span.name,
        trace: hex::encode(span.trace_id),
        id: hex::encode(span.span_id),
        parent: hex::encode(span.parent_span_id),
        start_ns: span.start_time_unix_nano,
        end_ns: span.end_time_unix_nano,
        attributes: attributes
            .map(|attribute| {
                let value = attribute.value.and_then(|value| value.value);
                (attribute.key, text(value))
            })
            .collect(),
        failure: span.status.map(|status| status.message).unwrap_or_default(),
    }
}

fn text(value: Option<Attribute>) -> String {
    match value {
        Some(Attribute::StringValue(text)) => text,
        Some(Attribute::IntValue(number)) => number.to_string(),
        Some(Attribute::BoolValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}
