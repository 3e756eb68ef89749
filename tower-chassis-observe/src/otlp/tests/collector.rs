//! A collector of our own, behind tonic and behind hyper.

use std::{collections::HashSet, convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    metrics::v1::Metric,
    resource::v1::Resource,
    trace::v1::Span,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Status, service::Routes};
use tower::ServiceExt;
use tower_chassis_core::{Body, BoxError};
use tower_service::Service;

use super::{super::Protocol, Shared};

/// What it does with a message.
#[derive(Clone, Debug, Default)]
pub(super) enum Mode {
    #[default]
    Take,
    /// It fails so often, then it takes.
    Fail(Code, usize),
    Hang,
    /// It takes all but so many.
    Partial(i64),
}

#[derive(Default)]
pub(super) struct Got {
    pub(super) mode: Mode,
    pub(super) spans: Vec<Span>,
    pub(super) scopes: HashSet<String>,
    /// How many spans there were in each message.
    pub(super) batches: Vec<usize>,
    pub(super) metrics: Vec<Metric>,
    pub(super) resources: Vec<Resource>,
    pub(super) headers: Vec<HeaderMap>,
    /// How many messages over HTTP were compressed.
    pub(super) compressed: usize,
    /// Also those that failed.
    pub(super) requests: usize,
}

/// A connection, plain or not.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

pub(super) struct Listening {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Listening {
    /// Closes the port and all connections.
    pub(super) async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

#[derive(Clone, Default)]
pub(super) struct Collector(Shared<Got>);

impl Collector {
    pub(super) fn new(mode: Mode) -> Self {
        let collector = Self::default();
        collector.with(|got| got.mode = mode);
        collector
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Got) -> R) -> R {
        f(&mut self.0.lock().unwrap())
    }

    /// What becomes of a message: an error, or how many of it are not taken.
    async fn judged(&self, headers: HeaderMap) -> Result<i64, Status> {
        let mode = self.with(|got| {
            got.requests += 1;
            got.headers.push(headers);
            match &mut got.mode {
                Mode::Fail(code, left) if *left > 0 => {
                    *left -= 1;
                    Mode::Fail(*code, 1)
                }
                Mode::Fail(..) => Mode::Take,
                other => other.clone(),
            }
        });
        match mode {
            Mode::Take => Ok(0),
            Mode::Fail(code, _) => Err(Status::new(code, "as was said")),
            Mode::Hang => std::future::pending().await,
            Mode::Partial(rejected) => Ok(rejected),
        }
    }

    fn routes(&self) -> Routes {
        Routes::new(TraceServiceServer::new(self.clone()))
            .add_service(MetricsServiceServer::new(self.clone()))
    }

    /// The collector itself as a client: no socket, so that the clock can be paused.
    pub(super) fn client(
        &self,
    ) -> impl Service<
        Request<Body>,
        Response = Response<Body>,
        Error = BoxError,
        Future: Send + 'static,
    > + Clone
    + Send
    + Sync
    + 'static {
        let collector = self.clone();
        tower::service_fn(move |request: Request<Body>| {
            let routes = collector.routes();
            async move {
                let response = routes.oneshot(request.map(tonic::body::Body::new)).await?;
                Ok::<_, BoxError>(response.map(Body::new))
            }
        })
    }

    /// Listens for gRPC, as long as the test runs.
    pub(super) async fn grpc(&self) -> SocketAddr {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        self.listen(Protocol::Grpc, any).await.address
    }

    /// Listens for protobuf over HTTP, as long as the test runs.
    pub(super) async fn http(&self) -> SocketAddr {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        self.listen(Protocol::HttpProtobuf, any).await.address
    }

    pub(super) async fn listen(&self, protocol: Protocol, at: SocketAddr) -> Listening {
        self.listen_with(None, protocol, at).await
    }

    /// The same over TLS, if there is a key.
    pub(super) async fn listen_with(
        &self,
        tls: Option<TlsAcceptor>,
        protocol: Protocol,
        at: SocketAddr,
    ) -> Listening {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = self.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (collector, tls) = (collector.clone(), tls.clone());
                connections.spawn(async move {
                    let socket: Box<dyn Socket> = match tls {
                        None => Box::new(socket),
                        Some(tls) => match tls.accept(socket).await {
                            Ok(socket) => {
                                let spoken = socket.get_ref().1.alpn_protocol();
                                assert!(protocol != Protocol::Grpc || spoken == Some(b"h2"));
                                Box::new(socket)
                            }
                            Err(_) => return,
                        },
                    };
                    let socket = TokioIo::new(socket);
                    match protocol {
                        Protocol::Grpc => {
                            let service = TowerToHyperService::new(collector.routes());
                            let server = http2::Builder::new(TokioExecutor::new());
                            drop(server.serve_connection(socket, service).await);
                        }
                        Protocol::HttpProtobuf => {
                            let service = service_fn(move |request| {
                                let collector = collector.clone();
                                async move { Ok::<_, Infallible>(collector.over_http(request).await) }
                            });
                            let server = http1::Builder::new();
                            drop(server.serve_connection(socket, service).await);
                        }
                    }
                });
            }
        });
        Listening { address, task }
    }

    /// A message without a frame, as the specification of OTLP over HTTP has it.
    async fn over_http(&self, request: Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let (mut parts, body) = request.into_parts();
        let answer = |status| {
            let mut response = Response::new(Full::default());
            *response.status_mut() = status;
            response
        };
        if parts.method != "POST" || parts.headers["content-type"] != "application/x-protobuf" {
            return answer(StatusCode::UNSUPPORTED_MEDIA_TYPE);
        }
        parts.uri = http::Uri::from_static(match parts.uri.path() {
            "/v1/traces" => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            "/v1/metrics" => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            _ => return answer(StatusCode::NOT_FOUND),
        });
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(parts.headers["content-length"], body.len().to_string());
        let compressed = parts.headers.remove("content-encoding").is_some();
        self.with(|got| got.compressed += usize::from(compressed));
        let mut frame = vec![0];
        #[cfg(feature = "compress")]
        let body = if compressed {
            use std::io::Read;
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(&body[..])
                .read_to_end(&mut plain)
                .unwrap();
            Bytes::from(plain)
        } else {
            body
        };
        #[cfg(not(feature = "compress"))]
        assert!(!compressed);
        frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        frame.extend(&body);
        parts
            .headers
            .insert("content-type", "application/grpc".parse().unwrap());
        let request = Request::from_parts(parts, tonic::body::Body::new(Full::from(frame)));
        let response = self.routes().oneshot(request).await.unwrap();
        if let Some(status) = Status::from_header_map(response.headers()) {
            return match status.code() {
                Code::Unavailable => answer(StatusCode::SERVICE_UNAVAILABLE),
                _ => answer(StatusCode::BAD_REQUEST),
            };
        }
        let message = response.into_body().collect().await.unwrap().to_bytes();
        let mut response = Response::new(Full::from(message.slice(5..)));
        let protobuf = "application/x-protobuf".parse().unwrap();
        response.headers_mut().insert("content-type", protobuf);
        response
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let rejected = self.judged(metadata.into_headers()).await?;
        self.with(|got| {
            let mut count = 0;
            for of_resource in message.resource_spans {
                got.resources.extend(of_resource.resource);
                for of_scope in of_resource.scope_spans {
                    got.scopes.extend(of_scope.scope.map(|scope| scope.name));
                    count += of_scope.spans.len();
                    got.spans.extend(of_scope.spans);
                }
            }
            got.batches.push(count);
        });
        Ok(tonic::Response::new(ExportTraceServiceResponse {
            partial_success: (rejected > 0).then(|| ExportTracePartialSuccess {
                rejected_spans: rejected,
                error_message: "too old".to_owned(),
            }),
        }))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportMetricsServiceRequest>,
    ) -> Result<tonic::Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        let rejected = self.judged(metadata.into_headers()).await?;
        self.with(|got| {
            for of_resource in message.resource_metrics {
                got.resources.extend(of_resource.resource);
                for of_scope in of_resource.scope_metrics {
                    got.metrics.extend(of_scope.metrics);
                }
            }
        });
        Ok(tonic::Response::new(ExportMetricsServiceResponse {
            partial_success: (rejected > 0).then(|| ExportMetricsPartialSuccess {
                rejected_data_points: rejected,
                error_message: "too old".to_owned(),
            }),
        }))
    }
}
