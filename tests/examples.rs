//! Every example runs and does what its first comment says.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// `cargo test` builds the examples beside the tests.
fn example(name: &str) -> Command {
    let mut path: PathBuf = std::env::current_exe().expect("a test has a path");
    path.pop();
    path.pop();
    path.push("examples");
    path.push(name);
    assert!(
        path.exists(),
        "{} is not built; run `cargo test`, which builds examples",
        path.display()
    );
    Command::new(path)
}

struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let mut child = example(name)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line that contains `text`.
    fn line(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(30));
            let line = line.unwrap_or_else(|_| panic!("no line with {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    fn address(&self) -> String {
        let line = self.line("listening on http://");
        let address = line.split("http://").nth(1).unwrap();
        address.split([',', ' ']).next().unwrap().to_owned()
    }

    /// Ctrl-C; the example ends by itself and well.
    fn interrupt(mut self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-INT", &pid])
                .status()
                .unwrap()
                .success()
        );
        for _ in 0..300 {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            #[allow(
                clippy::disallowed_methods,
                reason = "waits for a process, not on a runtime"
            )]
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("it did not end");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status line");
    (
        status,
        answer
            .split("\r\n\r\n")
            .nth(1)
            .unwrap_or_default()
            .to_owned(),
    )
}

#[tokio::test]
async fn hello() {
    let running = Running::start("hello", &["127.0.0.1:0"]);
    let address = running.address();
    assert_eq!(
        get(&address, "/hello/world").await,
        (200, "hello world\n".into())
    );
    assert_eq!(get(&address, "/nowhere").await.0, 404);
    running.interrupt();
}

#[tokio::test]
async fn hyper_layer() {
    let example = Running::start("hyper_layer", &["127.0.0.1:0"]);
    let address = example.address();
    assert_eq!(get(&address, "/").await, (200, "hello\n".into()));
    // Late is a failure as well: five in a row.
    assert_eq!(get(&address, "/slow").await.0, 504);
    for _ in 0..4 {
        assert_eq!(get(&address, "/broken").await.0, 500);
    }
    assert_eq!(get(&address, "/").await.0, 503);
    example.interrupt();
}

#[tokio::test]
async fn resilience_stack() {
    let mut example = Running::start("resilience_stack", &[]);
    let first = example.line("you said: ");
    let millis = first.split(' ').nth(2).unwrap_or_default();
    let left: u32 = millis.parse().expect("the time that is left was told");
    assert!((1..2000).contains(&left), "{first}");
    let tried = example.line("20 questions, ");
    assert!(!tried.contains(" 0 tried"), "{tried}");
    example.line("alive: gate open: true, 20 attempts");
    example.line("dead: gate open: false, ");
    let count = example.line("chassis_call_duration_seconds_count");
    assert!(
        count.contains(r#"operation="ask""#) && count.ends_with(" 20"),
        "{count}"
    );
    assert!(example.child.wait().unwrap().success());
}

#[tokio::test]
async fn tonic_layer() {
    let mut example = Running::start("tonic_layer", &[]);
    example.line("healthy: Serving");
    example.line("slow, told: true");
    example.line("slow: DeadlineExceeded");
    for call in 1..=3 {
        example.line(&format!("broken, call {call}: Internal"));
    }
    for call in 4..=5 {
        example.line(&format!("broken, call {call}: Unavailable (circuit-open)"));
    }
    example.line("the server was asked 5 times");
    assert!(example.child.wait().unwrap().success());
}

#[tokio::test]
async fn axum_layer() {
    let running = Running::start("axum_layer", &["127.0.0.1:0"]);
    let address = running.address();
    assert_eq!(get(&address, "/").await, (200, "hello\n".into()));
    assert_eq!(get(&address, "/slow").await.0, 504);
    assert_eq!(get(&address, "/").await.0, 200);
    for _ in 0..5 {
        assert_eq!(get(&address, "/broken").await.0, 500);
    }
    assert_eq!(
        get(&address, "/").await.0,
        503,
        "one breaker for all routes"
    );
    let mut statuses = Vec::new();
    for _ in 0..30 {
        statuses.push(get(&address, "/").await.0);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    running.interrupt();
}

#[tokio::test]
async fn reqwest_layer() {
    let mut running = Running::start("reqwest_layer", &[]);
    for n in 1..=3 {
        assert_eq!(
            running.line("call"),
            format!("call {n}: 200 OK, \"at last\"")
        );
    }
    assert_eq!(running.line("attempts"), "attempts that the server saw: 9");
    assert_eq!(running.line("breaker"), "breaker: closed");
    assert!(running.child.wait().unwrap().success());
}

#[tokio::test]
async fn hot_reload() {
    let path = std::env::temp_dir().join(format!("chassis-hot-reload-{}.yaml", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let running = Running::start("hot_reload", &["127.0.0.1:0", path.to_str().unwrap()]);
    let address = running.address();
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(get(&address, "/").await.0);
    }
    assert!(
        statuses.contains(&200) && statuses.contains(&429),
        "{statuses:?}"
    );

    std::fs::write(&path, "rat: 100\nburst: -1\n").unwrap();
    running.line("refused");
    let fault = running.line(":1:");
    assert!(
        fault.contains("rat") && fault.contains("did you mean \"rate\""),
        "{fault}"
    );
    let fault = running.line(":2:");
    assert!(fault.contains("burst"), "{fault}");

    std::fs::write(&path, "rate: 1000\nburst: 1000\n").unwrap();
    running.line("live: version");
    for _ in 0..5 {
        assert_eq!(get(&address, "/").await.0, 200);
    }
    running.interrupt();
    let _ = std::fs::remove_file(&path);
}
