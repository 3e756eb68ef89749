use std::{collections::HashMap, time::Duration};

use super::super::{Compression, OtlpConfig, OtlpPolicy, Protocol};

fn read(vars: &[(&str, &str)]) -> Result<OtlpConfig, String> {
    let vars: HashMap<_, _> = vars.iter().copied().collect();
    OtlpConfig::default()
        .read_vars(|name| vars.get(name).map(|&value| value.to_owned()))
        .map_err(|fault| fault.to_string())
}

#[test]
fn the_defaults_are_valid_and_go_to_localhost() {
    let policy = OtlpPolicy::default();
    let uri =
        |target: &Option<super::super::config::Target>| target.as_ref().unwrap().uri.to_string();
    let grpc = "http://localhost:4317/opentelemetry.proto.collector";
    assert_eq!(
        uri(&policy.traces),
        format!("{grpc}.trace.v1.TraceService/Export")
    );
    assert_eq!(
        uri(&policy.metrics),
        format!("{grpc}.metrics.v1.MetricsService/Export")
    );
    let over_http = |vars: &[(&str, &str)]| {
        let mut config = read(vars).unwrap();
        config.protocol = Protocol::HttpProtobuf;
        let policy = OtlpPolicy::try_from(config).unwrap();
        (uri(&policy.traces), uri(&policy.metrics))
    };
    let own = |traces: &str, metrics: &str| (traces.to_owned(), metrics.to_owned());
    assert_eq!(
        over_http(&[]),
        own(
            "http://localhost:4318/v1/traces",
            "http://localhost:4318/v1/metrics"
        )
    );
    // One for all has the paths added, one of a signal is the whole URL.
    let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a:1/otlp/");
    assert_eq!(
        over_http(&[general]),
        own("https://a:1/otlp/v1/traces", "https://a:1/otlp/v1/metrics")
    );
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:2/x");
    assert_eq!(
        over_http(&[general, traces]),
        own("http://b:2/x", "https://a:1/otlp/v1/metrics")
    );
}

#[test]
fn every_variable_is_read() {
    let config = read(&[
        ("OTEL_SDK_DISABLED", "True"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", " http://c:4318 "),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b, y=c=d,"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "t=1"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "700"),
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_METRICS_EXPORTER", "none"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=other,service.version=1.2,k8s.pod.name=p%2C1",
        ),
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1000"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "1500"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "30000"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "30000"),
    ])
    .unwrap();
    let ms = Duration::from_millis;
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut expected = OtlpConfig {
        disabled: true,
        endpoint: Some("http://c:4318".to_owned()),
        protocol: Protocol::HttpProtobuf,
        headers: [pair("x-key", "a b"), pair("y", "c=d")].into(),
        timeout: ms(2500),
        service_name: Some("shop".to_owned()),
        service_version: Some("1.2".to_owned()),
        resource: [pair("k8s.pod.name", "p,1")].into(),
        queue: 100,
        batch: 100,
        every: ms(1000),
        metrics_every: ms(30_000),
        ..OtlpConfig::default()
    };
    expected.traces.protocol = Some(Protocol::Grpc);
    expected.traces.headers = [pair("t", "1")].into();
    expected.traces.compression = Some(Compression::Gzip);
    expected.traces.timeout = Some(ms(1500));
    expected.metrics.disabled = true;
    expected.metrics.timeout = Some(ms(700));
    assert_eq!(config, expected);
    // Empty ones are not there.
    let empty = [
        ("OTEL_SERVICE_NAME", " "),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", ""),
    ];
    assert_eq!(read(&empty).unwrap(), OtlpConfig::default());
    let as_it_is = [
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "Cumulative",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "explicit_bucket_histogram",
        ),
    ];
    assert_eq!(read(&as_it_is).unwrap(), OtlpConfig::default());
}

#[test]
fn a_bad_variable_is_named_and_its_value_is_not() {
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "geheim"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "geheim"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "geheim"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "=geheim"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "geheim=%4"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "geheim=%ff"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1.5"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
        ),
    ] {
        let fault = read(&[(name, value)]).unwrap_err();
        assert!(fault.starts_with(name), "{fault}");
        assert!(!fault.contains("geheim"), "{fault}");
    }
}

#[test]
fn ranges() {
    let fault = |change: fn(&mut OtlpConfig)| {
        let mut config = OtlpConfig::default();
        change(&mut config);
        OtlpPolicy::try_from(config).unwrap_err().to_string()
    };
    assert_eq!(fault(|c| c.queue = 0), "queue must be from 1 to 1000000");
    assert_eq!(
        fault(|c| c.batch = 2049),
        "batch must be from 1 to what queue is"
    );
    assert_eq!(
        fault(|c| c.batch = 0),
        "batch must be from 1 to what queue is"
    );
    assert_eq!(
        fault(|c| c.every = Duration::ZERO),
        "every must be from 1ms to 24h"
    );
    assert_eq!(
        fault(|c| c.timeout = Duration::MAX),
        "timeout must be from 1ms to 10m"
    );
    assert_eq!(
        fault(|c| c.metrics.timeout = Some(Duration::ZERO)),
        "metrics.timeout must be from 1ms to 10m"
    );
    assert_eq!(
        fault(|c| c.traces.endpoint = Some("ftp://a".into())),
        "traces.endpoint must be http://host:port or https://host:port"
    );
    let user = fault(|c| c.endpoint = Some("http://me:geheim@a".into()));
    assert_eq!(
        user,
        "endpoint must not carry a user or a password; use headers"
    );
    let header = fault(|c| c.headers = [("a".to_owned(), "geheim\n".to_owned())].into());
    assert_eq!(header, "headers.a has a value that no header can have");
    #[cfg(not(feature = "compress"))]
    assert_eq!(
        fault(|c| c.compression = Compression::Gzip),
        "compression can be gzip only with the feature `compress`"
    );
}

#[test]
fn secrets_are_not_shown() {
    let mut config = OtlpConfig::default();
    let secret = [("authorization".to_owned(), "geheim".to_owned())];
    config.headers = secret.clone().into();
    config.traces.headers = secret.into();
    let shown = format!(
        "{config:?} {:?}",
        OtlpPolicy::try_from(config.clone()).unwrap()
    );
    assert!(
        shown.contains("authorization") && !shown.contains("geheim"),
        "{shown}"
    );
    config.endpoint = Some("http://me:geheim@a".to_owned());
    assert!(!format!("{config:?}").contains("geheim"));
}

#[cfg(feature = "config")]
#[test]
fn it_is_read_from_a_file() {
    use tower_chassis_core::config::{Format, Loader};
    let text = "endpoint: http://c:4318\nprotocol: http/protobuf\ntimeout: 3s\ntraces:\n  timeout: 500ms\n  compression: \
                gzip\nmetrics:\n  disabled: true\nresource:\n  a: b\n";
    let (_, config) = Loader::new()
        .text("x", Format::Yaml, text)
        .load_as::<OtlpConfig>()
        .unwrap();
    assert_eq!(config.protocol, Protocol::HttpProtobuf);
    assert_eq!(config.traces.timeout, Some(Duration::from_millis(500)));
    assert_eq!(config.traces.compression, Some(Compression::Gzip));
    assert!(config.metrics.disabled);
    assert_eq!(
        (config.timeout, config.batch),
        (Duration::from_secs(3), 512)
    );
}
