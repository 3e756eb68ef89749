//! A secret that is planted wherever a client or a service can put one is in no line.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use crate::frames::Frames;
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, Carrier,
    invocation::{MatchedRoute, RouteTable},
};
use tower_chassis_observe::access_log::{
    AccessLogLayer, Excerpt, ExcerptLayer, Format, PathShown, Query, Template,
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

/// Headers that hold a secret, and one.
const HEADERS: [(&str, &str); 15] = [
    ("authorization", "Bearer PLANTED"),
    ("proxy-authorization", "Basic PLANTED"),
    ("cookie", "id=PLANTED; theme=dark"),
    ("set-cookie", "id=PLANTED; HttpOnly"),
    ("x-api-key", "PLANTED"),
    ("x-auth-token", "PLANTED"),
    ("x-csrf-token", "PLANTED"),
    ("x-my-token-2", "PLANTED"),
    ("x-client-secret", "PLANTED"),
    ("x-password-hash", "PLANTED"),
    ("baggage", "user=PLANTED"),
    (
        "referer",
        "https://ann:PLANTED@a.example/p?token=PLANTED#PLANTED",
    ),
    ("location", "https://ann:PLANTED@a.example/p?code=PLANTED"),
    ("x-amz-signature", "PLANTED"),
    ("x-note", "call with password=PLANTED"),
];

const QUERIES: [&str; 6] = [
    "token=PLANTED",
    "a=VISIBLE&access_token=PLANTED&b=1",
    "pass%77ord=PLANTED",
    "X-Amz-Signature=PLANTED",
    "user%5Bpassword%5D=PLANTED",
    "next=https%3A%2F%2Fa%2F%3Fapi_key%3DPLANTED",
];

const BODIES: [(&str, &str); 9] = [
    (
        "application/json",
        r#"{"a":"VISIBLE","password":"PLANTED"}"#,
    ),
    (
        "application/json",
        r#"{"a":"VISIBLE","clientSecret":{"value":["PLANTED"]}}"#,
    ),
    (
        "application/json",
        r#"{"a":"VISIBLE","pass\u0077ord":"PLANTED"}"#,
    ),
    (
        "application/json",
        r#"{"a":"VISIBLE","raw":"{\"token\":\"PLANTED\"}"}"#,
    ),
    ("application/json", r#"{"a":"VISIBLE","token":"PLAN"#),
    (
        "application/problem+json",
        r#"{"a":"VISIBLE","detail":"Authorization: Bearer PLANTED"}"#,
    ),
    (
        "application/x-www-form-urlencoded",
        "a=VISIBLE&client_secret=PLANTED",
    ),
    (
        "application/x-www-form-urlencoded",
        r#"{"a":"VISIBLE","api_key":"PLANTED"}"#,
    ),
    ("text/plain", "VISIBLE\nx-api-key: PLANTED\n"),
];

#[tokio::test]
async fn a_planted_secret_is_in_no_line() {
    let mut shown = 0;
    for format in FORMATS {
        for (n, (kind, body)) in BODIES.into_iter().enumerate() {
            for size in [1, 3, 7, 1_000] {
                let line = line(format, QUERIES[n % QUERIES.len()], kind, body, size).await;
                assert!(!line.contains("PLAN"), "{format:?}: {line}");
                assert_eq!(line.matches('\n').count(), 1, "{line:?}");
                shown += line.matches("VISIBLE").count();
            }
        }
    }
    // What is no secret is there: both bodies in five formats of eight, and the query in three of nine.
    assert!(shown >= 5 * 9 * 4 * 2, "{shown}");
}

async fn line(format: Format, query: &str, kind: &str, body: &'static str, size: usize) -> String {
    let lines = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&lines);
    let headers = HEADERS
        .map(|(name, _)| format!("{{header:{name}}}"))
        .join(" ");
    let log = AccessLogLayer::new(format, move |line: &str| {
        sink.lock().unwrap().push_str(line)
    })
    .query(Query::Full)
    .path(PathShown::Template)
    .template(Template::parse(&format!("{{target}} {{path}} {{query}} {headers}")).unwrap());
    log.handle()
        .update(|config| {
            config.excerpts = Excerpt::All;
            config.excerpt_headers = HEADERS.map(|(name, _)| name.into()).into();
        })
        .unwrap();
    let owned = kind.to_owned();
    let service = ServiceBuilder::new()
        .layer(log)
        .layer(ExcerptLayer::new())
        .service(service_fn(move |mut request: Request<Body>| {
            let table = RouteTable::new(["/reset/{code}".into()]);
            let route = MatchedRoute::new(Arc::new(table), 0);
            request.invocation_mut().set_route(route);
            let kind = owned.clone();
            async move {
                let _ = request.into_body().collect().await;
                let mut response = Response::builder().header("content-type", kind);
                for (name, value) in HEADERS {
                    response = response.header(name, value);
                }
                let body = Frames::split(body.as_bytes(), size).trailers("x-api-key", "PLANTED");
                Ok::<_, Infallible>(response.body(Body::new(body)).unwrap())
            }
        }));
    let mut request = Request::builder()
        .method("POST")
        .uri(format!(
            "http://ann:PLANTED@a.example/reset/PLANTED?{query}"
        ))
        .header("content-type", kind);
    for (name, value) in HEADERS {
        request = request.header(name, value);
    }
    let asked = Frames::split(body.as_bytes(), size).trailers("x-auth-token", "PLANTED");
    let mut request = request.body(Body::new(asked)).unwrap();
    let invocation = request.invocation_mut();
    invocation.set_baggage(Some("user=PLANTED".into()));
    let response = service.oneshot(request).await.unwrap();
    let _ = response.into_body().collect().await;
    let mut lines = lines.lock().unwrap();
    std::mem::take(&mut lines)
}

/// What a `Debug` of the layer and its handle shows.
#[tokio::test]
async fn a_ticket_does_not_show_its_query() {
    use tower_chassis_core::wire::Start;
    let log = AccessLogLayer::new(Format::Json, |_: &str| {});
    let mut request = Request::new(());
    *request.uri_mut() = "/a?token=PLANTED".parse().unwrap();
    let ticket = log.start(&mut request, tokio::time::Instant::now());
    assert!(!format!("{ticket:?} {log:?}").contains("PLANTED"));
    let _ = log.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(()))
    }));
}
