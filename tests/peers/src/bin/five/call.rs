//! Requests, the service that answers them, and who calls it.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Extensions, Request, Response};
use http_body_util::Empty;
use tower::{Service, util::Oneshot};
use tower_chassis::{Carrier, Invocation, verdict::Outcome};

/// A request of which a stack can make copies, and what answers it.
pub(crate) trait Call: Carrier + Clone + Send + Sync + 'static {
    type Reply: Outcome + Clone + Send + Sync + 'static;
    fn reply() -> Self::Reply;
}

/// A protocol of one's own, whose clone allocates nothing.
#[derive(Clone, Default, Debug)]
pub(crate) struct Ask {
    extensions: Extensions,
    pub(crate) client: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Reply;

impl Outcome for Reply {}

impl Carrier for Ask {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn is_idempotent(&self) -> bool {
        true
    }
}

impl Call for Ask {
    type Reply = Reply;
    fn reply() -> Reply {
        Reply
    }
}

pub(crate) type Get = Request<Empty<Bytes>>;

impl Call for Get {
    type Reply = Response<Empty<Bytes>>;
    fn reply() -> Self::Reply {
        Response::new(Empty::new())
    }
}

/// As a browser's, with four fields.
pub(crate) fn get() -> Get {
    Request::get("http://127.0.0.1/users/7")
        .header("host", "127.0.0.1")
        .header("accept", "application/json")
        .header("user-agent", "five/1")
        .header("x-tenant", "seven")
        .body(Empty::new())
        .unwrap()
}

/// Requests as our server hands them in.
pub(crate) fn with_invocation<C: Call>(
    make: impl Fn() -> C + 'static,
) -> impl FnMut() -> C + 'static {
    move || {
        let mut request = make();
        let invocation = Invocation::new(tokio::time::Instant::now());
        request.extensions_mut().insert(invocation);
        request
    }
}

/// Requests of a thousand clients in turn.
pub(crate) fn clients() -> impl FnMut() -> Ask + 'static {
    let mut client = 0;
    move || {
        client = (client + 1) % 1_000;
        Ask {
            client,
            ..Ask::default()
        }
    }
}

/// Answers at once and allocates nothing, after something that can be measured so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct After<F>(pub(crate) F);

impl<C: Call, F: FnMut(&C)> Service<C> for After<F> {
    type Response = C::Reply;
    type Error = Infallible;
    type Future = Ready<Result<C::Reply, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: C) -> Self::Future {
        (self.0)(&request);
        ready(Ok(C::reply()))
    }
}

pub(crate) fn noop<C: Call>() -> After<fn(&C)> {
    After(|_| ())
}

/// Called as axum calls the service of a route: a clone for each request.
#[derive(Clone, Debug)]
pub(crate) struct PerRequest<S>(pub(crate) S);

impl<Req, S: Service<Req> + Clone> Service<Req> for PerRequest<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: Req) -> Self::Future {
        Oneshot::new(self.0.clone(), request)
    }
}
