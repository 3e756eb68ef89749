//! Metrics of calls that are not HTTP, through a real exporter, and what every metrics layer's handle does.

use std::{
    borrow::Cow,
    convert::Infallible,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use crate::support::{Routes, endless, find, get, one};
use http::{Extensions, Request};
use http_body_util::BodyExt;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_chassis_core::{
    BoxError, Carrier, Class, Kind, Live, Rejection, Verdict, verdict::Outcome,
};
use tower_chassis_observe::{
    ObserveLayer,
    metrics::{
        CallMetricsLayer, ClientMetricsLayer, MetricsConfig, MetricsHandle, MetricsPolicy,
        ServerMetricsLayer,
    },
    prometheus::Prometheus,
};

const COUNT: &str = "chassis_call_duration_seconds_count";
const ACTIVE: &str = "chassis_calls_active";

/// A call of a protocol of its own, which says how it will end.
#[derive(Default)]
struct Ask {
    operation: &'static str,
    end: Option<End>,
    extensions: Extensions,
}

#[derive(Clone, Copy)]
enum End {
    Late,
    Refused,
    Panic,
    Never,
}

struct Answer(Class);

impl Outcome for Answer {
    fn verdict(&self) -> Verdict {
        Verdict::new(self.0)
    }
}

impl Carrier for Ask {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn operation(&self) -> Cow<'_, str> {
        self.operation.into()
    }
}

fn ask(operation: &'static str) -> Ask {
    Ask {
        operation,
        ..Ask::default()
    }
}

fn ends(end: End) -> Ask {
    Ask {
        operation: "get",
        end: Some(end),
        ..Ask::default()
    }
}

async fn answer(ask: Ask) -> Result<Answer, BoxError> {
    match ask.end {
        None => Ok(Answer(Class::Success)),
        Some(End::Late) => {
            tokio::time::sleep(Duration::from_millis(70)).await;
            Ok(Answer(Class::RateLimited))
        }
        Some(End::Refused) => Err(Rejection::new(Kind::Overloaded, "x").into()),
        Some(End::Panic) => panic!("planted"),
        Some(End::Never) => std::future::pending().await,
    }
}

fn layer() -> (Prometheus, CallMetricsLayer) {
    let prometheus = Prometheus::new();
    let layer = CallMetricsLayer::new().recorder(prometheus.recorder());
    (prometheus, layer)
}

#[tokio::test(start_paused = true)]
async fn every_way_a_call_can_end_is_an_outcome() {
    let (prometheus, layer) = layer();
    let layer = layer.service("shop");
    let handle = layer.handle();
    let service = layer.layer(service_fn(answer));
    for _ in 0..2 {
        assert!(service.clone().oneshot(ask("get")).await.is_ok());
    }
    assert!(service.clone().oneshot(ends(End::Late)).await.is_ok());
    assert!(service.clone().oneshot(ends(End::Refused)).await.is_err());
    let panics = service.clone();
    let panicked = tokio::spawn(async move { panics.oneshot(ends(End::Panic)).await.map(drop) });
    assert!(panicked.await.unwrap_err().is_panic());
    {
        let mut call = pin!(service.oneshot(ends(End::Never)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert_eq!(
            one(&prometheus.render(), ACTIVE, &[r#"service="shop""#]),
            1.0
        );
        assert_eq!((handle.calls(), handle.in_flight()), (6, 1));
        tokio::time::advance(Duration::from_secs(2)).await;
    }
    let text = prometheus.render();
    for (outcome, count) in [
        ("success", 2.0),
        ("rate-limited", 1.0),
        ("refused", 1.0),
        ("failure", 1.0),
        ("cancelled", 1.0),
    ] {
        let outcome = format!(r#"outcome="{outcome}""#);
        let labels = [r#"service="shop""#, r#"operation="get""#, &outcome];
        assert_eq!(one(&text, COUNT, &labels), count, "{outcome}");
    }
    assert_eq!(find(&text, COUNT, &[]).len(), 5);
    let sum = "chassis_call_duration_seconds_sum";
    assert_eq!(one(&text, sum, &["rate-limited"]), 0.07);
    assert_eq!(one(&text, sum, &["cancelled"]), 2.0);
    assert_eq!(one(&text, ACTIVE, &[]), 0.0);
    assert_eq!((handle.calls(), handle.in_flight()), (6, 0));
}

#[tokio::test]
async fn the_service_is_named_by_the_layer_or_by_the_call() {
    let (prometheus, layer) = layer();
    let named = layer.clone().service("mine").layer(service_fn(answer));
    let by_call = layer.layer(service_fn(answer));
    let to = |service: &str| {
        let mut ask = ask("");
        ask.invocation_mut().set_service(Arc::from(service));
        ask
    };
    assert!(named.oneshot(to("theirs")).await.is_ok());
    assert!(by_call.clone().oneshot(to("theirs")).await.is_ok());
    assert!(by_call.oneshot(ask("")).await.is_ok());
    let text = prometheus.render();
    for service in ["mine", "theirs", "unknown"] {
        let service = format!(r#"service="{service}""#);
        assert_eq!(
            one(&text, COUNT, &[&service, r#"operation="unknown""#]),
            1.0
        );
        assert_eq!(one(&text, ACTIVE, &[&service]), 0.0);
    }
}

#[tokio::test]
async fn whoever_makes_up_names_makes_no_series() {
    let (prometheus, layer) = layer();
    let layer = layer.policy(
        MetricsPolicy::default()
            .with(|config| config.names = 2)
            .unwrap(),
    );
    let service = layer.layer(service_fn(answer));
    for operation in ["a", "b", "c", "d", "a"] {
        assert!(service.clone().oneshot(ask(operation)).await.is_ok());
    }
    for name in ["x", "y"] {
        let mut ask = ask("a");
        ask.invocation_mut().set_service(Arc::from(name));
        assert!(service.clone().oneshot(ask).await.is_ok());
    }
    let text = prometheus.render();
    let count = |service: &str, operation: &str| {
        let (service, operation) = (
            format!(r#"service="{service}""#),
            format!(r#"operation="{operation}""#),
        );
        one(&text, COUNT, &[&service, &operation])
    };
    assert_eq!(count("unknown", "a"), 2.0);
    assert_eq!(count("unknown", "b"), 1.0);
    assert_eq!(count("unknown", "_OTHER"), 2.0);
    assert_eq!((count("x", "a"), count("_OTHER", "a")), (1.0, 1.0));
    assert_eq!(find(&text, COUNT, &[]).len(), 5);

    let named = layer.clone().service("mine").layer(service_fn(answer));
    for operation in ["a", "b", "c"] {
        assert!(named.clone().oneshot(ask(operation)).await.is_ok());
    }
    let other = [r#"service="mine""#, r#"operation="_OTHER""#];
    assert_eq!(one(&prometheus.render(), COUNT, &other), 1.0);

    // More room, while it runs: those that are still unknown get names.
    layer.handle().update(|config| config.names = 3).unwrap();
    assert!(service.clone().oneshot(ask("d")).await.is_ok());
    assert_eq!(one(&prometheus.render(), COUNT, &[r#""d""#]), 1.0);

    // There is room for it, but not for so much.
    layer.handle().update(|config| config.names = 9).unwrap();
    let long = "x".repeat(257).leak();
    assert!(service.oneshot(ask(long)).await.is_ok());
    let other = [r#"service="unknown""#, r#"operation="_OTHER""#];
    assert_eq!(one(&prometheus.render(), COUNT, &other), 3.0);
}

#[tokio::test]
async fn it_is_a_part_of_an_observer() {
    #[derive(Clone)]
    struct Words(Arc<std::sync::Mutex<Vec<String>>>);
    impl tower_chassis_core::wire::Start<Ask> for Words {
        type Ticket = ();
        fn start(&self, ask: &mut Ask, _: tokio::time::Instant) {
            self.0.lock().unwrap().push(ask.operation.to_owned());
        }
    }
    let (prometheus, layer) = layer();
    let words = Words(Arc::default());
    let observe = ObserveLayer::new((words.clone(), layer.service("shop")))
        .until_head()
        .classify_fn(|_: Result<&Answer, &BoxError>| Verdict::new(Class::ClientFault));
    let service = observe.layer(service_fn(answer));
    assert!(service.oneshot(ask("get")).await.is_ok());
    assert_eq!(*words.0.lock().unwrap(), ["get"]);
    let labels = [r#"operation="get""#, r#"outcome="client-fault""#];
    assert_eq!(one(&prometheus.render(), COUNT, &labels), 1.0);
}

#[tokio::test]
async fn until_the_end_of_a_body_it_is_active() {
    let (prometheus, layer) = layer();
    let handle = layer.handle();
    let service = layer.until_end().layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(endless().1)
    }));
    let response = service.oneshot(get("/")).await.unwrap();
    assert_eq!(one(&prometheus.render(), ACTIVE, &[]), 1.0);
    assert_eq!(handle.in_flight(), 1);
    let _ = response.into_body().collect().await;
    let text = prometheus.render();
    assert_eq!(one(&text, ACTIVE, &[]), 0.0);
    assert_eq!(
        one(
            &text,
            COUNT,
            &[r#"operation="GET""#, r#"outcome="success""#]
        ),
        1.0
    );
}

/// Runs calls through the three layers, under the names of their histogram and gauge.
async fn everywhere(
    live: &Live<MetricsPolicy>,
    check: impl AsyncFn(&Prometheus, &dyn AsyncCall, &MetricsHandle, (&str, &str)),
) {
    let prometheus = Prometheus::new();
    let recorder = || prometheus.recorder();
    let routes = Routes::default();
    let layer = ServerMetricsLayer::new()
        .recorder(recorder())
        .policy(live.clone());
    let server = layer.layer(service_fn(move |request| routes.clone().call(request)));
    let names = (
        "http_server_request_duration_seconds_count",
        "http_server_active_requests",
    );
    check(&prometheus, &server, &layer.handle(), names).await;
    let routes = Routes::default();
    let layer = ClientMetricsLayer::new()
        .policy(live.clone())
        .recorder(recorder());
    let client = layer.layer(service_fn(move |request| routes.clone().call(request)));
    let names = (
        "http_client_request_duration_seconds_count",
        "http_client_active_requests",
    );
    check(&prometheus, &client, &layer.handle(), names).await;
    let routes = Routes::default();
    let layer = CallMetricsLayer::new()
        .policy(live.clone())
        .recorder(recorder())
        .service("shop");
    let call = layer.layer(service_fn(move |request| routes.clone().call(request)));
    check(&prometheus, &call, &layer.handle(), (COUNT, ACTIVE)).await;
}

/// A service for HTTP, whatever its body.
trait AsyncCall {
    fn call<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + 'a>>;
}

impl<S> AsyncCall for S
where
    S: Service<Request<()>, Error = Infallible> + Clone,
{
    fn call<'a>(&'a self) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(async { drop(self.clone().oneshot(get("/users/1")).await) })
    }
}

#[tokio::test]
async fn histograms_and_gauges_go_on_and_off_while_it_runs() {
    let live = Live::new(MetricsPolicy::default());
    everywhere(
        &live,
        async |prometheus, service, handle, (count, active)| {
            let set = |durations, active| {
                let config = MetricsConfig {
                    durations,
                    active,
                    sizes: false,
                    ..MetricsConfig::default()
                };
                live.set(MetricsPolicy::try_from(config).unwrap()).unwrap();
            };
            set(false, false);
            service.call().await;
            let text = prometheus.render();
            assert!(find(&text, count, &[]).is_empty() && find(&text, active, &[]).is_empty());
            set(true, false);
            service.call().await;
            let text = prometheus.render();
            assert_eq!(one(&text, count, &[]), 1.0);
            assert!(find(&text, active, &[]).is_empty());
            set(false, true);
            service.call().await;
            let text = prometheus.render();
            assert_eq!(
                (one(&text, count, &[]), one(&text, active, &[])),
                (1.0, 0.0)
            );
            set(true, true);
            service.call().await;
            assert_eq!(one(&prometheus.render(), count, &[]), 2.0);
            assert_eq!(handle.calls(), 3, "what is not measured is not counted");
        },
    )
    .await;
}

#[tokio::test]
async fn a_call_that_began_with_the_gauge_gives_it_back_without() {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let handle = layer.handle();
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request| routes.clone().call(request)));
    {
        let mut begun = pin!(service.clone().oneshot(get("/slow")));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(begun.as_mut().poll(&mut cx).is_pending());
        handle.update(|config| config.active = false).unwrap();
        let mut second = pin!(service.oneshot(get("/slow")));
        assert!(second.as_mut().poll(&mut cx).is_pending());
        handle.update(|config| config.active = true).unwrap();
        assert_eq!(handle.in_flight(), 2);
    }
    let text = prometheus.render();
    assert_eq!(one(&text, "http_server_active_requests", &[]), 0.0);
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test]
async fn fresh_is_the_same_settings_and_counts_of_its_own() {
    let (prometheus, layer) = layer();
    let layer = layer.service("shop");
    let clone = layer.clone();
    let fresh = layer.fresh();
    for layer in [&layer, &clone, &fresh] {
        let service = layer.layer(service_fn(answer));
        assert!(service.oneshot(ask("get")).await.is_ok());
    }
    assert_eq!((layer.handle().calls(), clone.handle().calls()), (2, 2));
    assert_eq!(fresh.handle().calls(), 1);
    assert_eq!(
        one(&prometheus.render(), COUNT, &[r#"service="shop""#]),
        3.0
    );
    layer
        .handle()
        .update(|config| config.durations = false)
        .unwrap();
    assert!(!fresh.handle().config().load().config().durations);
    assert!(layer.handle().update(|config| config.names = 0).is_err());
}
