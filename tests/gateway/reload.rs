//! (b) The file changes under load: what is good is live soon, what is broken is refused, nothing is lost.
//!
//! A `Model` is written as the gateway's file. Every change alters one thing that traffic can tell: each kind has a
//! service and a route of its own, and its proof holds for the new setting and not for the old one. Calls that
//! prove come from other addresses than the load in the background.
//!
//! Fails where a kind of change is not applied or only to new connections; where the watcher misses a way of
//! writing, or believes half of a file; where a change drops requests, connections or the counters of an endpoint;
//! where a broken file is applied in part, becomes a version, or is refused without one of its faults.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::Ipv4Addr,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use tokio::time::{Duration, Instant, sleep};

use crate::{
    load::{Client, Load, failures, quantile},
    process::{Dir, Gateway, Upstream, alone, long, run},
};

/// A change that is not live by then never will be.
const LIVE: Duration = Duration::from_secs(6);
/// The promise, for the median change. What the proof itself takes is part of it.
const SOON: Duration = Duration::from_secs(1);

/// Of the load in the background.
const RATE: u32 = 200;

/// What the file says, where it can change.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    /// Of a hundred, how much goes to v2.
    weight: u32,
    /// The value of `x-variant` that leads to v2.
    variant: &'static str,
    /// In milliseconds; `/slow` is asked for 400.
    per_try: u32,
    threshold: u32,
    /// At once, of one address.
    burst: u32,
    /// Whether the pool has its third endpoint.
    third: bool,
    /// The number of the route that comes and goes.
    route: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Weight,
    Header,
    Timeout,
    Threshold,
    Rate,
    Endpoint,
    Route,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Weight,
        Self::Header,
        Self::Timeout,
        Self::Threshold,
        Self::Rate,
        Self::Endpoint,
        Self::Route,
    ];
}

/// Another value of a few.
fn other<T: Copy + PartialEq>(random: &mut Rng, all: &[T], now: T) -> T {
    let others: Vec<T> = all.iter().copied().filter(|v| *v != now).collect();
    others[random.usize(..others.len())]
}

impl Model {
    fn changed(&self, kind: Kind, random: &mut Rng, n: u32) -> Self {
        let mut new = self.clone();
        match kind {
            Kind::Weight => new.weight = other(random, &[10, 50, 90], self.weight),
            Kind::Header => new.variant = other(random, &["red", "green", "blue"], self.variant),
            Kind::Timeout => new.per_try = other(random, &[100, 3_000], self.per_try),
            Kind::Threshold => new.threshold = other(random, &[2, 4, 7], self.threshold),
            Kind::Rate => new.burst = other(random, &[3, 8, 15], self.burst),
            Kind::Endpoint => new.third = !self.third,
            Kind::Route => new.route = if self.route.is_some() { None } else { Some(n) },
        }
        new
    }

    fn yaml(&self, ports: [u16; 3]) -> String {
        let Self {
            weight,
            variant,
            per_try,
            threshold,
            burst,
            ..
        } = *self;
        let [a, b, c] = ports;
        let rest = 100 - weight;
        let third = if self.third {
            format!("      - address: http://127.0.0.1:{c}\n")
        } else {
            String::new()
        };
        let mut yaml = format!(
            "\
log:
  access: off
services:
  load:
    endpoints:
      - address: http://127.0.0.1:{a}
      - address: http://127.0.0.1:{b}
    balance: peak_ewma
    breaker:
      failure_rate: 0.5
    retry:
      attempts: 3
    timeout:
      per_try: 5s
      total: 10s
  weight:
    endpoints:
      - address: http://127.0.0.1:{a}
        tags: {{ version: v1 }}
      - address: http://127.0.0.1:{c}
        tags: {{ version: v2 }}
    traffic:
      - name: split
        to:
          - tags: {{ version: v1 }}
            weight: {rest}
          - tags: {{ version: v2 }}
            weight: {weight}
  header:
    endpoints:
      - address: http://127.0.0.1:{a}
        tags: {{ version: v1 }}
      - address: http://127.0.0.1:{c}
        tags: {{ version: v2 }}
    traffic:
      - name: variant
        match:
          headers: {{ x-variant: {variant} }}
        to:
          - tags: {{ version: v2 }}
      - name: others
        to:
          - tags: {{ version: v1 }}
  timeout:
    endpoints:
      - address: http://127.0.0.1:{b}
    breaker:
      consecutive_failures: 0
      failure_rate: 0
    retry:
      attempts: 1
    timeout:
      per_try: {per_try}ms
      total: 10s
  breaker:
    endpoints:
      - address: http://127.0.0.1:{b}
    breaker:
      consecutive_failures: {threshold}
      failure_rate: 0
      open_base: 200ms
      open_max: 200ms
      half_open_probes: 1
    retry:
      attempts: 1
  rate:
    endpoints:
      - address: http://127.0.0.1:{a}
  pool:
    endpoints:
      - address: http://127.0.0.1:{a}
      - address: http://127.0.0.1:{b}
{third}    balance: round_robin
routes:
  - name: load
    path: /load/*
    service: load
  - name: weight
    path: /weight
    service: weight
  - name: header
    path: /header
    service: header
  - name: timeout
    path: /slow
    service: timeout
  - name: breaker
    path: /fail
    service: breaker
  - name: rate
    path: /rate
    service: rate
    rate_limit:
      rate: 1
      burst: {burst}
  - name: pool
    path: /pool
    service: pool
"
        );
        if let Some(n) = self.route {
            _ = write!(
                yaml,
                "  - name: extra\n    path: /extra-{n}\n    service: rate\n"
            );
        }
        yaml
    }
}

/// Proofs by traffic.
struct Prover {
    gateway: std::net::SocketAddr,
    client: Client,
    /// The next address that no bucket knows.
    fresh: Cell<u32>,
}

impl Prover {
    fn new(gateway: std::net::SocketAddr) -> Self {
        let client = Client::new(gateway).bound_to([127, 0, 0, 20]);
        Self {
            gateway,
            client,
            fresh: Cell::new(u32::from(Ipv4Addr::new(127, 0, 1, 1))),
        }
    }

    async fn status(&self, path: &str) -> u16 {
        self.client
            .get(path)
            .await
            .unwrap_or_else(|e| panic!("{path}: {e}"))
            .status
    }

    /// How many of `n` answers came from v2.
    async fn at_v2(&self, path: &str, headers: &[(&str, &str)], n: usize) -> usize {
        let mut count = 0;
        for _ in 0..n {
            let answer = self
                .client
                .get_with(path, headers)
                .await
                .unwrap_or_else(|e| panic!("{path}: {e}"));
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            count += usize::from(answer.upstream().starts_with("v2/"));
        }
        count
    }

    /// How many calls fail before the breaker refuses one.
    async fn failures_to_open(&self) -> u32 {
        let begun = Instant::now();
        while self.status("/fail?status=200").await != 200 {
            assert!(begun.elapsed() < LIVE, "the breaker does not close again");
            sleep(Duration::from_millis(30)).await;
        }
        let mut failed = 0;
        loop {
            match self.status("/fail?status=500").await {
                500 if failed < 50 => failed += 1,
                503 => return failed,
                status => panic!("{status} after {failed} failures"),
            }
        }
    }

    /// Whether the gateway behaves, in this respect, as the model says.
    async fn holds(&self, kind: Kind, model: &Model, before: &Model) -> bool {
        match kind {
            Kind::Weight => {
                // The three weights lie forty apart.
                let share = self.at_v2("/weight", &[], 60).await as f64 / 0.6;
                (share - f64::from(model.weight)).abs() <= 17.0
            }
            Kind::Header => {
                self.at_v2("/header", &[("x-variant", model.variant)], 5)
                    .await
                    == 5
                    && self
                        .at_v2("/header", &[("x-variant", before.variant)], 5)
                        .await
                        == if before.variant == model.variant {
                            5
                        } else {
                            0
                        }
                    && self.at_v2("/header", &[], 3).await == 0
            }
            Kind::Timeout => {
                let status = self.status("/slow?ms=400").await;
                assert!(matches!(status, 200 | 504), "/slow was answered {status}");
                status == if model.per_try > 400 { 200 } else { 504 }
            }
            Kind::Threshold => self.failures_to_open().await == model.threshold,
            Kind::Rate => {
                let ip = self.fresh.get();
                self.fresh.set(ip + 1);
                let client = Client::new(self.gateway)
                    .bound_to(Ipv4Addr::from(ip))
                    .connections(1);
                let mut passed = 0;
                for _ in 0..20 {
                    let answer = client
                        .get("/rate")
                        .await
                        .unwrap_or_else(|e| panic!("/rate: {e}"));
                    assert!(matches!(answer.status, 200 | 429), "{answer:?}");
                    passed += u32::from(answer.status == 200);
                }
                // One a second comes back while this lasts.
                (model.burst..=model.burst + 1).contains(&passed)
            }
            Kind::Endpoint => {
                let seen = self.at_v2("/pool", &[], 30).await;
                if model.third { seen > 0 } else { seen == 0 }
            }
            Kind::Route => {
                let expected =
                    |n: Option<u32>| n.map(|n| (n, if model.route == Some(n) { 200 } else { 404 }));
                for (n, status) in expected(model.route)
                    .into_iter()
                    .chain(expected(before.route))
                {
                    if self.status(&format!("/extra-{n}")).await != status {
                        return false;
                    }
                }
                true
            }
        }
    }
}

/// How a file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Style {
    /// Truncated and written again, in two pieces: a reader can meet half of it.
    InPlace,
    /// Written beside it and renamed over it, as editors do.
    Rename,
    /// As Kubernetes does with a mounted ConfigMap: the file is a link into `..data`, which is a link to a
    /// directory, and that link is replaced.
    Swap,
}

/// A file never goes from a link to a write in place: that would write through the link into another directory.
const STYLES: [Style; 7] = {
    use Style::{InPlace, Rename, Swap};
    [InPlace, InPlace, Rename, Swap, Swap, Swap, Rename]
};

struct Writer {
    path: PathBuf,
    swaps: u32,
    last: String,
}

impl Writer {
    fn new(path: PathBuf, text: String) -> Self {
        fs::write(&path, &text).unwrap();
        Self {
            path,
            swaps: 0,
            last: text,
        }
    }

    async fn write(&mut self, style: Style, text: &str) {
        let dir = self.path.parent().unwrap().to_owned();
        match style {
            Style::InPlace => {
                assert!(!self.path.is_symlink());
                let middle = text.len() / 2;
                let mut file = fs::File::create(&self.path).unwrap();
                std::io::Write::write_all(&mut file, &text.as_bytes()[..middle]).unwrap();
                sleep(Duration::from_millis(5)).await;
                std::io::Write::write_all(&mut file, &text.as_bytes()[middle..]).unwrap();
            }
            Style::Rename => {
                let beside = dir.join(".gateway.yaml.new");
                fs::write(&beside, text).unwrap();
                fs::rename(beside, &self.path).unwrap();
            }
            Style::Swap => {
                if !self.path.is_symlink() {
                    // The mount as it was before, with what the file says now.
                    let last = self.last.clone();
                    self.swap(&dir, &last);
                    symlink("..data/gateway.yaml", dir.join("link")).unwrap();
                    fs::rename(dir.join("link"), &self.path).unwrap();
                }
                self.swap(&dir, text);
            }
        }
        text.clone_into(&mut self.last);
    }

    fn swap(&mut self, dir: &Path, text: &str) {
        let old = fs::read_link(dir.join("..data")).ok();
        self.swaps += 1;
        let name = format!("..2026_01_01_{:04}", self.swaps);
        fs::create_dir(dir.join(&name)).unwrap();
        fs::write(dir.join(&name).join("gateway.yaml"), text).unwrap();
        symlink(&name, dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(dir.join(old)).unwrap();
        }
    }
}

/// A fault in a file, and what must be said about it.
#[derive(Clone, Debug)]
struct Fault {
    line: usize,
    path: &'static str,
    nearest: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breakage {
    Syntax,
    Type,
    Range,
    UnknownKey,
    Dangling,
}

/// Which faults each broken file has: every one alone, and then together.
const BROKEN: [&[Breakage]; 6] = {
    use Breakage::{Dangling, Range, Syntax, Type, UnknownKey};
    [
        &[Syntax],
        &[Type, Range],
        &[UnknownKey, Dangling],
        &[Type, Range, UnknownKey, Dangling],
        &[Range],
        &[Syntax, Dangling],
    ]
};

/// Replaces one line of the section that begins with the line `section`.
fn spoil(yaml: &mut String, section: &str, line: &str, by: &str) -> usize {
    let mut lines: Vec<&str> = yaml.lines().collect();
    let from = lines
        .iter()
        .position(|l| *l == section)
        .unwrap_or_else(|| panic!("no `{section}`"));
    let at = from
        + lines[from..]
            .iter()
            .position(|l| *l == line)
            .unwrap_or_else(|| panic!("no `{line}`"));
    lines[at] = by;
    *yaml = lines.join("\n") + "\n";
    at + 1
}

fn break_it(yaml: &mut String, with: &[Breakage]) -> Vec<Fault> {
    let fault = |breakage: &Breakage| {
        let (line, path, nearest) = match breakage {
            Breakage::Syntax => (
                spoil(
                    yaml,
                    "  pool:",
                    "    balance: round_robin",
                    "    balance: @round_robin",
                ),
                "",
                None,
            ),
            Breakage::Type => (
                spoil(
                    yaml,
                    "  breaker:",
                    "      half_open_probes: 1",
                    "      half_open_probes: several",
                ),
                "services.breaker.breaker.half_open_probes",
                None,
            ),
            Breakage::Range => (
                spoil(
                    yaml,
                    "  load:",
                    "      failure_rate: 0.5",
                    "      failure_rate: 7.5",
                ),
                "services.load.breaker.failure_rate",
                None,
            ),
            Breakage::UnknownKey => (
                spoil(yaml, "  load:", "      attempts: 3", "      attemps: 3"),
                "services.load.retry.attemps",
                Some("attempts"),
            ),
            Breakage::Dangling => (
                spoil(
                    yaml,
                    "  - name: rate",
                    "    service: rate",
                    "    service: rat",
                ),
                "routes[5].service",
                Some("rate"),
            ),
        };
        Fault {
            line,
            path,
            nearest,
        }
    };
    let mut faults: Vec<_> = with.iter().map(fault).collect();
    // A syntax fault stands alone: what the rest means nobody knows.
    if with.contains(&Breakage::Syntax) {
        faults.retain(|f| f.path.is_empty());
    }
    faults
}

/// What is missing from a report of these faults: each with file and line, and near to it path and nearest key.
pub(crate) fn missing(
    report: &str,
    file: &str,
    faults: &[(usize, &str, Option<&str>)],
) -> Vec<String> {
    let lines: Vec<&str> = report.lines().collect();
    let is_told = |(line, path, nearest): &(usize, &str, Option<&str>)| {
        let place = format!("{file}:{line}");
        // Not the beginning of another number.
        let is_place = |l: &str| {
            l.match_indices(&place)
                .any(|(at, _)| !l[at + place.len()..].starts_with(|c: char| c.is_ascii_digit()))
        };
        (0..lines.len()).filter(|&n| is_place(lines[n])).any(|n| {
            let near = lines[n.saturating_sub(2)..(n + 3).min(lines.len())].join("\n");
            near.contains(path)
                && nearest.is_none_or(|key| {
                    near.contains(&format!("`{key}`"))
                        || near.contains(&format!("\"{key}\""))
                        || near.contains(&format!("'{key}'"))
                })
        })
    };
    faults
        .iter()
        .filter(|f| !is_told(f))
        .map(|f| format!("{file}:{}: {} (nearest {:?})", f.0, f.1, f.2))
        .collect()
}

/// The version that is live, as `/config` says.
fn version(config: &str) -> u64 {
    let line = config.lines().find_map(|l| {
        l.trim_start()
            .trim_start_matches("# ")
            .strip_prefix("version:")
    });
    line.and_then(|v| v.trim().parse().ok())
        .unwrap_or_else(|| panic!("no `version: N` in /config:\n{config}"))
}

/// The gateway under load, and the file that it reads.
struct House {
    gateway: Gateway,
    prover: Prover,
    writer: Writer,
    file: String,
    ports: [u16; 3],
    times: BTreeMap<Kind, Vec<Duration>>,
}

impl House {
    async fn change(&mut self, n: u32, style: Style, kind: Kind, old: &Model, new: &Model) {
        assert!(
            !self.prover.holds(kind, new, old).await,
            "change {n}, {kind:?}: the proof holds before the change: {new:?}"
        );
        self.writer.write(style, &new.yaml(self.ports)).await;
        let written = Instant::now();
        while !self.prover.holds(kind, new, old).await {
            if written.elapsed() > LIVE {
                let config = self.gateway.admin_get("/config").await.text();
                panic!(
                    "change {n} ({style:?}), {kind:?}, is not live after {LIVE:?}: {old:?} -> {new:?}; /config:\n{config}"
                );
            }
        }
        self.times.entry(kind).or_default().push(written.elapsed());
    }

    /// A broken file that would also change `kind`: refused as a whole, with everything that is wrong with it.
    async fn refuses(
        &mut self,
        n: u32,
        style: Style,
        with: &[Breakage],
        kind: Kind,
        old: &Model,
        new: &Model,
    ) {
        let live = version(&self.gateway.admin_get("/config").await.text());
        let mut yaml = new.yaml(self.ports);
        let faults = break_it(&mut yaml, with);
        let faults: Vec<_> = faults.iter().map(|f| (f.line, f.path, f.nearest)).collect();
        self.writer.write(style, &yaml).await;

        let written = Instant::now();
        let config = loop {
            let config = self.gateway.admin_get("/config").await.text();
            let refused = config
                .split_once("refused:")
                .map_or("", |(_, refused)| refused);
            let missing = missing(refused, "gateway.yaml", &faults);
            if missing.is_empty() {
                break config;
            }
            assert!(
                written.elapsed() < LIVE,
                "change {n} ({style:?}), {with:?}: /config does not tell {missing:#?}:\n{config}"
            );
            sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(
            version(&config),
            live,
            "a refused file has become a version:\n{config}"
        );
        assert!(
            self.prover.holds(kind, old, old).await,
            "change {n}, {with:?}: {kind:?} of a refused file is live"
        );
        assert_eq!(self.gateway.admin_status("/readyz").await, Some(200));

        let said = run(&["check", "--config", &self.file], &[]).await;
        assert_eq!(said.code, Some(1), "{said:?}");
        let missing = missing(&said.stderr, "gateway.yaml", &faults);
        assert!(
            missing.is_empty(),
            "{with:?}: check does not tell {missing:#?}:\n{}",
            said.stderr
        );
        if with.contains(&Breakage::Syntax) {
            let places = said.stderr.matches("gateway.yaml:").count();
            assert_eq!(places, 1, "a syntax error stands alone:\n{}", said.stderr);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_under_load_are_live_and_lose_nothing() {
    let changes: u32 = if long() { 200 } else { 40 };
    alone(Duration::from_secs(60 + 5 * u64::from(changes)), async {
        let seed = std::env::var("CHASSIS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7);
        eprintln!("CHASSIS_SEED={seed}");
        let mut random = Rng::with_seed(seed);
        let dir = Dir::new();
        let upstreams = [
            Upstream::start(&dir, "v1", "a").await,
            Upstream::start(&dir, "v1", "b").await,
            Upstream::start(&dir, "v2", "c").await,
        ];
        let ports = [0, 1, 2].map(|n: usize| upstreams[n].address.port());
        let mut model =
            Model { weight: 50, variant: "red", per_try: 3_000, threshold: 4, burst: 8, third: false, route: None };
        // A directory of its own: the logs of the processes would wake the watcher.
        let config = dir.path().join("config");
        fs::create_dir(&config).unwrap();
        let path = config.join("gateway.yaml");
        let writer = Writer::new(path.clone(), model.yaml(ports));
        let gateway = Gateway::start_on(&dir, &path).await;
        let prover = Prover::new(gateway.address);
        let file = path.to_str().unwrap().to_owned();
        let mut house = House { gateway, prover, writer, file, ports, times: BTreeMap::new() };
        for kind in Kind::ALL {
            assert!(house.prover.holds(kind, &model, &model).await, "at the start: {kind:?}");
        }

        let client = Client::new(house.gateway.address).bound_to([127, 0, 0, 1]).connections(32);
        let load = Load::start(client, "/load/x", RATE);
        let mut bag = Vec::new();
        let mut attempts = 0;
        for n in 0..changes {
            if bag.is_empty() {
                bag = Kind::ALL.to_vec();
                random.shuffle(&mut bag);
            }
            let kind = bag.pop().unwrap();
            let style = STYLES[n as usize % STYLES.len()];
            let new = model.changed(kind, &mut random, n);
            if n % 10 == 4 {
                let with = BROKEN[n as usize / 10 % BROKEN.len()];
                house.refuses(n, style, with, kind, &model, &new).await;
            } else {
                house.change(n, style, kind, &model, &new).await;
                model = new;
            }
            // Counters live as long as their endpoint does, not as long as a version.
            let now: u64 = house.gateway.endpoints("load").await.iter().map(|e| e.attempts).sum();
            assert!(now >= attempts && now > 0, "change {n}: attempts fell from {attempts} to {now}");
            attempts = now;
        }
        let begun = load.begun();
        let samples = load.stop().await;
        assert_eq!(failures(&samples, begun), Vec::<String>::new(), "the background load");
        let expected = begun.elapsed().as_secs_f64() * f64::from(RATE);
        assert!(
            samples.len() as f64 > expected / 2.0,
            "only {} requests of {expected:.0}: this was no load",
            samples.len()
        );

        let mut all: Vec<_> = house.times.values().flatten().copied().collect();
        all.sort_unstable();
        let median = all[all.len() / 2];
        eprintln!(
            "{} requests in the background, p99 {:?}; changes live and proved after: median {median:?}, slowest {:?}",
            samples.len(),
            quantile(&samples, 0.99),
            all.last(),
        );
        for (kind, times) in &house.times {
            eprintln!("{kind:?}: {} changes, slowest {:?}", times.len(), times.iter().max());
        }
        assert!(median <= SOON, "the median change was live after {median:?}");
    })
    .await;
}
