//! Secrets in every place where a call can have one, and none of them in any output.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis::{
    Body, BoxError, Carrier, Events, Kind, ObserveLayer, Rejection, RescueLayer,
    access_log::{
        self, AccessLogLayer, AccessLogPolicy, Excerpt, ExcerptLayer, Format, Level, Query,
        Template, redact::Redact,
    },
    boxed::BoxFuture,
    breaker::{BreakerLayer, BreakerPolicy},
    client::{Client, ClientConfig, ClientPolicy},
    config::Secret,
    endpoint::Endpoint,
    events,
    metrics::{CallMetricsLayer, ClientMetricsLayer, ServerMetricsLayer},
    observe::{
        self,
        audit::{AuditLayer, AuditPolicy, AuditRecord},
        events::Sse,
        log::{Log, LogConfig, LogFormat},
        otlp::{Otlp, OtlpConfig, OtlpPolicy, Protocol, SignalConfig},
        output::{Bound, Output},
        vcr::{Cassette, Mode, VcrLayer},
    },
    prometheus::Prometheus,
    rate_limit::{RateLimitLayer, RateLimitPolicy, remote::RedisStore},
    router::{Router, any_service},
    server::{Address, Drain, Server, ServerPolicy},
    trace::{ClientTraceLayer, TraceLayer},
    wire::Start,
};
use tracing_subscriber::layer::SubscriberExt;

use crate::seen::Spans;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Where there is a secret. Each has a value of its own: [`secret`].
const PLACES: [&str; 20] = [
    "authorization",
    "proxy",
    "cookie",
    "set-cookie",
    "api-key",
    "query",
    "user",
    "password",
    "session",
    "baggage",
    "referer",
    "json",
    "reply",
    "form",
    "metadata",
    "collector",
    "config",
    "location",
    "marked",
    "referer-user",
];

/// With letters that become others where it is written into a URL.
fn secret(place: &str) -> String {
    assert!(PLACES.contains(&place), "{place}");
    format!("Sesame+{place}/9f")
}

fn percent(text: &str) -> String {
    text.replace('+', "%2B").replace('/', "%2F")
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word = three
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - three.len()));
        for at in 0..=three.len() {
            let letter = word >> (18 - 6 * at) & 63;
            out.push(char::from(LETTERS[letter as usize]));
        }
        out.push_str(&"="[..usize::from(three.len() < 3)].repeat(3 - three.len()));
    }
    out
}

/// How a secret may be written, in what it stands in by itself or as a part.
fn forms(secret: &str) -> Vec<String> {
    let encoded = percent(secret);
    let mut forms = vec![secret.to_owned(), encoded.to_lowercase(), encoded];
    for before in 0..3 {
        // Without the letters that its neighbours have a part in.
        let whole = base64(&[&b"xx"[..before], secret.as_bytes()].concat());
        let whole = whole.trim_end_matches('=');
        let inner = &whole[if before == 0 { 0 } else { before + 1 }..whole.len() - 1];
        forms.push(inner.to_owned());
        forms.push(inner.replace('+', "-").replace('/', "_"));
    }
    // The word alone, wherever it was cut or decoded.
    forms.push(secret.replace('+', " "));
    forms.push(
        secret
            .split(['+', '/'])
            .take(2)
            .collect::<Vec<_>>()
            .join("+"),
    );
    forms
}

#[test]
fn secrets_are_found_in_every_form() {
    assert_eq!(base64(b"foobar"), "Zm9vYmFy");
    assert_eq!((&*base64(b"fo"), &*base64(b"f")), ("Zm8=", "Zg=="));
    let secret = secret("user");
    for text in [
        secret.clone(),
        format!("?a={}&b", percent(&secret)),
        base64(format!("{secret}:b").as_bytes()),
        base64(format!("a:{secret}").as_bytes()),
        base64(format!("ab:{secret}").as_bytes()),
        base64(format!("abc:{secret}").as_bytes()),
    ] {
        assert!(
            forms(&secret).iter().any(|form| text.contains(form)),
            "{text}"
        );
    }
}

/// What was said, by whom.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<(String, String)>>>);

impl Said {
    fn say(&self, who: &str, what: impl Into<String>) {
        self.0.lock().unwrap().push((who.into(), what.into()));
    }

    fn show(&self, who: &str, what: &dyn Debug) {
        self.say(who, format!("{what:?}"));
        self.say(who, format!("{what:#?}"));
    }

    /// All that one said.
    fn of(&self, who: &str) -> String {
        let said = self.0.lock().unwrap();
        let said = said.iter().filter(|(by, _)| by == who);
        said.map(|(_, what)| &**what).collect::<Vec<_>>().join("\n")
    }

    /// Which secrets are in what was said.
    fn told(&self) -> Vec<String> {
        let mut told = Vec::new();
        for place in PLACES {
            let forms = forms(&secret(place));
            for (who, what) in self.0.lock().unwrap().iter() {
                if let Some(at) = forms.iter().find_map(|form| what.find(form)) {
                    let (from, to) = (at.saturating_sub(150), (at + 80).min(what.len()));
                    let part = String::from_utf8_lossy(&what.as_bytes()[from..to]);
                    told.push(format!("{who} tells {place}: …{part}…"));
                }
            }
        }
        told.dedup();
        told
    }
}

/// What an application logs goes here.
#[derive(Clone)]
struct Lines(Said);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .say("application log", String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a careless caller sends.
fn headers() -> HeaderMap {
    let referer = format!(
        "http://{}@y/p?access_token={}",
        percent(&secret("referer-user")),
        percent(&secret("referer"))
    );
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (
            "authorization",
            format!("Bearer {}", secret("authorization")),
        ),
        (
            "proxy-authorization",
            format!(
                "Basic {}",
                base64(format!("ann:{}", secret("proxy")).as_bytes())
            ),
        ),
        ("cookie", format!("theme=dark; sid={}", secret("cookie"))),
        ("x-api-key", secret("api-key")),
        ("baggage", format!("user={}", percent(&secret("baggage")))),
        ("referer", referer),
        ("traceparent", PARENT.to_owned()),
        ("user-agent", "careless/1".to_owned()),
    ] {
        headers.insert(name, HeaderValue::try_from(value).unwrap());
    }
    headers
}

fn path() -> String {
    format!(
        "/orders/7;jsessionid={}?token={}&page=2",
        percent(&secret("session")),
        percent(&secret("query"))
    )
}

fn userinfo() -> String {
    format!(
        "{}:{}",
        percent(&secret("user")),
        percent(&secret("password"))
    )
}

fn json() -> String {
    format!(r#"{{"order":7,"password":"{}"}}"#, secret("json"))
}

fn form() -> String {
    format!("order=7&client_secret={}", percent(&secret("form")))
}

/// Answers with secrets too; a form fails.
fn handle(request: Request<Body>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> {
    Box::pin(async {
        let is_form =
            request.headers()[header::CONTENT_TYPE] == "application/x-www-form-urlencoded";
        request.into_body().collect().await?;
        let reply = format!(r#"{{"access_token":"{}","left":3}}"#, secret("reply"));
        let answer = Response::builder()
            .status(if is_form { 500 } else { 200 })
            .header(header::CONTENT_TYPE, "application/json")
            .header(
                header::SET_COOKIE,
                format!("sid={}; HttpOnly", secret("set-cookie")),
            )
            .header(
                header::LOCATION,
                format!("https://z/back?auth={}", percent(&secret("location"))),
            );
        Ok(answer.body(Body::from(reply))?)
    })
}

/// A collector, which may say no, and repeats then what it was told.
async fn collector(said: Said, says_no: Arc<AtomicBool>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (said, says_no) = (said.clone(), Arc::clone(&says_no));
            let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                let (said, says_no) = (said.clone(), says_no.load(Relaxed));
                async move {
                    let given = request.headers()["authorization"]
                        .to_str()
                        .unwrap()
                        .to_owned();
                    let body = request.into_body().collect().await?.to_bytes();
                    said.say("otlp", String::from_utf8_lossy(&body));
                    let mut answer = Response::new(Body::empty());
                    if says_no {
                        *answer.status_mut() = StatusCode::UNAUTHORIZED;
                        *answer.body_mut() = format!("not with {given}").into();
                    }
                    Ok::<_, hyper::Error>(answer)
                }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            let io = TokioIo::new(stream);
            let service = TowerToHyperService::new(service);
            tokio::spawn(async move { builder.serve_connection(io, service).await.is_ok() });
        }
    });
    address
}

fn otlp_config(endpoint: String) -> OtlpConfig {
    let bearer = format!("Bearer {}", secret("collector"));
    let headers = BTreeMap::from([("authorization".to_owned(), bearer)]);
    OtlpConfig {
        endpoint: Some(endpoint),
        protocol: Protocol::HttpProtobuf,
        headers: headers.clone(),
        traces: SignalConfig {
            headers,
            ..SignalConfig::default()
        },
        ..OtlpConfig::default()
    }
}

fn access_log(format: Format, said: &Said) -> AccessLogLayer {
    let (said, tracing) = (said.clone(), access_log::tracing());
    let template = "{client} {user} {target} {path} {query} {user_agent} {header:authorization} {header:cookie} \
                    {header:x-api-key} {header:referer} {header:baggage} {header:proxy-authorization} {header:x-note}";
    let policy = AccessLogPolicy::default().with(|config| {
        config.excerpts = Excerpt::All;
        config.excerpt_headers = [
            "authorization",
            "proxy-authorization",
            "cookie",
            "set-cookie",
            "x-api-key",
            "baggage",
            "referer",
            "location",
            "x-token-bin",
            "x-note",
        ]
        .map(Into::into)
        .into();
    });
    let sink = move |line: &str, level: Level| {
        said.say("access log", line);
        tracing(line, level);
    };
    AccessLogLayer::leveled(format, sink)
        .policy(policy.unwrap())
        .query(Query::Full)
        .template(Template::parse(template).unwrap())
}

/// A server with every output there is; the address, and the events.
async fn server(said: &Said, otlp: &Otlp, prometheus: &Prometheus, events: &Events) -> SocketAddr {
    let log = |format| access_log(format, said);
    let logs = (
        (
            log(Format::Text),
            log(Format::Json),
            log(Format::Common),
            log(Format::Combined),
        ),
        (
            log(Format::Ecs),
            log(Format::Otel),
            log(Format::Gcp),
            log(Format::Template),
        ),
    );
    let audit = AuditPolicy::default().with(|config| {
        config.paths = true;
        config.headers = headers().keys().map(ToString::to_string).collect();
    });
    let records = said.clone();
    let audit = AuditLayer::new(audit.unwrap(), move |record: AuditRecord| {
        records.show("audit", &record);
        records.say("audit", record.to_json());
        true
    });
    let spans = Spans::default();
    let trace = (
        TraceLayer::new().sink(otlp.spans()),
        TraceLayer::new().sink(spans.clone()),
    );
    let metrics = (
        ServerMetricsLayer::new().recorder(prometheus.recorder()),
        CallMetricsLayer::new()
            .recorder(prometheus.recorder())
            .until_end(),
    );
    said.show("logs", &logs);
    said.show("trace", &trace);
    said.show("metrics", &metrics);
    said.show("audit", &audit);
    let key = |request: &Request<Body>| request.headers().get("x-api-key").cloned();
    let limit = RateLimitLayer::new(RateLimitPolicy::new(0.001, 4).unwrap())
        .keyed(key)
        .named("orders")
        .events(events.clone());
    said.show("rate limit", &limit);
    let router = Router::new()
        .route(
            "/orders/{id}",
            any_service(
                RescueLayer::new()
                    .layer(service_fn(handle))
                    .map_response(|answer: Response<_>| answer.map(Body::new)),
            ),
        )
        .build()
        .unwrap();
    let parts = (trace, logs, (metrics, audit));
    let service = ServiceBuilder::new()
        .layer(ObserveLayer::new(parts.clone()))
        .layer(ExcerptLayer::new())
        .layer(RescueLayer::new())
        .layer(limit)
        .service(router);
    said.show("service", &service);
    // What a call holds.
    let ticket = parts.start(&mut request("x"), Instant::now());
    said.show("ticket", &ticket);
    drop(ticket);
    let server = Server::new(ServerPolicy::default()).events("orders", events.clone());
    let bound = server.listen("127.0.0.1:0").bind().await.unwrap();
    let [Address::Tcp(address)] = bound.addresses()[..] else {
        panic!("{:?}", bound.addresses())
    };
    tokio::spawn(async move { bound.serve(service, Drain::new()).await });
    address
}

/// By hand, because no client sends a user in the first line.
async fn ask(address: SocketAddr, content_type: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut text = format!(
        "POST http://{}@x{} HTTP/1.1\r\nhost: x\r\n",
        userinfo(),
        path()
    );
    for (name, value) in &headers() {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    text += &format!("x-token-bin: {}\r\n", base64(secret("metadata").as_bytes()));
    text += &format!(
        "content-type: {content_type}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// A call of gRPC, on HTTP/2.
async fn call(address: SocketAddr) -> StatusCode {
    let mut config = ClientConfig::default();
    config.http2 = true;
    let client = Client::new(&ClientPolicy::try_from(config).unwrap());
    let mut call = request(&address.to_string());
    let headers = call.headers_mut();
    headers.remove("x-note");
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    let token = base64(secret("metadata").as_bytes());
    headers.insert("x-token-bin", HeaderValue::try_from(token).unwrap());
    let answer = client.oneshot(call).await.unwrap();
    let status = answer.status();
    answer.into_body().collect().await.unwrap();
    status
}

fn request(to: &str) -> Request<Body> {
    let mut request = Request::post(format!("http://{}@{to}{}", userinfo(), path()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json()))
        .unwrap();
    request.headers_mut().extend(headers());
    request.headers_mut().remove("traceparent");
    let mut marked = HeaderValue::try_from(secret("marked")).unwrap();
    marked.set_sensitive(true);
    request.headers_mut().insert("x-note", marked);
    let baggage = format!("user={}", percent(&secret("baggage")));
    request.invocation_mut().set_baggage(Some(baggage.into()));
    request
}

#[tokio::test]
async fn planted_secrets_are_in_no_output() {
    let said = Said::default();
    let says_no = Arc::new(AtomicBool::new(false));
    let collector = collector(said.clone(), Arc::clone(&says_no)).await;
    let config = otlp_config(format!("http://{collector}"));
    said.show("otlp config", &config);
    let policy = OtlpPolicy::try_from(config).unwrap();
    said.show("otlp policy", &policy);
    let (otlp, worker) = Otlp::new(policy);
    said.show("otlp", &otlp);
    said.show("otlp worker", &worker);
    tokio::spawn(worker);
    let log = LogConfig {
        level: "trace".into(),
        format: LogFormat::Json,
        spans: true,
        ..LogConfig::default()
    };
    let output = Output::new(Lines(said.clone()), Bound::default());
    let (lines, log) = Log::new(log)
        .environment(None)
        .output(output)
        .layer()
        .unwrap();
    let subscriber = tracing_subscriber::registry()
        .with(lines)
        .with(otlp.layer());
    let _listening = tracing::subscriber::set_default(subscriber);

    let prometheus = Prometheus::new();
    let happens = Events::new();
    events::log(&happens);
    observe::events::record(&happens, prometheus.recorder());
    observe::events::sample(&happens, prometheus.recorder());
    let recorder = prometheus.recorder();
    otlp.metrics(move || recorder.snapshot());
    let stream = Sse::new(happens.clone())
        .service()
        .oneshot(Request::get("/").body(()).unwrap());
    let mut stream = stream.await.unwrap().into_body();
    let streamed = said.clone();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = stream.frame().await {
            let data: Bytes = frame.into_data().unwrap_or_default();
            streamed.say("event stream", String::from_utf8_lossy(&data));
        }
    });

    // What is served: a success, a failure, and one that is refused.
    let address = server(&said, &otlp, &prometheus, &happens).await;
    let answer = ask(address, "application/json", &json()).await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains(&secret("reply")),
        "{answer}"
    );
    let answer = ask(address, "application/x-www-form-urlencoded", &form()).await;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");

    assert_eq!(call(address).await, 200);

    // What is called: that, again until it is refused, and where nobody listens.
    let tape = std::env::temp_dir().join(format!("chassis-secrets-{}.json", std::process::id()));
    let cassette = Cassette::open(&tape, Mode::Record).unwrap();
    let vcr = VcrLayer::new(cassette.clone());
    let breaker = BreakerPolicy::default().with(|config| config.consecutive_failures = 1);
    let breaker = BreakerLayer::new(breaker.unwrap())
        .named("orders")
        .events(happens.clone());
    let client = Client::new(&ClientPolicy::default()).events("orders", &happens);
    for (who, what) in [
        ("vcr", &vcr as &dyn Debug),
        ("breaker", &breaker),
        ("client", &client),
    ] {
        said.show(who, what);
    }
    let calls = ServiceBuilder::new()
        .layer(ObserveLayer::new((
            ClientTraceLayer::new().sink(otlp.spans()),
            ClientMetricsLayer::new().recorder(prometheus.recorder()),
            (
                access_log(Format::Json, &said),
                access_log(Format::Template, &said),
            ),
        )))
        .layer(ExcerptLayer::new())
        .layer(RescueLayer::new())
        .layer(breaker)
        .layer(vcr)
        // It is none to the server, who does not hear of the mark.
        .map_request(|mut request: Request<Body>| {
            request.headers_mut().remove("x-note");
            request
        })
        .service(client);
    said.show("client stack", &calls);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    for (to, status) in [
        (address.to_string(), 200),
        (address.to_string(), 429),
        (nobody.clone(), 502),
        (nobody, 503),
    ] {
        let request = request(&to);
        said.show("invocation", &request.invocation());
        let answer = calls.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), status, "{to}");
        said.show("an answer's body", answer.body());
        answer.into_body().collect().await.unwrap();
    }
    cassette.save().unwrap();
    said.say("cassette", fs::read_to_string(&tape).unwrap());
    said.show("cassette", &cassette);

    // A replay that finds nothing says what it has.
    let cassette = Cassette::open(&tape, Mode::Replay).unwrap();
    let silent =
        service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, BoxError>>());
    let asked = request("elsewhere");
    let fault = VcrLayer::new(cassette.clone())
        .layer(silent)
        .oneshot(asked)
        .await
        .unwrap_err();
    said.say("vcr", format!("{fault} {fault:?}"));
    said.show("cassette", &cassette.unused());
    drop(cassette);
    fs::remove_file(&tape).unwrap();

    // Configurations, and what is wrong with them.
    let with_user = |place| format!("redis://:{}@127.0.0.1:1/0", percent(&secret(place)));
    said.show(
        "redis",
        &RedisStore::new(&with_user("config"))
            .unwrap()
            .hashed(secret("config")),
    );
    let fault = RedisStore::new(&with_user("config").replace("redis:", "rdeis:")).unwrap_err();
    said.say("redis", format!("{fault} {fault:?}"));
    said.show("secret", &Secret::new(secret("config")));
    let fault = Endpoint::new(&with_user("config")).unwrap_err();
    said.say("endpoint", format!("{fault} {fault:?}"));
    for endpoint in [
        format!("http://{}@127.0.0.1:1", percent(&secret("config"))),
        format!("http://127.0.0.1:1/?key={}", percent(&secret("config"))),
    ] {
        let config = otlp_config(endpoint);
        said.show("otlp config", &config);
        let fault = OtlpPolicy::try_from(config).unwrap_err();
        said.say("otlp config", format!("{fault} {fault:?}"));
    }
    let shown = Redact::new();
    said.show("redact", &shown);
    let rejection = Rejection::new(Kind::Unauthenticated, "gate");
    said.say("rejection", format!("{rejection} {rejection:?}"));

    // The collector is told, and then does not want to be.
    let minute = Duration::from_secs(60);
    otlp.flush(minute).await.unwrap();
    says_no.store(true, Relaxed);
    ask(address, "application/json", &json()).await;
    let fault = otlp.flush(minute).await.unwrap_err();
    said.say("otlp", format!("{fault} {fault:?}"));
    said.show("otlp", &otlp);
    said.say("prometheus", prometheus.render());
    assert!(log.flush(minute).await);
    said.show("application log", &log);

    // Everybody has said something of these calls.
    for (who, what) in [
        ("access log", "/orders/{id}"),
        ("access log", "***"),
        ("access log", "\"password\\\":\\\"***"),
        ("audit", "/orders/{id}"),
        ("audit", "***"),
        ("application log", "\"otel.kind\":\"client\""),
        ("application log", "telemetry is lost"),
        ("application log", "***"),
        ("otlp", "/orders/{id}"),
        ("otlp", "http.server.request.duration"),
        ("prometheus", "/orders/{id}"),
        ("prometheus", "chassis_"),
        ("cassette", "***"),
        ("event stream", "event: breaker"),
        ("event stream", "event: refused"),
        ("vcr", "orders"),
    ] {
        let all = said.of(who);
        assert!(all.contains(what), "{who} says nothing of {what}:\n{all}");
    }
    let told = said.told();
    assert!(told.is_empty(), "{}", told.join("\n"));
}
