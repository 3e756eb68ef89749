//! (a) One of three upstreams goes away under load: killed, silent, or breaking off in the middle of a body.
//!
//! What is measured: failures at the client, attempts that reach the bad endpoint, and its share of the load
//! after it has come back. Attempts are counted by the endpoint itself where it is alive (`Switched`), and where
//! it is dead by the gateway: its `attempts` less the answers that the client has got from there.
//!
//! Fails where nothing is tried again, or at the same endpoint; where a breaker does not open, or never lets a probe
//! through, or lets everybody through while it probes; where a timeout or a broken body is no failure; where the
//! budget is empty at the start; where a picker shuns an endpoint for good after one failure; where the gateway ends
//! a body that its upstream did not end.

use tokio::time::{Duration, Instant, sleep, sleep_until};

use crate::{
    load::{Client, Fault, Load, Sample, failures},
    process::{Dir, Gateway, Upstream, alone, bounded, established, eventually, long, quiet_port},
    upstream::{Mode, Switched},
};

const RATE: u32 = 200;
/// Attempts beyond the open connections that may find out that an endpoint is bad: what the breaker counts.
const THRESHOLD: u64 = 5;
/// Probes at once. The first open time may be over within the first second: they count as what they are.
const AT_ONCE: u64 = 3;
/// Probes in two seconds: three at once, after every open time (at the least half of 1 s, then half of 2 s).
const PROBES: u64 = 9;
const OPEN_MAX: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(75);

fn config(ports: [u16; 3], balance: &str, per_try: &str) -> String {
    let [a, b, c] = ports;
    format!(
        "\
log:
  access: off
services:
  shop:
    endpoints:
      - address: http://127.0.0.1:{a}
      - address: http://127.0.0.1:{b}
      - address: http://127.0.0.1:{c}
    balance: {balance}
    breaker:
      consecutive_failures: {THRESHOLD}
      open_base: 1s
      open_max: 2s
      half_open_probes: {AT_ONCE}
    retry:
      attempts: 3
      backoff_base: 10ms
      backoff_max: 100ms
    timeout:
      per_try: {per_try}
      total: 10s
routes:
  - name: shop
    path: /*
    service: shop
"
    )
}

/// The house of this file: two upstreams that stay and one that goes.
struct House {
    gateway: Gateway,
    load: Load,
    /// The port of the one that goes.
    port: u16,
    /// Its name in `x-upstream`.
    name: String,
    _others: [Upstream; 2],
}

impl House {
    async fn new(dir: &Dir, port: u16, name: &str, balance: &str, per_try: &str) -> Self {
        let others = [
            Upstream::start(dir, "v1", "a").await,
            Upstream::start(dir, "v1", "b").await,
        ];
        let ports = [others[0].address.port(), others[1].address.port(), port];
        let gateway = Gateway::start(dir, &config(ports, balance, per_try)).await;
        let client = Client::new(gateway.address).connections(64);
        let load = Load::start(client, "/", RATE);
        let house = Self {
            gateway,
            load,
            port,
            name: name.to_owned(),
            _others: others,
        };
        eventually(
            "every upstream has answered 50 times",
            Duration::from_secs(20),
            async || {
                let names = ["v1/a", "v1/b", name];
                names
                    .iter()
                    .all(|name| house.load.answers_of(name) >= 50)
                    .then_some(())
            },
        )
        .await;
        assert_eq!(
            house.failures(),
            Vec::<String>::new(),
            "before anything happened"
        );
        house
    }

    fn failures(&self) -> Vec<String> {
        failures(&self.load.samples(), self.load.begun())
    }

    async fn breaker(&self) -> String {
        self.gateway.endpoint("shop", self.port).await.breaker
    }

    async fn breaker_opens(&self) {
        eventually("the breaker is open", Duration::from_secs(5), async || {
            (self.breaker().await == "open").then_some(())
        })
        .await;
    }

    /// The bad one is good again since `since`: it gets its share, measured after the open time.
    ///
    /// Over ten seconds; who has it after five already need not be watched longer.
    async fn recovers(&self, since: Instant) {
        // What the probes take comes on top of the open time.
        let begin = since + OPEN_MAX + Duration::from_millis(500);
        let mut fair = 0.0;
        for measured in [5, 10].map(Duration::from_secs) {
            sleep_until(begin + measured).await;
            let samples = self.load.samples();
            let all: Vec<_> = samples
                .iter()
                .filter(|s| s.at >= begin && s.is_ok())
                .collect();
            assert!(
                all.len() >= 200,
                "only {} answers in {measured:?}: this was no load",
                all.len()
            );
            let own = all.iter().filter(|s| s.is_by(&self.name)).count();
            fair = own as f64 * 3.0 / all.len() as f64;
            eprintln!(
                "{}: {:.0} % of its fair share in {measured:?}",
                self.name,
                fair * 100.0
            );
            if fair >= 0.2 && !long() {
                return;
            }
        }
        assert!(
            fair >= 0.2,
            "{:.1} % of the fair share, breaker {}",
            fair * 100.0,
            self.breaker().await
        );
    }

    /// Ends the load and hands every sample over.
    async fn end(self) -> (Vec<Sample>, Instant) {
        let begun = self.load.begun();
        let samples = self.load.stop().await;
        assert!(
            samples.len() >= 800,
            "only {} requests: this was no load",
            samples.len()
        );
        (samples, begun)
    }
}

async fn killed(balance: &str) {
    let dir = Dir::new();
    let mut victim = Upstream::start_at(&dir, "v1", "c", quiet_port()).await;
    let port = victim.address.port();
    let house = House::new(&dir, port, "v1/c", balance, "1s").await;

    let open = established(port).len() as u64;
    victim.process.kill().await;
    let killed = Instant::now();
    let attempts = async || house.gateway.endpoint("shop", port).await.attempts;
    sleep_until(killed + Duration::from_secs(1)).await;
    let (breaker, after_1s) = (house.breaker().await, attempts().await);
    sleep_until(killed + Duration::from_secs(3)).await;
    let after_3s = attempts().await;
    let answers = house.load.answers_of("v1/c");
    let reached = after_1s
        .checked_sub(answers)
        .expect("more answers than attempts");
    let probes = after_3s - after_1s;
    eprintln!(
        "{balance}: {open} connections were open, {reached} attempts in the first second, {probes} in the next two, breaker {breaker}"
    );
    assert!(
        answers >= 50,
        "the gateway's counter is compared with answers"
    );
    assert!(
        reached <= open + THRESHOLD + AT_ONCE,
        "{reached} attempts reached it, {open} connections were open"
    );
    assert!(probes <= PROBES, "{probes} attempts after one second");
    assert_eq!(
        house.failures(),
        Vec::<String>::new(),
        "the client saw that one was killed"
    );

    let _again = Upstream::start_at(&dir, "v1", "c", port).await;
    house.recovers(Instant::now()).await;
    let (samples, begun) = house.end().await;
    assert_eq!(failures(&samples, begun), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_upstream_is_not_seen_and_comes_back() {
    alone(LIMIT, killed("peak_ewma")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_upstream_is_not_seen_in_a_round_robin() {
    alone(LIMIT, killed("round_robin")).await;
}

async fn silent(balance: &str) {
    let dir = Dir::new();
    let hole = Switched::start("v1", "c").await;
    let house = House::new(&dir, hole.address.port(), "v1/c", balance, "250ms").await;

    let before = hole.attempts();
    hole.switch(Mode::Silent);
    let fell = Instant::now();
    sleep_until(fell + Duration::from_secs(1)).await;
    let (after_1s, peak, breaker) = (hole.attempts(), hole.peak(), house.breaker().await);
    sleep_until(fell + Duration::from_secs(3)).await;
    let (reached, probes) = (after_1s - before, hole.attempts() - after_1s);
    eprintln!(
        "{balance}: at most {peak} connections were open, {reached} attempts in the first second, {probes} in the next two, breaker {breaker}"
    );
    assert!(
        reached <= peak + THRESHOLD + AT_ONCE,
        "{reached} attempts reached it, {peak} connections were open"
    );
    assert!(probes <= PROBES, "{probes} attempts after one second");
    assert_eq!(
        house.failures(),
        Vec::<String>::new(),
        "the client saw that one fell silent"
    );

    hole.switch(Mode::Answers);
    house.recovers(Instant::now()).await;
    let (samples, begun) = house.end().await;
    assert_eq!(failures(&samples, begun), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn black_hole_is_not_seen_and_comes_back() {
    alone(LIMIT, silent("peak_ewma")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn black_hole_is_not_seen_in_a_round_robin() {
    alone(LIMIT, silent("round_robin")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_body_is_a_failure_for_the_client_and_for_the_breaker() {
    alone(LIMIT, async {
        let dir = Dir::new();
        let breaking = Switched::start("v1", "c").await;
        // Round robin: no picker may keep the breaker from its five failures.
        let house = House::new(&dir, breaking.address.port(), "v1/c", "round_robin", "1s").await;
        let failed_before = house.gateway.endpoint("shop", house.port).await.failures;

        let before = breaking.attempts();
        breaking.switch(Mode::Breaks);
        house.breaker_opens().await;
        let opened = Instant::now();
        let (reached, peak) = (breaking.attempts() - before, breaking.peak());
        let counted = house.gateway.endpoint("shop", house.port).await.failures - failed_before;
        assert!(
            reached <= peak + THRESHOLD,
            "{reached} attempts reached it, {peak} connections were open"
        );
        assert!(
            counted >= THRESHOLD,
            "{counted} failures counted, and the breaker is open"
        );

        let at_open = breaking.attempts();
        sleep(Duration::from_secs(1)).await;
        let after_1s = breaking.attempts();
        sleep(Duration::from_secs(2)).await;
        let probes = breaking.attempts() - after_1s;
        assert!(probes <= PROBES, "{probes} attempts after one second");
        let probes = breaking.attempts() - at_open;
        breaking.switch(Mode::Answers);
        house.recovers(Instant::now()).await;

        let (samples, begun) = house.end().await;
        let bad: Vec<_> = samples.iter().filter(|s| !s.is_ok()).cloned().collect();
        let broken = bad
            .iter()
            .filter(|s| matches!(s.result, Err(Fault::Broken(_))))
            .count();
        let late = bad.iter().filter(|s| s.at > opened).count() as u64;
        eprintln!(
            "{reached} attempts until the breaker opened, then {probes} probes; \
             {broken} broken bodies, {late} of them with the breaker open"
        );
        assert!(broken > 0, "a body broke, and the client was told nothing");
        assert_eq!(
            broken,
            bad.len(),
            "something else than a broken body: {:?}",
            failures(&bad, begun)
        );
        assert!(
            late <= probes,
            "{late} failures with the breaker open, {probes} probes"
        );
    })
    .await;
}

/// The demo service's own way to break off, with nothing in between that could get in its way.
#[tokio::test]
async fn half_a_body_of_a_process_stays_half() {
    bounded(Duration::from_secs(60), async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let port = upstream.address.port();
        let yaml = format!(
            "\
services:
  shop:
    endpoints:
      - address: http://127.0.0.1:{port}
    breaker:
      consecutive_failures: 0
      failure_rate: 0
    retry:
      attempts: 1
routes:
  - name: shop
    path: /*
    service: shop
"
        );
        let gateway = Gateway::start(&dir, &yaml).await;
        for bytes in [1_000, 60_000, 1_000_000] {
            let path = format!("/half?bytes={bytes}");
            let direct = Client::new(upstream.address).get(&path).await;
            assert!(
                matches!(direct, Err(Fault::Broken(_))),
                "{path}, asked directly: {direct:?}"
            );
            for _ in 0..5 {
                let answer = Client::new(gateway.address).get(&path).await;
                // A reset may overtake the head: then there is no body at all, and the gateway says so.
                let is_told = match &answer {
                    Err(Fault::Broken(_)) => true,
                    Ok(answer) => answer.status == 502,
                    Err(_) => false,
                };
                assert!(is_told, "{path}: {answer:?}");
            }
        }
    })
    .await;
}
