//! Rate limits that instances share, against a real `redis-server` on a port of its own.
//!
//! Without one the tests say that they were skipped; with `CHASSIS_PEERS=required` they fail.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{
    convert::Infallible,
    env,
    io::Write as _,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Rejection};
use tower_chassis_resilience::rate_limit::{
    RateLimitLayer, RateLimitPolicy,
    remote::{RedisStore, RemoteRateLimitLayer, Store},
};
use tower_layer::Layer;

/// A server of this test's, which ends with it.
struct Server {
    port: u16,
    process: Option<Child>,
}

impl Server {
    /// `None` where there is none to be had.
    async fn start() -> Option<Self> {
        let found = Command::new("redis-server").arg("--version").output();
        if found.is_err() {
            assert!(
                env::var_os("CHASSIS_PEERS").is_none_or(|peers| peers != "required"),
                "redis-server is required and not installed"
            );
            // Not by a macro, whose output nobody sees if the test passes.
            let _ = std::io::stderr().write_all(b"\nSKIPPED: no redis-server\n");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut server = Self {
            port,
            process: None,
        };
        server.run().await;
        Some(server)
    }

    async fn run(&mut self) {
        let process = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        let until = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .is_err()
        {
            assert!(Instant::now() < until, "the server does not listen");
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn store(&self) -> RedisStore {
        RedisStore::new(&format!("redis://127.0.0.1:{}/", self.port)).unwrap()
    }

    async fn keys(&self) -> Vec<String> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.port)).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut connection)
            .await
            .unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn echo(key: String) -> Result<String, Infallible> {
    Ok(key)
}

type Text = fn(&String) -> Option<String>;

fn layer(
    store: impl Store,
    rate: f64,
    burst: u32,
) -> RemoteRateLimitLayer<impl Store, tower_chassis_resilience::keyed::By<Text, String>, String> {
    RateLimitLayer::new(RateLimitPolicy::new(rate, burst).unwrap())
        .named("test")
        .keyed((|key: &String| Some(key.clone())) as Text)
        .remote(store)
        // A machine that is busy with other tests is late.
        .timeout(Duration::from_millis(500))
}

async fn allowed<S>(service: &S, key: &str) -> Result<(), BoxError>
where
    S: Service<String, Response = String, Error = BoxError> + Clone,
{
    service.clone().oneshot(key.to_owned()).await.map(drop)
}

/// Waits until the store answers.
async fn connected<S>(service: &S, is_away: impl Fn() -> bool)
where
    S: Service<String, Response = String, Error = BoxError> + Clone,
{
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let _ = allowed(service, "warm").await;
        if !is_away() {
            return;
        }
        assert!(Instant::now() < until, "the store stays away");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn two_instances_share_one_limit() {
    let Some(server) = Server::start().await else {
        return;
    };
    let (rate, burst) = (200.0, 40);
    let first = layer(server.store(), rate, burst).instances(2);
    let second = layer(server.store(), rate, burst).instances(2);
    let (handles, services) = (
        [first.handle(), second.handle()],
        [
            first.layer(service_fn(echo)),
            second.layer(service_fn(echo)),
        ],
    );
    for (service, handle) in services.iter().zip(&handles) {
        connected(service, || handle.is_away()).await;
    }
    let (start, mut total, mut refused) = (Instant::now(), [0_u32; 2], 0_u32);
    while start.elapsed() < Duration::from_secs(2) {
        for (service, total) in services.iter().zip(&mut total) {
            match allowed(service, "key").await {
                Ok(()) => *total += 1,
                Err(error) => {
                    let rejection = Rejection::find(&*error).unwrap();
                    assert!(rejection.retry_after().unwrap() <= Duration::from_millis(300));
                    refused += 1;
                }
            }
        }
        sleep(Duration::from_micros(500)).await;
    }
    let most = f64::from(burst) + rate * start.elapsed().as_secs_f64();
    let sum = f64::from(total[0] + total[1]);
    // What leases hold: less than half a burst, divided by the instances, of each.
    assert!(sum <= most + 2.0 * 10.0, "{total:?} of {most}");
    assert!(
        refused > 0 && sum >= 0.7 * most,
        "{total:?} of {most}, {refused} refused"
    );
    // Another key has a limit of its own.
    assert!(allowed(&services[0], "other").await.is_ok());
    assert!(handles.iter().all(|handle| !handle.is_away()));
}

#[tokio::test]
async fn the_store_counts_exactly_and_forgets_in_time() {
    let Some(server) = Server::start().await else {
        return;
    };
    let store = server.store();
    // Reached by what a layer does, which alone makes a limit.
    let probe = layer(store.clone(), 10.0, 5).lease(Duration::ZERO);
    let (service, handle) = (probe.layer(service_fn(echo)), probe.handle());
    connected(&service, || handle.is_away()).await;
    let mut passed = 0;
    let start = Instant::now();
    let error = loop {
        match allowed(&service, "exact").await {
            Ok(()) => passed += 1,
            Err(error) => break error,
        }
    };
    let late = (start.elapsed().as_millis() / 100) as u32;
    assert!((5..=5 + late).contains(&passed), "{passed}");
    let wait = Rejection::find(&*error)
        .and_then(Rejection::retry_after)
        .unwrap();
    assert!(wait <= Duration::from_millis(100));
    sleep(wait + Duration::from_millis(5)).await;
    assert!(allowed(&service, "exact").await.is_ok());
    assert!(
        server
            .keys()
            .await
            .contains(&"chassis:rate_limit:test:exact".to_owned())
    );
    sleep(Duration::from_millis(700)).await;
    assert_eq!(
        server.keys().await,
        Vec::<String>::new(),
        "what says nothing is gone"
    );
}

#[tokio::test]
async fn keys_can_be_hashed() {
    let Some(server) = Server::start().await else {
        return;
    };
    let store = server.store().prefix("p:").hashed("pepper");
    assert!(!format!("{store:?}").contains("pepper\""));
    let layer = layer(store, 1.0, 5);
    let (service, handle) = (layer.layer(service_fn(echo)), layer.handle());
    connected(&service, || handle.is_away()).await;
    allowed(&service, "a secret").await.unwrap();
    let keys = server.keys().await;
    assert!(
        keys.len() == 2
            && keys
                .iter()
                .all(|key| key.len() == 42 && key.starts_with("p:")),
        "{keys:?}"
    );
}

#[tokio::test]
async fn killed_it_is_missed_by_nobody_and_comes_back() {
    let Some(mut server) = Server::start().await else {
        return;
    };
    let (rate, burst) = (200.0, 40);
    let layer = layer(server.store(), rate, burst).instances(2);
    let (service, handle) = (layer.layer(service_fn(echo)), layer.handle());
    connected(&service, || handle.is_away()).await;
    let run = async |seconds: f64| {
        let (start, mut total, mut slowest) = (Instant::now(), 0_u32, Duration::ZERO);
        while start.elapsed().as_secs_f64() < seconds {
            let asked = Instant::now();
            total += u32::from(allowed(&service, "key").await.is_ok());
            slowest = slowest.max(asked.elapsed());
            sleep(Duration::from_micros(500)).await;
        }
        (f64::from(total), start.elapsed().as_secs_f64(), slowest)
    };
    let (total, seconds, _) = run(0.5).await;
    assert!(
        total <= 40.0 + rate * seconds + 10.0,
        "{total} in {seconds}"
    );

    server.kill();
    let (total, seconds, slowest) = run(1.5).await;
    // Its share: half of the rate, and at the most what was leased and half of the burst.
    assert!(
        total <= 10.0 + 20.0 + rate / 2.0 * seconds,
        "{total} in {seconds}"
    );
    assert!(total >= 0.6 * rate / 2.0 * seconds, "{total} in {seconds}");
    assert!(
        handle.is_away() && slowest < Duration::from_secs(1),
        "{slowest:?}"
    );

    server.run().await;
    connected(&service, || handle.is_away()).await;
    let (total, seconds, _) = run(1.0).await;
    assert!(!handle.is_away());
    assert!(total >= 0.7 * rate * seconds, "{total} in {seconds}");
    assert!(
        total <= 40.0 + 10.0 + rate * seconds,
        "{total} in {seconds}"
    );
}

/// A server that stops without a word is away after one wait, and its connection is made anew.
#[tokio::test]
async fn a_silent_server_costs_one_wait() {
    let Some(server) = Server::start().await else {
        return;
    };
    let layer = layer(server.store(), 200.0, 40).timeout(Duration::from_millis(50));
    let (service, handle) = (layer.layer(service_fn(echo)), layer.handle());
    connected(&service, || handle.is_away()).await;
    let id = server.process.as_ref().unwrap().id().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &id]).status().unwrap();
    assert!(signal("-STOP").success());
    let start = Instant::now();
    while !handle.is_away() {
        let _ = allowed(&service, "key").await;
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    let away = Instant::now();
    for _ in 0..10 {
        let _ = allowed(&service, "key").await;
    }
    assert!(
        away.elapsed() < Duration::from_millis(200),
        "{:?}",
        away.elapsed()
    );
    assert!(signal("-CONT").success());
    connected(&service, || handle.is_away()).await;
}
