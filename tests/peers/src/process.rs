//! Servers as processes of their own, on a core of their own, that end with their owner.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A child that is killed by its process id when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: String,
}

impl Server {
    /// Starts `program` on `core`; its first line of the form `… listening on ADDRESS` says where.
    ///
    /// # Errors
    /// It cannot be started, or ends without saying where it listens.
    pub fn start(
        core: usize,
        program: &Path,
        args: &[&str],
        env: &[(&str, &str)],
    ) -> io::Result<Self> {
        let mut child = pinned(core, program, args)
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (mut stderr, said) = (child.stderr.take(), Arc::new(Mutex::new(Vec::new())));
        let head = Arc::clone(&said);
        // All of it is read, as a collector of logs would, and what explains a bad start is kept.
        let reader = thread::spawn(move || {
            let mut buffer = [0; 64 * 1024];
            while let Some(read @ 1..) = stderr
                .as_mut()
                .and_then(|stderr| stderr.read(&mut buffer).ok())
            {
                let mut head = head.lock().unwrap_or_else(PoisonError::into_inner);
                let room = 4096_usize.saturating_sub(head.len());
                head.extend_from_slice(&buffer[..read.min(room)]);
            }
        });
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| io::Error::other("no stdout"))?;
        let mut server = Self {
            child,
            address: String::new(),
        };
        let mut lines = BufReader::new(stdout).lines();
        for line in &mut lines {
            if let Some((_, address)) = line?.split_once("listening on ") {
                server.address = address.trim_start_matches("http://").to_owned();
                // The pipe must not fill up, nor break.
                thread::spawn(move || lines.for_each(drop));
                return Ok(server);
            }
        }
        let _ = reader.join();
        let said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let said = String::from_utf8_lossy(&said);
        Err(io::Error::other(format!(
            "{} does not listen: {said}",
            program.display()
        )))
    }

    /// Starts a program that says nothing and listens on `address`.
    ///
    /// # Errors
    /// It cannot be started, or does not listen within five seconds.
    pub fn start_at(core: usize, address: &str, program: &Path, args: &[&str]) -> io::Result<Self> {
        let child = pinned(core, program, args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let server = Self {
            child,
            address: address.to_owned(),
        };
        let until = Instant::now() + Duration::from_secs(5);
        while std::net::TcpStream::connect(address).is_err() {
            if Instant::now() > until {
                return Err(io::Error::other(format!(
                    "{} does not listen",
                    program.display()
                )));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The time that its threads ran, as the scheduler counted it, in nanoseconds.
    #[must_use]
    pub fn ran(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let threads = tasks.into_iter().flatten().filter_map(Result::ok);
        let stats =
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
        stats
            .filter_map(|stat| stat.split_whitespace().next()?.parse::<u64>().ok())
            .sum()
    }

    /// Its resident memory in MiB.
    #[must_use]
    pub fn resident(&self) -> f64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or_default() / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program, to be started on `core`.
#[must_use]
pub fn pinned(core: usize, program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("taskset");
    // taskset becomes the program, so its process id is the program's.
    command
        .arg("-c")
        .arg(core.to_string())
        .arg(program)
        .args(args)
        .stdin(Stdio::null());
    command
}

/// Moves this process to a core.
///
/// # Errors
/// There is no `taskset`, or no such core.
pub fn pin_self(core: usize) -> io::Result<()> {
    pin(core, &std::process::id().to_string())
}

/// Moves this thread to a core.
///
/// # Errors
/// There is no `taskset`, or no such core.
pub fn pin_thread(core: usize) -> io::Result<()> {
    // `PROCESS/task/THREAD`
    let thread = fs::read_link("/proc/thread-self")?;
    pin(
        core,
        &thread.file_name().unwrap_or_default().to_string_lossy(),
    )
}

fn pin(core: usize, id: &str) -> io::Result<()> {
    let done = Command::new("taskset")
        .args(["-cp", &core.to_string(), id])
        .stdout(Stdio::null())
        .status()?;
    if done.success() {
        Ok(())
    } else {
        Err(io::Error::other("taskset failed"))
    }
}

/// A port that was free a moment ago.
///
/// # Errors
/// There is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// What `wrk` measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Requests that were answered.
    pub requests: f64,
    /// Requests per second.
    pub rate: f64,
    /// The median latency in microseconds.
    pub p50: f64,
    /// The 99th percentile in microseconds.
    pub p99: f64,
}

/// Loads a server from `core` over `connections` for some seconds.
///
/// # Errors
/// There is no `wrk`, it failed, or a request was not answered with success.
pub fn load(core: usize, address: &str, connections: usize, seconds: u64) -> io::Result<Load> {
    let (connections, seconds) = (connections.to_string(), format!("{seconds}s"));
    let url = format!("http://{address}/");
    let args = [
        "-t",
        "1",
        "-c",
        &connections,
        "-d",
        &seconds,
        "--latency",
        &url,
    ];
    let output = pinned(core, Path::new("wrk"), &args).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("Non-2xx") || text.contains("Socket errors") {
        return Err(io::Error::other(format!(
            "{url}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    let mut load = Load::default();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["Requests/sec:", rate] => load.rate = rate.parse().unwrap_or_default(),
            ["50%", time] => load.p50 = micros(time),
            ["99%", time] => load.p99 = micros(time),
            [count, "requests", "in", ..] => load.requests = count.parse().unwrap_or_default(),
            _ => {}
        }
    }
    if load.requests > 0.0 {
        Ok(load)
    } else {
        Err(io::Error::other(format!("{url}: {text}")))
    }
}

/// `12.34us`, `1.20ms`, `3.00s`.
fn micros(text: &str) -> f64 {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let value: f64 = text[..text.len() - unit.len()].parse().unwrap_or_default();
    match unit {
        "us" => value,
        "ms" => value * 1e3,
        _ => value * 1e6,
    }
}
