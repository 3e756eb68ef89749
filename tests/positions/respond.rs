//! `.respond()`: a layer that refuses answers by itself, on an axum router and without a rescue; what it refused is
//! read outside as refused, and errors from inside pass as they are.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, pending, poll_fn, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use axum::{Router, body::Body as AxumBody, routing::Route};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use tokio::{sync::mpsc, time::Instant};
use tower::{
    Layer, Service, ServiceExt,
    layer::{layer_fn, util::Stack},
};
use tower_chassis::{
    Body, BoxError, Class, ObserveLayer, Respond, Verdict,
    adaptive::{AdaptiveLayer, AdaptivePolicy},
    balance::{Balance, RoundRobin},
    bulkhead::{BulkheadLayer, BulkheadPolicy},
    observe::audit::{AuditPolicy, AuditRecord, LosslessAuditLayer},
    settle::{Observe, UntilHead},
    verdict::Auto,
    wire::Start,
};

use crate::{
    backend::{Ask, Backend},
    rows,
    under_axum::router,
};

/// The last verdict that was read outside.
#[derive(Clone, Default)]
struct Outside(Arc<Mutex<Option<Verdict>>>);

impl<Req> Start<Req> for Outside {
    type Ticket = Self;
    fn start(&self, _: &mut Req, _: Instant) -> Self {
        self.clone()
    }
}

impl Observe for Outside {
    fn done(self, verdict: Verdict, _: Instant) {
        *self.0.lock().unwrap() = Some(verdict);
    }
}

/// A router behind a layer that answers by itself, and an observer outside of it.
struct App {
    router: Router,
    outside: Outside,
}

impl App {
    fn new<L, B>(layer: L) -> Self
    where
        L: Layer<Route> + Clone + Send + Sync + 'static,
        L::Service: Service<
                Request<AxumBody>,
                Response = Response<B>,
                Error = Infallible,
                Future: Send + 'static,
            > + Clone
            + Send
            + Sync
            + 'static,
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let outside = Outside::default();
        let observe = ObserveLayer::new(outside.clone());
        let layer = Stack::new(layer, observe);
        Self {
            router: router(&Backend::default(), layer),
            outside,
        }
    }

    fn call(&self, ask: Ask) -> impl Future<Output = Response<AxumBody>> + use<> {
        let request = Request::get(ask.path()).body(AxumBody::empty()).unwrap();
        let router = self.router.clone();
        async move { router.oneshot(request).await.unwrap() }
    }

    /// The answer of a handler, as it is.
    async fn passes(&self, ask: Ask) {
        let (head, body) = self.call(ask).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert!(!head.headers.contains_key("x-chassis-reject"));
        assert_eq!(body, ask.path());
        self.outside.0.lock().unwrap().take().unwrap();
    }

    async fn refuses(&self, ask: Ask, status: u16, kind: &str, class: Class) {
        let (head, body) = self.call(ask).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.status, status);
        assert_eq!(head.headers["content-type"], "application/problem+json");
        assert_eq!(head.headers["x-chassis-reject"], kind);
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem["status"], status);
        let verdict = self.outside.0.lock().unwrap().take().unwrap();
        assert_eq!(
            (verdict.class(), verdict.http_status()),
            (class, Some(status))
        );
    }
}

/// Asks one thing after the other; the last one is refused.
macro_rules! refused {
    ($($name:ident: $layer:expr, [$($asked:ident)*] $last:ident => $status:literal, $kind:literal, $class:ident;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            let app = App::new($layer);
            $(app.passes(Ask::$asked).await;)*
            app.refuses(Ask::$last, $status, $kind, Class::$class).await;
        }
    )*};
}

refused! {
    breaker: rows::breaker().layer.respond(),
        [One Broken Broken] One => 503, "circuit-open", Refused;
    breaker_until_end: rows::breaker().layer.until_end().respond(),
        [One Broken Broken] Two => 503, "circuit-open", Refused;
    breaker_by_key: rows::breaker().layer.keyed(by_host).respond(),
        [One Broken Broken] Two => 503, "circuit-open", Refused;
    rate_limit: rows::rate_limit().layer.respond(),
        [One Broken Two] One => 429, "rate-limited", Refused;
    rate_limit_by_key: rows::rate_limit().layer.keyed(by_host).respond(),
        [One Broken Two] One => 429, "rate-limited", Refused;
    timeout: rows::timeout().layer.respond(),
        [One Broken] Slow => 504, "timeout", Timeout;
    deadline: rows::accept().layer.respond(),
        [One Broken] Slow => 504, "timeout", Timeout;
    shed: rows::shed().layer.respond(),
        [One Broken Two] Two => 503, "overloaded", Refused;
    lossless_audit: full_audit().respond(),
        [One Broken] Two => 503, "overloaded", Refused;
    lossless_audit_until_head: full_audit().until_head().respond(),
        [One Broken] Two => 503, "overloaded", Refused;
    balance: RespondingBalanceLayer,
        [] One => 503, "no-endpoint", Refused;
}

/// Nobody takes a record out.
fn full_audit() -> LosslessAuditLayer {
    let (places, records) = mpsc::channel(2);
    tokio::spawn(async move {
        let _records: mpsc::Receiver<AuditRecord> = records;
        pending::<()>().await;
    });
    LosslessAuditLayer::new(AuditPolicy::default(), places)
}

fn by_host(_: &Request<AxumBody>) -> Option<u32> {
    Some(7)
}

/// A balancer without an endpoint.
#[derive(Clone)]
struct RespondingBalanceLayer;

impl<S: Clone + Send + Sync + 'static> Layer<S> for RespondingBalanceLayer {
    type Service = Balance<S, RoundRobin, Respond<UntilHead<Auto>>>;
    fn layer(&self, inner: S) -> Self::Service {
        rows::BalanceLayer::new(&[]).layer(inner).respond()
    }
}

#[tokio::test(start_paused = true)]
async fn bulkhead() {
    let policy = BulkheadPolicy::new(2).unwrap();
    two_at_once(App::new(BulkheadLayer::new(policy).respond())).await;
}

#[tokio::test(start_paused = true)]
async fn adaptive() {
    let policy = AdaptivePolicy::default().with(|config| {
        (config.start, config.min, config.max) = (2, 2, 2);
        config.queue = 0.0;
    });
    let layer = AdaptiveLayer::new(policy.unwrap());
    two_at_once(App::new(layer.clone().respond())).await;
    two_at_once(App::new(layer.fresh().until_end().respond())).await;
}

async fn two_at_once(app: App) {
    app.passes(Ask::One).await;
    app.passes(Ask::Broken).await;
    let mut held = [app.call(Ask::Slow), app.call(Ask::Slow)].map(Box::pin);
    for call in &mut held {
        let polled = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending()));
        assert!(polled.await);
    }
    app.refuses(Ask::One, 503, "overloaded", Class::Refused)
        .await;
    drop(held);
    app.outside.0.lock().unwrap().take();
    app.passes(Ask::Two).await;
}

#[derive(Debug)]
struct Broke;

impl fmt::Display for Broke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it broke")
    }
}

impl std::error::Error for Broke {}

/// A service with an error type of its own.
#[derive(Clone)]
struct Breaks;

impl Service<Request<Body>> for Breaks {
    type Response = Response<Body>;
    type Error = Broke;
    type Future = Ready<Result<Response<Body>, Broke>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broke>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Request<Body>) -> Self::Future {
        ready(Err(Broke))
    }
}

/// The error type is that of the inner service, and its errors are none of the layer's.
async fn passes_errors<L, B>(layer: L)
where
    L: Layer<Breaks>,
    L::Service: Service<Request<Body>, Response = Response<B>, Error = Broke>,
{
    let result = layer.layer(Breaks).oneshot(Request::default()).await;
    assert!(matches!(result, Err(Broke)));
}

#[tokio::test(start_paused = true)]
async fn errors_from_inside_pass_as_they_are() {
    fn by_host(_: &Request<Body>) -> Option<u32> {
        Some(7)
    }
    passes_errors(rows::breaker().layer.respond()).await;
    passes_errors(rows::breaker().layer.until_end().respond()).await;
    passes_errors(rows::breaker().layer.keyed(by_host).respond()).await;
    passes_errors(rows::rate_limit().layer.respond()).await;
    passes_errors(rows::rate_limit().layer.keyed(by_host).respond()).await;
    passes_errors(rows::bulkhead().layer.respond()).await;
    passes_errors(rows::bulkhead().layer.until_end().respond()).await;
    passes_errors(rows::adaptive().layer.respond()).await;
    passes_errors(rows::adaptive().layer.until_end().respond()).await;
    passes_errors(rows::shed().layer.respond()).await;
    passes_errors(full_audit().respond()).await;
    passes_errors(full_audit().until_head().respond()).await;
    passes_errors(rows::timeout().layer.respond()).await;
    passes_errors(rows::accept().layer.respond()).await;
    passes_errors(rows::propagate().layer.respond()).await;
    let balance = layer_fn(|inner| rows::balance().layer.layer(inner).respond());
    passes_errors(balance).await;
}
