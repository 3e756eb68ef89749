//! A collector that is not of our making: rotel, a wheel of PyPI with a binary in it, `rotel/rotel-agent`. It is taken from
//! `CHASSIS_ROTEL`, or from the path; without one the test says that it was skipped, and fails where `CHASSIS_PEERS` is
//! `required`.

use std::{
    fs::File,
    io::Write,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime},
};

use super::{
    super::{Otlp, Protocol},
    SECOND, policy, put, snapshot,
};

struct Rotel {
    child: Child,
    output: PathBuf,
}

impl Drop for Rotel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.output);
    }
}

impl Rotel {
    fn start(grpc: SocketAddr, http: SocketAddr) -> Option<Self> {
        let binary = std::env::var_os("CHASSIS_ROTEL").unwrap_or_else(|| "rotel-agent".into());
        let name = format!("chassis-rotel-{}-{}", std::process::id(), grpc.port());
        let output = std::env::temp_dir().join(name);
        let out = File::create(&output).unwrap();
        let child = Command::new(binary)
            .args(["start", "--exporter", "blackhole"])
            .args(["--debug-log", "traces", "--debug-log", "metrics"])
            .args(["--debug-log-verbosity", "detailed"])
            .args(["--otlp-grpc-endpoint", &grpc.to_string()])
            .args(["--otlp-http-endpoint", &http.to_string()])
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stderr(out.try_clone().unwrap())
            .stdout(out)
            .spawn();
        match child {
            Ok(child) => Some(Self { child, output }),
            Err(error) => {
                let _ = std::fs::remove_file(&output);
                let named = std::env::var_os("CHASSIS_ROTEL").is_some();
                assert!(!named, "CHASSIS_ROTEL does not start: {error}");
                let required =
                    std::env::var("CHASSIS_PEERS").is_ok_and(|peers| peers == "required");
                assert!(!required, "no rotel-agent: CHASSIS_ROTEL is to be its path");
                // Past the capture of the test runner.
                let _ = std::io::stderr().write_all(
                    b"\nSKIPPED: no rotel-agent; it is in the wheel `rotel` 0.0.1a15 of PyPI, CHASSIS_ROTEL is its path\n",
                );
                None
            }
        }
    }

    /// What it has written by now.
    fn written(&self) -> String {
        let text = std::fs::read(&self.output).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[tokio::test]
async fn rotel_understands_us() {
    let free = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let (grpc, http) = (free(), free());
    let Some(rotel) = Rotel::start(grpc, http) else {
        return;
    };
    for (protocol, address) in [(Protocol::Grpc, grpc), (Protocol::HttpProtobuf, http)] {
        let before = rotel.written().len();
        let (otlp, worker) = Otlp::new(policy(|config| {
            config.endpoint = Some(format!("http://{address}"));
            config.protocol = protocol;
            // It has to start.
            config.timeout = 60 * SECOND;
            config.service_version = Some("1.2.3".to_owned());
            #[cfg(feature = "compress")]
            {
                config.compression = super::super::Compression::Gzip;
            }
        }));
        otlp.metrics(snapshot);
        tokio::spawn(worker);
        put(&otlp, 0..3);
        otlp.flush(60 * SECOND).await.unwrap();
        assert_eq!((otlp.span_tally().sent, otlp.metric_tally().sent), (3, 3));
        let begun = SystemTime::now();
        for needed in [
            // The trace, a span, what it is a part of, and who sent it.
            "07070707070707070707070707070707",
            "0000000000000003",
            "00000000000f4243",
            "service.version",
            "1.2.3",
            "http.response.status_code",
            "http.server.request.duration",
            "chassis_retry_attempts_total",
        ] {
            while !rotel.written()[before..].contains(needed) {
                let waited = begun.elapsed().unwrap() < 20 * SECOND;
                assert!(waited, "no {needed} by {protocol:?} in {}", rotel.written());
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        assert_eq!(otlp.check().await, []);
    }
}
