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
        Self::start_in(name, arguments, &[])
    }

    /// The same with these variables.
    fn start_in(name: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = example(name)
            .args(arguments)
            .envs(environment.iter().copied())
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
        self.ended();
    }

    fn ended(&mut self) {
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
    let (status, _, body) = ask(address, &format!("GET {path}"), "", "").await;
    (status, body)
}

/// Status, head and body of the answer to `METHOD /path`, with `headers` that end with a line break each.
async fn ask(address: &str, line: &str, headers: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .expect("a status line");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (status, head.to_owned(), body.to_owned())
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

/// A collector over HTTP that takes everything, and the paths that it was sent to.
#[cfg(feature = "otlp")]
async fn collector() -> (String, mpsc::Receiver<String>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sender, paths) = mpsc::channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                while stream.read_buf(&mut bytes).await.is_ok_and(|more| more > 0) {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    let Some((head, _)) = text.split_once("\r\n\r\n") else {
                        continue;
                    };
                    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
                    let length =
                        lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
                    let length: usize = length.map_or(0, |(_, n)| n.parse().unwrap());
                    let whole = head.len() + 4 + length;
                    if bytes.len() < whole {
                        continue;
                    }
                    let _ = sender.send(head.split(' ').nth(1).unwrap().to_owned());
                    bytes.drain(..whole);
                    let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (address, paths)
}

#[cfg(feature = "otlp")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn otlp() {
    let (collector, paths) = collector().await;
    let environment = [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            &*format!("http://{collector}"),
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        // What is sent is sent by the drain.
        ("OTEL_BSP_SCHEDULE_DELAY", "3600000"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "3600000"),
    ];
    let mut running = Running::start_in("otlp", &["127.0.0.1:0"], &environment);
    let address = running.address();
    assert_eq!(
        get(&address, "/orders/7").await,
        (200, "order 7 is packed\n".into())
    );
    running.ended();
    // That of the call, and the one in it.
    assert_eq!(running.line("sent"), "sent 2 spans");
    let mut got: Vec<_> = paths.try_iter().collect();
    got.sort();
    // Each was asked once whether it takes anything.
    assert_eq!(
        got,
        ["/v1/metrics", "/v1/metrics", "/v1/traces", "/v1/traces"]
    );
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

const ADMIN: &str = "x-role: admin\r\n";

/// What chi's README example does, walked from outside.
#[tokio::test]
async fn chi_rest() {
    let running = Running::start("chi_rest", &["127.0.0.1:0"]);
    let address = running.address();
    for (line, headers, body, status, expected) in [
        ("GET /", "", "", 200, "root.\n"),
        ("GET /ping", "", "", 200, "pong\n"),
        ("GET /none", "", "", 404, ""),
        (
            "GET /articles?limit=2",
            "",
            "",
            200,
            r#"[{"id":1,"slug":"hi","title":"Hi"},{"id":2,"slug":"sup","title":"Sup"}]"#,
        ),
        (
            "GET /articles/?skip=4",
            "",
            "",
            200,
            r#"[{"id":5,"slug":"whats-up","title":"Whats up"}]"#,
        ),
        (
            "GET /articles/search?q=al",
            "",
            "",
            200,
            r#"[{"id":3,"slug":"alo","title":"Alo"}]"#,
        ),
        (
            "GET /articles/1",
            "",
            "",
            200,
            r#"{"id":1,"slug":"hi","title":"Hi"}"#,
        ),
        (
            "GET /articles/1/",
            "",
            "",
            200,
            r#"{"id":1,"slug":"hi","title":"Hi"}"#,
        ),
        (
            "GET /articles/whats-up",
            "",
            "",
            200,
            r#"{"id":5,"slug":"whats-up","title":"Whats up"}"#,
        ),
        (
            "GET /articles/none",
            "",
            "",
            404,
            r#"{"status":"Resource not found."}"#,
        ),
        ("GET /articles/NONE", "", "", 404, ""),
        (
            "POST /articles",
            "",
            r#"{"title":"New one"}"#,
            201,
            r#"{"id":6,"slug":"new-one","title":"New one"}"#,
        ),
        (
            "POST /articles",
            "",
            "{}",
            400,
            r#"{"status":"title is missing"}"#,
        ),
        (
            "PUT /articles/6",
            "",
            r#"{"title":"Other"}"#,
            200,
            r#"{"id":6,"slug":"other","title":"Other"}"#,
        ),
        (
            "GET /articles/other",
            "",
            "",
            200,
            r#"{"id":6,"slug":"other","title":"Other"}"#,
        ),
        (
            "DELETE /articles/6",
            "",
            "",
            200,
            r#"{"id":6,"slug":"other","title":"Other"}"#,
        ),
        (
            "DELETE /articles/6",
            "",
            "",
            404,
            r#"{"status":"Resource not found."}"#,
        ),
        ("PATCH /articles/1", "", "", 405, ""),
        ("GET /admin", "", "", 403, ""),
        ("GET /admin/none", "", "", 403, ""),
        ("GET /admin", ADMIN, "", 200, "admin: index\n"),
        (
            "GET /admin/accounts",
            ADMIN,
            "",
            200,
            "admin: list accounts..\n",
        ),
        (
            "GET /admin/users/7",
            ADMIN,
            "",
            200,
            "admin: view user id 7 (/admin/users/{userId})\n",
        ),
        ("GET /admin/none", ADMIN, "", 404, ""),
    ] {
        let (seen, _, text) = ask(&address, line, headers, body).await;
        assert_eq!((seen, text.as_str()), (status, expected), "{line}");
    }
    let (_, head, _) = ask(&address, "PATCH /articles/1", "", "").await;
    assert!(head.contains("allow: DELETE, GET, HEAD, PUT"), "{head}");
    // A panic is one request's.
    assert_eq!(get(&address, "/panic").await.0, 500);
    assert_eq!(get(&address, "/ping").await.0, 200);
    running.interrupt();

    let mut docs = Running::start("chi_rest", &["--routes"]);
    docs.line("# chi's README");
    docs.line("<summary><code>/admin/users/{userId}</code></summary>");
    docs.line("  - `admins only`");
    docs.line("<summary><code>/articles/{id:[0-9]+}</code></summary>");
    docs.line("Total: 13 routes");
    assert!(docs.child.wait().unwrap().success());
}

/// Starts one of the examples in `chi_examples`, and asks `METHOD /path`. What a layer answers has words of its own.
async fn chi_example(name: &str, cases: &[(&str, u16, &str)]) -> (Running, String) {
    let running = Running::start("chi_examples", &[name, "127.0.0.1:0"]);
    let address = running.address();
    for (line, status, expected) in cases {
        let (line, headers) = line.split_once('\n').unwrap_or((line, ""));
        let (seen, _, text) = ask(&address, line, headers, "").await;
        assert_eq!(seen, *status, "{name}: {line}");
        assert!(seen >= 500 || text == *expected, "{name}: {line} {text}");
    }
    (running, address)
}

#[tokio::test]
async fn chi_examples() {
    let third = "GET /articles/7\naccept: application/vnd.articles.v3\r\n";
    let versions = [
        ("GET /api/v1/articles/7", 200, "article 7\n"),
        ("GET /api/v2/articles/7", 200, "article 7, 7 views\n"),
        (
            "GET /api/v3/articles/7",
            200,
            "article 7, 7 views, see /api/v3/articles/7\n",
        ),
        ("GET /articles/7", 200, "article 7\n"),
        (third, 200, "article 7, 7 views, see /api/v3/articles/7\n"),
        ("GET /api/v4/articles/7", 404, ""),
    ];
    chi_example("versions", &versions).await.0.interrupt();

    let methods = [
        ("GET /", 200, "hello world\n"),
        ("LINK /", 200, "link\n"),
        ("UNLINK /", 200, "unlink\n"),
        ("OPTIONS /", 204, ""),
        ("BREW /", 405, ""),
    ];
    let (methods, address) = chi_example("methods", &methods).await;
    let (_, head, _) = ask(&address, "OPTIONS /", "", "").await;
    assert!(
        head.contains("allow: GET, HEAD, LINK, OPTIONS, UNLINK"),
        "{head}"
    );
    methods.interrupt();

    let todos = [
        ("GET /todos", 200, "todos\n"),
        ("POST /todos", 200, "todo created\n"),
        ("GET /todos/1", 200, "todo 1\n"),
        ("PUT /todos/1", 200, "todo updated 1\n"),
        ("DELETE /todos/1", 200, "todo deleted 1\n"),
        ("GET /todos/1/sync", 200, "todo synced 1\n"),
        ("GET /todos/x", 404, ""),
        ("GET /users/ann/todos/1", 200, "todo 1 of ann\n"),
        ("GET /users", 200, "users\n"),
    ];
    chi_example("todos", &todos).await.0.interrupt();
}

#[tokio::test]
async fn chi_examples_files() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/chi_examples");
    let running = Running::start("chi_examples", &["files", "127.0.0.1:0", folder]);
    let address = running.address();
    let (status, _, text) = ask(&address, "GET /files/files.rs?x", "", "").await;
    assert!(status == 200 && text.contains("ServeDir"), "{status}");
    for path in [
        "/files/none",
        "/files/../main.rs",
        "/files/%2e%2e/chi_rest.rs",
        "/files/..%2fchi_rest.rs",
    ] {
        assert_eq!(get(&address, path).await.0, 404, "{path}");
    }
    running.interrupt();
}

#[tokio::test]
async fn chi_examples_limits() {
    let (running, address) = chi_example(
        "limits",
        &[("GET /", 200, "root.\n"), ("GET /hasty", 504, "")],
    )
    .await;
    let three = tokio::join!(
        get(&address, "/throttled"),
        get(&address, "/throttled"),
        get(&address, "/throttled"),
    );
    let mut statuses = [three.0.0, three.1.0, three.2.0];
    statuses.sort_unstable();
    assert_eq!(
        statuses,
        [200, 200, 503],
        "one at work, one waits, one is refused"
    );
    running.interrupt();
}

#[tokio::test]
async fn chi_examples_walk() {
    let mut running = Running::start("chi_examples", &["walk"]);
    running.line("METHOD  PATH");
    running.line("GET     /admin/users/{id:[0-9]+}  user  log auth");
    running.line("-> /admin/* [*]: decides from here on");
    running.line("/admin/users/{id:[0-9]+} [GET]: has not the method");
    running.line("= POST /admin/users/{name}: name = 7");
    running.line("= POST /admin/users/{name}: name = me");
    running.line("/admin/users/7");
    assert!(running.child.wait().unwrap().success());
}

#[tokio::test]
async fn chi_examples_graceful() {
    let (running, address) = chi_example("graceful", &[("GET /", 200, "sup\n")]).await;
    let slow = tokio::spawn(async move { get(&address, "/slow").await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    tokio::task::spawn_blocking(move || running.interrupt())
        .await
        .unwrap();
    assert_eq!(slow.await.unwrap(), (200, "all done.\n".into()));
}
