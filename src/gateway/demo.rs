//! The demo: two versions of a small service on real sockets, and the configuration that routes to them.

use std::{fmt::Write as _, io};

use tower_chassis_core::{
    RescueLayer,
    server::{Address, Drain, Server, ServerPolicy},
};
use tower_layer::Layer;

use super::upstream::Upstream;

/// Serves one instance of the demo service until `drain` ends it; tells where first.
pub(super) async fn serve(
    upstream: Upstream,
    listen: &str,
    drain: Drain,
) -> io::Result<(Address, Serving)> {
    let bound = Server::new(ServerPolicy::default())
        .listen(listen)
        .bind()
        .await?;
    let Some(address) = bound.addresses().pop() else {
        return Err(io::Error::other("the listener has no address"));
    };
    let serving = tokio::spawn(bound.serve(RescueLayer::new().layer(upstream), drain));
    Ok((address, serving))
}

/// The task of a server.
pub(super) type Serving = tokio::task::JoinHandle<tower_chassis_core::server::Drained>;

/// Starts v1 twice and v2 once. Returns the configuration that routes to them.
pub(super) async fn start(drain: &Drain) -> io::Result<String> {
    let mut endpoints = String::new();
    for (version, instance, steady) in [("v1", "a", false), ("v1", "b", true), ("v2", "c", true)] {
        let mut upstream = Upstream::new("shop", version, instance);
        if steady {
            upstream = upstream.steady();
        }
        let (address, _) = serve(upstream, "127.0.0.1:0", drain.clone()).await?;
        let _ = writeln!(
            endpoints,
            "      - {{ address: \"{address}\", id: {version}-{instance}, tags: {{ version: {version} }} }}"
        );
    }
    Ok(format!(
        r#"# the demo
services:
  shop:
    endpoints:
{endpoints}    balance: round_robin
    breaker: {{ consecutive_failures: 5, open_base: 2s, open_max: 10s }}
    retry: {{ attempts: 3, statuses: [500, 502, 503, 504] }}
    timeout: {{ per_try: 1s, total: 5s }}
    traffic:
      - name: testers
        match: {{ headers: {{ x-canary: always }} }}
        to: [{{ tags: {{ version: v2 }} }}]
      - name: canary
        to:
          - {{ tags: {{ version: v1 }}, weight: 90 }}
          - {{ tags: {{ version: v2 }}, weight: 10 }}
routes:
  - name: shop
    path: /*
    service: shop
    rate_limit: {{ rate: 5000, burst: 5000 }}
"#
    ))
}
