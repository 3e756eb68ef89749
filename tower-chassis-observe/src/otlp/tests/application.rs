//! The spans that an application makes itself.

use std::sync::Arc;

use opentelemetry::trace::{Span as _, Tracer, TracerProvider};
use tracing_subscriber::layer::SubscriberExt;

use super::{
    super::{Misfit, Otlp, Protocol},
    SECOND, attribute,
    collector::Collector,
    policy,
};
use crate::trace::{SpanSink, TraceContext};

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn spans_of_an_application_are_under_those_of_its_call() {
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    tokio::spawn(worker);
    let subscriber = tracing_subscriber::registry().with(otlp.layer());
    let sink = otlp.spans();
    let state: Arc<str> = "vendor=x".into();
    let call = |n: u8, sampled| TraceContext::new([n; 16], [n; 8], sampled).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        sink.within(&call(3, true), Some(&state), &mut || {
            // The span of the layer that makes the call's: it is sent by the sink, not a second time.
            let ours = tracing::info_span!(target: "tower_chassis::trace", "request");
            ours.in_scope(|| {
                tracing::info_span!("load", key = 7).in_scope(|| {
                    tracing::info!("halfway");
                    tracing::info_span!("read").in_scope(|| ());
                    tracing::debug_span!("detail").in_scope(|| ());
                });
            });
        });
        // A call that is not sampled has no spans under it either.
        sink.within(&call(4, false), None, &mut || {
            tracing::info_span!("silent").in_scope(|| ());
        });
        // Outside of all calls.
        tracing::info_span!("start").in_scope(|| ());
        tracing::info_span!(target: "hyper::proto", "noise").in_scope(|| ());
        tracing::info_span!(target: "h2", "noise").in_scope(|| ());
        tracing::info_span!(target: "h2ologe", "theirs").in_scope(|| ());
    });
    let mut direct = otlp.provider().tracer("by hand").start("direct");
    direct.end();
    otlp.flush(MINUTE).await.unwrap();
    collector.with(|got| {
        let mut names: Vec<_> = got.spans.iter().map(|span| &*span.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["direct", "load", "read", "start", "theirs"]);
        let find = |name: &str| got.spans.iter().find(|span| span.name == name).unwrap();
        let (load, read) = (find("load"), find("read"));
        assert_eq!(
            (&load.trace_id[..], &load.parent_span_id[..]),
            (&[3; 16][..], &[3; 8][..])
        );
        assert_eq!(load.trace_state, "vendor=x");
        assert_eq!(attribute(&load.attributes, "key").as_deref(), Some("7"));
        assert_eq!(load.events[0].name, "halfway");
        assert_eq!(read.parent_span_id, load.span_id);
        assert!(find("start").parent_span_id.is_empty());
        assert!(got.scopes.contains("by hand") && got.scopes.contains("tower-chassis-observe"));
    });
}

#[tokio::test(start_paused = true)]
async fn without_spans_of_an_application_a_poll_costs_nothing() {
    let (otlp, _worker) = Otlp::with_client(policy(|_| ()), Collector::default().client());
    let call = TraceContext::new([3; 16], [3; 8], true).unwrap();
    let mut polled = false;
    otlp.spans().within(&call, None, &mut || {
        polled = true;
        use opentelemetry::trace::TraceContextExt;
        let none = opentelemetry::Context::current();
        assert!(!none.span().span_context().is_valid());
    });
    assert!(polled);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_said() {
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    tokio::spawn(worker);
    assert_eq!(otlp.check().await, []);
    // The layer was made and is in no subscriber.
    let layer = otlp.layer();
    assert_eq!(otlp.check().await, [Misfit::Subscriber]);
    let subscriber = tracing_subscriber::registry().with(layer);
    let in_force = tracing::subscriber::set_default(subscriber);
    assert_eq!(otlp.check().await, []);
    drop(in_force);
    // One that leaves everything out.
    let shut = otlp.layer_at(tracing_subscriber::filter::LevelFilter::OFF);
    let in_force = tracing::subscriber::set_default(tracing_subscriber::registry().with(shut));
    assert_eq!(otlp.check().await, [Misfit::Subscriber]);
    drop(in_force);
    // A span of the search itself is never sent.
    otlp.flush(SECOND).await.unwrap();
    assert_eq!(collector.with(|got| got.spans.len()), 0);
}

/// The global provider is one for the process: everything about it is in this test.
#[tokio::test(start_paused = true)]
async fn the_global_provider_is_looked_at() {
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), Collector::default().client());
    tokio::spawn(worker);
    otlp.install();
    assert_eq!(otlp.check().await, []);
    let other = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
    opentelemetry::global::set_tracer_provider(other);
    let nothing = opentelemetry::propagation::TextMapCompositePropagator::new(vec![]);
    opentelemetry::global::set_text_map_propagator(nothing);
    assert_eq!(otlp.check().await, [Misfit::Provider, Misfit::Propagator]);
    for misfit in otlp.check().await {
        assert!(
            misfit.to_string().contains("cargo tree -i opentelemetry"),
            "{misfit}"
        );
    }
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_said() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let (otlp, _worker) = Otlp::new(policy(|config| {
        config.endpoint = Some(format!("http://{address}"));
    }));
    let found = otlp.check().await;
    let [
        Misfit::Unreachable {
            signal: "span",
            endpoint,
            why,
            ..
        },
        Misfit::Unreachable { .. },
    ] = &found[..]
    else {
        panic!("{found:?}")
    };
    assert_eq!(*endpoint, address.to_string());
    assert!(why.contains("refused"), "{why}");

    // The port of the other protocol.
    let collector = Collector::default();
    let address = collector.http().await;
    let (otlp, _worker) = Otlp::new(policy(|config| {
        config.endpoint = Some(format!("http://{address}"));
        config.metrics.disabled = true;
    }));
    assert_eq!(otlp.check().await.len(), 1);
    let swapped = Misfit::Unreachable {
        signal: "span",
        endpoint: "c:4318".to_owned(),
        protocol: Protocol::Grpc,
        why: "Unavailable".to_owned(),
    };
    assert!(swapped.to_string().ends_with("gRPC has 4317"));
    // A path that is not there.
    let (otlp, _worker) = Otlp::new(policy(|config| {
        config.protocol = Protocol::HttpProtobuf;
        config.traces.endpoint = Some(format!("http://{address}/wrong"));
        config.metrics.disabled = true;
    }));
    let found = otlp.check().await;
    assert!(found[0].to_string().contains("404"), "{found:?}");
}

#[tokio::test]
async fn what_sends_sends_nothing_of_itself() {
    use tracing_subscriber::filter::LevelFilter;
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let collector = Collector::default();
        let address = match protocol {
            Protocol::Grpc => collector.grpc().await,
            Protocol::HttpProtobuf => collector.http().await,
        };
        let (otlp, worker) = Otlp::new(policy(|config| {
            config.endpoint = Some(format!("http://{address}"));
            config.protocol = protocol;
        }));
        let layer = otlp.layer_at(LevelFilter::TRACE);
        let subscriber = tracing_subscriber::registry().with(layer);
        let _in_force = tracing::subscriber::set_default(subscriber);
        tokio::spawn(worker);
        for n in 1..=5 {
            tracing::trace_span!("theirs").in_scope(|| ());
            otlp.flush(5 * SECOND).await.unwrap();
            let names = collector.with(|got| {
                let names = got.spans.iter().map(|span| span.name.clone());
                names.collect::<Vec<_>>()
            });
            assert_eq!(names, vec!["theirs"; n]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn under_a_call_that_is_not_sampled_nothing_is() {
    use crate::trace::TraceLayer;
    use tower::{ServiceBuilder, ServiceExt, service_fn};
    let collector = Collector::default();
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), collector.client());
    tokio::spawn(worker);
    let subscriber = tracing_subscriber::registry().with(otlp.layer());
    let _in_force = tracing::subscriber::set_default(subscriber);
    for flags in ["00", "01"] {
        let service = ServiceBuilder::new()
            .layer(TraceLayer::new().sink(otlp.spans()))
            .service(service_fn(async |_: http::Request<()>| {
                tracing::info_span!("theirs").in_scope(|| ());
                Ok::<_, tower_chassis_core::BoxError>(http::Response::new(
                    tower_chassis_core::Body::empty(),
                ))
            }));
        let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
        let request = http::Request::get("/").header("traceparent", parent);
        service.oneshot(request.body(()).unwrap()).await.unwrap();
        otlp.flush(MINUTE).await.unwrap();
        let count = collector.with(|got| got.spans.len());
        assert_eq!(count, if flags == "00" { 0 } else { 2 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_of_ones_own_sends_nothing_of_itself() {
    use tower::{ServiceExt, service_fn};
    let collector = Collector::default();
    let inner = collector.client();
    let client = service_fn(move |request: http::Request<tower_chassis_core::Body>| {
        let call = inner.clone().oneshot(request);
        async move {
            tracing::info_span!("mine").in_scope(|| ());
            call.await
        }
    });
    let (otlp, worker) = Otlp::with_client(policy(|_| ()), client);
    let subscriber = tracing_subscriber::registry().with(otlp.layer());
    let _in_force = tracing::subscriber::set_default(subscriber);
    tokio::spawn(worker);
    tracing::info_span!("theirs").in_scope(|| ());
    for _ in 0..3 {
        otlp.flush(SECOND).await.unwrap();
    }
    let names = collector.with(|got| {
        let names = got.spans.iter().map(|span| span.name.clone());
        names.collect::<Vec<_>>()
    });
    assert_eq!(names, ["theirs"]);
}
