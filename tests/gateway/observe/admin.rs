//! The admin listener: health, events, metrics, profiles.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Duration, timeout};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{LIMIT, SOON, ask, file, value};
use crate::{
    load::{Client, connect},
    process::{Dir, Gateway, Upstream, bounded, eventually, run},
};

const FRAGILE: &str = "    breaker: { consecutive_failures: 2, open_base: 1s, open_max: 1s }\n    retry: { attempts: 1 }\n";

/// What gRPC's health protocol says of the gateway.
async fn serving(gateway: &Gateway) -> i32 {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", gateway.admin));
    let channel = channel.unwrap().connect().await.unwrap();
    let asked = HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await;
    asked.unwrap().into_inner().status
}

/// Fails where readiness does not follow the services that the file names, or never comes back without traffic.
#[tokio::test]
async fn readiness_follows_upstreams_that_are_required() {
    bounded(LIMIT, async {
        for (ready, status, line) in [
            ("required", 503, "not ready: upstreams\n"),
            ("degraded", 200, "degraded: upstreams\n"),
            ("always", 200, "ok\n"),
        ] {
            let dir = Dir::new();
            let mut upstream = Upstream::start(&dir, "v1", "a").await;
            let port = upstream.address.port();
            let service = format!("    ready: {ready}\n{FRAGILE}");
            let gateway = Gateway::start(&dir, &file("", &service, &[port])).await;
            assert_eq!(gateway.admin_get("/readyz").await.text(), "ok\n");
            assert_eq!(serving(&gateway).await, 1);
            upstream.process.kill().await;
            let client = Client::new(gateway.address);
            for _ in 0..2 {
                assert_eq!(client.get("/").await.unwrap().status, 502);
            }
            let answer = gateway.admin_get("/readyz").await;
            assert_eq!((answer.status, &*answer.text()), (status, line), "{ready}");
            if ready == "required" {
                assert_eq!(serving(&gateway).await, 2);
                let page = gateway.admin_get("/readyz?verbose").await.text();
                assert!(page.contains("no endpoint of shop can be called"), "{page}");
                let health = "chassis_health{name=\"upstreams\",kind=\"ready\"}";
                assert_eq!(value(&gateway, health).await, Some(0.0));
                // No request comes any more: it has to be ready again by itself, to let probes pass.
                let _again = Upstream::start_at(&dir, "v1", "b", port).await;
                eventually("ready again", SOON, async || {
                    (gateway.admin_status("/readyz").await == Some(200)).then_some(())
                })
                .await;
                ask(&client, "/", 1).await;
            }
            // Whatever becomes of the others, it lives.
            assert_eq!(gateway.admin_get("/livez").await.text(), "ok\n");
            assert_eq!(gateway.admin_get("/startupz").await.text(), "ok\n");
        }
    })
    .await;
}

/// Fails where a service that has lost all of its endpoints is ready.
#[tokio::test]
async fn a_required_service_without_endpoints_is_not_ready() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let service = "    ready: required\n";
        let yaml = file("", service, &[upstream.address.port()]);
        let gateway = Gateway::start(&dir, &yaml).await;
        let empty = file("", service, &[]).replace("endpoints:\n", "endpoints: []\n");
        super::rewrite(&dir, &gateway, 2, &empty).await;
        eventually("not ready", SOON, async || {
            (gateway.admin_status("/readyz").await == Some(503)).then_some(())
        })
        .await;
        super::rewrite(&dir, &gateway, 3, &yaml).await;
        eventually("ready", SOON, async || {
            (gateway.admin_status("/readyz").await == Some(200)).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn events_are_streamed_until_the_end() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let mut upstream = Upstream::start(&dir, "v1", "a").await;
        let port = upstream.address.port();
        let head = "server: { drain_delay: 0s }\n";
        let mut gateway = Gateway::start(&dir, &file(head, FRAGILE, &[port])).await;
        let mut stream = connect(gateway.admin, None, None).await.unwrap();
        let request = "GET /events?kinds=breaker HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let until = async |got: &mut Vec<u8>, stream: &mut tokio::net::TcpStream, what: &str| {
            while !String::from_utf8_lossy(got).contains(what) {
                let more = timeout(SOON, stream.read_buf(got))
                    .await
                    .expect(what)
                    .unwrap();
                assert!(
                    more > 0,
                    "it has ended without {what}: {}",
                    String::from_utf8_lossy(got)
                );
            }
        };
        until(&mut got, &mut stream, "retry: 3000").await;
        upstream.process.kill().await;
        let client = Client::new(gateway.address);
        for _ in 0..2 {
            assert_eq!(client.get("/").await.unwrap().status, 502);
        }
        until(&mut got, &mut stream, "\"to\":\"open\"").await;
        let text = String::from_utf8_lossy(&got).into_owned();
        let named = format!("event: breaker\ndata: {{\"name\":\"http://127.0.0.1:{port}\"");
        assert!(
            text.contains("text/event-stream") && text.contains(&named),
            "{text}"
        );
        assert!(!text.contains("event: refused"), "{text}");

        // A stream ends with the gateway, and does not hold it up.
        gateway.process.signal("TERM");
        assert_eq!(
            gateway.process.ended(Duration::from_secs(10)).await,
            Some(0)
        );
        while timeout(SOON, stream.read_buf(&mut got))
            .await
            .unwrap()
            .is_ok_and(|more| more > 0)
        {}
        assert!(
            got.ends_with(b"0\r\n\r\n"),
            "cut: {}",
            String::from_utf8_lossy(&got)
        );
    })
    .await;
}

#[tokio::test]
async fn the_page_runs_nothing_but_its_own_script() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let gateway = Gateway::demo(&dir).await;
        let page = gateway.admin_get("/").await;
        assert!(
            page.header("content-type").starts_with("text/html"),
            "{page:?}"
        );
        let policy = page.header("content-security-policy").to_owned();
        assert!(
            policy.contains("default-src 'none'") && policy.contains("script-src 'self'"),
            "{policy}"
        );
        assert_eq!(page.text().matches("<script").count(), 1);
        assert!(page.text().contains(r#"<script src="/admin.js">"#));
        let script = gateway.admin_get("/admin.js").await.text();
        assert!(
            script.contains(r#"const kinds = ["breaker","#) && script.contains(r#""missed"]"#),
            "{script}"
        );
        assert!(!script.contains("innerHTML"), "names are text");
    })
    .await;
}

/// Fails where something of the process is not shown, or shown without a word of what it is.
#[tokio::test]
async fn metrics_tell_of_the_process_and_of_what_they_are() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let gateway = Gateway::demo(&dir).await;
        // Kept: its connection is counted while it is open.
        let client = Client::new(gateway.address);
        ask(&client, "/", 20).await;
        let page = gateway.admin_get("/metrics").await.text();
        for series in [
            "chassis_runtime_workers ",
            "chassis_runtime_worker_busy_seconds{worker=\"0\"} ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "chassis_allocator_bytes{kind=\"allocated\"} ",
            "chassis_allocator_bytes{kind=\"resident\"} ",
            "chassis_server_connections{name=\"gateway\"} 1",
            "chassis_server_connections{name=\"admin\"} ",
            "chassis_client_connections{name=\"shop\"} ",
            "chassis_health{name=\"upstreams\",kind=\"ready\"} 1",
            "chassis_telemetry_lost_total{signal=\"log\"} 0",
        ] {
            assert!(
                page.lines().any(|line| line.starts_with(series)),
                "no {series}\n{page}"
            );
        }
        let allocated = value(&gateway, "chassis_allocator_bytes{kind=\"allocated\"}")
            .await
            .unwrap();
        let resident = value(&gateway, "chassis_allocator_bytes{kind=\"resident\"}")
            .await
            .unwrap();
        assert!(
            allocated > 100_000.0 && allocated < resident,
            "{allocated} {resident}"
        );
        for name in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let name = name.split(' ').next().unwrap();
            assert!(
                page.contains(&format!("# HELP {name} ")),
                "{name} is not described"
            );
        }
        drop(client);
    })
    .await;
}

/// Fails where a profile is made for whom nobody let in.
#[tokio::test]
async fn profiles_are_for_whom_the_file_lets_in() {
    const PATH: &str = "/debug/pprof/profile?seconds=1";
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let yaml = |head: &str| file(head, "", &[upstream.address.port()]);
        let gateway = Gateway::start(&dir, &yaml("")).await;
        assert_eq!(
            gateway.admin_status(PATH).await,
            Some(404),
            "without a guard"
        );
        for (profiler, why) in [
            ("{}", "must say who may have a profile"),
            ("{ loopback: true, token: x }", "not both"),
            ("{ token: \"\" }", "must not be empty"),
        ] {
            let bad = dir.write(
                "bad.yaml",
                &yaml(&format!("admin: {{ profiler: {profiler} }}\n")),
            );
            let said = run(&["check", "--config", bad.to_str().unwrap()], &[]).await;
            assert_eq!(said.code, Some(1), "{said:?}");
            assert!(
                said.stderr.contains(why) && said.stderr.contains("admin.profiler"),
                "{said:?}"
            );
        }
        if cfg!(not(feature = "profile")) {
            let bad = dir.write(
                "bad.yaml",
                &yaml("admin: { profiler: { loopback: true } }\n"),
            );
            let said = run(&["check", "--config", bad.to_str().unwrap()], &[]).await;
            assert!(
                said.code == Some(1) && said.stderr.contains("feature `profile`"),
                "{said:?}"
            );
            return;
        }
        let gateway = Gateway::start(&dir, &yaml("admin: { profiler: { token: geheim } }\n")).await;
        assert_eq!(gateway.admin_status(PATH).await, Some(401));
        let config = gateway.admin_get("/config").await.text();
        assert!(
            config.contains("token: ***") && !config.contains("geheim"),
            "{config}"
        );
        let admin = Client::new(gateway.admin);
        let answer = admin
            .get_with(PATH, &[("authorization", "Bearer geheim")])
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.body.starts_with(&[0x1f, 0x8b]));
        let gateway =
            Gateway::start(&dir, &yaml("admin: { profiler: { loopback: true } }\n")).await;
        assert_eq!(gateway.admin_status("/debug/pprof/").await, Some(200));
    })
    .await;
}
