//! A service that behaves as a request tells it, with a router that only names routes.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Channel, Full, combinators::BoxBody};
use tower_chassis_core::{
    Carrier,
    invocation::{MatchedRoute, RouteTable},
};

pub(crate) type TestBody = BoxBody<Bytes, Infallible>;

/// A router of two routes, `/users/{id}` and `/slow`.
#[derive(Clone)]
pub(crate) struct Routes(Arc<RouteTable>);

impl Default for Routes {
    fn default() -> Self {
        Self(Arc::new(RouteTable::new([
            "/users/{id}".into(),
            "/slow".into(),
        ])))
    }
}

impl Routes {
    pub(crate) async fn call<B>(
        self,
        mut request: Request<B>,
    ) -> Result<Response<TestBody>, Infallible> {
        let path = request.uri().path().to_owned();
        let index = match &*path {
            path if path.starts_with("/users/") => 0,
            "/slow" => 1,
            _ => return Ok(answer(404, "no such thing")),
        };
        request
            .invocation_mut()
            .set_route(MatchedRoute::new(self.0, index));
        match &*path {
            "/users/panic" => panic!("planted"),
            "/users/fail" => Ok(answer(500, "")),
            "/users/grpc" => Ok(grpc("14")),
            "/slow" => std::future::pending().await,
            _ => Ok(answer(200, "hello")),
        }
    }
}

pub(crate) fn answer(status: u16, body: &'static str) -> Response<TestBody> {
    let mut response = Response::new(Full::from(body).boxed());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A gRPC answer of one message, whose trailers say `status`.
pub(crate) fn grpc(status: &'static str) -> Response<TestBody> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    let body = Full::from("message").with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::builder()
        .header("content-type", "application/grpc")
        .body(body.boxed())
        .unwrap()
}

/// An answer whose body never ends.
pub(crate) fn endless() -> (
    http_body_util::channel::Sender<Bytes, Infallible>,
    Response<TestBody>,
) {
    let (sender, body) = Channel::new(4);
    (sender, Response::new(body.boxed()))
}

pub(crate) fn get(path: &str) -> Request<()> {
    Request::builder().uri(path).body(()).unwrap()
}

/// The value of the series of `name` that has all of `labels`, and how many there are.
pub(crate) fn find(text: &str, name: &str, labels: &[&str]) -> Vec<(String, f64)> {
    text.lines()
        .filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        })
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        })
        .collect()
}

pub(crate) fn one(text: &str, name: &str, labels: &[&str]) -> f64 {
    let found = find(text, name, labels);
    assert_eq!(found.len(), 1, "{name} {labels:?} in\n{text}");
    found[0].1
}
