//! From names to paths.

use http::Method;
use tower_chassis_core::Body;

use crate::{Found, RouteService, Router, any, get};

fn app() -> RouteService {
    let articles = Router::new()
        .route("/", get(|| async {}).post(|| async {}).name("articles"))
        .route("/{id:[0-9]{1,3}}", get(|| async {}).name("article"))
        .route(
            "/{date:[0-9-]+}/{slug}.{ext}",
            get(|| async {}).name("dated"),
        )
        .route("/x/{id}/{lang}", get(|| async {}).name("twice"));
    Router::<Body>::new()
        .route("/", get(|| async {}).name("home"))
        .route("/files/{*path}", get(|| async {}).name("file"))
        .route("/raw/*", any(|| async {}).name("raw"))
        .route("/straße/a%2fb", get(|| async {}).name("static"))
        .route("/range/{from}-{to}", get(|| async {}).name("range"))
        .nest(
            "/{lang}/articles",
            articles.nest(
                "/",
                Router::new().route("/deep", get(|| async {}).name("deep")),
            ),
        )
        .build()
        .unwrap()
}

#[test]
fn a_named_route_gives_its_path_and_is_found_by_it() {
    let app = app();
    for (name, values, expected) in [
        ("home", &[][..], "/"),
        (
            "file",
            &[("path", "a/b c/ü?.txt")],
            "/files/a/b%20c/%C3%BC%3F.txt",
        ),
        ("file", &[("path", "")], "/files/"),
        ("raw", &[("*", "100%")], "/raw/100%25"),
        ("static", &[], "/stra%C3%9Fe/a%2Fb"),
        ("range", &[("to", "2"), ("from", "1")], "/range/1-2"),
        ("articles", &[("lang", "de")], "/de/articles"),
        (
            "article",
            &[("lang", "a/b"), ("id", "7")],
            "/a%2Fb/articles/7",
        ),
        (
            "dated",
            &[
                ("lang", "de"),
                ("date", "2026-11-21"),
                ("slug", "a-b"),
                ("ext", "tar.gz"),
            ],
            "/de/articles/2026-11-21/a-b.tar.gz",
        ),
        (
            "twice",
            &[("lang", "de"), ("id", "1")],
            "/de/articles/x/1/de",
        ),
        (
            "twice",
            &[("lang", "de"), ("lang", "en"), ("id", "1")],
            "/de/articles/x/1/en",
        ),
        ("deep", &[("lang", "de")], "/de/articles/deep"),
    ] {
        let url = app.url(name, values.iter().copied()).unwrap();
        assert_eq!(url, expected);
        let Found::Route { route, params } = app.find(&Method::GET, &url) else {
            panic!("{url}")
        };
        assert_eq!(route.name(), Some(name));
        for (key, value) in values.iter().filter(|_| name != "twice") {
            assert_eq!(params.get(key).as_deref(), Some(*value), "{url}");
        }
    }
}

#[test]
fn what_a_route_would_not_capture_is_an_error() {
    let app = app();
    let error = |name, values: &[(&'static str, &'static str)]| {
        app.url(name, values.iter().copied()).unwrap_err()
    };
    let unknown = error("none", &[]);
    assert!(unknown.is_unknown_route() && unknown.parameter().is_none());
    assert_eq!(unknown.to_string(), "no route is named `none`");
    let missing = error("article", &[("lang", "de")]);
    assert!(missing.is_missing() && missing.parameter() == Some("id"));
    assert_eq!(
        missing.to_string(),
        "route `article` needs a parameter `id`"
    );
    let unexpected = error("home", &[("id", "1")]);
    assert!(unexpected.is_unexpected() && unexpected.route() == "home");
    assert_eq!(unexpected.to_string(), "route `home` has no parameter `id`");
    for (name, values) in [
        // The expression, empty, another split, a path that clients shorten.
        ("article", &[("lang", "de"), ("id", "1234")][..]),
        ("article", &[("lang", ""), ("id", "1")]),
        ("range", &[("from", "1-2"), ("to", "3")]),
        ("articles", &[("lang", "..")]),
        ("file", &[("path", "a/../../b")]),
    ] {
        let error = error(name, values);
        assert!(error.is_mismatch(), "{name} {values:?} {error}");
    }
}

#[test]
fn a_name_is_unique_in_the_whole_router() {
    let router = Router::<Body>::new()
        .route("/a", get(|| async {}).name("one"))
        .route("/b", get(|| async {}).name("two"))
        .nest(
            "/c",
            Router::new().route("/d", get(|| async {}).name("one")),
        );
    let errors = router.build().unwrap_err();
    let errors: Vec<_> = errors.iter().collect();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].is_name_conflict());
    let (second, first) = (errors[0].location(), errors[0].first_location().unwrap());
    assert_eq!(second.line(), first.line() + 4);
    let expected = format!("{second}: a route is named `one` already, at {first}");
    assert_eq!(errors[0].to_string(), expected);
}
