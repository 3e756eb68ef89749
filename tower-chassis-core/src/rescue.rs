//! Turns errors and panics into responses; behind it a stack is `Infallible`, as axum wants it.
//!
//! The one place where an error gets a meaning in HTTP or gRPC, by the table at [`Kind`]: a
//! [`Rejection`] anywhere in the chain of sources decides, every other error and a panic is a 500. A request
//! whose content type is gRPC's is answered with trailers only; every other with `application/problem+json`.
//! The response carries the [`Verdict`], so that layers outside do not mistake our own refusal for a failure
//! of the service.
//!
//! # Example
//! ```
//! use http::{Request, Response, StatusCode};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError, Kind, Rejection, RescueLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = ServiceBuilder::new().layer(RescueLayer::new()).service(service_fn(
//!     async |_: Request<()>| Err::<Response<Body>, BoxError>(Rejection::new(Kind::CircuitOpen, "breaker").into()),
//! ));
//! let response = service.oneshot(Request::new(())).await.unwrap();
//! assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
//! assert_eq!(response.headers()["x-chassis-reject"], "circuit-open");
//! # }
//! ```
//!
//! # Order
//! In every server stack, inside metrics and logs (they read the verdict) and outside every layer that can
//! refuse. Outermost around a gRPC client. Inside tonic's `Server::layer` too.
//!
//! # Cancellation
//! Holds nothing. A panic below drops the call as a failure, so that guards inside hear of it.
//!
//! # Cost
//! No allocation on success.

use std::{
    any::Any,
    convert::Infallible,
    error::Error,
    fmt::Write as _,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{BoxError, Kind, Quota, Rejection, Verdict, verdict::is_grpc};

/// Turns errors into responses. See the [module](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct RescueLayer {
    _private: (),
}

impl RescueLayer {
    /// Answers by the table at [`Kind`].
    #[must_use]
    pub const fn new() -> Self {
        Self { _private: () }
    }
}

impl<S> Layer<S> for RescueLayer {
    type Service = Rescue<S>;
    fn layer(&self, inner: S) -> Rescue<S> {
        Rescue {
            inner,
            ready_error: None,
        }
    }
}

/// The service of [`RescueLayer`].
#[derive(Debug)]
pub struct Rescue<S> {
    inner: S,
    /// Readiness cannot fail any more, so its error waits for the call.
    ready_error: Option<BoxError>,
}

impl<S: Clone> Clone for Rescue<S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            ready_error: None,
        }
    }
}

impl<S, ReqBody, ResBody> Service<Request<ReqBody>> for Rescue<S>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    S::Error: Into<BoxError>,
    ResBody: Body<Data = Bytes>,
{
    type Response = Response<RescueBody<ResBody>>;
    type Error = Infallible;
    type Future = RescueFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.ready_error.is_none() {
            match catch_unwind(AssertUnwindSafe(|| self.inner.poll_ready(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(Ok(()))) => {}
                Ok(Poll::Ready(Err(error))) => self.ready_error = Some(error.into()),
                Err(panic) => self.ready_error = Some(panicked(&*panic)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqBody>) -> RescueFuture<S::Future> {
        let grpc = is_grpc(request.headers());
        let state = match self.ready_error.take() {
            Some(error) => State::Failed { error: Some(error) },
            None => match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
                Ok(future) => State::Called { future },
                Err(panic) => State::Failed {
                    error: Some(panicked(&*panic)),
                },
            },
        };
        RescueFuture { state, grpc }
    }
}

pin_project! {
    /// The future of [`Rescue`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct RescueFuture<F> {
        #[pin]
        state: State<F>,
        grpc: bool,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F> {
        Called { #[pin] future: F },
        Failed { error: Option<BoxError> },
    }
}

impl<F, B, E> Future for RescueFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
    E: Into<BoxError>,
{
    type Output = Result<Response<RescueBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let error = match this.state.as_mut().project() {
            StateProj::Called { future } => {
                match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
                    Ok(Poll::Pending) => return Poll::Pending,
                    Ok(Poll::Ready(Ok(response))) => {
                        return Poll::Ready(Ok(response.map(|body| RescueBody::inner(body))));
                    }
                    Ok(Poll::Ready(Err(error))) => error.into(),
                    Err(panic) => {
                        let error = panicked(&*panic);
                        // The guards through which it went know; those beside it hear of a call that was given up.
                        this.state.set(State::Failed { error: None });
                        error
                    }
                }
            }
            StateProj::Failed { error } => match error.take() {
                Some(error) => error,
                None => return Poll::Pending,
            },
        };
        Poll::Ready(Ok(answer(&*error, *this.grpc).map(RescueBody::made)))
    }
}

fn panicked(panic: &(dyn Any + Send)) -> BoxError {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(target: "tower_chassis::rescue", panic = text, "a handler panicked");
    Box::new(Rejection::new(Kind::Internal, "rescue"))
}

static REJECT: HeaderName = HeaderName::from_static("x-chassis-reject");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The response that an error becomes, by the table at [`Kind`].
pub fn answer(error: &(dyn Error + 'static), grpc: bool) -> Response<Bytes> {
    let found = Rejection::find(error);
    let kind = found.map_or(Kind::Internal, Rejection::kind);
    if found.is_none() {
        tracing::error!(target: "tower_chassis::rescue", error, "a call failed");
    }
    let retry_after = found.and_then(Rejection::retry_after);
    let judged = Verdict::in_chain(error);
    let meaning = Meaning::of(kind, judged);
    let mut response = if grpc {
        grpc_answer(kind, meaning.code, retry_after)
    } else {
        http_answer(kind, meaning.status, retry_after)
    };
    if let Some(quota) = found.and_then(|found| Quota::find(found)) {
        quota.write(response.headers_mut());
    }
    response
        .headers_mut()
        .insert(REJECT.clone(), HeaderValue::from_static(kind.as_str()));
    let verdict = if grpc {
        Verdict::grpc(meaning.code).with_class(judged.class())
    } else if judged.http_status().is_none() || judged.grpc_code().is_some() {
        Verdict::http(meaning.status).with_class(judged.class())
    } else {
        judged
    };
    response.extensions_mut().insert(verdict);
    response
}

/// What an error is in HTTP and in gRPC.
struct Meaning {
    status: StatusCode,
    code: u16,
}

impl Meaning {
    /// By the table at [`Kind`]; an injected fault is what its verdict says, in the words of either protocol.
    fn of(kind: Kind, verdict: Verdict) -> Self {
        let by_kind = Self {
            status: kind.status(),
            code: kind.grpc_code(),
        };
        if kind != Kind::Injected {
            return by_kind;
        }
        match (verdict.grpc_code(), verdict.http_status()) {
            (Some(code), _) => Self {
                status: status_of(code),
                code,
            },
            (None, Some(status)) => Self {
                status: StatusCode::from_u16(status).unwrap_or(by_kind.status),
                code: code_of(status),
            },
            (None, None) => by_kind,
        }
    }
}

/// The gRPC code of a call that ended with a status of HTTP (gRPC's `http-grpc-status-mapping`).
const fn code_of(status: u16) -> u16 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The status of HTTP that says what a gRPC code says, as `google.rpc.Code` has it.
const fn status_of(code: u16) -> StatusCode {
    match code {
        1 | 3 | 9 | 11 => StatusCode::BAD_REQUEST,
        4 => StatusCode::GATEWAY_TIMEOUT,
        5 => StatusCode::NOT_FOUND,
        6 | 10 => StatusCode::CONFLICT,
        7 => StatusCode::FORBIDDEN,
        8 => StatusCode::TOO_MANY_REQUESTS,
        12 => StatusCode::NOT_IMPLEMENTED,
        14 => StatusCode::SERVICE_UNAVAILABLE,
        16 => StatusCode::UNAUTHORIZED,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn http_answer(kind: Kind, status: StatusCode, retry_after: Option<Duration>) -> Response<Bytes> {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = format!(
        r#"{{"type":"about:blank","title":"{title}","status":{},"detail":"{}"}}"#,
        status.as_u16(),
        kind.as_str(),
    );
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/problem+json"),
    );
    let retry_after = match kind {
        Kind::Overloaded => Some(retry_after.unwrap_or_else(spread)),
        _ => retry_after,
    };
    if let Some(wait) = retry_after {
        // Rounded up: a client that comes back on the second is served.
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(
                wait.as_secs()
                    .saturating_add(u64::from(wait.subsec_nanos() > 0))
                    .max(1),
            ),
        );
    }
    match kind {
        Kind::Unauthenticated => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Kind::Draining | Kind::BodyTooLarge | Kind::BodyTimeout => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}

/// One to three seconds, so that those who were shed do not come back at once and together.
fn spread() -> Duration {
    use std::hash::{BuildHasher, RandomState};
    Duration::from_secs(1 + RandomState::new().hash_one(0u8) % 3)
}

fn grpc_answer(kind: Kind, code: u16, retry_after: Option<Duration>) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(GRPC_STATUS.clone(), HeaderValue::from(code));
    let mut message = String::new();
    for byte in kind.as_str().bytes() {
        // grpc-message is percent-encoded outside of printable ASCII.
        let _ = match byte {
            b' '..=b'~' if byte != b'%' => write!(message, "{}", byte as char),
            _ => write!(message, "%{byte:02X}"),
        };
    }
    if let Ok(message) = HeaderValue::from_str(&message) {
        headers.insert(GRPC_MESSAGE.clone(), message);
    }
    if let (Some(wait), Kind::Overloaded | Kind::RateLimited | Kind::CircuitOpen) =
        (retry_after, kind)
    {
        headers.insert(
            GRPC_PUSHBACK.clone(),
            HeaderValue::from(
                u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX),
            ),
        );
    }
    response
}

pin_project! {
    /// The body of the service, or the one that [`Rescue`], or another layer that answers itself, made. Needs no box
    /// for either.
    pub struct RescueBody<B> {
        #[pin]
        repr: Repr<B>,
    }
}

// Without what is in it: bodies are no business of a log.
impl<B> std::fmt::Debug for RescueBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let made = matches!(self.repr, Repr::Made { .. });
        f.debug_struct("RescueBody")
            .field("made", &made)
            .finish_non_exhaustive()
    }
}

pin_project! {
    #[project = ReprProj]
    enum Repr<B> {
        Inner { #[pin] body: B },
        Made { bytes: Bytes },
    }
}

impl<B> RescueBody<B> {
    pub(crate) const fn inner(body: B) -> Self {
        Self {
            repr: Repr::Inner { body },
        }
    }
    pub(crate) const fn made(bytes: Bytes) -> Self {
        Self {
            repr: Repr::Made { bytes },
        }
    }
}

impl<B: Body<Data = Bytes>> Body for RescueBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().repr.project() {
            ReprProj::Inner { body } => body.poll_frame(cx),
            ReprProj::Made { bytes } if bytes.is_empty() => Poll::Ready(None),
            ReprProj::Made { bytes } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.repr {
            Repr::Inner { body } => body.is_end_stream(),
            Repr::Made { bytes } => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.repr {
            Repr::Inner { body } => body.size_hint(),
            Repr::Made { bytes } => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{Class, verdict::Outcome};

    type Res = Result<Response<crate::Body>, BoxError>;

    async fn rescue(
        error: fn() -> Res,
        content_type: &'static str,
    ) -> Response<RescueBody<crate::Body>> {
        let service = RescueLayer::new().layer(service_fn(move |_: Request<()>| async move {
            tokio::task::yield_now().await;
            error()
        }));
        let request = Request::builder()
            .header("content-type", content_type)
            .body(())
            .unwrap();
        service.oneshot(request).await.unwrap()
    }

    #[test]
    fn an_injected_fault_is_answered_as_it_says() {
        use crate::verdict::Judged;
        let injected = || Rejection::new(Kind::Injected, "fault");
        for (verdict, status, code) in [
            (Verdict::http(StatusCode::SERVICE_UNAVAILABLE), 503, "14"),
            (Verdict::http(StatusCode::NOT_FOUND), 404, "12"),
            (Verdict::grpc(8), 429, "8"),
            (Verdict::grpc(5), 404, "5"),
            (Verdict::FAILURE, 500, "13"),
        ] {
            let error = Judged::new(verdict, injected());
            let http = answer(&error, false);
            assert_eq!(http.status(), status);
            assert_eq!(http.verdict().http_status(), Some(status));
            assert_eq!(http.verdict().class(), verdict.class());
            let grpc = answer(&error, true);
            assert_eq!(grpc.headers()["grpc-status"], code);
            assert_eq!(grpc.verdict().class(), verdict.class());
            assert_eq!(grpc.headers()["x-chassis-reject"], "injected");
        }
        assert_eq!(answer(&injected(), false).status(), 500);
    }

    #[tokio::test]
    async fn a_refusal_is_answered_and_read_outside_as_refused() {
        let response = rescue(
            || {
                Err(Rejection::new(Kind::RateLimited, "rate_limit")
                    .after(Duration::from_millis(1200))
                    .into())
            },
            "text/plain",
        )
        .await;
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
        assert_eq!(response.verdict().class(), Class::Refused);
        assert_eq!(response.verdict().http_status(), Some(429));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            body,
            r#"{"type":"about:blank","title":"Too Many Requests","status":429,"detail":"rate-limited"}"#
        );
    }

    #[tokio::test]
    async fn grpc_is_answered_with_trailers_only() {
        let response = rescue(
            || Err(Rejection::new(Kind::CircuitOpen, "breaker").into()),
            "application/grpc",
        )
        .await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.verdict().class(), Class::Refused);
        assert!(response.body().is_end_stream());
    }

    #[tokio::test]
    async fn a_panic_and_a_foreign_error_are_500_and_tell_nothing() {
        for error in [
            (|| panic!("secret")) as fn() -> Res,
            || Err("secret".into()),
        ] {
            let response = rescue(error, "").await;
            assert_eq!(response.status(), 500);
            assert_eq!(response.verdict().class(), Class::Failure);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert!(!String::from_utf8_lossy(&body).contains("secret"));
        }
    }

    #[tokio::test]
    async fn an_error_of_readiness_is_answered_in_the_call() {
        #[derive(Clone)]
        struct Broken;
        impl Service<Request<()>> for Broken {
            type Response = Response<crate::Body>;
            type Error = BoxError;
            type Future = std::future::Ready<Res>;
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
                Poll::Ready(Err(Rejection::new(Kind::Overloaded, "x").into()))
            }
            fn call(&mut self, _: Request<()>) -> Self::Future {
                unreachable!("was never ready")
            }
        }
        let response = RescueLayer::new()
            .layer(Broken)
            .oneshot(Request::new(()))
            .await
            .unwrap();
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
    }

    #[test]
    fn a_wait_is_rounded_up_and_never_wraps() {
        let said = |wait, grpc| {
            let rejection = Rejection::new(Kind::CircuitOpen, "x").after(wait);
            let answer = answer(&rejection, grpc);
            let name = if grpc {
                "grpc-retry-pushback-ms"
            } else {
                "retry-after"
            };
            let value = answer.headers()[name].to_str().unwrap().to_owned();
            value.parse::<u64>().unwrap()
        };
        assert_eq!(said(Duration::from_micros(1999), false), 1);
        assert_eq!(said(Duration::from_micros(1999), true), 2);
        assert_eq!(said(Duration::from_millis(1001), false), 2);
        assert_eq!(
            (said(Duration::MAX, false), said(Duration::MAX, true)),
            (u64::MAX, u64::MAX)
        );
    }

    #[tokio::test]
    async fn a_panic_of_readiness_is_answered_in_the_call() {
        #[derive(Clone)]
        struct Panics;
        impl Service<Request<()>> for Panics {
            type Response = Response<crate::Body>;
            type Error = BoxError;
            type Future = std::future::Ready<Res>;
            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
                panic!("planted")
            }
            fn call(&mut self, _: Request<()>) -> Self::Future {
                unreachable!("was never ready")
            }
        }
        let service = RescueLayer::new().layer(Panics);
        let response = service.oneshot(Request::new(())).await.unwrap();
        assert_eq!(response.status(), 500);
    }
}
