//! What a router does about methods and slashes.

use http::Method;
use tower::ServiceExt;
use tower_chassis_core::Body;

use super::{ask, check, request, template};
use crate::{Found, Params, Router, TrailingSlash, WrongMethod, get, post};

#[tokio::test]
async fn options_can_be_answered_by_the_router() {
    let sub = || {
        Router::new()
            .route("/a", get(|| async { "a" }).put(|| async { "put" }))
            .route("/own", get(|| async { "a" }).options(|| async { "own" }))
    };
    let app = sub()
        .implicit_options(true)
        .nest("/inherits", sub())
        .nest("/strict", sub().implicit_options(false))
        .build()
        .unwrap();
    for (line, expected) in [
        ("OPTIONS /a", "204 [GET, HEAD, OPTIONS, PUT]"),
        ("POST /a", "405 [GET, HEAD, OPTIONS, PUT]"),
        ("OPTIONS /own", "own"),
        ("POST /own", "405 [GET, HEAD, OPTIONS]"),
        ("OPTIONS /inherits/a", "204 [GET, HEAD, OPTIONS, PUT]"),
        ("OPTIONS /strict/a", "405 [GET, HEAD, PUT]"),
        ("OPTIONS /none", "404"),
    ] {
        assert_eq!(ask(&app, line).await, expected, "{line}");
    }
    assert!(
        matches!(app.find(&Method::OPTIONS, "/a"), Found::Options { allow } if allow == "GET, HEAD, OPTIONS, PUT")
    );
    assert!(
        matches!(app.find(&Method::OPTIONS, "/strict/a"), Found::MethodNotAllowed { allow } if allow == "GET, HEAD, PUT")
    );
}

fn slashes(policy: TrailingSlash) -> Router {
    let sub = Router::new()
        .route("/", get(|| async { "sub" }))
        .route("/x", get(|| async { "x" }))
        .route("/y/", get(|| async { "y" }));
    Router::new()
        .trailing_slash(policy)
        .route("/", get(|| async { "root" }))
        .route("/a", get(|| async { "a" }))
        .route("/b/", get(|| async { "b" }).post(|| async { "post" }))
        .route("/two", get(|| async { "two" }))
        .route("/two/", get(|| async { "two/" }))
        .route(
            "/p/{x}",
            get(|params: Params| async move { format!("{params:?}") }),
        )
        .route(
            "/q/{x}/",
            get(|params: Params| async move { format!("{params:?}") }),
        )
        .route(
            "/files/*",
            get(|params: Params| async move { format!("{params:?}") }),
        )
        .nest("/sub", sub)
        .nest(
            "/slash/",
            Router::new().route("/", get(|| async { "slash" })),
        )
        .nest(
            "/exact",
            Router::new()
                .trailing_slash(TrailingSlash::Exact)
                .route("/x", get(|| async { "x" })),
        )
}

#[tokio::test]
async fn exact_paths_are_the_default() {
    check(
        slashes(TrailingSlash::default()),
        &[
            ("GET /a/", "404"),
            ("GET /b", "404"),
            ("GET /files", "404"),
            ("GET /sub/x/", "404"),
            ("GET /slash", "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn both_spellings_can_be_served() {
    check(
        slashes(TrailingSlash::Both),
        &[
            ("GET /", "root"),
            ("GET /a", "a"),
            ("GET /a/", "a"),
            ("GET /a//", "404"),
            ("GET /b", "b"),
            ("POST /b", "post"),
            ("PUT /b", "405 [GET, HEAD, POST]"),
            ("GET /two", "two"),
            ("GET /two/", "two/"),
            ("GET /p/1/", r#"{"x": "1"}"#),
            ("GET /q/1", r#"{"x": "1"}"#),
            ("GET /files", r#"{"*": ""}"#),
            ("GET /sub", "sub"),
            ("GET /sub/", "sub"),
            ("GET /sub/x/", "x"),
            ("GET /sub/y", "y"),
            ("GET /slash", "slash"),
            ("GET /exact/x/", "404"),
            ("GET /none/", "404"),
        ],
    )
    .await;
    let app = slashes(TrailingSlash::Both).build().unwrap();
    assert_eq!(template(&app, "GET /q/1").await.as_deref(), Some("/q/{x}/"));
    let Found::Route { route, params } = app.find(&Method::GET, "/q/1") else {
        panic!()
    };
    assert_eq!(
        (route.template(), params.get("x").as_deref()),
        ("/q/{x}/", Some("1"))
    );
}

#[tokio::test]
async fn a_redirect_keeps_the_query_and_never_leaves_the_host() {
    let app = slashes(TrailingSlash::Redirect)
        .route("/evil.example", get(|| async { "x" }))
        .route("/{x}/{y}/", get(|| async { "y" }))
        .build()
        .unwrap();
    for (line, expected) in [
        ("GET /two", None),
        ("GET /a/?x=/1", Some("../a?x=/1")),
        ("POST /b", Some("./b/")),
        ("PUT /b", None),
        ("GET /sub/x/", Some("../x")),
        ("GET /sub/y?q", Some("./y/?q")),
        ("GET /slash", Some("./slash/")),
        ("GET /q/1", Some("./1/")),
        ("GET /evil.example/%2F", Some("./%2F/")),
        ("GET /evil.example/", Some("../evil.example")),
        // The first segment is empty, and the reference still one of this host.
        ("GET //evil.example", Some("./evil.example/")),
        ("GET /x/..", None),
        ("GET /x/%2e.", None),
        ("GET /exact/x/", None),
    ] {
        let response = app.clone().oneshot(request(line)).await.unwrap();
        let location = response.headers().get("location");
        let location = location.map(|location| location.to_str().unwrap());
        assert_eq!(location, expected, "{line} {}", response.status());
        assert_eq!(response.status() == 308, expected.is_some(), "{line}");
        let (method, path) = line.split_once(' ').unwrap();
        let found = app.find(&method.parse().unwrap(), path);
        match expected {
            Some(expected) => {
                assert!(matches!(found, Found::Redirect { location } if location == expected))
            }
            None => assert!(!matches!(found, Found::Redirect { .. })),
        }
    }
}

/// A client resolves what it is sent to; `reqwest`, browsers and RFC 3986 do it alike.
#[tokio::test]
async fn a_redirect_leads_to_the_route_also_behind_a_proxy_that_strips() {
    let app: Router<Body> = Router::new()
        .trailing_slash(TrailingSlash::Redirect)
        .route("/a/b", post(|| async { "here" }));
    let app = Router::new()
        .nest_service("/outer", app.build().unwrap())
        .build()
        .unwrap();
    let response = app
        .clone()
        .oneshot(request("POST /outer/a/b/?q"))
        .await
        .unwrap();
    assert_eq!(response.headers()["location"], "../b?q");
    // `/outer/a/b/` and `../b` is `/outer/a/b`.
    assert_eq!(ask(&app, "POST /outer/a/b").await, "here");
}

#[tokio::test]
async fn the_route_that_fits_best_can_decide_alone() {
    let sub = || {
        Router::new()
            .route("/me", get(|| async { "me" }))
            .route("/{id}", get(|| async { "id" }).put(|| async { "put" }))
    };
    let app = sub()
        .nest(
            "/strict",
            sub()
                .wrong_method(WrongMethod::Strict)
                .nest("/inherits", sub()),
        )
        .nest(
            "/strict/continue",
            sub().wrong_method(WrongMethod::Continue),
        )
        .build()
        .unwrap();
    for (line, expected) in [
        ("PUT /me", "put"),
        // `PUT` would not be served either, so it is not allowed.
        ("PUT /strict/me", "405 [GET, HEAD]"),
        ("PUT /strict/other", "put"),
        ("PUT /strict/inherits/me", "405 [GET, HEAD]"),
        ("PUT /strict/continue/me", "put"),
    ] {
        assert_eq!(ask(&app, line).await, expected, "{line}");
    }
}
