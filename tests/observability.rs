//! The dashboards and alerts of `examples/observability`, by a real Prometheus that scrapes the demo beside them: no panel is
//! empty while things go wrong, each alert fires then, and none fires while all is well.
//!
//! `CHASSIS_LONG=1` looks at each for a minute, `CHASSIS_PEERS=required` turns a missing `prometheus` or `promtool` from a
//! remark into a failure.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test program: it fails loudly and says what it skipped"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use regex::Regex;
use serde_json::Value;
use tokio::time::Instant;

/// What the rules say in minutes is seconds here.
const WINDOW: &str = "8s";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/observability")
}

/// Whether a program can be run; says so if not.
fn has(program: &str) -> bool {
    if Command::new(program).arg("--version").output().is_ok() {
        return true;
    }
    let required = env::var("CHASSIS_PEERS").is_ok_and(|value| value == "required");
    assert!(!required, "{program} is not installed");
    eprintln!("SKIPPED: {program} is not installed");
    false
}

fn is_long() -> bool {
    env::var("CHASSIS_LONG").is_ok()
}

/// A program that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The demo, and where it listens.
fn demo(weather: &str) -> (Running, String) {
    let mut path = env::current_exe().unwrap();
    path.pop();
    path.pop();
    // Of so many open files it can leak nearly all.
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -n 4096; exec \"$0\" \"$@\""])
        .arg(path.join("examples/observability"))
        .args(["127.0.0.1:0", weather])
        .stdout(Stdio::piped())
        .spawn()
        .expect("`cargo test` builds the examples");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines.find_map(|line| {
        let line = line.unwrap();
        line.strip_prefix("listening on http://").map(str::to_owned)
    });
    let address = line.unwrap().split(',').next().unwrap().to_owned();
    thread::spawn(move || lines.for_each(drop));
    (Running(child), address)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A Prometheus that asks every second.
struct Prometheus {
    port: u16,
    _running: Running,
    _home: tempdir::Home,
}

/// A folder that goes with its owner.
mod tempdir {
    use std::{env, fs, path::PathBuf, process};

    pub(crate) struct Home(pub(crate) PathBuf);

    impl Home {
        pub(crate) fn new(name: &str) -> Self {
            let path = env::temp_dir().join(format!("chassis-{name}-{}", process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Home {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// What is served there.
async fn fetch(address: &str, path: &str) -> Result<bytes::Bytes, Box<dyn std::error::Error>> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = http::Request::get(path)
        .header("host", address)
        .body(Empty::<bytes::Bytes>::new())?;
    let answer = client.send_request(request).await?;
    Ok(answer.into_body().collect().await?.to_bytes())
}

/// Nothing to say of a whole page.
async fn check_metrics(address: &str) {
    if !has("promtool") {
        return;
    }
    let page = fetch(address, "/metrics").await.unwrap();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(&page).unwrap();
    let told = promtool.wait_with_output().unwrap();
    let text = [told.stdout, told.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(told.status.success() && text.is_empty(), "{text}");
}

impl Prometheus {
    fn start(name: &str, targets: &[String]) -> Self {
        let home = tempdir::Home::new(name);
        let rules = fs::read_to_string(folder().join("alerts.yml")).unwrap();
        let rules = rules.replace("[5m]", &format!("[{WINDOW}]"));
        let rules = Regex::new(r"for: \d+m")
            .unwrap()
            .replace_all(&rules, "for: 1s");
        fs::write(home.0.join("alerts.yml"), &*rules).unwrap();
        let config = fs::read_to_string(folder().join("prometheus.yml")).unwrap();
        let targets = format!("targets: {targets:?}");
        let config = config
            .replace("15s", "1s")
            .replace("targets: [\"127.0.0.1:3010\"]", &targets);
        assert!(config.contains(&targets), "{config}");
        fs::write(home.0.join("prometheus.yml"), config).unwrap();
        let port = free_port();
        let log = fs::File::create(home.0.join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                home.0.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                home.0.join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            port,
            _running: Running(child),
            _home: home,
        }
    }

    /// What its API answers.
    async fn ask(&self, path: &str) -> Value {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match self.try_ask(path).await {
                Ok(value) => return value,
                // It takes a moment to begin.
                Err(error) => assert!(Instant::now() < until, "{path}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn try_ask(&self, path: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let body = fetch(&format!("127.0.0.1:{}", self.port), path).await?;
        let value: Value = serde_json::from_slice(&body)?;
        match value["status"].as_str() {
            Some("success") => Ok(value["data"].clone()),
            _ => Err(value.to_string().into()),
        }
    }

    /// The values of an expression now.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let escaped: String = expression
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        let data = self.ask(&format!("/api/v1/query?query={escaped}")).await;
        data["result"].as_array().unwrap().clone()
    }

    /// Looks until each alert has fired and each panel has shown something; says which did not in time.
    async fn look(&self) -> (BTreeSet<String>, BTreeMap<String, Vec<String>>) {
        let begun = Instant::now();
        let (mut silent, mut empty) = (rules(), expressions());
        while !(silent.is_empty() && empty.is_empty()) && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let firing = self.firing().await;
            silent.retain(|rule| !firing.contains(rule));
            for (title, expressions) in std::mem::take(&mut empty) {
                let mut left = Vec::new();
                for expression in expressions {
                    let asked = expression
                        .replace("$__rate_interval", WINDOW)
                        .replace("$job", ".*");
                    if self.query(&asked).await.is_empty() {
                        left.push(expression);
                    }
                }
                if !left.is_empty() {
                    empty.insert(title, left);
                }
            }
        }
        (silent, empty)
    }

    /// The names of the alerts that fire.
    async fn firing(&self) -> BTreeSet<String> {
        let data = self.ask("/api/v1/alerts").await;
        let alerts = data["alerts"].as_array().unwrap().iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing
            .map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The names of all rules.
fn rules() -> BTreeSet<String> {
    let text = fs::read_to_string(folder().join("alerts.yml")).unwrap();
    let names = Regex::new(r"- alert: (\w+)").unwrap();
    names
        .captures_iter(&text)
        .map(|found| found[1].to_owned())
        .collect()
}

/// The expressions of all panels, by dashboard and title.
fn expressions() -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for entry in fs::read_dir(folder().join("dashboards")).unwrap() {
        let path = entry.unwrap().path();
        let board: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            let title = format!("{}: {}", board["uid"], panel["title"]);
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = target["expr"].as_str().unwrap().to_owned();
                all.entry(title.clone()).or_default().push(text);
            }
        }
    }
    all
}

/// How long one waits for what must happen: a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_storm_every_panel_shows_something_and_every_alert_fires() {
    if !has("prometheus") {
        return;
    }
    let (_demo, address) = demo("storm");
    let dead = format!("127.0.0.1:{}", free_port());
    let prometheus = Prometheus::start("storm", &[address.clone(), dead]);

    let begun = Instant::now();
    let (silent, empty) = prometheus.look().await;
    assert!(empty.is_empty(), "these show nothing: {empty:#?}");
    assert!(silent.is_empty(), "these do not fire: {silent:?}");
    eprintln!("all fires and shows after {:?}", begun.elapsed());
    if is_long() {
        tokio::time::sleep_until(begun + Duration::from_secs(60)).await;
        let (silent, empty) = prometheus.look().await;
        assert!(empty.is_empty(), "these show nothing more: {empty:#?}");
        assert!(silent.is_empty(), "these fire no more: {silent:?}");
        eprintln!("and again after {:?}", begun.elapsed());
    }
    check_metrics(&address).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_all_is_well_no_alert_fires() {
    if !has("prometheus") {
        return;
    }
    let (_demo, address) = demo("calm");
    let prometheus = Prometheus::start("calm", std::slice::from_ref(&address));
    let served = "sum(http_server_request_duration_seconds_count)";
    let count = async || {
        let found = prometheus.query(served).await;
        let value = found.first().map(|found| found["value"][1].clone());
        value.map_or(0.0, |value| value.as_str().unwrap().parse::<f64>().unwrap())
    };
    let begun = Instant::now();
    while count().await < 1.0 {
        assert!(begun.elapsed() < PATIENCE, "nothing is scraped");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let until = Instant::now() + Duration::from_secs(if is_long() { 60 } else { 15 });
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let firing = prometheus.firing().await;
        assert!(firing.is_empty(), "{firing:?} after {:?}", begun.elapsed());
    }
    assert!(count().await > 100.0, "there was a load");
    let known = prometheus.ask("/api/v1/rules").await;
    let groups = known["groups"].as_array().unwrap();
    let known = groups[0]["rules"].as_array().unwrap().len();
    assert_eq!(known, rules().len());
    check_metrics(&address).await;
}

#[test]
fn promtool_finds_nothing() {
    if !has("promtool") {
        return;
    }
    for (verb, kind, file) in [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts_test.yml"),
    ] {
        let told = Command::new("promtool")
            .args([verb, kind, file])
            .current_dir(folder())
            .output()
            .unwrap();
        let text = [told.stdout, told.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(told.status.success(), "{file}: {text}");
    }
}

/// The tests of the rules are of all rules.
#[test]
fn every_alert_has_a_test() {
    let text = fs::read_to_string(folder().join("alerts_test.yml")).unwrap();
    for rule in rules() {
        assert!(text.contains(&format!("alertname: {rule}\n")), "{rule}");
    }
}

/// What the pages of `observe` describe, by the names that Prometheus sees.
fn described() -> BTreeSet<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tower-chassis-observe/src");
    let row = Regex::new(r"(?m)^//! \| (`[^|]*`[^|]*)\|(?: `([a-z_]+)`)?").unwrap();
    let name = Regex::new(r"`([a-z_.]+)`").unwrap();
    let mut all = BTreeSet::new();
    for file in [
        "events/mod.rs",
        "metrics/mod.rs",
        "runtime.rs",
        "process.rs",
    ] {
        let text = fs::read_to_string(sources.join(file)).unwrap();
        for row in row.captures_iter(&text) {
            for name in name.captures_iter(&row[1]).map(|found| found[1].to_owned()) {
                match row.get(2) {
                    // OpenTelemetry's: the unit is behind it.
                    Some(shown) if name.contains('.') => {
                        let unit = shown.as_str().rsplit('_').next().unwrap();
                        let unit = match unit {
                            "seconds" | "bytes" => format!("_{unit}"),
                            _ => String::new(),
                        };
                        all.insert(name.replace('.', "_") + &unit);
                    }
                    _ if name.starts_with("chassis_") || name.starts_with("process_") => {
                        all.insert(name);
                    }
                    // A setting.
                    _ => {}
                }
            }
        }
    }
    assert!(all.len() > 50, "{all:?}");
    all
}

/// The families that a text asks for.
fn asked_for(text: &str) -> BTreeSet<String> {
    let names = Regex::new(r"\b(chassis|http|rpc|process)_[a-z_]+\b").unwrap();
    let families = names.find_iter(text).map(|found| {
        let ends = ["_bucket", "_count", "_sum"];
        let name = found.as_str();
        let family = ends.iter().find_map(|end| name.strip_suffix(end));
        family.unwrap_or(name).to_owned()
    });
    let labels = [
        "http_route",
        "http_response_status_code",
        "http_request_method",
        "rpc_method",
        "rpc_response_status_code",
    ];
    families.filter(|name| !labels.contains(&&**name)).collect()
}

/// No panel and no rule asks for what nobody measures, and what is measured is shown.
#[test]
fn what_is_described_is_what_is_asked_for() {
    let known = described();
    let panels: Vec<_> = expressions().into_values().flatten().collect();
    for text in &panels {
        for name in asked_for(text) {
            assert!(
                known.contains(&name),
                "{name} is in no table, but in {text}"
            );
        }
    }
    for file in ["alerts.yml", "alerts_test.yml"] {
        let text = fs::read_to_string(folder().join(file)).unwrap();
        let unknown: Vec<_> = asked_for(&text).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?} are in no table");
    }
    let alerts = fs::read_to_string(folder().join("alerts.yml")).unwrap();
    let shown = asked_for(&(panels.join("\n") + &alerts));
    let hidden: Vec<_> = known.difference(&shown).collect();
    // Address space says nothing to whoever looks at a board.
    assert_eq!(hidden, ["process_virtual_memory_bytes"]);
}
