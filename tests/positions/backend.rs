//! What is served in every position, and what it saw.

use std::{
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use http::{Extensions, HeaderMap, Request, Response, StatusCode};
use tokio::sync::Barrier;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_server::Health,
};
use tower::Service;
use tower_chassis::{Body, BoxError, Invocation};

/// What is asked: a route each, or the name of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    One,
    Two,
    /// Never answers.
    Slow,
    /// Always fails.
    Broken,
    /// Has no time for every other call.
    Flaky,
}

impl Ask {
    pub(crate) const ALL: [Self; 5] = [Self::One, Self::Two, Self::Slow, Self::Broken, Self::Flaky];

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::One => "/one",
            Self::Two => "/two",
            Self::Slow => "/slow",
            Self::Broken => "/broken",
            Self::Flaky => "/flaky",
        }
    }

    fn at(path: &str) -> Self {
        let found = Self::ALL.into_iter().find(|ask| ask.path() == path);
        found.unwrap_or_else(|| panic!("nobody asks for {path}"))
    }
}

/// What comes of it, in any protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Ok,
    /// 500, `INTERNAL`.
    Broken,
    /// 503, `UNAVAILABLE`.
    Unavailable,
    /// 429, `RESOURCE_EXHAUSTED`.
    TooMany,
    /// 504, `DEADLINE_EXCEEDED`.
    Late,
}

impl Answer {
    const TABLE: [(Self, StatusCode, Code); 5] = [
        (Self::Ok, StatusCode::OK, Code::Ok),
        (
            Self::Broken,
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Internal,
        ),
        (
            Self::Unavailable,
            StatusCode::SERVICE_UNAVAILABLE,
            Code::Unavailable,
        ),
        (
            Self::TooMany,
            StatusCode::TOO_MANY_REQUESTS,
            Code::ResourceExhausted,
        ),
        (
            Self::Late,
            StatusCode::GATEWAY_TIMEOUT,
            Code::DeadlineExceeded,
        ),
    ];

    pub(crate) fn of_status(status: StatusCode) -> Self {
        let row = Self::TABLE.into_iter().find(|row| row.1 == status);
        row.unwrap_or_else(|| panic!("answered by {status}")).0
    }

    pub(crate) fn of_grpc<T>(result: &Result<T, tonic::Status>) -> Self {
        let code = result.as_ref().err().map_or(Code::Ok, tonic::Status::code);
        let row = Self::TABLE.into_iter().find(|row| row.2 == code);
        row.unwrap_or_else(|| panic!("answered by {:?}", result.as_ref().err()))
            .0
    }

    pub(crate) fn status(self) -> StatusCode {
        let row = Self::TABLE.into_iter().find(|row| row.0 == self);
        row.unwrap().1
    }

    fn code(self) -> Code {
        let row = Self::TABLE.into_iter().find(|row| row.0 == self);
        row.unwrap().2
    }
}

/// The service behind the layers. Clones are one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backend(Arc<Seen>);

#[derive(Debug)]
struct Seen {
    calls: AtomicUsize,
    /// Calls that carried a trace.
    traced: AtomicUsize,
    /// Calls that had a deadline in their invocation.
    bounded: AtomicUsize,
    /// Calls that named a deadline on the wire.
    told: AtomicUsize,
    in_flight: AtomicUsize,
    most: AtomicUsize,
    flaky: AtomicUsize,
    /// Every call waits until there are two.
    crowded: AtomicBool,
    two: Barrier,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            calls: AtomicUsize::default(),
            traced: AtomicUsize::default(),
            bounded: AtomicUsize::default(),
            told: AtomicUsize::default(),
            in_flight: AtomicUsize::default(),
            most: AtomicUsize::default(),
            flaky: AtomicUsize::default(),
            crowded: AtomicBool::default(),
            two: Barrier::new(2),
        }
    }
}

/// A call is in flight while it lives.
struct Flight(Backend);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl Backend {
    pub(crate) fn calls(&self) -> usize {
        self.0.calls.load(Relaxed)
    }
    pub(crate) fn traced(&self) -> usize {
        self.0.traced.load(Relaxed)
    }
    pub(crate) fn bounded(&self) -> usize {
        self.0.bounded.load(Relaxed)
    }
    pub(crate) fn told(&self) -> usize {
        self.0.told.load(Relaxed)
    }
    /// The most calls that were in flight at once.
    pub(crate) fn most(&self) -> usize {
        self.0.most.load(Relaxed)
    }
    pub(crate) fn crowd(&self, crowded: bool) {
        self.0.crowded.store(crowded, Relaxed);
    }

    pub(crate) async fn answer(self, ask: Ask, told: bool, extensions: &Extensions) -> Answer {
        let seen = &self.0;
        seen.calls.fetch_add(1, Relaxed);
        let most = seen.in_flight.fetch_add(1, Relaxed) + 1;
        seen.most.fetch_max(most, Relaxed);
        let _flight = Flight(self.clone());
        let invocation = extensions.get::<Invocation>();
        let count = |counter: &AtomicUsize, counts: bool| {
            counter.fetch_add(usize::from(counts), Relaxed);
        };
        let traced = invocation.is_some_and(|invocation| invocation.trace().is_some());
        count(&seen.traced, traced);
        let bounded = invocation.is_some_and(|invocation| invocation.deadline().is_some());
        count(&seen.bounded, bounded);
        count(&seen.told, told);
        if seen.crowded.load(Relaxed) {
            seen.two.wait().await;
            for _ in 0..32 {
                tokio::task::yield_now().await;
            }
            return Answer::Ok;
        }
        match ask {
            Ask::One | Ask::Two => Answer::Ok,
            Ask::Slow => pending().await,
            Ask::Broken => Answer::Broken,
            Ask::Flaky if seen.flaky.fetch_add(1, Relaxed).is_multiple_of(2) => Answer::Unavailable,
            Ask::Flaky => Answer::Ok,
        }
    }

    /// Over HTTP. The traces of a client are counted where they are in the headers.
    pub(crate) async fn http<B>(self, request: Request<B>) -> Response<Body> {
        let ask = Ask::at(request.uri().path());
        let told = self.look(request.headers());
        let answer = self.answer(ask, told, request.extensions()).await;
        let mut response = Response::new(Body::full(ask.path()));
        *response.status_mut() = answer.status();
        response
    }

    /// Counts a trace, and says whether there is a deadline.
    fn look(&self, headers: &HeaderMap) -> bool {
        if headers.contains_key("traceparent") {
            self.0.traced.fetch_add(1, Relaxed);
        }
        headers.contains_key("grpc-timeout") || headers.contains_key("x-request-timeout-ms")
    }
}

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<B: Send + 'static> Service<Request<B>> for Backend {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Boxed<Response<Body>, BoxError>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let backend = self.clone();
        Box::pin(async move { Ok(backend.http(Request::from_parts(parts, ())).await) })
    }
}

#[tonic::async_trait]
impl Health for Backend {
    type WatchStream =
        tonic::codegen::tokio_stream::Empty<Result<HealthCheckResponse, tonic::Status>>;

    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        let ask = Ask::at(&request.get_ref().service);
        let told = self.look(&request.metadata().clone().into_headers());
        let answer = self.clone().answer(ask, told, request.extensions());
        match answer.await {
            Answer::Ok => Ok(tonic::Response::new(HealthCheckResponse {
                status: ServingStatus::Serving.into(),
            })),
            answer => Err(tonic::Status::new(answer.code(), ask.path())),
        }
    }

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        Err(tonic::Status::unimplemented("ask again"))
    }
}
