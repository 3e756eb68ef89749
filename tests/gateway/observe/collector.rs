//! A collector of the test's own.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::{KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::Span,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{
    Request, Response, Status,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};

#[derive(Debug, Default)]
pub(super) struct Got {
    pub(super) spans: Vec<Span>,
    /// The names of metrics.
    pub(super) metrics: Vec<String>,
    pub(super) resources: Vec<Resource>,
    /// Of messages that had something in them.
    pub(super) metadata: Vec<MetadataMap>,
}

#[derive(Clone, Debug, Default)]
struct Sink(Arc<Mutex<Got>>);

#[derive(Debug)]
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    sink: Sink,
    task: JoinHandle<()>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sink = Sink::default();
        let server = Server::builder()
            .add_service(TraceServiceServer::new(sink.clone()))
            .add_service(MetricsServiceServer::new(sink.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        let task = tokio::spawn(async move { server.await.unwrap() });
        Self {
            address,
            sink,
            task,
        }
    }

    pub(super) fn with<R>(&self, read: impl FnOnce(&Got) -> R) -> R {
        read(&self.sink.0.lock().unwrap())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tonic::async_trait]
impl TraceService for Sink {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let mut got = self.0.lock().unwrap();
        for part in message.resource_spans {
            got.metadata.push(metadata.clone());
            got.resources.extend(part.resource);
            let spans = part.scope_spans.into_iter().flat_map(|scope| scope.spans);
            got.spans.extend(spans);
        }
        Ok(Response::new(<_>::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Sink {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let mut got = self.0.lock().unwrap();
        for part in message.resource_metrics {
            got.metadata.push(metadata.clone());
            let metrics = part
                .scope_metrics
                .into_iter()
                .flat_map(|scope| scope.metrics);
            got.metrics.extend(metrics.map(|metric| metric.name));
        }
        Ok(Response::new(<_>::default()))
    }
}

/// An attribute as text.
pub(super) fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{name}: {other:?}"),
    }
}
