//! Processes under test, and how a test waits for them.

use std::{
    fmt,
    fs::{self, File},
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::pin,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use regex::Regex;
use serde_json::Value;
use tokio::time::{Duration, Instant, sleep, timeout};

use crate::load::{Answer, Client};

/// How long a process may take to say where it listens, on a machine that has other things to do.
const START: Duration = Duration::from_secs(20);

/// Whether the long form of the checks was asked for.
pub(crate) fn long() -> bool {
    std::env::var("CHASSIS_LONG").is_ok_and(|v| v == "1")
}

/// Runs a test that ends, one way or the other.
///
/// The future is alive while the panic of a test that hangs unwinds, so that its processes print what they said.
pub(crate) async fn bounded(limit: Duration, test: impl Future<Output = ()>) {
    let mut test = pin!(test);
    if timeout(limit, test.as_mut()).await.is_err() {
        panic!("the test is not done after {limit:?}");
    }
}

/// The same, and no other measuring test at the same time. The limit begins when it is this test's turn.
pub(crate) async fn alone(limit: Duration, test: impl Future<Output = ()>) {
    let turn = tokio::task::spawn_blocking(|| {
        let file = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("gateway-tests.lock"))?;
        file.lock().map(|()| file)
    });
    let _turn: File = turn
        .await
        .unwrap()
        .expect("the lock of the measuring tests");
    bounded(limit, test).await;
}

/// Asks until there is an answer; fails with `what` if there is none in time.
pub(crate) async fn eventually<T, F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A directory that goes when the test is over; it stays, and says so, where the test failed.
#[derive(Debug)]
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tower-chassis-gateway-{}-{}-{:08x}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed),
            fastrand::u32(..),
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file and gives its path back.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a file of the test");
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the files of the failed test are in {}", self.0.display());
        } else {
            _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// What a finished command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

fn command(args: &[&str], env: &[(&str, &str)]) -> tokio::process::Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tower-chassis"));
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHASSIS_"))
    {
        command.env_remove(name);
    }
    command
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null());
    command.into()
}

/// Runs the binary to its end.
pub(crate) async fn run(args: &[&str], env: &[(&str, &str)]) -> Said {
    let mut command = command(args, env);
    command.kill_on_drop(true);
    let output = timeout(START, command.output())
        .await
        .unwrap_or_else(|_| panic!("`tower-chassis {}` does not end", args.join(" ")))
        .expect("the binary can be started");
    Said {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The binary, running. Killed when dropped; prints what it said if that is while a test fails.
pub(crate) struct Process {
    child: tokio::process::Child,
    pid: u32,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.pid)
    }
}

impl Process {
    /// Starts the binary. What it prints goes to files in `dir`: no pipe that could fill up or break.
    pub(crate) fn spawn(dir: &Dir, name: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let [stdout, stderr] = ["stdout", "stderr"].map(|kind| {
            let unique = format!("{name}-{:08x}.{kind}", fastrand::u32(..));
            dir.path().join(unique)
        });
        let to = File::create(&stderr).unwrap();
        Self::start(name, args, env, [stdout, stderr], to.into())
    }

    /// The same, where somebody else has what it says on standard error.
    pub(crate) fn spawn_with(dir: &Dir, name: &str, args: &[&str], stderr: Stdio) -> Self {
        let files = ["stdout", "stderr"].map(|kind| dir.path().join(format!("{name}.{kind}")));
        Self::start(name, args, &[], files, stderr)
    }

    fn start(
        name: &str,
        args: &[&str],
        env: &[(&str, &str)],
        [stdout, stderr]: [PathBuf; 2],
        to: Stdio,
    ) -> Self {
        let mut command = command(args, env);
        let child = command
            .stdout(File::create(&stdout).unwrap())
            .stderr(to)
            .kill_on_drop(true)
            .spawn()
            .expect("the binary can be started");
        let pid = child
            .id()
            .expect("a child that was not waited for has an id");
        Self {
            child,
            pid,
            name: name.to_owned(),
            stdout,
            stderr,
        }
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Waits for a whole line on standard output, and gives its first group back.
    pub(crate) async fn said(&mut self, pattern: &str) -> String {
        let pattern = Regex::new(pattern).unwrap();
        let begun = Instant::now();
        loop {
            let text = self.stdout();
            // The last line may be half of one.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(found) = whole.lines().find_map(|line| pattern.captures(line)) {
                return found[1].to_owned();
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{self:?} ended ({status}) and never said `{pattern}`; it said: {text}");
            }
            assert!(
                begun.elapsed() < START,
                "{self:?} does not say `{pattern}`; it said: {text}"
            );
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a signal (`TERM`, `INT`, `KILL`) to this process and to nothing else.
    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([format!("-{signal}"), self.pid.to_string()])
            .status();
        assert!(sent.is_ok_and(|s| s.success()), "kill -{signal} {self:?}");
    }

    /// `kill -9`, and gone when this returns.
    pub(crate) async fn kill(&mut self) {
        self.signal("KILL");
        self.child.wait().await.unwrap();
    }

    /// Waits until it is gone: its exit code (`None`: a signal ended it).
    pub(crate) async fn ended(&mut self, within: Duration) -> Option<i32> {
        match timeout(within, self.child.wait()).await {
            Ok(status) => status.unwrap().code(),
            Err(_) => panic!("{self:?} is still there after {within:?}"),
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident memory in KiB.
    pub(crate) fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("VmRSS:"))
            .expect("VmRSS");
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// How many files and sockets it holds open.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid))
            .unwrap()
            .count()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.start_kill();
        if thread::panicking() {
            let tail = |text: &str| {
                let lines: Vec<_> = text.lines().collect();
                lines[lines.len().saturating_sub(60)..].join("\n")
            };
            let (out, err) = (tail(&self.stdout()), tail(&self.stderr()));
            eprintln!(
                "--- {self:?}, standard output ---\n{out}\n--- {self:?}, standard error ---\n{err}\n---"
            );
        }
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse()
        .unwrap_or_else(|e| panic!("`{text}` is not an address: {e}"))
}

/// A demo service in a process of its own.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Upstream {
    pub(crate) async fn start(dir: &Dir, version: &str, instance: &str) -> Self {
        Self::start_at(dir, version, instance, 0).await
    }

    pub(crate) async fn start_at(dir: &Dir, version: &str, instance: &str, port: u16) -> Self {
        let port = port.to_string();
        let args = [
            "upstream",
            "--version",
            version,
            "--port",
            &port,
            "--instance",
            instance,
        ];
        let mut process =
            Process::spawn(dir, &format!("upstream-{version}-{instance}"), &args, &[]);
        let line = format!(r"^upstream {version} listening on http://(127\.0\.0\.1:\d+)");
        let address = address(&process.said(&line).await);
        Self { process, address }
    }

    /// How many requests reached it.
    pub(crate) async fn requests(&self) -> u64 {
        let answer = Client::new(self.address)
            .get("/stats")
            .await
            .expect("/stats");
        answer.json()["requests"]
            .as_u64()
            .expect("a number of requests")
    }
}

/// A port that nobody listens on and that the kernel gives to nobody: outside of the range of outgoing connections.
///
/// With one from inside, a connect to it while nobody listens can meet itself.
pub(crate) fn quiet_port() -> u16 {
    std::iter::repeat_with(|| fastrand::u16(20_000..32_000))
        .take(1000)
        .find(|&port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok())
        .expect("a free port")
}

/// One endpoint, as the admin port shows it.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) port: u16,
    pub(crate) health: String,
    pub(crate) breaker: String,
    pub(crate) attempts: u64,
    pub(crate) failures: u64,
}

impl Endpoint {
    fn read(value: &Value) -> Self {
        let count = |name: &str| {
            value[name]
                .as_u64()
                .unwrap_or_else(|| panic!("no `{name}` in {value}"))
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let address = text(&value["address"]);
        let port = address
            .trim_end_matches('/')
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok());
        Self {
            port: port.unwrap_or_else(|| panic!("no port in the address of {value}")),
            health: text(&value["health"]),
            breaker: text(&value["breaker"]["state"]),
            attempts: count("attempts"),
            failures: count("failures"),
        }
    }
}

/// The gateway, ready.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    admin_client: Client,
}

impl Gateway {
    /// Starts `run --config` on a text of YAML.
    pub(crate) async fn start(dir: &Dir, yaml: &str) -> Self {
        let config = dir.write("gateway.yaml", yaml);
        Self::start_on(dir, &config).await
    }

    /// The same on a file that is there.
    pub(crate) async fn start_on(dir: &Dir, config: &Path) -> Self {
        let config = config.to_str().unwrap();
        let args = [
            "run",
            "--config",
            config,
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
        ];
        Self::ready(Process::spawn(dir, "gateway", &args, &[])).await
    }

    /// Starts the demo.
    pub(crate) async fn demo(dir: &Dir) -> Self {
        let args = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        Self::ready(Process::spawn(dir, "demo", &args, &[])).await
    }

    /// Waits for a process that is or becomes a gateway.
    pub(crate) async fn ready(mut process: Process) -> Self {
        let address_of = |text: String| address(&text);
        let address = address_of(
            process
                .said(r"^\s*gateway listening on http://(127\.\d+\.\d+\.\d+:\d+)")
                .await,
        );
        let admin = address_of(
            process
                .said(r"^\s*admin listening on http://(127\.\d+\.\d+\.\d+:\d+)")
                .await,
        );
        let gateway = Self {
            process,
            address,
            admin,
            admin_client: Client::new(admin).connections(4),
        };
        eventually("/readyz says 200", START, async || {
            (gateway.admin_status("/readyz").await == Some(200)).then_some(())
        })
        .await;
        gateway
    }

    /// An answer of the admin port.
    pub(crate) async fn admin_get(&self, path: &str) -> Answer {
        let answer = self.admin_client.get(path).await;
        answer.unwrap_or_else(|e| panic!("the admin port, {path}: {e}"))
    }

    /// The status that the admin port answers, if it answers. On a connection of its own: a server that goes away
    /// closes idle ones.
    pub(crate) async fn admin_status(&self, path: &str) -> Option<u16> {
        Client::new(self.admin)
            .get(path)
            .await
            .ok()
            .map(|answer| answer.status)
    }

    /// Every endpoint of a service.
    pub(crate) async fn endpoints(&self, service: &str) -> Vec<Endpoint> {
        let answer = self.admin_get("/endpoints").await;
        assert_eq!(answer.status, 200, "/endpoints");
        let json = answer.json();
        let all = json["services"][service]["endpoints"].as_array();
        all.unwrap_or_else(|| panic!("no service `{service}` in {json}"))
            .iter()
            .map(Endpoint::read)
            .collect()
    }

    /// The endpoint of a service at a port.
    pub(crate) async fn endpoint(&self, service: &str, port: u16) -> Endpoint {
        let all = self.endpoints(service).await;
        all.iter()
            .find(|e| e.port == port)
            .cloned()
            .unwrap_or_else(|| panic!("no port {port} in {all:?}"))
    }
}

/// Established connections on this machine, seen from the side that listens at `port`: the addresses of the others.
pub(crate) fn established(port: u16) -> Vec<SocketAddr> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let parse = |text: &str| {
        let (ip, port) = text.split_once(':')?;
        let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
        Some(SocketAddr::from((ip, u16::from_str_radix(port, 16).ok()?)))
    };
    let row = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, remote, state) = (parse(words.next()?)?, parse(words.next()?)?, words.next()?);
        (local.port() == port && state == "01").then_some(remote)
    };
    table.lines().skip(1).filter_map(row).collect()
}
