//! Sends spans to a collector.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as Export};
use warmq_process::tls;
use warmq_types::server_url::ServerUrl;

/// Timeout of an export. Meanwhile the next spans are collected.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Logs the first of consecutive failures, and their end.
#[derive(Debug)]
pub(crate) struct CollectorExporter {
    exporter: SpanExporter,
    collector: ServerUrl,
    is_failing: AtomicBool,
}

impl CollectorExporter {
    pub(crate) fn to(collector: &ServerUrl) -> Result<Self, ExporterBuildError> {
        tls::install_crypto_provider();
        let endpoint = format!("{}/v1/traces", collector.expose().trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint)
            .with_timeout(EXPORT_TIMEOUT)
            .build()?;
        Ok(Self {
            exporter,
            collector: collector.clone(),
            is_failing: AtomicBool::new(false),
        })
    }
}

impl Export for CollectorExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exported = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(exported.is_err(), Ordering::Relaxed);
        let collector = &self.collector;
        match (&exported, was_failing) {
            (Err(error), false) => {
                tracing::warn!(%collector, %error, "traces cannot be exported: spans are dropped");
            }
            (Ok(()), true) => tracing::info!(%collector, "traces are exported again"),
            (Err(_), true) | (Ok(()), false) => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
