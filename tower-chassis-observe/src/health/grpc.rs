//! `grpc.health.v1.Health`, by hand: two messages of one field each.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use tower_chassis_core::{
    Body,
    body::{Buf, Bytes, Frame, HttpBody},
    boxed::BoxFuture,
    verdict::is_grpc,
};
use tower_service::Service;

use super::Health;
use crate::streaming::{self, Frames};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// The longest request that is read: a name of a service.
const LONGEST: usize = 4 * 1024;
/// How often a watch looks.
const LOOK: Duration = Duration::from_secs(1);

const OK: u16 = 0;
const INVALID_ARGUMENT: u16 = 3;
const NOT_FOUND: u16 = 5;
const UNIMPLEMENTED: u16 = 12;
const UNAVAILABLE: u16 = 14;

/// `ServingStatus` of the protocol.
const SERVING: u8 = 1;
const NOT_SERVING: u8 = 2;
const SERVICE_UNKNOWN: u8 = 3;

/// The gRPC service `grpc.health.v1.Health`: `Check` and `Watch`. Made by [`Health::grpc`].
///
/// The service without a name is readiness; others are named by [`Health::grpc_service`]. Degraded is `SERVING`.
/// Of a service that is not known, `Check` says `NOT_FOUND` and `Watch` `SERVICE_UNKNOWN`.
///
/// A watch tells the state at once and then its changes, which it looks for every second. It ends when its client
/// leaves, and with a drain: after `NOT_SERVING` it ends as `UNAVAILABLE`, so that the drain does not wait for it.
///
/// It takes requests of `/grpc.health.v1.Health/…`; others, and methods that it has not, are `UNIMPLEMENTED`. A message
/// of more than 4 KiB, or one that is none, is `INVALID_ARGUMENT`, a compressed one `UNIMPLEMENTED`.
///
/// # Example
/// ```
/// use axum::Router;
/// use tower_chassis_observe::health::Health;
///
/// let health = Health::new().grpc_service("shop.Cart", []);
/// // Beside the services of tonic: `Routes::into_axum_router()` is such a router.
/// let app: Router = Router::new().route_service("/grpc.health.v1.Health/{method}", health.grpc());
/// ```
/// In the router of this project: `.mount_grpc("/grpc.health.v1.Health", health.grpc())`.
#[derive(Clone, Debug)]
pub struct GrpcHealth {
    health: Arc<Health>,
}

impl GrpcHealth {
    pub(super) fn new(health: Health) -> Self {
        Self {
            health: Arc::new(health),
        }
    }
}

impl<B> Service<Request<B>> for GrpcHealth
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let health = Arc::clone(&self.health);
        Box::pin(async move {
            Ok(if request.method() != Method::POST {
                let mut response = bare(StatusCode::METHOD_NOT_ALLOWED);
                let post = HeaderValue::from_static("POST");
                response.headers_mut().insert(header::ALLOW, post);
                response
            } else if !is_grpc(request.headers()) {
                bare(StatusCode::UNSUPPORTED_MEDIA_TYPE)
            } else {
                answer(health, request).await.unwrap_or_else(failed)
            })
        })
    }
}

async fn answer<B>(health: Arc<Health>, request: Request<B>) -> Result<Response<Body>, Failure>
where
    B: HttpBody + Send,
{
    let watch = match request.uri().path() {
        CHECK => false,
        WATCH => true,
        _ => return Err((UNIMPLEMENTED, "no such method")),
    };
    let service = read(request.into_body()).await?;
    let body = if watch {
        streaming::body(Watch::Looking {
            health,
            service,
            told: None,
        })
    } else {
        let serves = health.serves(&service).await;
        let status = match serves.ok_or((NOT_FOUND, "no such service"))? {
            true => SERVING,
            false => NOT_SERVING,
        };
        streaming::body(Once(Some(status)))
    };
    let mut response = Response::new(body);
    grpc(response.headers_mut());
    Ok(response)
}

/// A code and what is said with it.
type Failure = (u16, &'static str);

/// An answer without a message.
fn failed((code, message): Failure) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    grpc(response.headers_mut());
    response.headers_mut().extend(trailers(code, message));
    response
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn grpc(headers: &mut HeaderMap) {
    let kind = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, kind);
}

fn trailers(code: u16, message: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from(code));
    if !message.is_empty() {
        // Printable ASCII without a percent sign, all of them.
        trailers.insert(MESSAGE, HeaderValue::from_static(message));
    }
    trailers
}

fn shutting_down() -> HeaderMap {
    trailers(UNAVAILABLE, "the server is shutting down")
}

/// `HealthCheckResponse { status }`.
fn message(status: u8) -> Frame<Bytes> {
    Frame::data(Bytes::from(vec![0, 0, 0, 0, 2, 0x08, status]))
}

/// One message and the end.
struct Once(Option<u8>);

impl Frames for Once {
    async fn next(self) -> Option<(Frame<Bytes>, Self)> {
        Some(match self.0 {
            Some(status) => (message(status), Self(None)),
            None => (Frame::trailers(trailers(OK, "")), self),
        })
    }
}

/// A message for each change.
enum Watch {
    Looking {
        health: Arc<Health>,
        service: String,
        told: Option<u8>,
    },
    /// A drain was announced, and told.
    Drained,
}

impl Frames for Watch {
    async fn next(self) -> Option<(Frame<Bytes>, Self)> {
        let Self::Looking {
            health,
            service,
            told,
        } = self
        else {
            return Some((Frame::trailers(shutting_down()), self));
        };
        loop {
            let serves = health.serves(&service).await;
            // It may have begun meanwhile.
            let draining = health.is_draining();
            let now = match serves {
                None => SERVICE_UNKNOWN,
                Some(true) if !draining => SERVING,
                Some(_) => NOT_SERVING,
            };
            if draining {
                return Some(if told == Some(now) {
                    (Frame::trailers(shutting_down()), Self::Drained)
                } else {
                    (message(now), Self::Drained)
                });
            }
            if told != Some(now) {
                let told = Some(now);
                let next = Self::Looking {
                    health,
                    service,
                    told,
                };
                return Some((message(now), next));
            }
            health.drain_announced(LOOK).await;
        }
    }
}

/// Reads `HealthCheckRequest { service }`, as much of the body as that is.
async fn read<B: HttpBody>(body: B) -> Result<String, Failure> {
    const BROKEN: Failure = (INVALID_ARGUMENT, "not a HealthCheckRequest");
    let mut body = pin!(body);
    let mut read = Vec::new();
    loop {
        if let Some((head, message)) = read.split_first_chunk::<5>() {
            let [compressed, length @ ..] = *head;
            let length = u32::from_be_bytes(length) as usize;
            if compressed != 0 {
                return Err((UNIMPLEMENTED, "compressed messages are not supported"));
            }
            if length > LONGEST {
                return Err((INVALID_ARGUMENT, "the message is too long"));
            }
            if message.len() >= length {
                return parse(&message[..length]).ok_or(BROKEN);
            }
        }
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        let Some(Ok(frame)) = frame else {
            return Err(BROKEN);
        };
        let Ok(mut data) = frame.into_data() else {
            return Err(BROKEN);
        };
        while data.has_remaining() {
            let chunk = data.chunk();
            let room = (5 + LONGEST).saturating_sub(read.len());
            let taken = chunk.len();
            read.extend_from_slice(&chunk[..taken.min(room)]);
            data.advance(taken);
        }
    }
}

/// The field `service` (number 1) of a message; others are passed over. The last one counts.
fn parse(mut message: &[u8]) -> Option<String> {
    let mut service = "";
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (0, _) => return None,
            (_, 0) => _ = varint(&mut message)?,
            (_, 1) => message = message.get(8..)?,
            (_, 5) => message = message.get(4..)?,
            (field, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (value, rest) = message.split_at_checked(length)?;
                message = rest;
                if field == 1 {
                    service = std::str::from_utf8(value).ok()?;
                }
            }
            _ => return None,
        }
    }
    Some(service.to_owned())
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_protobuf() {
        let name = |message: &[u8]| parse(message);
        assert_eq!(name(b""), Some(String::new()));
        assert_eq!(name(b"\x0a\x03a.B"), Some("a.B".into()));
        assert_eq!(name(b"\x0a\x01a\x0a\x01b"), Some("b".into()), "the last");
        let others = b"\x10\x80\x01\x19abcdefgh\x25abcd\x1a\x02xx\x0a\x01a";
        assert_eq!(name(others), Some("a".into()));
        for broken in [
            &b"\x0a"[..],
            b"\x0a\x02a",
            b"\x0a\x01\xff",
            b"\x02\x00",
            b"\x0b",
            b"\x19abc",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        ] {
            assert_eq!(name(broken), None, "{broken:x?}");
        }
    }
}
