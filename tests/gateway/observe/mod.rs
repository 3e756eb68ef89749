//! What the gateway says of itself: logs, spans, metrics, health, events, profiles.
//!
//! Fails where a log that cannot be written holds a request up or loses a line without counting it; where a level,
//! a format or a filter needs a restart; where what waits is not sent before the process ends, or a secret is shown;
//! where readiness does not follow the upstreams that the file names; where a profile is made for whom nobody let in.

mod admin;
mod collector;
mod logs;
mod otlp;

use tokio::time::Duration;

use crate::{
    load::Client,
    process::{Dir, Gateway, Process, bounded, eventually, run},
};

const LIMIT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(20);

/// A file with one service at these ports; `head` stands before it, `service` in it.
fn file(head: &str, service: &str, ports: &[u16]) -> String {
    let endpoints: String = ports
        .iter()
        .map(|port| format!("      - address: http://127.0.0.1:{port}\n"))
        .collect();
    format!(
        "{head}services:\n  shop:\n    endpoints:\n{endpoints}{service}\
         routes:\n  - path: /*\n    service: shop\n"
    )
}

/// The value of a series, by the beginning of its line.
async fn value(gateway: &Gateway, series: &str) -> Option<f64> {
    let page = gateway.admin_get("/metrics").await.text();
    let line = page.lines().find(|line| line.starts_with(series))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

/// Waits until it says so on standard error.
async fn says(process: &Process, what: &str) {
    eventually(what, SOON, async || {
        process.stderr().contains(what).then_some(())
    })
    .await;
}

/// Asks `path` so often, each answered with 200.
async fn ask(client: &Client, path: &str, times: usize) {
    for _ in 0..times {
        assert_eq!(client.get(path).await.unwrap().status, 200, "{path}");
    }
}

/// Writes the file anew, and waits until the gateway has taken it.
async fn rewrite(dir: &Dir, gateway: &Gateway, version: u32, yaml: &str) {
    dir.write("gateway.yaml", yaml);
    eventually("the file is live", SOON, async || {
        let config = gateway.admin_get("/config").await.text();
        config
            .starts_with(&format!("version: {version}\n"))
            .then_some(())
    })
    .await;
}

/// Fails where the example says something that cannot be said, or cannot be said where it says it.
#[tokio::test]
async fn what_is_commented_out_in_the_example_is_right() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway/gateway.yaml");
        let text = std::fs::read_to_string(example).unwrap();
        let commented = regex::Regex::new(r"(?m)^( *)# ( *[a-z_]+:(?: |$))").unwrap();
        let found = commented.find_iter(&text).count();
        assert!(found >= 17, "{found} settings are commented out");
        let token = dir.write("token", "geheim\n");
        let all = commented
            .replace_all(&text, "$1$2")
            .replace("/run/secrets/profile", token.to_str().unwrap());
        let all = dir.write("all.yaml", &all);
        let said = run(
            &["check", "--config", all.to_str().unwrap()],
            &[("COLLECTOR_KEY", "x")],
        )
        .await;
        if cfg!(feature = "profile") {
            assert_eq!(said.code, Some(0), "{said:#?}");
        } else {
            let faults: Vec<_> = said.stderr.lines().collect();
            assert!(
                faults.len() == 1 && faults[0].contains("feature `profile`"),
                "{said:#?}"
            );
        }
    })
    .await;
}
