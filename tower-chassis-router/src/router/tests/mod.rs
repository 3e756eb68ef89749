//! Routers as services.

mod build;
mod compose;
mod composed;
mod document;
mod explain;
mod extract;
mod guard;
mod introspect;
mod policy;
mod property;
mod rules;
mod serve;
mod state;
mod swap;
mod url;

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use http::{Method, Request, Response};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt};
use tower_chassis_core::{Body, Carrier, invocation::MatchedRoute};

use super::{RouteService, Router};

/// Status, text and `Allow` of an answer.
async fn read(response: Response<Body>) -> (u16, String, Option<String>) {
    let (head, body) = response.into_parts();
    let allow = head
        .headers
        .get("allow")
        .map(|allow| allow.to_str().unwrap().to_owned());
    let text = body.collect().await.unwrap().to_bytes();
    (
        head.status.as_u16(),
        String::from_utf8(text.to_vec()).unwrap(),
        allow,
    )
}

fn request(line: &str) -> Request<Body> {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    *request.uri_mut() = path.parse().unwrap();
    request
}

/// The text of an answer, or its status if that is not 200.
async fn ask(app: &RouteService, line: &str) -> String {
    match read(app.clone().oneshot(request(line)).await.unwrap()).await {
        (200, text, _) => text,
        (status, text, None) if text.is_empty() => status.to_string(),
        (status, text, None) => format!("{status} {text}"),
        (status, text, Some(allow)) if text.is_empty() => format!("{status} [{allow}]"),
        (status, text, Some(allow)) => format!("{status} {text} [{allow}]"),
    }
}

async fn check(router: Router, cases: &[(&str, &str)]) {
    let app = router.build().unwrap_or_else(|errors| panic!("{errors}"));
    for (line, expected) in cases {
        assert_eq!(ask(&app, line).await, *expected, "{line}");
    }
}

/// What outer layers read of the route once the call is over.
async fn template(app: &RouteService, line: &str) -> Option<String> {
    let mut request = request(line);
    let slot = request.invocation_mut().route_slot();
    let _ = app.clone().oneshot(request).await;
    slot.get().map(MatchedRoute::template).map(str::to_owned)
}

/// A layer that writes its name down whenever a request passes.
#[derive(Clone)]
struct Note {
    name: &'static str,
    log: Arc<Mutex<Vec<&'static str>>>,
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn note(&self, name: &'static str) -> Note {
        Note {
            name,
            log: Arc::clone(&self.0),
        }
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.0.lock().unwrap()).join(" ")
    }
}

impl<S> Layer<S> for Note {
    type Service = Noting<S>;

    fn layer(&self, inner: S) -> Noting<S> {
        Noting {
            note: self.clone(),
            inner,
        }
    }
}

#[derive(Clone)]
struct Noting<S> {
    note: Note,
    inner: S,
}

impl<S: Service<R>, R> Service<R> for Noting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: R) -> S::Future {
        self.note.log.lock().unwrap().push(self.note.name);
        self.inner.call(req)
    }
}
