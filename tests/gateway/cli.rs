//! The command line, the demo, and what the gateway does to a request.
//!
//! Fails where a script would read a wrong exit code; where a file is judged fault by fault; where precedence of file,
//! environment and flags is another; where the demo does not show what it says; where a header of one hop, or what
//! a client says about itself, reaches an upstream; where `/metrics` is not Prometheus text or has paths as labels.

use std::{net::SocketAddr, path::Path, process::Stdio};

use serde_json::Value;
use tokio::time::{Duration, Instant, timeout};

use crate::{
    load::{Client, connect},
    process::{Dir, Gateway, Process, Upstream, bounded, run},
    raw::exchange_on,
    reload::missing,
};

const LIMIT: Duration = Duration::from_secs(90);

const GOOD: &str = "\
services:
  shop:
    endpoints:
      - address: http://127.0.0.1:9001
    retry:
      attempts: 3
    timeout:
      per_try: 1s
routes:
  - name: shop
    path: /*
    service: shop
";

const GOOD_TOML: &str = "\
[services.shop]
endpoints = [{ address = 'http://127.0.0.1:9001', tags = { version = 'v1' } }]
[services.shop.timeout]
per_try = '1s'
[[routes]]
name = 'shop'
path = '/*'
service = 'shop'
";

const BAD: &str = "\
gateway:
  listen: nowhere
server:
  header_read_timeot: 5s
  max_head: lots
services:
  shop:
    endpoints:
      - address: http://127.0.0.1:9001
        wieght: 3
      - address: ftp://127.0.0.1:9002
    breaker:
      failure_rate: 1.5
      open_base: 5 parsecs
    retry:
      attempts: three
log:
  level: inof
  formt: json
  access:
    format: jsn
    slwo: 1s
    file: { size: 1, compres: true }
trace: { ratio: 7 }
otlp:
  endpont: http://collector:4317
  headers: { x-key: '${env:NOBODY_SETS_THIS}' }
  timeout: 1h
routes:
  - name: shop
    path: /items/{id:[}
    service: shop
  - name: other
    path: /other
    service: shp
";

/// Line, path and nearest word of every fault in `BAD`.
const FAULTS: [(usize, &str, Option<&str>); 20] = [
    (2, "gateway.listen", None),
    (4, "server.header_read_timeot", Some("header_read_timeout")),
    (5, "server.max_head", None),
    (10, "services.shop.endpoints[0].wieght", Some("weight")),
    (11, "services.shop.endpoints[1].address", None),
    (13, "services.shop.breaker.failure_rate", None),
    (14, "services.shop.breaker.open_base", None),
    (16, "services.shop.retry.attempts", None),
    (18, "log.level", None),
    (19, "log.formt", Some("format")),
    (21, "log.access.format", Some("json")),
    (22, "log.access.slwo", Some("slow")),
    (23, "log.access.file.size", None),
    (23, "log.access.file.compres", Some("compress")),
    (24, "trace.ratio", None),
    (26, "otlp.endpont", Some("endpoint")),
    (27, "otlp.headers.x-key", None),
    (28, "otlp.timeout", None),
    (31, "routes[0].path", None),
    (35, "routes[1].service", Some("shop")),
];

#[tokio::test]
async fn exit_codes_are_what_scripts_rely_on() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let path = |name: &str, text: &str| dir.write(name, text).to_str().unwrap().to_owned();
        let (good, toml, bad) = (
            path("good.yaml", GOOD),
            path("good.toml", GOOD_TOML),
            path("bad.yaml", BAD),
        );
        let syntax = path("syntax.yaml", "services: [\n");
        let syntax_toml = path("syntax.toml", "[services\n");
        let missing = dir.path().join("missing.yaml").to_str().unwrap().to_owned();
        let folder = dir.path().to_str().unwrap();
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/gateway/gateway.yaml");
        let example = example.to_str().unwrap();
        let table: [(&[&str], &[(&str, &str)], i32); 30] = [
            (&["--help"], &[], 0),
            (&["--version"], &[], 0),
            (&["run", "--help"], &[], 0),
            (&["check", "--config", &good], &[], 0),
            (&["check", "--config", &toml], &[], 0),
            (&["check", "--config", example], &[], 0),
            (&["check", "--config", &bad], &[], 1),
            (&["check", "--config", &syntax], &[], 1),
            (&["check", "--config", &syntax_toml], &[], 1),
            (&["run", "--config", &bad], &[], 1),
            (&["run", "--config", &syntax], &[], 1),
            (
                &["check", "--config", &good],
                &[("CHASSIS__GATEWAY__LISTEN", "nowhere")],
                1,
            ),
            (&["check", "--config", &missing], &[], 2),
            (&["check", "--config", folder], &[], 2),
            (&["run", "--config", &missing], &[], 2),
            (&["check"], &[], 2),
            (&["check", "--config"], &[], 2),
            (&["run", "--nonsense"], &[], 2),
            (&["nonsense"], &[], 2),
            (&["routes", "--config", &good], &[], 0),
            (&["routes", "--config", &bad], &[], 1),
            (&["routes", "--config", &missing], &[], 2),
            (&["routes", "--config", &good, "--format", "x"], &[], 2),
            (&["explain", "--config", &good, "GET", "/x"], &[], 0),
            (&["explain", "--config", &bad, "GET", "/x"], &[], 1),
            (&["explain", "--config", &good, "GET", "no path"], &[], 2),
            (&["explain", "--config", &good], &[], 2),
            (&["upstream", "--port", "70000"], &[], 2),
            (&["upstream", "--nonsense"], &[], 2),
            (&["--nonsense"], &[], 2),
        ];
        let mut wrong = Vec::new();
        for (args, env, code) in table {
            let said = run(args, env).await;
            if said.code != Some(code) {
                wrong.push(format!("{args:?} {env:?}: wanted {code}, {said:#?}"));
            } else if code != 0 && said.stderr.trim().is_empty() {
                wrong.push(format!("{args:?} {env:?}: {code} without a word"));
            }
            if code == 0 && said.stdout.trim().is_empty() {
                wrong.push(format!("{args:?} {env:?}: fine, and not a word"));
            }
            if said.stderr.contains("panicked") {
                wrong.push(format!("{args:?} {env:?}: panicked: {}", said.stderr));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    })
    .await;
}

/// Fails where a command panics because its reader has enough, as in `| head`, or does not say that it could not write.
#[tokio::test]
async fn a_command_bears_that_nobody_reads() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let file = dir.write("good.yaml", GOOD);
        let file = file.to_str().unwrap();
        for args in [
            &["check", "--config", file][..],
            &["routes", "--config", file],
            &["explain", "--config", file, "GET", "/x"],
        ] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let full = std::fs::File::options().write(true).open("/dev/full");
            for (out, code) in [(Stdio::from(writer), 0), (Stdio::from(full.unwrap()), 2)] {
                let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_tower-chassis"));
                command.args(args).stdout(out).stderr(Stdio::piped());
                let said = command.spawn().unwrap().wait_with_output().await.unwrap();
                let error = String::from_utf8_lossy(&said.stderr);
                assert_eq!(said.status.code(), Some(code), "{args:?}: {error}");
                assert_eq!(error.is_empty(), code == 0, "{args:?}: {error}");
            }
        }
    })
    .await;
}

/// Fails where the command line says something else of a file's routes than what the gateway does with it.
#[tokio::test]
async fn routes_are_listed_and_explained() {
    const ROUTES: &str = "\
services:
  shop:
    endpoints:
      - address: http://127.0.0.1:9001
  users:
    endpoints:
      - address: http://127.0.0.1:9002
routes:
  - name: all
    path: /*
    service: shop
  - name: user
    path: /users/{id:[0-9]+}
    methods: [GET]
    service: users
";
    bounded(LIMIT, async {
        let dir = Dir::new();
        let file = dir.write("routes.yaml", ROUTES);
        let file = file.to_str().unwrap();
        let said = run(&["routes", "--config", file], &[]).await;
        let expected = "\
METHOD  PATH                NAME
*       /*                  all -> shop
GET     /users/{id:[0-9]+}  user -> users
";
        assert_eq!(said.stdout, expected);
        let said = run(&["routes", "--config", file, "--format", "json"], &[]).await;
        let json: Value = serde_json::from_str(&said.stdout).unwrap();
        assert_eq!(json["routes"][1]["path"], "/users/{id:[0-9]+}");
        let said = run(&["routes", "--config", file, "--format", "markdown"], &[]).await;
        assert!(said.stdout.contains("Total: 2 routes"), "{said:?}");
        let said = run(&["explain", "--config", file, "PUT", "/users/7?x"], &[]).await;
        let expected = "\
PUT /users/7?x
   /users/{id:[0-9]+} [GET]: has not the method
-> /* [*]: serves it
= * /* (all -> shop): * = users/7
";
        assert_eq!(said.stdout, expected);
    })
    .await;
}

#[tokio::test]
async fn every_fault_of_a_file_is_told_at_once() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let bad = dir.write("bad.yaml", BAD);
        for command in ["check", "run"] {
            let said = run(&[command, "--config", bad.to_str().unwrap()], &[]).await;
            assert_eq!(said.code, Some(1), "{said:?}");
            let missing = missing(&said.stderr, "bad.yaml", &FAULTS);
            assert!(
                missing.is_empty(),
                "{command} does not tell {missing:#?}:\n{}",
                said.stderr
            );
        }

        // A fault of the environment has its place as well.
        let good = dir.write("good.yaml", GOOD);
        let said = run(
            &["check", "--config", good.to_str().unwrap()],
            &[("CHASSIS__GATEWAY__LISTEN", "nowhere")],
        )
        .await;
        assert!(
            said.stderr.contains("CHASSIS__GATEWAY__LISTEN"),
            "{}",
            said.stderr
        );

        // So have those of OpenTelemetry's variables, where they are read.
        let sends = dir.write("sends.yaml", &format!("otlp: {{}}\n{GOOD}"));
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
            ("OTEL_TRACES_SAMPLER_ARG", "7"),
        ] {
            let env = [
                (name, value),
                ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ];
            for (file, code) in [(&sends, 1), (&good, 0)] {
                let said = run(&["check", "--config", file.to_str().unwrap()], &env).await;
                assert_eq!(said.code, Some(code), "{name}: {said:?}");
                // A value that may be a secret is not shown, the name is.
                let told = said.stderr.contains(name) || said.stderr.contains("otlp.endpoint");
                assert_eq!(told, code == 1, "{said:?}");
            }
        }

        // What cannot be read is not guessed at.
        let text = BAD.replace("  max_head: lots", "  max_head: @lots");
        let syntax = dir.write("syntax.yaml", &text);
        let said = run(&["check", "--config", syntax.to_str().unwrap()], &[]).await;
        assert_eq!(
            missing(&said.stderr, "syntax.yaml", &[(5, "", None)]),
            Vec::<String>::new(),
            "{}",
            said.stderr
        );
        assert_eq!(
            said.stderr.matches("syntax.yaml:").count(),
            1,
            "a syntax error stands alone:\n{}",
            said.stderr
        );
    })
    .await;
}

/// Flags win over the environment, the environment over the file.
#[tokio::test]
async fn listeners_are_where_they_were_asked_to_be() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let yaml =
            format!("gateway: {{ listen: 127.0.0.2:0 }}\nadmin: {{ listen: 127.0.0.3:0 }}\n{GOOD}");
        let path = dir.write("gateway.yaml", &yaml);
        let args = ["run", "--config", path.to_str().unwrap()];
        let gateway = Gateway::ready(Process::spawn(&dir, "file", &args, &[])).await;
        assert_eq!(
            (gateway.address.ip(), gateway.admin.ip()),
            ([127, 0, 0, 2].into(), [127, 0, 0, 3].into())
        );

        let env = [
            ("CHASSIS__GATEWAY__LISTEN", "127.0.0.4:0"),
            ("CHASSIS__ADMIN__LISTEN", "127.0.0.5:0"),
        ];
        let gateway = Gateway::ready(Process::spawn(&dir, "env", &args, &env)).await;
        assert_eq!(
            (gateway.address.ip(), gateway.admin.ip()),
            ([127, 0, 0, 4].into(), [127, 0, 0, 5].into())
        );
        let config = gateway.admin_get("/config").await.text();
        assert!(
            config.contains("CHASSIS__GATEWAY__LISTEN"),
            "/config says where a value is from:\n{config}"
        );

        let flags = [
            &args[..],
            &["--listen", "127.0.0.6:0", "--admin", "127.0.0.7:0"],
        ]
        .concat();
        let gateway = Gateway::ready(Process::spawn(&dir, "flags", &flags, &env)).await;
        assert_eq!(
            (gateway.address.ip(), gateway.admin.ip()),
            ([127, 0, 0, 6].into(), [127, 0, 0, 7].into())
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demo_shows_what_it_says() {
    bounded(Duration::from_secs(150), async {
        let dir = Dir::new();
        let gateway = Gateway::demo(&dir).await;
        let client = Client::new(gateway.address);
        let said = gateway.process.stdout();
        assert!(
            said.matches("curl ").count() >= 3,
            "three lines to try:\n{said}"
        );
        for path in ["/livez", "/readyz", "/config", "/endpoints", "/metrics"] {
            assert_eq!(gateway.admin_get(path).await.status, 200, "{path}");
        }

        let (mut seen, mut v2) = (std::collections::BTreeSet::new(), 0);
        for _ in 0..300 {
            let answer = client.get("/").await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            let json = answer.json();
            let keys: Vec<_> = json
                .as_object()
                .unwrap()
                .keys()
                .map(String::as_str)
                .collect();
            assert_eq!(keys.len(), 3, "{json}");
            let field = |name: &str| {
                json[name]
                    .as_str()
                    .unwrap_or_else(|| panic!("no `{name}` in {json}"))
                    .to_owned()
            };
            assert!(!field("service").is_empty());
            assert_eq!(
                answer.upstream(),
                format!("{}/{}", field("version"), field("instance"))
            );
            v2 += u32::from(field("version") == "v2");
            seen.insert(answer.upstream().to_owned());
        }
        assert_eq!(seen.len(), 3, "two of v1 and one of v2: {seen:?}");
        assert_eq!(
            seen.iter().filter(|name| name.starts_with("v1/")).count(),
            2,
            "{seen:?}"
        );
        assert!(
            (10..=60).contains(&v2),
            "one in ten goes to v2: {v2} of 300"
        );
        for _ in 0..20 {
            let answer = client
                .get_with("/", &[("x-canary", "always")])
                .await
                .unwrap();
            assert!(
                answer.status == 200 && answer.upstream().starts_with("v2/"),
                "{answer:?}"
            );
        }

        // Timeout at work: below the limit it is an answer, far above it a refusal, and in time.
        let answer = client.get("/slow?ms=50").await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let begun = Instant::now();
        let answer = timeout(Duration::from_secs(30), client.get("/slow?ms=12000"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(answer.status, 504, "{answer:?}");
        assert!(
            begun.elapsed() < Duration::from_secs(11),
            "it waited for {:?}",
            begun.elapsed()
        );
        assert_eq!(
            answer.header("content-type"),
            "application/problem+json",
            "{answer:?}"
        );

        // Retry at work: one instance fails at `/fail`, and nobody sees it.
        let attempts = async || {
            let all = gateway.endpoints("shop").await;
            all.iter().map(|e| e.attempts).sum::<u64>()
        };
        let before = attempts().await;
        for n in 0..60 {
            let answer = client.get("/fail").await.unwrap();
            assert_eq!(answer.status, 200, "/fail, the {n}th time: {answer:?}");
        }
        let tried = attempts().await - before;
        assert!(
            tried > 60,
            "{tried} attempts for 60 requests: nothing was tried again"
        );
        // Breaker at work: the one that fails is left alone, the others are not.
        let endpoints = gateway.endpoints("shop").await;
        let shut = endpoints
            .iter()
            .filter(|e| e.health == "shut" && e.breaker != "closed")
            .count();
        assert_eq!(shut, 1, "the breaker of the one that fails: {endpoints:?}");

        // And where all fail, nobody is asked any more.
        let mut refused = None;
        for _ in 0..200 {
            let answer = client.get("/fail?status=500").await.unwrap();
            assert!(matches!(answer.status, 500 | 503), "{answer:?}");
            if answer.status == 503 {
                refused = Some(answer);
                break;
            }
        }
        let refused = refused.expect("the breakers never open");
        assert_eq!(
            refused.header("x-chassis-reject"),
            "circuit-open",
            "{refused:?}"
        );
        let after = refused.header("retry-after").parse::<u64>();
        assert!(after.is_ok_and(|s| (1..=120).contains(&s)), "{refused:?}");
        let endpoints = gateway.endpoints("shop").await;
        assert!(
            endpoints
                .iter()
                .all(|e| e.breaker == "open" && e.health == "shut"),
            "{endpoints:?}"
        );

        // The log and the metrics are told the same, once: what was counted before was logged, and what was
        // logged is counted after.
        let counted = async |name: &str, label: &str| {
            sum(&gateway.admin_get("/metrics").await.text(), name, label)
        };
        let logged = |message: &str| {
            let line = format!(" tower_chassis::events: {message} ");
            gateway.process.stderr().matches(&line).count() as f64
        };
        for (message, name, label) in [
            (
                "breaker opened",
                "chassis_breaker_transitions_total",
                r#"to="open""#,
            ),
            ("endpoint ejected", "chassis_ejections_total", "name="),
        ] {
            let before = counted(name, label).await;
            let lines = logged(message);
            let after = counted(name, label).await;
            assert!(
                before >= 3.0 && before <= lines && lines <= after,
                "{message}: {before} <= {lines} <= {after}\n{}",
                gateway.process.stderr()
            );
        }
        assert_eq!(logged("configuration applied"), 1.0);
        let timeouts = counted("chassis_refused_total", r#"layer="timeout""#).await;
        assert!(timeouts >= 1.0, "the call to /slow was ended by one");
    })
    .await;
}

/// The sum of the series of a metric that have a label.
fn sum(text: &str, name: &str, label: &str) -> f64 {
    let mine = text.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('{'))
    });
    mine.filter(|line| line.contains(label))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum()
}

fn header<'a>(headers: &'a Value, name: &str) -> Option<&'a str> {
    let value = &headers[name];
    value
        .as_str()
        .or_else(|| value.as_array().and_then(|all| all.first()?.as_str()))
}

async fn house() -> (Dir, Upstream, Gateway) {
    let dir = Dir::new();
    let upstream = Upstream::start(&dir, "v1", "a").await;
    let yaml = GOOD.replace("9001", &upstream.address.port().to_string());
    let gateway = Gateway::start(&dir, &yaml).await;
    (dir, upstream, gateway)
}

/// What the upstream gets when a client sends these lines.
async fn arrives(to: SocketAddr, lines: &str) -> Value {
    let bytes = format!("GET /headers HTTP/1.1\r\n{lines}\r\n");
    let stream = connect(to, Some([127, 0, 0, 11].into()), None)
        .await
        .unwrap();
    let reply = exchange_on(stream, bytes, Duration::from_secs(20)).await;
    assert_eq!(reply.status(), Some(200), "{}", reply.text());
    reply.json()
}

#[tokio::test]
async fn headers_of_one_hop_stay_there() {
    bounded(LIMIT, async {
        let (_dir, _upstream, gateway) = house().await;
        let got = arrives(
            gateway.address,
            "Host: shop.example\r\n\
             Connection: close, x-secret, Host, Authorization, Cookie, X-Forwarded-For, Content-Length\r\n\
             X-Secret: 1\r\n\
             X-Plain: 2\r\n\
             Authorization: Bearer token\r\n\
             Cookie: a=b\r\n\
             Keep-Alive: timeout=5\r\n\
             Proxy-Connection: keep-alive\r\n\
             Proxy-Authenticate: Basic\r\n\
             Proxy-Authorization: Basic x\r\n\
             TE: gzip\r\n\
             Trailer: x-t\r\n\
             Upgrade: websocket\r\n\
             X-Forwarded-For: 6.6.6.6\r\n\
             X-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: evil.example\r\n\
             X-Chassis-Attempt: 3\r\n\
             X-Chassis-Shadow: 1\r\n\
             X-Chassis-Priority: very-high\r\n\
             X-Chassis-Fault-Abort: hang\r\n",
        )
        .await;
        let ours = ["x-chassis-attempt", "x-chassis-shadow", "x-chassis-priority", "x-chassis-fault-abort"];
        for name in ours {
            assert_eq!(header(&got, name), None, "`{name}` has arrived: {got}");
        }
        let gone = ["x-secret", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "upgrade"];
        for name in gone {
            assert_eq!(header(&got, name), None, "`{name}` has arrived: {got}");
        }
        if let Some(connection) = header(&got, "connection") {
            assert!(["close", "keep-alive"].contains(&connection), "the client's `connection`: {got}");
        }
        for (name, value) in [
            ("host", "shop.example"),
            ("x-plain", "2"),
            // Nobody may nominate these away.
            ("authorization", "Bearer token"),
            ("cookie", "a=b"),
            // The gateway knows better than the client.
            ("x-forwarded-for", "127.0.0.11"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "shop.example"),
        ] {
            assert_eq!(header(&got, name), Some(value), "`{name}`: {got}");
        }
    })
    .await;
}

#[tokio::test]
async fn trace_goes_on_behind_the_gateway() {
    bounded(LIMIT, async {
        let (_dir, _upstream, gateway) = house().await;
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let lines = format!(
            "Host: x\r\nConnection: close\r\ntraceparent: 00-{trace}-00f067aa0ba902b7-01\r\n"
        );
        let got = arrives(gateway.address, &lines).await;
        let parent = header(&got, "traceparent").unwrap_or_else(|| panic!("no traceparent: {got}"));
        assert!(
            parent.starts_with(&format!("00-{trace}-")),
            "another trace: {parent}"
        );
        assert!(
            !parent.contains("00f067aa0ba902b7"),
            "the client's span is not ours: {parent}"
        );
        assert!(parent.ends_with("-01"), "sampled is sampled: {parent}");
    })
    .await;
}

#[tokio::test]
async fn bodies_pass_as_they_are() {
    bounded(LIMIT, async {
        let (_dir, _upstream, gateway) = house().await;
        let client = Client::new(gateway.address);
        for size in [0, 1, 1_000, 70_000, 1_500_000] {
            let body: Vec<u8> = (0..size).map(|n: u32| (n % 251) as u8).collect();
            let answer = client
                .post("/echo", body.clone())
                .await
                .unwrap_or_else(|e| panic!("{size} bytes: {e}"));
            assert_eq!(answer.status, 200, "{size} bytes");
            assert!(
                answer.body == body,
                "{size} bytes went out, {} others came back",
                answer.body.len()
            );
        }
        assert!(
            client.opened() <= 2,
            "{} connections for five requests in a row",
            client.opened()
        );
    })
    .await;
}

/// What the exposition format asks for, as far as it can be seen line by line.
fn malformed(metrics: &str) -> Vec<String> {
    let name = r"[a-zA-Z_:][a-zA-Z0-9_:]*";
    let label = r#"[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*""#;
    let sample = regex::Regex::new(&format!(
        r"^({name})(\{{(?:{label}(?:,{label})*,?)?\}})? (\S+)( -?\d+)?$"
    ))
    .unwrap();
    let comment = regex::Regex::new(&format!(r"^# (HELP|TYPE) ({name})(?: (.*))?$")).unwrap();
    let (mut typed, mut series) = (
        std::collections::HashSet::new(),
        std::collections::HashSet::new(),
    );
    let mut wrong = Vec::new();
    for line in metrics.lines().filter(|l| !l.is_empty()) {
        if let Some(found) = comment.captures(line) {
            if &found[1] == "TYPE" && !typed.insert(found[2].to_owned()) {
                wrong.push(format!("a second TYPE: {line}"));
            }
            continue;
        }
        let Some(found) = sample.captures(line) else {
            wrong.push(line.to_owned());
            continue;
        };
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|s| found[1].strip_suffix(s))
            .unwrap_or(&found[1]);
        if !typed.contains(base) && !typed.contains(&found[1]) {
            wrong.push(format!("no TYPE before: {line}"));
        }
        let value = &found[3];
        if value.parse::<f64>().is_err() && !["+Inf", "-Inf", "NaN"].contains(&value) {
            wrong.push(format!("no number: {line}"));
        }
        if !series.insert(format!(
            "{}{}",
            &found[1],
            found.get(2).map_or("", |l| l.as_str())
        )) {
            wrong.push(format!("twice: {line}"));
        }
    }
    wrong
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    bounded(LIMIT, async {
        let dir = Dir::new();
        let upstream = Upstream::start(&dir, "v1", "a").await;
        let yaml = GOOD
            .replace("9001", &upstream.address.port().to_string())
            .replace("/*", "/items/{id}");
        let gateway = Gateway::start(&dir, &yaml).await;
        let client = Client::new(gateway.address);
        for (path, status) in [
            ("/items/1", 200),
            ("/items/2", 200),
            ("/elsewhere/3", 404),
            ("/elsewhere/4", 404),
        ] {
            assert_eq!(client.get(path).await.unwrap().status, status, "{path}");
        }
        let answer = gateway.admin_get("/metrics").await;
        assert!(
            answer.header("content-type").starts_with("text/plain"),
            "{answer:?}"
        );
        let text = answer.text();
        assert_eq!(malformed(&text), Vec::<String>::new());
        let count = |labels: &[&str]| {
            let is_it = |l: &&str| {
                l.starts_with("http_server_request_duration_seconds_count{")
                    && labels.iter().all(|x| l.contains(x))
            };
            text.lines()
                .filter(is_it)
                .filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok())
                .sum::<f64>()
        };
        let served = [
            r#"http_route="/items/{id}""#,
            r#"http_response_status_code="200""#,
            r#"http_request_method="GET""#,
        ];
        assert_eq!(count(&served), 2.0, "by template, not by path:\n{text}");
        assert_eq!(
            count(&[r#"http_response_status_code="404""#]),
            2.0,
            "{text}"
        );
        assert!(
            !text.contains("/elsewhere"),
            "paths of strangers are labels:\n{text}"
        );
        assert!(
            text.contains("http_client_request_duration_seconds_count"),
            "{text}"
        );

        let Ok(mut child) = tokio::process::Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
        else {
            let required = std::env::var("CHASSIS_PEERS").is_ok_and(|v| v == "required");
            assert!(
                !required,
                "CHASSIS_PEERS=required, and there is no promtool on the PATH"
            );
            eprintln!(
                "SKIPPED: there is no promtool on the PATH, `promtool check metrics` was not asked"
            );
            return;
        };
        let mut stdin = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, text.as_bytes())
            .await
            .unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        assert!(output.status.success(), "promtool: {output:?}\n{text}");
    })
    .await;
}
