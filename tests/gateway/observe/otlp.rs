//! What is sent to a collector.

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::{
    LIMIT, SOON,
    collector::{Collector, attribute},
    file, says,
};
use crate::{
    load::Client,
    process::{Dir, Gateway, Process, Upstream, bounded, eventually, quiet_port},
};

/// Fails where what waits is not sent before the process ends, where a retry is no span of its own, or a secret is shown.
#[tokio::test]
async fn spans_and_metrics_are_sent_by_the_drain() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let collector = Collector::start().await;
        // Nothing is sent by itself: all comes from the drain.
        let head = format!(
            "server: {{ drain_delay: 0s }}\notlp:\n  endpoint: http://{}\n  headers: {{ x-team: \"${{env:TEAM_PASS}}\" }}\n  \
             service_name: edge\n  resource: {{ deployment.environment.name: test }}\n  every: 1h\n  metrics_every: 1h\n",
            collector.address
        );
        let service = "    retry: { attempts: 2, statuses: [500], backoff_base: 1ms }\n";
        let yaml = dir.write("gateway.yaml", &file(&head, service, &[upstream.address.port()]));
        let listen = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let args = [&["run", "--config", yaml.to_str().unwrap()], &listen[..]].concat();
        let process = Process::spawn(&dir, "otlp", &args, &[("TEAM_PASS", "geheim-17")]);
        let mut gateway = Gateway::ready(process).await;
        let config = gateway.admin_get("/config").await.text();
        assert!(config.contains("x-team: ***") && !config.contains("TEAM_PASS"), "{config}");

        let client = Client::new(gateway.address);
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let answer = client.get_with("/fail?status=500", &[("traceparent", traceparent)]).await;
        assert_eq!(answer.unwrap().status, 500);
        // One whose caller does not want it recorded is not.
        let unsampled = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let answer = client.get_with("/", &[("traceparent", unsampled)]).await;
        assert_eq!(answer.unwrap().status, 200);
        collector.with(|got| assert!(got.spans.is_empty() && got.metrics.is_empty(), "{got:?}"));
        gateway.process.signal("TERM");
        assert_eq!(gateway.process.ended(SOON).await, Some(0));

        collector.with(|got| {
            let [server] = &got.spans.iter().filter(|span| span.kind == SpanKind::Server as i32).collect::<Vec<_>>()[..]
            else {
                panic!("one call was sampled: {:#?}", got.spans)
            };
            assert_eq!(server.trace_id, 0x0af7651916cd43dd8448eb211c80319c_u128.to_be_bytes());
            assert_eq!(server.parent_span_id, 0xb7ad6b7169203331_u64.to_be_bytes());
            assert_eq!(attribute(&server.attributes, "http.route").as_deref(), Some("/*"));
            let mut tries: Vec<_> = got.spans.iter().filter(|span| span.kind == SpanKind::Client as i32).collect();
            tries.sort_by_key(|span| span.start_time_unix_nano);
            assert_eq!(tries.len(), 2, "{:#?}", got.spans);
            assert!(tries.iter().all(|span| span.parent_span_id == server.span_id && span.trace_id == server.trace_id));
            let resent = |span: &&opentelemetry_proto::tonic::trace::v1::Span| attribute(&span.attributes, "http.request.resend_count");
            assert_eq!(tries.iter().map(resent).collect::<Vec<_>>(), [None, Some("1".to_owned())]);
            let resource = &got.resources[0];
            let of = |name| attribute(&resource.attributes, name);
            assert_eq!(of("service.name").as_deref(), Some("edge"));
            assert_eq!(of("deployment.environment.name").as_deref(), Some("test"));
            assert!(got.metadata.iter().all(|data| data.get("x-team").is_some_and(|team| team == "geheim-17")));
            for name in ["http.server.request.duration", "chassis_runtime_workers", "process_open_fds", "chassis_allocator_bytes"] {
                assert!(got.metrics.iter().any(|metric| metric == name), "no {name}: {:?}", got.metrics);
            }
        });
        let said = gateway.process.stderr();
        assert!(!said.contains("geheim") && !said.contains("tower_chassis::otlp"), "{said}");
    })
    .await;
}

/// Fails where telemetry is lost without a word.
#[tokio::test]
async fn a_collector_that_is_not_there_is_told_of() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let port = quiet_port();
        let head = format!(
            "otlp: {{ endpoint: \"http://127.0.0.1:{port}\", timeout: 200ms, every: 100ms }}\n"
        );
        let mut gateway = Gateway::start(&dir, &file(&head, "", &[upstream.address.port()])).await;
        for signal in ["span", "metric"] {
            says(
                &gateway.process,
                &format!("no {signal} arrives at 127.0.0.1:{port} by grpc"),
            )
            .await;
        }
        let answer = Client::new(gateway.address).get("/").await.unwrap();
        assert_eq!(answer.status, 200);
        let lost = "chassis_telemetry_lost_total{signal=\"span\"}";
        eventually("the spans that are lost are counted", SOON, async || {
            (super::value(&gateway, lost).await == Some(2.0)).then_some(())
        })
        .await;
        // And nobody waits for it at the end for long.
        gateway.process.signal("INT");
        assert_eq!(gateway.process.ended(SOON).await, Some(0));
    })
    .await;
}

/// Fails where the share of traces that are recorded needs a restart, or what callers have decided is not kept.
#[tokio::test]
async fn sampling_changes_while_it_runs() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let yaml = |ratio: &str| {
            let head = format!("log: {{ access: off }}\ntrace: {{ ratio: {ratio} }}\n");
            file(&head, "", &[upstream.address.port()])
        };
        let gateway = Gateway::start(&dir, &yaml("0")).await;
        let client = Client::new(gateway.address);
        let flags = async |sent: &[(&str, &str)]| {
            let got = client.get_with("/headers", sent).await.unwrap().json();
            let header = got["traceparent"].as_str().unwrap_or_default().to_owned();
            header.rsplit_once('-').map(|(_, flags)| flags.to_owned())
        };
        let sampled = [(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        )];
        assert_eq!(flags(&[]).await.as_deref(), Some("00"));
        assert_eq!(flags(&sampled).await.as_deref(), Some("01"));
        super::rewrite(&dir, &gateway, 2, &yaml("1")).await;
        eventually("new traces are recorded", SOON, async || {
            (flags(&[]).await.as_deref() == Some("01")).then_some(())
        })
        .await;
    })
    .await;
}
