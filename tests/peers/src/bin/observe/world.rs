//! Requests, the service that answers them, and what is put around it.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, Ready, ready},
    hint::black_box,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, LazyLock},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{Empty, Full};
use hyper::body::Body;
use tokio::time::Instant;
use tower::Service;
use tower_chassis::{
    Carrier, Invocation,
    invocation::{MatchedRoute, RouteTable},
};

/// The case that all others are measured over.
pub(crate) const FLOOR: &str = "no-op";

pub(crate) type Get = Request<Empty<Bytes>>;
pub(crate) type Answer = Response<Full<Bytes>>;

/// What is read of an answer.
pub(crate) const TEXT: &str = "Hello, World!";

/// As it comes to a server that knows nothing of invocations. Making it takes as much as making one that has its own.
pub(crate) fn bare() -> Get {
    let mut request = get();
    request.extensions_mut().remove::<Invocation>();
    request
}

/// With four headers, all of it in one buffer, as hyper has it.
fn plain() -> Get {
    static BUFFER: LazyLock<Bytes> = LazyLock::new(|| {
        let buffer = Bytes::from(PIECES.concat());
        // Shared from now on: the first copy makes it so.
        drop(buffer.clone());
        buffer
    });
    const PIECES: [&str; 5] = [
        "/users/7",
        "127.0.0.1:8080",
        "application/json",
        "curl/8.5.0",
        "seven",
    ];
    let mut end = 0;
    let [path, host, accept, agent, tenant] = PIECES.map(|piece| {
        end += piece.len();
        BUFFER.slice(end - piece.len()..end)
    });
    let value = |bytes| HeaderValue::from_maybe_shared(bytes).unwrap();
    Request::get(Uri::from_maybe_shared(path).unwrap())
        .header(header::HOST, value(host))
        .header(header::ACCEPT, value(accept))
        .header(header::USER_AGENT, value(agent))
        .header("x-tenant", value(tenant))
        .body(Empty::new())
        .unwrap()
}

/// As our server hands it in.
pub(crate) fn get() -> Get {
    let mut invocation = Invocation::new(Instant::now());
    invocation.set_client(SocketAddr::from(([127, 0, 0, 1], 9)));
    let mut request = plain();
    request.extensions_mut().insert(invocation);
    request
}

/// Answers at once, and does as a router: says which route matched.
#[derive(Clone, Debug)]
pub(crate) struct Matched(Arc<RouteTable>);

impl Matched {
    pub(crate) fn new() -> Self {
        Self(Arc::new(RouteTable::new(["/users/{id}".into()])))
    }
}

impl Service<Get> for Matched {
    type Response = Answer;
    type Error = Infallible;
    type Future = Ready<Result<Answer, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, mut request: Get) -> Self::Future {
        let route = MatchedRoute::new(Arc::clone(&self.0), 0);
        request.invocation_mut().set_route(route);
        ready(Ok(Response::new(Full::from(TEXT))))
    }
}

/// Reads answers as a server does: until they say that there is no more.
#[derive(Clone, Debug)]
pub(crate) struct Read<S>(pub(crate) S);

impl<S, B> Service<Get> for Read<S>
where
    S: Service<Get, Response = Response<B>>,
    S::Error: fmt::Debug,
    B: Body,
    B::Error: fmt::Debug,
{
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context).map(|ready| {
            ready.unwrap();
            Ok(())
        })
    }

    fn call(&mut self, request: Get) -> Self::Future {
        let mut context = Context::from_waker(Waker::noop());
        let mut answer = pin!(self.0.call(request));
        let answer = loop {
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut context) {
                break answer.unwrap();
            }
        };
        let mut body = pin!(answer.into_body());
        while !body.is_end_stream() {
            match body.as_mut().poll_frame(&mut context) {
                Poll::Ready(Some(frame)) => drop(black_box(frame.unwrap())),
                Poll::Ready(None) => break,
                Poll::Pending => {}
            }
        }
        ready(Ok(()))
    }
}

/// Something of somebody else, as a service: what it does when a request comes makes what it does when it is answered.
#[derive(Clone, Debug)]
pub(crate) struct Around<S, F>(pub(crate) S, pub(crate) F);

/// What is done when a request is answered.
pub(crate) trait End {
    fn end(self, answer: &Answer);
}

impl<E: FnOnce(&Answer)> End for E {
    fn end(self, answer: &Answer) {
        self(answer);
    }
}

/// A call that is done with that.
pub(crate) struct Ended<F, E> {
    pub(crate) inner: F,
    pub(crate) end: Option<E>,
}

impl<S, F, E> Service<Get> for Around<S, F>
where
    S: Service<Get, Response = Answer, Error = Infallible>,
    S::Future: Unpin,
    F: FnMut(&mut Get) -> E,
    E: End + Unpin,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Ended<S::Future, E>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(context)
    }
    fn call(&mut self, mut request: Get) -> Self::Future {
        let end = Some((self.1)(&mut request));
        let inner = self.0.call(request);
        Ended { inner, end }
    }
}

impl<F, E> Future for Ended<F, E>
where
    F: Future<Output = Result<Answer, Infallible>> + Unpin,
    E: End + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Ok(answer) = ready!(Pin::new(&mut self.inner).poll(context));
        if let Some(end) = self.end.take() {
            end.end(&answer);
        }
        Poll::Ready(Ok(answer))
    }
}
