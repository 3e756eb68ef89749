use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tower_chassis_core::{Body, boxed::BoxFuture};
use tower_service::Service;

use super::{Health, Kind};

/// The service of [`Health`] that answers HTTP. Made by [`Health::service`].
#[derive(Clone, Debug)]
pub struct HealthService {
    health: Arc<Health>,
    /// What is asked, whatever the path.
    only: Option<Kind>,
}

impl HealthService {
    pub(super) fn new(health: Health) -> Self {
        Self {
            health: Arc::new(health),
            only: None,
        }
    }

    /// Answers this, whatever the path: for a router that knows it.
    #[must_use]
    pub fn only(mut self, kind: Kind) -> Self {
        self.only = Some(kind);
        self
    }

    fn kind(&self, path: &str) -> Option<Kind> {
        self.only.or_else(|| {
            let paths = &self.health.paths.0;
            let (kind, _) = paths.iter().find(|(_, at)| **at == *path)?;
            Some(*kind)
        })
    }
}

impl<B> Service<Request<B>> for HealthService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = |response| -> Self::Future { Box::pin(std::future::ready(Ok(response))) };
        let Some(kind) = self.kind(request.uri().path()) else {
            return answer(text(StatusCode::NOT_FOUND, "not found\n".to_owned()));
        };
        let head = request.method() == Method::HEAD;
        if !head && request.method() != Method::GET {
            return answer(not_allowed());
        }
        let verbose = wants_json(request.headers(), request.uri().query());
        let health = Arc::clone(&self.health);
        Box::pin(async move {
            let report = health.ask(kind).await;
            let status = if report.status().is_down() {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::OK
            };
            let mut response = if verbose {
                let mut response = text(status, report.json(health.details));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            } else {
                text(status, report.text())
            };
            if head {
                *response.body_mut() = Body::empty();
            }
            Ok(response)
        })
    }
}

fn wants_json(headers: &HeaderMap, query: Option<&str>) -> bool {
    let asked = query.unwrap_or_default().split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        name == "verbose" && !matches!(value, "0" | "false")
    });
    let accepts = |value: &HeaderValue| {
        value
            .as_bytes()
            .split(|byte| matches!(byte, b',' | b';'))
            .any(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/json"))
    };
    asked || headers.get_all(header::ACCEPT).iter().any(accepts)
}

/// An answer that is not to be kept.
pub(crate) fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, plain);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

pub(crate) fn not_allowed() -> Response<Body> {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "method not allowed\n".to_owned(),
    );
    let methods = HeaderValue::from_static("GET, HEAD");
    response.headers_mut().insert(header::ALLOW, methods);
    response
}
