//! What the shop speaks other than plain HTTP: gRPC, of which it is a server and a client, and calls of a protocol of its own.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::time::sleep;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_chassis::{
    Body, BoxError, Carrier, Events, ObserveLayer, Verdict,
    breaker::{BreakerLayer, BreakerPolicy, Mode},
    metrics::{CallMetricsLayer, ClientMetricsLayer},
    prometheus::Prometheus,
    trace::ClientTraceLayer,
    verdict::Outcome,
};

use crate::{Weather, shop::Upstream};

/// The path of the only method.
pub(crate) const RESERVE: &str = "/shop.Stock/Reserve";

/// A message as gRPC frames it: not compressed, its length, and nothing in it.
pub(crate) const EMPTY: &[u8] = &[0, 0, 0, 0, 0];

/// Asks the stock over gRPC, and writes each reservation into the ledger. In a storm somebody has forced its breaker.
pub(crate) fn stock(
    weather: Weather,
    reports: &Events,
    prometheus: &Prometheus,
) -> Result<Upstream, BoxError> {
    let breaker = BreakerPolicy::default().with(|config| config.consecutive_failures = 3)?;
    let breaker = BreakerLayer::new(breaker)
        .named("stock")
        .events(reports.clone());
    if weather == Weather::Storm {
        breaker.handle().force(Mode::ObserveOnly, None);
    }
    let ledger = ledger(prometheus);
    let served = service_fn(move |request: Request<Body>| {
        let ledger = ledger.clone();
        async move {
            request.into_body().collect().await?;
            sleep(Duration::from_millis(5)).await;
            let storm = weather == Weather::Storm;
            let written = ledger.oneshot(Entry::new(storm && fastrand::u8(..) < 90));
            let code = if written.await?.0 { "0" } else { "14" };
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", code.parse()?);
            let message = Full::new(Bytes::from_static(EMPTY));
            let body = message.with_trailers(std::future::ready(Some(Ok(trailers))));
            let answer = Response::builder().header("content-type", "application/grpc");
            Ok::<_, BoxError>(answer.body(Body::new(body))?)
        }
    });
    let service = ServiceBuilder::new()
        .layer(ObserveLayer::new((
            ClientTraceLayer::new(),
            ClientMetricsLayer::new().recorder(prometheus.recorder()),
        )))
        .layer(breaker.until_end())
        .service(served);
    let service =
        ServiceExt::<Request<Body>>::map_response(service, |answer| answer.map(Body::new));
    Ok(BoxCloneSyncService::new(service))
}

/// A call of a protocol of the shop's own.
struct Entry {
    fails: bool,
    extensions: Extensions,
}

impl Entry {
    fn new(fails: bool) -> Self {
        Self {
            fails,
            extensions: Extensions::new(),
        }
    }
}

impl Carrier for Entry {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn operation(&self) -> Cow<'_, str> {
        "write".into()
    }
}

/// Whether it is written.
struct Written(bool);

impl Outcome for Written {
    fn verdict(&self) -> Verdict {
        if self.0 {
            Verdict::SUCCESS
        } else {
            Verdict::FAILURE
        }
    }
}

fn ledger(
    prometheus: &Prometheus,
) -> impl Service<Entry, Response = Written, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
+ use<> {
    let metrics = CallMetricsLayer::new()
        .service("ledger")
        .recorder(prometheus.recorder());
    ServiceBuilder::new()
        .layer(metrics)
        .service(service_fn(async |entry: Entry| {
            sleep(Duration::from_millis(2)).await;
            Ok(Written(!entry.fails))
        }))
}
