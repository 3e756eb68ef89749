//! How a message travels: as gRPC has it, or as a plain request with protobuf in it.
//!
//! The clients that are made from OTLP's definitions speak gRPC. For the other way their frames are taken off here, and
//! put around the answer: so a status means the same on both ways, and what is sent goes through one client of ours.

use std::{
    future::{poll_fn, ready},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, USER_AGENT},
};
use http_body_util::{BodyExt, Full, Limited};
use tonic::{Code, Status, metadata::MetadataMap};
use tower_chassis_core::{
    Body, BoxError,
    boxed::{BoxFuture, BoxService},
};
use tower_service::Service;

use super::{
    config::{Protocol, Target},
    deliver::too_large,
};

/// What a collector may answer: it has nothing to say.
const ANSWER: usize = 4 << 20;
/// The longest message that is sent, before it is packed: what servers of gRPC take unless they are told.
const LARGEST: usize = 4 << 20;
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/x-protobuf");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
const US: HeaderValue =
    HeaderValue::from_static(concat!("tower-chassis/", env!("CARGO_PKG_VERSION")));
const GRPC_ENCODING: &str = "grpc-encoding";
const GRPC_STATUS: &str = "grpc-status";
/// Whether it is compressed, and how long it is.
const FRAME: usize = 5;

/// Sends requests.
pub(super) type Wire = BoxService<Request<Body>, Response<Body>>;

/// What sends requests, and can be made anew.
pub(super) struct Line {
    wire: Mutex<Wire>,
    make: Box<dyn Fn() -> Wire + Send + Sync>,
}

impl Line {
    pub(super) fn new(make: impl Fn() -> Wire + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            wire: Mutex::new(make()),
            make: Box::new(make),
        })
    }

    /// What is sent from now on goes over other connections.
    pub(super) fn renew(&self) {
        let new = (self.make)();
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *wire, new);
        drop(wire);
        drop(old);
    }

    fn wire(&self) -> Wire {
        let wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        wire.clone()
    }
}

/// The mark of a message that cannot be parted: it is sent however large it is.
#[derive(Clone, Copy)]
pub(super) struct Whole;

/// Sends the messages of one signal.
#[derive(Clone)]
pub(super) struct Envelope {
    pub(super) line: Arc<Line>,
    target: Arc<Target>,
}

impl Envelope {
    pub(super) fn new(line: Arc<Line>, target: Target) -> Self {
        let target = Arc::new(target);
        Self { line, target }
    }
}

impl Service<Request<tonic::body::Body>> for Envelope {
    type Response = Response<Body>;
    type Error = BoxError;
    // Once per batch.
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let (mut wire, target) = (self.line.wire(), Arc::clone(&self.target));
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let mut bytes = body.collect().await?.to_bytes();
            if bytes.len() > LARGEST && parts.extensions.remove::<Whole>().is_none() {
                let why = format!("a message of {} bytes", bytes.len());
                return Err(too_large(Status::resource_exhausted(why)).into());
            }
            parts.uri = target.uri.clone();
            parts.headers.insert(USER_AGENT, US);
            parts.headers.extend(target.headers.clone());
            let grpc = target.protocol == Protocol::Grpc;
            if grpc {
                if target.gzip {
                    bytes = framed(&gzip(&unframed(&bytes)?)?, true);
                    parts.headers.insert(GRPC_ENCODING, GZIP);
                }
            } else {
                bytes = unframed(&bytes)?;
                parts.headers.remove("te");
                parts.headers.insert(CONTENT_TYPE, PROTOBUF);
                if target.gzip {
                    bytes = gzip(&bytes)?;
                    parts.headers.insert(CONTENT_ENCODING, GZIP);
                }
            }
            parts.headers.insert(CONTENT_LENGTH, bytes.len().into());
            let request = Request::from_parts(parts, Body::full(bytes));
            let answer = async {
                poll_fn(|cx| wire.poll_ready(cx)).await?;
                wire.call(request).await
            };
            // Whatever it is, nobody has said that the message arrived.
            let response = answer
                .await
                .map_err(|error| Status::unavailable(told(&*error)))?;
            if grpc {
                Ok(response)
            } else {
                unwrapped(response).await
            }
        })
    }
}

/// An answer over HTTP, as gRPC would give it.
async fn unwrapped(response: Response<Body>) -> Result<Response<Body>, BoxError> {
    let (parts, body) = response.into_parts();
    if !parts.status.is_success() {
        return Err(refused(parts.status, &parts.headers).into());
    }
    let answer = Limited::new(body, ANSWER).collect().await?.to_bytes();
    let kind = parts.headers.get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
        // A page for people, of a proxy or a login: nobody has taken anything.
        let why = "answered with a page of HTML: is this a collector?";
        return Err(Status::unknown(why).into());
    }
    // Some say "{}" to everything.
    let protobuf = kind == Some(&PROTOBUF);
    let answer = if protobuf { answer } else { Bytes::new() };
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let body = Full::new(framed(&answer, false)).with_trailers(ready(Some(Ok(trailers))));
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    Ok(response)
}

/// What a status says, and when it may be tried again.
fn refused(status: StatusCode, headers: &HeaderMap) -> Status {
    let code = match status.as_u16() {
        429 | 502..=504 => Code::Unavailable,
        400 => Code::InvalidArgument,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 | 405 | 415 => Code::Unimplemented,
        413 => Code::ResourceExhausted,
        _ => Code::Unknown,
    };
    let mut metadata = MetadataMap::new();
    if let Some(after) = headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok())
        && let Ok(after) = after.parse()
    {
        metadata.insert("retry-after", after);
    }
    // Its text is not shown: a collector may repeat the headers that were sent.
    let refused = Status::with_metadata(code, format!("status {status}"), metadata);
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        too_large(refused)
    } else {
        refused
    }
}

fn framed(message: &[u8], compressed: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(FRAME + message.len());
    frame.put_u8(compressed.into());
    // A batch is at most some megabytes.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(message);
    frame.freeze()
}

fn unframed(frame: &Bytes) -> Result<Bytes, Status> {
    match frame.first() {
        Some(0) if frame.len() >= FRAME => Ok(frame.slice(FRAME..)),
        _ => Err(Status::internal("no frame of gRPC")),
    }
}

#[cfg(feature = "compress")]
fn gzip(bytes: &[u8]) -> Result<Bytes, BoxError> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.into())
}

#[cfg(not(feature = "compress"))]
fn gzip(_: &[u8]) -> Result<Bytes, BoxError> {
    Err("gzip needs the feature `compress`".into())
}

/// An error with what caused it: the cause is the one that helps ("connection refused").
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        next = error.source();
    }
    text
}
