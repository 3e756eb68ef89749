//! Over real sockets, to a collector behind tonic and one behind hyper.

use opentelemetry_proto::tonic::{
    metrics::v1::{AggregationTemporality, metric, number_data_point},
    trace::v1::{span::SpanKind, status::StatusCode},
};

use super::{
    super::{Otlp, Protocol},
    SECOND, START, attribute,
    collector::Collector,
    policy, put, snapshot, told,
};

async fn arrives(protocol: Protocol) {
    let collector = Collector::default();
    let address = match protocol {
        Protocol::Grpc => collector.grpc().await,
        Protocol::HttpProtobuf => collector.http().await,
    };
    let (otlp, worker) = Otlp::new(policy(|config| {
        config.endpoint = Some(format!("http://{address}/"));
        config.protocol = protocol;
        config.headers = [("x-key".to_owned(), "geheim".to_owned())].into();
        config.resource = [("deployment.environment.name".to_owned(), "test".to_owned())].into();
        // The collector behind tonic has no gzip; rotel has.
        #[cfg(feature = "compress")]
        if protocol == Protocol::HttpProtobuf {
            config.metrics.compression = Some(super::super::Compression::Gzip);
        }
    }));
    assert!(!format!("{otlp:?}").contains("geheim"));
    otlp.metrics(snapshot);
    let worker = tokio::spawn(worker);
    assert_eq!(otlp.check().await, []);
    put(&otlp, 0..700);
    otlp.flush(5 * SECOND).await.unwrap();
    collector.with(|got| {
        got.batches.retain(|&count| count > 0);
        assert_eq!(got.batches, [512, 188]);
        assert!(
            got.headers
                .iter()
                .all(|headers| headers["x-key"] == "geheim")
        );
        let ids = got.spans.iter().map(|span| span.span_id.clone());
        assert_eq!(ids.collect::<std::collections::HashSet<_>>().len(), 700);
        let span = &got.spans[0];
        assert_eq!(span.trace_id, [7; 16]);
        assert_eq!(span.span_id, 1u64.to_be_bytes());
        assert_eq!(span.parent_span_id, 1_000_001u64.to_be_bytes());
        assert_eq!((&*span.trace_state, &*span.name), ("vendor=x", "GET"));
        // Sampled, and its parent is another process.
        assert_eq!((span.flags, span.kind), (0x301, SpanKind::Server as i32));
        let start = u64::try_from(START.as_nanos()).unwrap();
        assert_eq!(
            (span.start_time_unix_nano, span.end_time_unix_nano),
            (start, start + 5_000_000)
        );
        assert_eq!(span.status.as_ref().unwrap().code, StatusCode::Error as i32);
        assert_eq!(
            attribute(&span.attributes, "url.path").as_deref(),
            Some("/users/7")
        );
        assert_eq!(
            attribute(&span.attributes, "http.response.status_code").as_deref(),
            Some("500")
        );
        assert_eq!(
            got.scopes.iter().collect::<Vec<_>>(),
            ["tower-chassis-observe"]
        );

        for resource in &got.resources {
            let value = |name| attribute(&resource.attributes, name);
            assert_eq!(value("service.name").as_deref(), Some("shop"));
            assert_eq!(
                value("deployment.environment.name").as_deref(),
                Some("test")
            );
            assert_eq!(value("telemetry.sdk.language").as_deref(), Some("rust"));
            assert_eq!(value("service.instance.id").unwrap().len(), 36);
        }
        metrics_are_as_measured(&got.metrics);
        // At the check and at the flush.
        let compressed = cfg!(feature = "compress") && protocol == Protocol::HttpProtobuf;
        assert_eq!(got.compressed, if compressed { 2 } else { 0 });
    });
    otlp.shutdown(5 * SECOND).await.unwrap();
    worker.await.unwrap();
    let tally = otlp.span_tally();
    assert_eq!((tally.sent, tally.lost, tally.waiting), (700, 0, 0));
    // Three series, at the flush and at the end.
    let tally = otlp.metric_tally();
    assert_eq!((tally.sent, tally.lost), (6, 0));
    // Nobody takes what comes now.
    put(&otlp, 0..3);
    assert_eq!(otlp.span_tally().lost, 3);
    otlp.shutdown(SECOND).await.unwrap();
    assert!(otlp.flush(SECOND).await.unwrap_err().is_gone());
}

fn metrics_are_as_measured(metrics: &[opentelemetry_proto::tonic::metrics::v1::Metric]) {
    let [counter, gauge, histogram] = metrics else {
        panic!("{metrics:?}")
    };
    let start = u64::try_from(START.as_nanos()).unwrap();
    let times = (start, start + 1_000_000_000);
    let Some(metric::Data::Sum(sum)) = &counter.data else {
        panic!("{counter:?}")
    };
    assert_eq!(counter.name, "chassis_retry_attempts_total");
    assert_eq!(counter.description, "What it says.");
    assert!(sum.is_monotonic);
    assert_eq!(
        sum.aggregation_temporality,
        AggregationTemporality::Cumulative as i32
    );
    let point = &sum.data_points[0];
    assert_eq!(point.value, Some(number_data_point::Value::AsInt(3)));
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), times);

    let Some(metric::Data::Gauge(values)) = &gauge.data else {
        panic!("{gauge:?}")
    };
    assert_eq!(gauge.unit, "1");
    let point = &values.data_points[0];
    assert_eq!(point.value, Some(number_data_point::Value::AsDouble(20.5)));
    assert_eq!(
        told(&point.attributes),
        [("name".to_owned(), "db".to_owned())]
    );

    let Some(metric::Data::Histogram(values)) = &histogram.data else {
        panic!("{histogram:?}")
    };
    assert_eq!(
        (&*histogram.name, &*histogram.unit),
        ("http.server.request.duration", "s")
    );
    assert_eq!(
        values.aggregation_temporality,
        AggregationTemporality::Cumulative as i32
    );
    let point = &values.data_points[0];
    assert_eq!((point.count, point.sum), (7, Some(9.5)));
    assert_eq!(point.bucket_counts, [2, 1, 4]);
    assert_eq!(point.explicit_bounds, [0.1, 1.0]);
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), times);
    // OpenTelemetry's own names and types.
    assert_eq!(
        attribute(&point.attributes, "http.route").as_deref(),
        Some("/a")
    );
    let status = point
        .attributes
        .iter()
        .find(|pair| pair.key == "http.response.status_code");
    let value = status.unwrap().value.clone().unwrap().value.unwrap();
    let number = opentelemetry_proto::tonic::common::v1::any_value::Value::IntValue(200);
    assert_eq!(value, number);
}

#[tokio::test]
async fn grpc_on_one_thread() {
    arrives(Protocol::Grpc).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_on_two_threads() {
    arrives(Protocol::Grpc).await;
}

#[tokio::test]
async fn http_on_one_thread() {
    arrives(Protocol::HttpProtobuf).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_on_two_threads() {
    arrives(Protocol::HttpProtobuf).await;
}

/// A collector that starts late, goes away and comes back: what is sent meanwhile is tried until it is there.
#[tokio::test]
async fn a_collector_may_come_and_go() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let collector = Collector::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let (otlp, worker) = Otlp::new(policy(|config| {
            config.endpoint = Some(format!("http://{address}"));
            config.protocol = protocol;
            config.timeout = 60 * SECOND;
        }));
        tokio::spawn(worker);
        for round in 0..3 {
            put(&otlp, round * 10..(round + 1) * 10);
            let flush = otlp.flush(60 * SECOND);
            let comes = async {
                tokio::time::sleep(SECOND / 5).await;
                collector.listen(protocol, address).await
            };
            let (flushed, listening) = tokio::join!(flush, comes);
            flushed.unwrap();
            // With all its connections.
            listening.stop().await;
        }
        assert_eq!((otlp.span_tally().sent, otlp.span_tally().lost), (30, 0));
        assert_eq!(collector.with(|got| got.spans.len()), 30);
    }
}
