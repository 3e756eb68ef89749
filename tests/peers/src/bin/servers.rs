//! Servers beside one another, on one core each in turn: `hello` (hyper, axum, ours) and `gateway` (nginx, a
//! proxy of hyper's parts, ours with everything on).
//!
//! The subject has core 0; `wrk` and what stands behind a gateway have core 1. CPU per request is the subject's
//! own run time, as the scheduler counts it, divided by the requests answered: the steadiest figure here. A ratio
//! is the median over rounds of subject over base.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use tower_chassis_peers::{
    median, option,
    process::{self, Load, Server},
    table::{self, figure},
};

const HELP: &str = "servers hello|gateway [--rounds 5] [--seconds 3] [--connections 32]";
const SUBJECT: usize = 0;
const REST: usize = 1;

/// A server under load, and what was measured of it.
struct Subject {
    name: &'static str,
    server: Server,
    rounds: Vec<(Load, f64)>,
}

impl Subject {
    fn new(name: &'static str, server: io::Result<Server>) -> io::Result<Self> {
        let server = server.map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        Ok(Self {
            name,
            server,
            rounds: Vec::new(),
        })
    }

    fn measure(&mut self, connections: usize, seconds: u64) -> io::Result<()> {
        let before = self.server.ran();
        let load = process::load(REST, &self.server.address, connections, seconds)?;
        let micros = (self.server.ran() - before) as f64 / 1e3 / load.requests;
        self.rounds.push((load, micros));
        Ok(())
    }

    fn median(&self, figure: impl Fn(&(Load, f64)) -> f64) -> f64 {
        median(&self.rounds.iter().map(figure).collect::<Vec<_>>())
    }

    fn ratio(&self, base: &Self, figure: impl Fn(&(Load, f64)) -> f64) -> f64 {
        let pairs = self.rounds.iter().zip(&base.rounds);
        median(
            &pairs
                .map(|(own, base)| figure(own) / figure(base))
                .collect::<Vec<_>>(),
        )
    }
}

fn main() -> io::Result<()> {
    let (rounds, seconds, connections) = (
        option("--rounds", 5),
        option("--seconds", 3),
        option("--connections", 32),
    );
    let title = format!("{rounds} rounds of {seconds} s, {connections} connections");
    match env::args().nth(1).as_deref() {
        Some("hello") => {
            let mut subjects = hello()?;
            run(&mut subjects, rounds, seconds, connections)?;
            report(&format!("hello, {title}"), &subjects, 1);
        }
        Some("gateway") => {
            let scratch = Scratch::new()?;
            let backend = Server::start(REST, &beside("subject")?, &["floor"], &[])?;
            let mut subjects = gateways(&scratch.0, &backend.address)?;
            run(&mut subjects, rounds, seconds, connections)?;
            report(&format!("gateway, {title}"), &subjects, 0);
        }
        _ => println!("{HELP}"),
    }
    Ok(())
}

/// The binary of this package that is called `name`, built with this one.
fn beside(name: &str) -> io::Result<PathBuf> {
    let path = env::current_exe()?.with_file_name(name);
    if !path.exists() {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
        return build(&package, &["--bin", name]);
    }
    Ok(path)
}

/// Builds a binary as it is shipped, and says where it is.
fn build(manifest: &Path, args: &[&str]) -> io::Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--release",
            "--message-format=json",
            "--manifest-path",
        ])
        .arg(manifest)
        .args(args)
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let built = messages
        .filter_map(|message| Some(message["executable"].as_str()?.to_owned()))
        .next_back();
    built
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("cargo built nothing of {}", manifest.display())))
}

fn hello() -> io::Result<Vec<Subject>> {
    let program = beside("subject")?;
    let start = |name, role| Subject::new(name, Server::start(SUBJECT, &program, &[role], &[]));
    Ok(vec![
        start("no parser (floor)", "floor")?,
        start("hyper", "hyper")?,
        start("axum", "axum")?,
        start("tower-chassis", "chassis")?,
    ])
}

fn gateways(scratch: &Path, backend: &str) -> io::Result<Vec<Subject>> {
    let ours = build(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml"),
        &[
            "--package",
            "tower-chassis",
            "--bin",
            "tower-chassis",
            "--features",
            "gateway",
        ],
    )?;
    let quiet = write(scratch, "quiet.yaml", &gateway(backend, "off"))?;
    let logging = write(scratch, "logging.yaml", &gateway(backend, "json"))?;
    let one_worker = [("TOKIO_WORKER_THREADS", "1")];
    let chassis = |name, file: &str| {
        Subject::new(
            name,
            Server::start(SUBJECT, &ours, &["run", "--config", file], &one_worker),
        )
    };

    let address = format!("127.0.0.1:{}", process::free_port()?);
    let nginx = write(scratch, "nginx.conf", &nginx(scratch, &address, backend))?;
    let prefix = scratch.to_string_lossy().into_owned();
    let nginx = Server::start_at(
        SUBJECT,
        &address,
        Path::new("nginx"),
        &["-p", &prefix, "-c", &nginx],
    );
    let proxy = Server::start(SUBJECT, &beside("subject")?, &["proxy", backend], &[]);
    Ok(vec![
        Subject::new("nginx", nginx)?,
        Subject::new("hyper and hyper-util", proxy)?,
        chassis("tower-chassis, all but the log", &quiet)?,
        chassis("tower-chassis, with its log", &logging)?,
    ])
}

/// Everything that the gateway has: a table of routes, a rate limit per client, forwarding headers, retry with a
/// budget, both timeouts, a canary, P2C over three endpoints, a breaker each, metrics, traces, the log.
fn gateway(backend: &str, log: &str) -> String {
    format!(
        "gateway: {{ listen: '127.0.0.1:0' }}
admin: {{ listen: '127.0.0.1:0' }}
log: {{ access: {log} }}
services:
  shop:
    endpoints:
      - {{ address: 'http://{backend}', id: a, tags: {{ version: v1 }} }}
      - {{ address: 'http://{backend}', id: b, tags: {{ version: v1 }} }}
      - {{ address: 'http://{backend}', id: c, tags: {{ version: v2 }} }}
    traffic:
      - match: {{ headers: {{ x-canary: always }} }}
        to: [{{ tags: {{ version: v2 }} }}]
      - to: [{{ tags: {{ version: v1 }}, weight: 90 }}, {{ tags: {{ version: v2 }}, weight: 10 }}]
routes:
  - {{ name: users, path: '/users/{{id:[0-9]+}}', service: shop }}
  - {{ name: files, path: '/files/*', service: shop, methods: [GET] }}
  - {{ name: all, path: '/*', service: shop, rate_limit: {{ rate: 1000000, burst: 1000000 }} }}
"
    )
}

/// As plain as it can be with connections kept on both sides; one process.
fn nginx(scratch: &Path, address: &str, backend: &str) -> String {
    let scratch = scratch.display();
    format!(
        "daemon off; master_process off; worker_processes 1;
error_log {scratch}/error.log; pid {scratch}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_temp_path {scratch}/body; proxy_temp_path {scratch}/proxy;
  fastcgi_temp_path {scratch}/fastcgi; uwsgi_temp_path {scratch}/uwsgi; scgi_temp_path {scratch}/scgi;
  upstream shop {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://shop; proxy_http_version 1.1; proxy_set_header Connection '';
      proxy_set_header X-Forwarded-For $remote_addr;
    }}
  }}
}}
"
    )
}

fn write(scratch: &Path, name: &str, text: &str) -> io::Result<String> {
    let path = scratch.join(name);
    fs::write(&path, text)?;
    Ok(path.to_string_lossy().into_owned())
}

fn run(
    subjects: &mut [Subject],
    rounds: usize,
    seconds: u64,
    connections: usize,
) -> io::Result<()> {
    // This process reads what the servers log: not on their core.
    process::pin_self(REST)?;
    // Pools fill and pages are touched before anything counts.
    for subject in subjects.iter_mut() {
        subject.measure(connections, 1)?;
        subject.rounds.clear();
    }
    for _ in 0..rounds {
        subjects
            .iter_mut()
            .try_for_each(|subject| subject.measure(connections, seconds))?;
    }
    Ok(())
}

fn report(title: &str, subjects: &[Subject], base: usize) {
    let base = &subjects[base];
    let heads = [
        "server",
        "req/s",
        "ratio",
        "CPU us/req",
        "ratio",
        "p50 us",
        "p99 us",
        "p99 ratio",
        "RSS MiB",
    ];
    let rows: Vec<Vec<String>> = subjects
        .iter()
        .map(|subject| {
            vec![
                subject.name.to_owned(),
                figure(subject.median(|(load, _)| load.rate)),
                format!("{:.2}", subject.ratio(base, |(load, _)| load.rate)),
                format!("{:.2}", subject.median(|(_, micros)| *micros)),
                format!("{:.2}", subject.ratio(base, |(_, micros)| *micros)),
                figure(subject.median(|(load, _)| load.p50)),
                figure(subject.median(|(load, _)| load.p99)),
                format!("{:.2}", subject.ratio(base, |(load, _)| load.p99)),
                format!("{:.1}", subject.server.resident()),
            ]
        })
        .collect();
    table::print(&format!("{title}; ratios to {}", base.name), &heads, &rows);
}

/// A directory that goes away again.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> io::Result<Self> {
        let path = env::temp_dir().join(format!("tower-chassis-peers-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
