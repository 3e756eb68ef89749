//! Hosts, headers and queries in front of paths.

use std::net::IpAddr;

use http::{HeaderName, Method, header::FORWARDED};
use tower::ServiceExt;
use tower_chassis_core::{Body, Carrier};

use super::{Log, ask, check, read, request, template};
use crate::{
    Condition, Found, Params, RouteService, Router, get,
    rules::{HeaderMatch, ValueMatch},
};

async fn all(params: Params) -> String {
    let all: Vec<_> = params
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    all.join(" ")
}

fn says(text: &'static str) -> Router {
    Router::new().route("/", get(move || async move { text }))
}

/// `GET /path` with headers, `name: value` each.
async fn with_headers(
    app: &RouteService,
    line: &str,
    headers: &[&str],
    client: Option<&str>,
) -> String {
    let mut request = request(line);
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        let name = HeaderName::try_from(name).unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    if let Some(client) = client {
        request.invocation_mut().set_client(client.parse().unwrap());
    }
    match read(app.clone().oneshot(request).await.unwrap()).await {
        (200, text, _) => text,
        (status, ..) => status.to_string(),
    }
}

#[tokio::test]
async fn hosts_go_by_how_specific_they_are() {
    let app = says("default")
        .host("*.example.com", says("some"))
        .host(
            "{tenant}.example.com",
            Router::new().route("/{x}", get(all)),
        )
        .host(
            "{*sub}.deep.example.com",
            Router::new().route("/", get(all)),
        )
        .host("API.example.com.", says("api"))
        .host("{a}-{b}.eu.example.com", Router::new().route("/", get(all)))
        .host(
            "{*d}.{c}.{a}-{b}.order.example.com",
            Router::new().route("/", get(all)),
        )
        .host("[::1]", says("six"))
        .build()
        .unwrap();
    for (host, path, expected) in [
        ("api.example.com", "/", "api"),
        ("API.Example.Com.:8080", "/", "api"),
        ("acme.example.com", "/1", "tenant=acme x=1"),
        ("ACME.example.com:1", "/1", "tenant=acme x=1"),
        // Its router has no `/`: chosen is chosen.
        ("acme.example.com", "/", "404"),
        ("a.b.example.com", "/", "some"),
        ("a.b.deep.example.com", "/", "sub=a.b"),
        ("x-y.eu.example.com", "/", "a=x b=y"),
        // Patterns are searched from the right, and read from the left.
        ("u.v.w.x-y.order.example.com", "/", "d=u.v c=w a=x b=y"),
        ("z.eu.example.com", "/", "some"),
        ("example.com", "/", "default"),
        ("evil-example.com", "/", "default"),
        ("[::1]:80", "/", "six"),
        ("not a host", "/", "default"),
        // A host has no user, and who reads one here and who does not would disagree.
        ("evil.com@api.example.com", "/", "default"),
        ("", "/", "default"),
    ] {
        let header = format!("host: {host}");
        let line = format!("GET {path}");
        assert_eq!(
            with_headers(&app, &line, &[&header], None).await,
            expected,
            "{host}"
        );
    }
    // An absolute target wins over the header (RFC 9112, 3.2.2), and two headers are nobody's word.
    assert_eq!(
        with_headers(
            &app,
            "GET http://api.example.com/",
            &["host: x.example.com"],
            None
        )
        .await,
        "api"
    );
    let user = "GET http://evil.com@api.example.com/";
    assert_eq!(with_headers(&app, user, &[], None).await, "default");
    let two = ["host: api.example.com", "host: api.example.com"];
    assert_eq!(with_headers(&app, "GET /", &two, None).await, "default");
    assert_eq!(with_headers(&app, "GET /", &[], None).await, "default");
}

#[tokio::test]
async fn what_a_proxy_says_of_the_host_counts_only_if_it_is_trusted() {
    let trusted = |ip: IpAddr| ip.is_loopback();
    let x: HeaderName = "x-forwarded-host".parse().unwrap();
    let app = says("default")
        .host("a.example", says("a"))
        .host("b.example", says("b"));
    let app = app.forwarded_host(x, trusted).build().unwrap();
    let host = "host: a.example";
    for (headers, client, expected) in [
        (&[host, "x-forwarded-host: b.example"][..], None, "a"),
        (
            &[host, "x-forwarded-host: b.example"],
            Some("9.9.9.9:1"),
            "a",
        ),
        (
            &[host, "x-forwarded-host: b.example"],
            Some("127.0.0.1:1"),
            "b",
        ),
        (
            &[host, "x-forwarded-host: evil, b.example:80"],
            Some("127.0.0.1:1"),
            "b",
        ),
        (
            &[
                host,
                "x-forwarded-host: evil",
                "x-forwarded-host: b.example",
            ],
            Some("127.0.0.1:1"),
            "b",
        ),
        (
            &[host, "forwarded: host=b.example"],
            Some("127.0.0.1:1"),
            "a",
        ),
        (&[host], Some("127.0.0.1:1"), "a"),
        (&[host, "x-forwarded-host: "], Some("127.0.0.1:1"), "a"),
        // What is no host is nobody's word.
        (
            &[host, "x-forwarded-host: x/b.example"],
            Some("127.0.0.1:1"),
            "a",
        ),
        (
            &[host, "x-forwarded-host: x@b.example"],
            Some("127.0.0.1:1"),
            "a",
        ),
    ] {
        assert_eq!(
            with_headers(&app, "GET /", headers, client).await,
            expected,
            "{headers:?} {client:?}"
        );
    }
    let app = says("default")
        .host("b.example", says("b"))
        .forwarded_host(FORWARDED, trusted);
    let app = app.build().unwrap();
    let forwarded =
        "forwarded: for=1.1.1.1;host=evil, for=2.2.2.2;Host=\"b.example:8080\";proto=https";
    assert_eq!(
        with_headers(&app, "GET /", &[host, forwarded], Some("127.0.0.1:1")).await,
        "b"
    );
    assert_eq!(
        with_headers(&app, "GET /", &[host, forwarded], None).await,
        "default"
    );
}

#[tokio::test]
async fn conditions_are_asked_in_order() {
    let v2 = Condition::header(HeaderMatch::prefix("Accept", "application/vnd.v2"));
    let beta = Condition::query("beta", ValueMatch::Present);
    let app = says("plain")
        .when(v2.clone().and(beta.clone()), says("both"))
        .when(v2, says("v2"))
        .when(beta, says("beta"))
        .when(
            Condition::query("a b", ValueMatch::Exact("c d/".into())),
            says("decoded"),
        )
        .when(
            Condition::query("n", ValueMatch::Regex("[0-9]+".into())),
            says("number"),
        )
        .host("h.example", says("host"))
        .build()
        .unwrap();
    let accept = "accept: application/vnd.v2+json";
    for (line, headers, expected) in [
        ("GET /", &[][..], "plain"),
        ("GET /", &[accept], "v2"),
        ("GET /", &["accept: text/html", accept], "v2"),
        ("GET /?beta", &[], "beta"),
        ("GET /?x=1&beta=", &[], "beta"),
        ("GET /?x=beta", &[], "plain"),
        ("GET /?beta", &[accept], "both"),
        ("GET /?a+b=c%20d%2F", &[], "decoded"),
        ("GET /?n=x&n=12", &[], "number"),
        ("GET /?n=12x", &[], "plain"),
        ("GET http://h.example/?beta", &[accept], "host"),
        ("GET /none?beta", &[], "404"),
    ] {
        assert_eq!(
            with_headers(&app, line, headers, None).await,
            expected,
            "{line} {headers:?}"
        );
    }
}

#[tokio::test]
async fn guarded_routers_take_from_their_parent_and_go_along_with_it() {
    let log = Log::default();
    let guarded = Router::new()
        .route("/{x}", get(all))
        .route_layer(log.note("route"))
        .layer(log.note("guarded"));
    let inner = says("inner").when(Condition::query("q", ValueMatch::Present), says("query"));
    let app = Router::new()
        .with(log.note("with"), |router| {
            router.host("{t}.example", guarded)
        })
        .nest(
            "/v/{v}",
            inner.host("{t2}.example", Router::new().route("/", get(all))),
        )
        .fallback(|params: Params| async move { format!("nowhere {}", params.len()) })
        .layer(log.note("outer"))
        .build()
        .unwrap();
    assert_eq!(ask(&app, "GET http://a.example/1").await, "t=a x=1");
    assert_eq!(log.take(), "outer with guarded route");
    assert_eq!(ask(&app, "GET http://a.example/1/2").await, "nowhere 1");
    assert_eq!(log.take(), "outer with guarded");
    assert_eq!(ask(&app, "GET /v/1").await, "inner");
    assert_eq!(ask(&app, "GET /v/1?q").await, "query");
    assert_eq!(
        template(&app, "GET /v/1?q").await.as_deref(),
        Some("/v/{v}")
    );
    assert_eq!(ask(&app, "GET http://b.other/v/1").await, "inner");
    assert_eq!(ask(&app, "GET http://b.example.x/v/1").await, "inner");

    let Found::Route { route, params } = app.find(&Method::GET, "http://a.example/1") else {
        panic!()
    };
    assert_eq!(params.get("t").as_deref(), Some("a"));
    assert_eq!(
        (params.len(), params.is_empty(), params.raw("x")),
        (2, false, Some("1"))
    );
    assert_eq!(route.guards().collect::<Vec<_>>(), ["host {t}.example"]);
    assert!(
        app.routes()
            .iter()
            .any(|route| route.guards().eq(["query q"]))
    );
}

#[test]
fn faults_of_guards_come_with_the_others() {
    let bad = |header: &str| Condition::header(HeaderMatch::regex(header, "[0-9"));
    let errors = Router::<Body>::new()
        .host("{a.example", Router::new())
        .host("x.{b}.{b}.example", Router::new())
        .host("x.*.example", Router::new())
        .host("{x}-*.example", Router::new())
        .host("", Router::new())
        .host("h.example", Router::new())
        .host("H.EXAMPLE.", Router::new())
        .host("{a}.example", Router::new())
        .host("{b}.example", Router::new().route("x", get(|| async {})))
        .when(bad("no header"), Router::new())
        .when(bad("x"), Router::new())
        .build()
        .unwrap_err();
    let errors: Vec<_> = errors.iter().collect();
    let text: Vec<_> = errors.iter().map(|error| error.to_string()).collect();
    assert_eq!(errors.len(), 10, "{text:#?}");
    assert!(text[0].ends_with("{a.example\n  ^"), "{}", text[0]);
    assert!(text[1].contains("`b` stands twice"), "{}", text[1]);
    assert!(text[2].ends_with("x.*.example\n    ^"), "{}", text[2]);
    assert!(
        text[3].contains("whole of its first label") && text[3].ends_with("{x}-*.example\n  ^"),
        "{}",
        text[3]
    );
    assert!(errors[4].pattern_error().is_some());
    assert!(errors[5].is_mount_conflict() && errors[5].first_location().is_some());
    assert!(
        text[5].contains("host H.EXAMPLE. is taken by host h.example"),
        "{}",
        text[5]
    );
    assert!(errors[6].pattern_error().is_some());
    assert!(errors[7].is_mount_conflict(), "{}", text[7]);
    assert!(
        errors[8].is_bad_condition() && text[8].contains("`no header` is no name"),
        "{}",
        text[8]
    );
    assert!(
        errors[9].is_bad_condition() && text[9].contains("header x~[0-9"),
        "{}",
        text[9]
    );
}

#[tokio::test]
async fn a_tower_service_sees_what_the_host_captured() {
    let service = tower::service_fn(|req: http::Request<Body>| async move {
        let params = req
            .extensions()
            .get::<Params>()
            .map(|params| format!("{params:?}"));
        Ok::<_, std::convert::Infallible>(format!("{params:?}"))
    });
    let router = Router::new()
        .route_service("/", service)
        .nest_service("/in", service);
    check(
        Router::new().host("{t}.example", router),
        &[
            ("GET http://a.example/", r#"Some("{\"t\": \"a\"}")"#),
            ("GET http://a.example/in/x", r#"Some("{\"t\": \"a\"}")"#),
        ],
    )
    .await;
}

#[test]
fn a_host_that_no_request_has_is_a_fault() {
    use crate::pattern::PatternErrorKind::{EmptyPattern, InvalidHost};
    for (host, kind, at) in [
        ("localhost:3000", InvalidHost, 9),
        ("{t}.example:80", InvalidHost, 11),
        ("http://a.example", InvalidHost, 4),
        ("a.example/x", InvalidHost, 9),
        ("a@b.example", InvalidHost, 1),
        ("a b", InvalidHost, 1),
        ("é.example", InvalidHost, 0),
        ("[::1]:80", InvalidHost, 0),
        ("[::1", InvalidHost, 0),
        (".", EmptyPattern, 0),
    ] {
        let router = Router::<Body>::new().host(host, Router::new());
        let errors = router.build().expect_err(host);
        let error = errors
            .iter()
            .next()
            .and_then(|e| e.pattern_error().cloned());
        let error = error.expect(host);
        assert_eq!((error.kind(), error.offset()), (&kind, at), "{host}");
    }
    for host in [
        "a_b.example",
        "{t:[a-z:/ ]+}.example",
        "127.0.0.1",
        "[2001:db8::1]",
        "xn--e1a.example.",
    ] {
        let router = Router::<Body>::new().host(host, Router::new());
        assert!(router.build().is_ok(), "{host}");
    }
}

#[test]
fn one_condition_twice_is_a_fault() {
    let exact = |value: &str| Condition::query("q", ValueMatch::Exact(value.into()));
    let errors = Router::<Body>::new()
        .when(exact("a"), Router::new())
        .when(exact("a*"), Router::new())
        .when(
            Condition::query("q", ValueMatch::Prefix("a".into())),
            Router::new(),
        )
        .when(exact("a").and(exact("b")), Router::new())
        .merge(Router::new().when(exact("a"), Router::new()))
        .build()
        .unwrap_err();
    let errors: Vec<_> = errors.iter().collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    let (second, first) = (errors[0].location(), errors[0].first_location());
    assert!(errors[0].is_mount_conflict());
    assert!(second.line() > first.unwrap().line());
    assert!(
        errors[0]
            .to_string()
            .contains("query q=a is taken by query q=a")
    );
}
