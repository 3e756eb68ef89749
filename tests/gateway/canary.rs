//! (c) Who gets the new version: one in ten by weight, everybody with the header.
//!
//! Fails where weights are rounded, swapped or drawn without a seed from a bad source; where a header rule stands
//! behind the weights or looks at the name only; where the balancer ignores the chosen subset, and where `on_empty`
//! does; where one request becomes two attempts.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use tokio::{
    task::JoinSet,
    time::{Duration, Instant},
};

use crate::{
    load::Client,
    process::{Dir, Gateway, Upstream, alone, bounded, quiet_port},
};

const REQUESTS: u32 = 10_000;
const CONNECTIONS: usize = 8;

fn config(v1: [u16; 2], v2: u16) -> String {
    let [a, b] = v1;
    format!(
        "\
log:
  access: off
services:
  shop:
    endpoints:
      - address: http://127.0.0.1:{a}
        tags: {{ version: v1 }}
      - address: http://127.0.0.1:{b}
        tags: {{ version: v1 }}
      - address: http://127.0.0.1:{v2}
        tags: {{ version: v2 }}
    timeout:
      per_try: 10s
      total: 15s
    traffic:
      - name: testers
        match:
          headers: {{ x-canary: always }}
        to:
          - tags: {{ version: v2 }}
      - name: canary
        to:
          - tags: {{ version: v1 }}
            weight: 90
          - tags: {{ version: v2 }}
            weight: 10
routes:
  - name: shop
    path: /*
    service: shop
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_gets_its_share_and_its_testers() {
    alone(Duration::from_secs(120), async {
        let dir = Dir::new();
        let v1 = [
            Upstream::start(&dir, "v1", "a").await,
            Upstream::start(&dir, "v1", "b").await,
        ];
        let v2 = Upstream::start(&dir, "v2", "c").await;
        let yaml = config(
            [v1[0].address.port(), v1[1].address.port()],
            v2.address.port(),
        );
        let gateway = Gateway::start(&dir, &yaml).await;
        let client = Client::new(gateway.address).connections(CONNECTIONS);

        let begun = Instant::now();
        let left = Arc::new(AtomicU32::new(REQUESTS));
        let mut workers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (client, left) = (client.clone(), Arc::clone(&left));
            workers.spawn(async move {
                let mut seen = [0_u32; 3];
                while left
                    .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
                    .is_ok()
                {
                    let answer = client.get("/").await.unwrap_or_else(|e| panic!("{e}"));
                    assert_eq!(answer.status, 200, "{answer:?}");
                    let version = answer.json()["version"].as_str().map(str::to_owned);
                    assert!(
                        answer
                            .upstream()
                            .starts_with(version.as_deref().unwrap_or("?")),
                        "{answer:?}"
                    );
                    let names = ["v1/a", "v1/b", "v2/c"];
                    seen[names
                        .iter()
                        .position(|n| *n == answer.upstream())
                        .expect("one of ours")] += 1;
                }
                seen
            });
        }
        let [a, b, c] = workers
            .join_all()
            .await
            .into_iter()
            .fold([0; 3], |[a, b, c], [x, y, z]| [a + x, b + y, c + z]);
        let share = f64::from(c) * 100.0 / f64::from(REQUESTS);
        eprintln!(
            "v1 {a} + {b}, v2 {c} of {REQUESTS} in {:?}: {share:.2} %",
            begun.elapsed()
        );
        assert_eq!(a + b + c, REQUESTS);
        assert!(
            (9.0..=11.0).contains(&share),
            "{share:.2} % of the requests went to v2"
        );
        assert!(a > 0 && b > 0, "one of the two v1 got nothing: {a}, {b}");
        // The client's count is the upstreams' count: nothing was sent twice.
        let reached = [
            v1[0].requests().await,
            v1[1].requests().await,
            v2.requests().await,
        ];
        assert_eq!(
            reached,
            [a, b, c].map(u64::from),
            "requests that the upstreams saw"
        );

        for n in 0..200 {
            let answer = client
                .get_with("/", &[("x-canary", "always")])
                .await
                .unwrap();
            assert_eq!(
                (answer.status, answer.upstream()),
                (200, "v2/c"),
                "request {n} with the header"
            );
        }
        // Another value is no match: the weights decide, and v1 has nine in ten.
        let mut other = 0;
        for _ in 0..50 {
            let answer = client
                .get_with("/", &[("x-canary", "never")])
                .await
                .unwrap();
            other += u32::from(answer.upstream().starts_with("v1/"));
        }
        assert!(
            other >= 30,
            "the rule matched another value of its header: only {other} of 50 at v1"
        );
    })
    .await;
}

/// A subset of which nobody can serve: the whole service does, or nobody, as the rule says.
#[tokio::test]
async fn empty_subset_falls_back_or_refuses() {
    bounded(Duration::from_secs(60), async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let (alive, dead) = (upstream.address.port(), quiet_port());
        // The breaker of the dead one opens at once, and stays open.
        let service = |name: &str, on_empty: &str| {
            format!(
                "  {name}:
    endpoints:
      - address: http://127.0.0.1:{alive}
        tags: {{ version: v1 }}
      - address: http://127.0.0.1:{dead}
        tags: {{ version: v2 }}
    breaker:
      consecutive_failures: 1
      open_base: 60s
    retry:
      attempts: 1
    traffic:
      - name: all
        to:
          - tags: {{ version: v2 }}
{on_empty}"
            )
        };
        let yaml = format!(
            "services:\n{}{}{}routes:\n{}",
            service("silent", ""),
            service("any", "        on_empty: any\n"),
            service("refuse", "        on_empty: refuse\n"),
            ["silent", "any", "refuse"]
                .map(|name| format!("  - {{ name: {name}, path: /{name}, service: {name} }}\n"))
                .concat(),
        );
        let gateway = Gateway::start(&dir, &yaml).await;
        let client = Client::new(gateway.address);
        for (path, status) in [("/silent", 200), ("/any", 200), ("/refuse", 503)] {
            let answer = client.get(path).await.unwrap();
            assert_eq!(answer.status, 502, "{path}, to the dead one: {answer:?}");
            for _ in 0..5 {
                let answer = client.get(path).await.unwrap();
                assert_eq!(
                    answer.status, status,
                    "{path}, its breaker open: {answer:?}"
                );
            }
        }
    })
    .await;
}
