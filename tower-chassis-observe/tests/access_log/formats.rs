//! A line of each format, exactly, and what is in it when a client does its worst.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::support::{Routes, answer, get};
use http::{HeaderName, HeaderValue, Method, Request, Version};
use http_body_util::BodyExt;
use proptest::prelude::*;
use serde_json::Value;
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_core::{Carrier, trace::TraceContext};
use tower_chassis_observe::access_log::{
    AccessLogLayer, AccessLogPolicy, Format, Level, PathShown, Query, Template, redact::Redact,
};

const FORMATS: [Format; 8] = [
    Format::Text,
    Format::Json,
    Format::Common,
    Format::Combined,
    Format::Ecs,
    Format::Otel,
    Format::Gcp,
    Format::Template,
];

type Lines = Arc<Mutex<Vec<(String, Level)>>>;

fn log(format: Format) -> (AccessLogLayer, Lines) {
    let lines = Lines::default();
    let sink = Arc::clone(&lines);
    let sink = move |line: &str, level| sink.lock().unwrap().push((line.to_owned(), level));
    let clock = || UNIX_EPOCH + Duration::from_millis(1_709_210_096_789);
    (AccessLogLayer::leveled(format, sink).clock(clock), lines)
}

fn one(lines: &Lines) -> (String, Level) {
    let mut lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

async fn run(layer: &AccessLogLayer, request: Request<()>) {
    let routes = Routes::default();
    let service = layer.layer(service_fn(move |request: Request<()>| {
        request.invocation().unwrap().set_principal("ann".into());
        let routes = routes.clone();
        async move {
            tokio::time::sleep(Duration::from_micros(1_234_000)).await;
            routes.call(request).await
        }
    }));
    let response = service.oneshot(request).await.unwrap();
    let _ = response.into_body().collect().await;
}

fn request() -> Request<()> {
    let mut request = get("/users/7?page=2&token=S3CR3T");
    *request.method_mut() = Method::POST;
    for (name, value) in [
        ("user-agent", "curl/8.5 (x)"),
        ("referer", "https://u:S3CR3T@a.example/list?token=S3CR3T"),
        ("authorization", "Bearer S3CR3T"),
        ("x-tenant", "blue"),
        ("content-length", "12"),
    ] {
        request
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    let invocation = request.invocation_mut();
    invocation.set_client("203.0.113.9:4711".parse().unwrap());
    invocation.set_request_id("r-1".into());
    let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    invocation.set_trace(TraceContext::parse(header).unwrap(), None);
    request
}

const TEMPLATE: &str = "{{{client}}} {user} \"{method} {target} {protocol}\" {route} {status} {grpc} {class} {level} {slow} \
    {duration_ms} {duration_us} {duration_s} {bytes} {request_bytes} {request_id} {trace_id} {span_id} \"{user_agent}\" \
    {header:authorization} {header:x-tenant} {header:x-none} {path} {query} {time_common}";

#[tokio::test(start_paused = true)]
async fn a_line_of_each_format() {
    for (format, expected) in [
        (
            Format::Common,
            r#"203.0.113.9 - ann [29/Feb/2024:12:34:56 +0000] "POST /users/7?page=2&token=*** HTTP/1.1" 200 5"#,
        ),
        (
            Format::Combined,
            r#"203.0.113.9 - ann [29/Feb/2024:12:34:56 +0000] "POST /users/7?page=2&token=*** HTTP/1.1" 200 5 "https://a.example/list" "curl/8.5 (x)""#,
        ),
        (
            Format::Ecs,
            r#"{"@timestamp":"2024-02-29T12:34:56.789Z","log.level":"info","message":"POST /users/7 200","ecs.version":"8.11.0","event.duration":1234000000,"event.outcome":"success","client.ip":"203.0.113.9","user.name":"ann","http.request.method":"POST","url.path":"/users/7","url.query":"page=2&token=***","http.version":"1.1","http.response.status_code":200,"http.response.body.bytes":5,"http.request.body.bytes":12,"http.request.id":"r-1","user_agent.original":"curl/8.5 (x)","trace.id":"0af7651916cd43dd8448eb211c80319c","span.id":"b7ad6b7169203331","labels":{"http_route":"/users/{id}","class":"success"}}"#,
        ),
        (
            Format::Otel,
            r#"{"timestamp":"2024-02-29T12:34:56.789Z","severity_text":"INFO","severity_number":9,"body":"POST /users/7 200","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331","trace_flags":1,"attributes":{"http.request.method":"POST","url.path":"/users/7","url.query":"page=2&token=***","http.route":"/users/{id}","http.response.status_code":200,"http.server.request.duration":1.234000,"http.response.body.size":5,"http.request.body.size":12,"network.protocol.name":"http","network.protocol.version":"1.1","client.address":"203.0.113.9","user_agent.original":"curl/8.5 (x)","user.name":"ann","http.request.id":"r-1","class":"success"}}"#,
        ),
        (
            Format::Gcp,
            r#"{"severity":"INFO","time":"2024-02-29T12:34:56.789Z","message":"POST /users/7 200","httpRequest":{"requestMethod":"POST","requestUrl":"/users/7?page=2&token=***","requestSize":"12","status":200,"responseSize":"5","userAgent":"curl/8.5 (x)","remoteIp":"203.0.113.9","latency":"1.234000s","protocol":"HTTP/1.1"},"logging.googleapis.com/trace":"projects/shop/traces/0af7651916cd43dd8448eb211c80319c","logging.googleapis.com/spanId":"b7ad6b7169203331","logging.googleapis.com/trace_sampled":true,"logging.googleapis.com/labels":{"route":"/users/{id}","request_id":"r-1","user":"ann","class":"success"}}"#,
        ),
        (
            Format::Template,
            r#"{203.0.113.9} ann "POST /users/7?page=2&token=*** HTTP/1.1" /users/{id} 200 - success info false 1234.000 1234000 1.234000 5 12 r-1 0af7651916cd43dd8448eb211c80319c b7ad6b7169203331 "curl/8.5 (x)" Bearer *** blue - /users/7 page=2&token=*** 29/Feb/2024:12:34:56 +0000"#,
        ),
    ] {
        let (layer, lines) = log(format);
        let template: Template = TEMPLATE.parse().unwrap();
        let layer = layer
            .query(Query::Full)
            .template(template)
            .google_project("shop");
        run(&layer, request()).await;
        assert_eq!(one(&lines), (format!("{expected}\n"), Level::Info));
    }
}

/// What is known of nothing but the path.
#[tokio::test(start_paused = true)]
async fn what_is_not_known_is_left_out() {
    for (format, expected) in [
        (
            Format::Combined,
            r#"- - ann [29/Feb/2024:12:34:56 +0000] "GET /nothing HTTP/2.0" 404 13 "-" "-""#,
        ),
        (
            Format::Ecs,
            r#"{"@timestamp":"2024-02-29T12:34:56.789Z","log.level":"warn","message":"GET /nothing 404","ecs.version":"8.11.0","event.duration":1234000000,"event.outcome":"failure","user.name":"ann","http.request.method":"GET","url.path":"/nothing","http.version":"2","http.response.status_code":404,"http.response.body.bytes":13,"http.request.body.bytes":0,"labels":{"class":"client-fault","slow":"true"}}"#,
        ),
        (
            Format::Gcp,
            r#"{"severity":"WARNING","time":"2024-02-29T12:34:56.789Z","message":"GET /nothing 404","httpRequest":{"requestMethod":"GET","requestUrl":"/nothing","requestSize":"0","status":404,"responseSize":"13","latency":"1.234000s","protocol":"HTTP/2.0"},"logging.googleapis.com/labels":{"user":"ann","class":"client-fault","slow":"true"}}"#,
        ),
        (
            Format::Template,
            "{-} ann \"GET /nothing HTTP/2.0\" - 404 - client-fault warn true 1234.000 1234000 1.234000 13 0 - - - \"-\" - - - /nothing - 29/Feb/2024:12:34:56 +0000",
        ),
    ] {
        let (layer, lines) = log(format);
        let slow = AccessLogPolicy::default().with(|config| config.slow = Duration::from_secs(1));
        let layer = layer
            .query(Query::Full)
            .template(Template::parse(TEMPLATE).unwrap())
            .policy(slow.unwrap());
        let mut request = get("/nothing");
        *request.version_mut() = Version::HTTP_2;
        run(&layer, request).await;
        assert_eq!(one(&lines), (format!("{expected}\n"), Level::Warn));
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_and_failures_in_each_format() {
    for (format, parts) in [
        (Format::Text, ["grpc=14", "level=error"]),
        (Format::Json, [r#""grpc":14"#, r#""level":"error""#]),
        (
            Format::Ecs,
            [r#""grpc_status_code":"14""#, r#""event.outcome":"failure""#],
        ),
        (
            Format::Otel,
            [
                r#""error.type":"UNAVAILABLE""#,
                r#""rpc.grpc.status_code":14"#,
            ],
        ),
        (Format::Gcp, [r#""grpc":"14""#, r#""severity":"ERROR""#]),
    ] {
        let (layer, lines) = log(format);
        run(&layer, get("/users/grpc")).await;
        let (line, level) = one(&lines);
        assert_eq!(level, Level::Error);
        for part in parts {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    let (layer, lines) = log(Format::Otel);
    run(&layer, get("/users/fail")).await;
    assert!(one(&lines).0.contains(r#""error.type":"500""#));
}

/// The types of members that machines read.
#[tokio::test(start_paused = true)]
async fn json_has_the_types_that_its_readers_want() {
    for (format, members) in [
        (
            Format::Ecs,
            [
                "/event.duration",
                "/http.response.status_code",
                "/http.response.body.bytes",
            ],
        ),
        (
            Format::Otel,
            [
                "/severity_number",
                "/attributes/http.response.status_code",
                "/attributes/http.server.request.duration",
            ],
        ),
        (Format::Json, ["/status", "/duration_ms", "/bytes"]),
        (
            Format::Gcp,
            [
                "/httpRequest/status",
                "/httpRequest/status",
                "/httpRequest/status",
            ],
        ),
    ] {
        let (layer, lines) = log(format);
        run(&layer, request()).await;
        let line: Value = serde_json::from_str(&one(&lines).0).unwrap();
        for member in members {
            assert!(
                line.pointer(member).is_some_and(Value::is_number),
                "{member} in {line}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_path_is_shown_by_its_template() {
    for format in FORMATS {
        let (layer, lines) = log(format);
        let layer = layer
            .path(PathShown::Template)
            .template(Template::parse(TEMPLATE).unwrap());
        run(&layer, get("/users/S3CR3T")).await;
        let (line, _) = one(&lines);
        assert!(
            line.contains("/users/{id}") && !line.contains("S3CR3T"),
            "{line}"
        );
        run(&layer, get("/nothing/S3CR3T")).await;
        let (line, _) = one(&lines);
        assert!(
            !line.contains("S3CR3T") && !line.contains("nothing"),
            "{line}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_is_raw_only_where_that_was_said_and_names_of_ones_own_are_secret() {
    for (query, redact, shown) in [
        (Query::Raw, Redact::new(), "page=2&token=S3CR3T"),
        (Query::Full, Redact::new(), "page=2&token=***"),
        (
            Query::Full,
            Redact::new().and(["page"]),
            "page=***&token=***",
        ),
        (Query::Names, Redact::new(), "page=*&token=*"),
    ] {
        let (layer, lines) = log(Format::Common);
        run(&layer.query(query).redact(redact), request()).await;
        let (line, _) = one(&lines);
        assert!(
            line.contains(&format!("\"POST /users/7?{shown} HTTP/1.1\"")),
            "{line}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_parameter_of_the_path_may_be_a_secret() {
    for format in FORMATS {
        for (query, hidden) in [
            (Query::Hidden, true),
            (Query::Full, true),
            (Query::Raw, false),
        ] {
            let (layer, lines) = log(format);
            let layer = layer.template(Template::parse(TEMPLATE).unwrap());
            run(&layer.query(query), get("/users/7;v=1;jsessionid=S3CR3T")).await;
            let (line, _) = one(&lines);
            assert!(line.contains("/users/7;v=1;jsessionid="), "{line}");
            assert_eq!(line.contains("S3CR3T"), !hidden, "{line}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn levels_and_the_least_of_them() {
    let (layer, lines) = log(Format::Text);
    let handle = layer.handle();
    let mut options = get("/users/7");
    *options.method_mut() = Method::OPTIONS;
    for (least, told) in [
        (Level::Debug, 4),
        (Level::Info, 3),
        (Level::Warn, 2),
        (Level::Error, 1),
    ] {
        handle.update(|config| config.level = least).unwrap();
        run(&layer, options.clone()).await;
        for path in ["/users/7", "/nothing", "/users/fail"] {
            run(&layer, get(path)).await;
        }
        let levels: Vec<_> = lines
            .lock()
            .unwrap()
            .drain(..)
            .map(|(_, level)| level)
            .collect();
        let all = [Level::Debug, Level::Info, Level::Warn, Level::Error];
        assert_eq!(levels, all[4 - told..]);
    }
}

#[tokio::test(start_paused = true)]
async fn routes_are_skipped_where_they_succeed_in_time() {
    let (layer, lines) = log(Format::Text);
    let handle = layer.handle();
    let skip = |globs: &[&str]| {
        let globs = globs.iter().map(|glob| (*glob).to_owned()).collect();
        handle.update(|config| config.skip = globs).unwrap();
    };
    let told = async |path| {
        run(&layer, get(path)).await;
        lines.lock().unwrap().drain(..).count()
    };
    assert_eq!(told("/users/7").await, 1);
    // By the template, not by the path.
    skip(&["/users/7"]);
    assert_eq!(told("/users/7").await, 1);
    skip(&["/livez", "/users/*"]);
    assert_eq!((told("/users/7").await, told("/users/fail").await), (0, 1));
    let second = Duration::from_secs(1);
    handle.update(|config| config.slow = second).unwrap();
    assert_eq!(told("/users/7").await, 1);
    skip(&[]);
    assert_eq!((told("/users/7").await, handle.skipped()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_template_is_live() {
    let (layer, lines) = log(Format::Template);
    run(&layer, get("/users/7")).await;
    assert!(one(&lines).0.starts_with(
        "- - ann [29/Feb/2024:12:34:56 +0000] \"GET /users/7 HTTP/1.1\" 200 5 1234.000"
    ));
    let template = Template::parse("{status}").unwrap();
    layer.handle().template().set(template).unwrap();
    run(&layer, get("/users/7")).await;
    assert_eq!(one(&lines).0, "200\n");
}

#[tokio::test]
async fn headers_that_are_no_text_are_shown_all_the_same() {
    for format in [Format::Combined, Format::Template] {
        let (layer, lines) = log(format);
        let layer = layer.template(Template::parse("{header:referer}").unwrap());
        let service = layer.layer(service_fn(async |_: Request<()>| {
            Ok::<_, std::convert::Infallible>(answer(200, ""))
        }));
        let mut request = get("/");
        let referer = HeaderValue::from_bytes(b"http://a/\xff\x80\"?x").unwrap();
        request.headers_mut().insert("referer", referer);
        drop(service.oneshot(request).await.unwrap());
        let (line, _) = one(&lines);
        assert!(
            line.contains("http://a/") && line.is_ascii() && !line.contains("?x"),
            "{line}"
        );
    }
}

proptest! {
    /// Whatever a client sends: one line, no control, and JSON that reads back.
    #[test]
    fn one_line(
        path in "/[!-~]{0,30}",
        agent in proptest::collection::vec(32_u8..=255, 0..30),
        user in ".{0,20}",
        id in ".{0,20}",
        method in "[A-Z!#$%&'*+.^_`|~-]{1,10}",
    ) {
        let Ok(uri) = path.parse::<http::Uri>() else { return Ok(()) };
        let Ok(agent) = HeaderValue::from_bytes(&agent) else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for format in FORMATS {
            let (layer, lines) = log(format);
            let layer = layer.query(Query::Raw).template(Template::parse(TEMPLATE).unwrap());
            let mut request = Request::new(());
            *request.uri_mut() = uri.clone();
            *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
            for name in ["user-agent", "referer", "authorization", "x-tenant"] {
                request.headers_mut().insert(HeaderName::from_static(name), agent.clone());
            }
            let invocation = request.invocation_mut();
            invocation.set_principal(user.as_str().into());
            invocation.set_request_id(id.as_str().into());
            let service = layer.layer(service_fn(async |_: Request<()>| {
                Ok::<_, std::convert::Infallible>(answer(200, ""))
            }));
            drop(runtime.block_on(service.oneshot(request)).unwrap());
            let (line, _) = one(&lines);
            let inside = line.strip_suffix('\n').unwrap();
            prop_assert!(!inside.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202e}')), "{:?}", line);
            if let Format::Json | Format::Ecs | Format::Otel | Format::Gcp = format {
                prop_assert!(serde_json::from_str::<Value>(inside).is_ok(), "{}", line);
            } else if format != Format::Text {
                prop_assert!(inside.is_ascii(), "{}", line);
            }
            if let Format::Common | Format::Combined = format {
                // client, -, user, [time zone], "method target protocol", status, bytes
                let fields: Vec<_> = inside.splitn(9, ' ').collect();
                prop_assert!(fields[3].starts_with('[') && fields[4] == "+0000]" && fields[7].ends_with('"'), "{}", line);
            }
        }
    }
}

/// Target and level of the events of a subscriber.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<(String, String)>>>);

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let about = event.metadata();
        let told = (about.target().to_owned(), about.level().to_string());
        self.0.lock().unwrap().push(told);
    }
}

#[tokio::test(start_paused = true)]
async fn lines_are_events_of_their_level() {
    use tower_chassis_observe::access_log::tracing as to_tracing;
    use tracing_subscriber::layer::SubscriberExt as _;

    let events = Events::default();
    let subscriber = tracing_subscriber::registry().with(events.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let layer = AccessLogLayer::leveled(Format::Text, to_tracing());
    let mut options = get("/users/7");
    *options.method_mut() = Method::OPTIONS;
    run(&layer, options).await;
    for path in ["/users/7", "/nothing", "/users/fail"] {
        run(&layer, get(path)).await;
    }
    let told = events.0.lock().unwrap().clone();
    let levels = ["DEBUG", "INFO", "WARN", "ERROR"];
    let expected = levels.map(|level| ("tower_chassis::access".to_owned(), level.to_owned()));
    assert_eq!(told, expected);
}

#[cfg(feature = "config")]
#[test]
fn settings_are_read_from_a_configuration() {
    use tower_chassis_observe::access_log::{AccessLogConfig, Excerpt};

    let text = r#"{"successes":0.5,"slow":"1s","level":"warn","skip":["/livez"],"excerpts":"failures",
        "excerpt_bytes":10,"excerpt_types":["text/html"],"excerpt_headers":["vary"]}"#;
    let config: AccessLogConfig = serde_json::from_str(text).unwrap();
    assert_eq!(
        config,
        AccessLogConfig {
            successes: 0.5,
            slow: Duration::from_secs(1),
            level: Level::Warn,
            skip: vec!["/livez".into()],
            excerpts: Excerpt::Failures,
            excerpt_bytes: 10,
            excerpt_types: vec!["text/html".into()],
            excerpt_headers: vec!["vary".into()],
        }
    );
    assert!(AccessLogPolicy::try_from(config).is_ok());
    for (name, format) in [
        ("off", Format::Off),
        ("ecs", Format::Ecs),
        ("template", Format::Template),
    ] {
        let read: Format = serde_json::from_value(name.into()).unwrap();
        assert_eq!(read, format);
    }
    let fault = serde_json::from_value::<Template>("{staus}".into()).unwrap_err();
    assert_eq!(
        fault.to_string(),
        "at 0: there is no `staus`; did you mean `status`?"
    );
}

/// The clock is only for tests: without one a line has the time of today.
#[tokio::test]
async fn the_time_is_now() {
    let (layer, lines) = log(Format::Json);
    run(&layer.clock(SystemTime::now), get("/users/7")).await;
    assert!(one(&lines).0.starts_with("{\"time\":\"20"));
}
