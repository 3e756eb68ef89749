//! Who finds a handler, and for what.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    task::{Context, Poll},
};

use axum::extract::Path;
use http::{Method, Request, Response};
use tokio::time::Instant;
use tower::Service;
use tower_chassis::{
    Body, Invocation,
    router::{ParamError, Params, Router, on, on_service},
};
use tower_chassis_peers::{
    bench::Case,
    tables::{self, Route},
};

/// Answers at once and allocates nothing.
#[derive(Clone, Copy, Debug)]
struct Noop;

impl<B> Service<Request<B>> for Noop {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Request<B>) -> Self::Future {
        ready(Ok(Response::new(Body::empty())))
    }
}

/// The cases of a table; of `two`, those that read what was captured.
pub(crate) fn of(table: &str) -> Vec<Case> {
    if table == "two" {
        return two();
    }
    let routes = tables::read(table);
    let handlers = routes.iter().fold(Router::new(), |router, route| {
        router.route(&route.pattern, on(route.method.clone(), async || ()))
    });
    let services = routes.iter().fold(Router::new(), |router, route| {
        router.route(&route.pattern, on_service(route.method.clone(), Noop))
    });
    let services = services.build().unwrap();
    let axum = routes.iter().fold(axum::Router::new(), |router, route| {
        let methods = route.method.clone().try_into().unwrap();
        router.route(&route.pattern, axum::routing::on(methods, async || ()))
    });
    let requests = || requests(routes.clone(), Body::empty);
    vec![
        Case::new("no-op", "", Noop, requests()),
        Case::new("no-op, invocation", "", Noop, with_invocation(requests())),
        Case::new(
            "axum",
            "",
            axum,
            self::requests(routes.clone(), axum::body::Body::empty),
        ),
        Case::new("async fn", "axum", handlers.build().unwrap(), requests()),
        Case::new("tower service", "axum", services.clone(), requests()),
        Case::new(
            "tower service, invocation",
            "axum",
            services,
            with_invocation(requests()),
        ),
    ]
}

fn two() -> Vec<Case> {
    const PATTERN: &str = "/users/{user}/books/{book}";
    let routes = vec![Route {
        method: Method::GET,
        pattern: PATTERN.to_owned(),
        path: PATTERN.replace(['{', '}'], ""),
    }];
    let ours = Router::new().route(PATTERN, on(Method::GET, ours));
    let axum = axum::Router::new().route(PATTERN, axum::routing::get(theirs));
    let requests = || requests(routes.clone(), Body::empty);
    vec![
        Case::new("no-op", "", Noop, requests()),
        Case::new(
            "axum, two Strings",
            "",
            axum,
            self::requests(routes.clone(), axum::body::Body::empty),
        ),
        Case::new(
            "two Strings",
            "axum, two Strings",
            ours.build().unwrap(),
            requests(),
        ),
    ]
}

async fn theirs(Path((user, book)): Path<(String, String)>) {
    std::hint::black_box((user, book));
}

async fn ours(params: Params) -> Result<(), ParamError> {
    let (user, book) = (
        params.parse::<String>("user")?,
        params.parse::<String>("book")?,
    );
    std::hint::black_box((user, book));
    Ok(())
}

/// Requests for all routes in turn.
fn requests<B: 'static>(
    routes: Vec<Route>,
    body: fn() -> B,
) -> impl FnMut() -> Request<B> + 'static {
    let uris: Vec<_> = routes
        .into_iter()
        .map(|route| (route.method, route.path.parse::<http::Uri>().unwrap()))
        .collect();
    let mut next = 0;
    move || {
        let (method, uri) = &uris[next];
        next = (next + 1) % uris.len();
        let mut request = Request::new(body());
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        request
    }
}

/// As our server hands them in.
fn with_invocation(
    mut make: impl FnMut() -> Request<Body> + 'static,
) -> impl FnMut() -> Request<Body> + 'static {
    move || {
        let mut request = make();
        let invocation = Invocation::new(Instant::now());
        request.extensions_mut().insert(invocation);
        request
    }
}
