//! (d) SIGTERM under load: not ready first, then no new work, what is under way ends, then gone.
//!
//! Fails where the listener closes with the signal or never; where readiness stays; where a request in flight is
//! cut, or an idle or silent connection is waited for; where the limit or the second signal does nothing, and where
//! the exit code does not tell a whole drain from one that was cut.

use tokio::time::{Duration, Instant, sleep, sleep_until, timeout};

use crate::{
    load::{Client, Fault, Load, connect, failures},
    process::{Dir, Gateway, Upstream, alone, bounded, eventually},
};

fn config(port: u16, delay: &str, limit: &str) -> String {
    format!(
        "\
server:
  drain_delay: {delay}
  drain_limit: {limit}
services:
  shop:
    endpoints:
      - address: http://127.0.0.1:{port}
    timeout:
      per_try: 60s
      total: 60s
routes:
  - name: shop
    path: /*
    service: shop
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_loses_nothing() {
    alone(Duration::from_secs(60), async {
        const DELAY: Duration = Duration::from_secs(3);
        const LIMIT: Duration = Duration::from_secs(10);
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let mut gateway = Gateway::start(&dir, &config(upstream.address.port(), "3s", "10s")).await;
        let client = Client::new(gateway.address);
        let load = Load::start(client.clone(), "/", 100);
        // These two must not hold the drain up: an idle connection and one that never said a word.
        let idle = Client::new(gateway.address).connections(1);
        assert_eq!(idle.get("/").await.unwrap().status, 200);
        let _silent = connect(gateway.address, None, None).await.unwrap();
        let slow = |ms: u32| {
            let client = Client::new(gateway.address);
            tokio::spawn(
                async move { (client.get(&format!("/slow?ms={ms}")).await, Instant::now()) },
            )
        };
        sleep(Duration::from_secs(1)).await;

        // Under way when the signal comes, and still under way when the listener closes.
        let early = slow(1_500);
        let late = slow(5_000);
        sleep(Duration::from_millis(300)).await;
        let signalled = Instant::now();
        gateway.process.signal("TERM");

        eventually(
            "/readyz says 503",
            Duration::from_millis(1_500),
            async || (gateway.admin_status("/readyz").await == Some(503)).then_some(()),
        )
        .await;
        let unready = Instant::now();
        assert_eq!(
            gateway.admin_status("/livez").await,
            Some(200),
            "it drains, and is alive"
        );
        // Everybody who has not heard of it yet is served as before, on old connections and on new ones.
        while signalled.elapsed() < Duration::from_secs(2) {
            let answer = Client::new(gateway.address).get("/").await;
            assert!(
                answer.as_ref().is_ok_and(|a| a.status == 200),
                "a new connection while it drains: {answer:?}"
            );
            sleep(Duration::from_millis(50)).await;
        }
        let begun = load.begun();
        let samples = load.stop().await;
        let since = samples.iter().filter(|s| s.at > unready).count();
        eprintln!(
            "not ready {:?} after the signal, {since} requests served after that",
            unready - signalled
        );
        assert_eq!(failures(&samples, begun), Vec::<String>::new());
        assert!(
            since >= 30,
            "only {since} requests after readiness was gone: this was no load"
        );

        let (answer, ended) = timeout(Duration::from_secs(10), early)
            .await
            .expect("the early one ends")
            .unwrap();
        assert!(
            answer.as_ref().is_ok_and(|a| a.status == 200),
            "under way at the signal: {answer:?}"
        );
        assert!(ended > unready, "it was not under way");

        sleep_until(signalled + DELAY + Duration::from_secs(1)).await;
        assert!(gateway.process.is_running(), "a request is under way");
        let refused = Client::new(gateway.address).get("/").await;
        assert!(
            matches!(&refused, Err(Fault::Connect(_) | Fault::Head(_))),
            "new work {:?} after the listener should have closed: {refused:?}",
            signalled.elapsed() - DELAY,
        );
        let (answer, ended) = timeout(Duration::from_secs(15), late)
            .await
            .expect("the late one ends")
            .unwrap();
        assert!(
            answer.as_ref().is_ok_and(|a| a.status == 200),
            "under way when the listener closed: {answer:?}"
        );
        assert!(ended > signalled + DELAY, "it was not under way");

        let code = gateway
            .process
            .ended((signalled + DELAY + LIMIT).duration_since(Instant::now()))
            .await;
        eprintln!(
            "gone {:?} after the signal, {:?} after the last answer",
            signalled.elapsed(),
            ended.elapsed()
        );
        assert_eq!(code, Some(0), "nothing was cut short");
        // Idle connections do not keep it: nothing is under way, so there is nothing to wait for.
        assert!(
            ended.elapsed() < Duration::from_secs(3),
            "it went only {:?} after the last answer",
            ended.elapsed()
        );
        drop(idle);
    })
    .await;
}

#[tokio::test]
async fn second_signal_forces() {
    bounded(Duration::from_secs(60), async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let mut gateway =
            Gateway::start(&dir, &config(upstream.address.port(), "20s", "20s")).await;
        let client = Client::new(gateway.address);
        let long = tokio::spawn(async move { client.get("/slow?ms=14000").await });
        sleep(Duration::from_millis(500)).await;
        gateway.process.signal("TERM");
        eventually("/readyz says 503", Duration::from_secs(5), async || {
            (gateway.admin_status("/readyz").await == Some(503)).then_some(())
        })
        .await;
        sleep(Duration::from_millis(500)).await;
        assert!(gateway.process.is_running(), "one signal is a drain");

        let forced = Instant::now();
        gateway.process.signal("TERM");
        let code = gateway.process.ended(Duration::from_secs(3)).await;
        eprintln!("gone {:?} after the second signal", forced.elapsed());
        assert_eq!(code, Some(3), "a drain cut short");
        let answer = long.await.unwrap();
        assert!(answer.is_err(), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn drain_that_outlasts_its_limit_is_cut() {
    bounded(Duration::from_secs(60), async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let mut gateway =
            Gateway::start(&dir, &config(upstream.address.port(), "200ms", "1s")).await;
        let client = Client::new(gateway.address);
        let long = tokio::spawn(async move { client.get("/slow?ms=14000").await });
        sleep(Duration::from_millis(500)).await;
        let signalled = Instant::now();
        gateway.process.signal("TERM");
        let code = gateway.process.ended(Duration::from_secs(5)).await;
        let took = signalled.elapsed();
        assert_eq!(code, Some(3), "a drain cut short");
        assert!(
            took >= Duration::from_secs(1),
            "cut after {took:?}: before its limit"
        );
        assert!(long.await.unwrap().is_err(), "it was under way");
    })
    .await;
}

/// Ctrl-C has somebody waiting in front of it: no delay for those who have not heard of it, but nothing is cut.
/// The demo service listens to both signals.
#[tokio::test]
async fn interrupt_drains_as_well() {
    bounded(Duration::from_secs(60), async {
        let dir = Dir::new();
        let mut upstream = Upstream::start(&dir, "v1", "a").await;
        let yaml = config(upstream.address.port(), "5s", "10s");
        let mut gateway = Gateway::start(&dir, &yaml).await;
        let client = Client::new(gateway.address);
        let slow = tokio::spawn(async move { client.get("/slow?ms=1500").await });
        sleep(Duration::from_millis(500)).await;
        let signalled = Instant::now();
        gateway.process.signal("INT");
        let answer = slow.await.unwrap();
        assert!(
            answer.as_ref().is_ok_and(|a| a.status == 200),
            "it was under way: {answer:?}"
        );
        assert_eq!(
            gateway.process.ended(Duration::from_secs(20)).await,
            Some(0)
        );
        eprintln!("gone {:?} after the interrupt", signalled.elapsed());
        upstream.process.signal("TERM");
        assert_eq!(
            upstream.process.ended(Duration::from_secs(40)).await,
            Some(0)
        );
    })
    .await;
}
