//! Why a request goes where it goes, for people.

use http::{Method, Request};
use tower_chassis_core::Body;

use crate::{
    Condition, RouteService, Router, TrailingSlash, Why, any, get, post,
    rules::{HeaderMatch, ValueMatch},
};

fn app() -> RouteService {
    let users = Router::new()
        .route("/", get(|| async {}).name("users"))
        .route("/{id:[0-9]+}", get(|| async {}).name("user"))
        .route("/{name}", post(|| async {}).put(|| async {}))
        .route("/{name}/posts/{n}", any(|| async {}))
        .route("/me", get(|| async {}));
    Router::<Body>::new()
        .route("/a", get(|| async {}))
        .route("/b/c", get(|| async {}))
        .route("/*", get(|| async {}))
        .nest("/users", users)
        .nest(
            "/slash",
            Router::new()
                .route("/x/", get(|| async {}))
                .trailing_slash(TrailingSlash::Redirect),
        )
        .nest_service("/foreign", Router::new().build().unwrap())
        .host("{t}.example", Router::new().route("/", get(|| async {})))
        .host("a.example", Router::new().route("/", post(|| async {})))
        .when(
            Condition::query("q", ValueMatch::Present),
            Router::new().route("/a", get(|| async {})),
        )
        .when(
            Condition::header(HeaderMatch::present("x-beta")),
            Router::new(),
        )
        .build()
        .unwrap()
}

fn explained(method: Method, target: &str) -> String {
    app().explain(&method, target).unwrap().to_string()
}

#[test]
fn a_text_shows_the_way() {
    assert_eq!(
        explained(Method::PUT, "/users/7"),
        "\
PUT /users/7
   host a.example: is not what is asked for
   host {t}.example: is not what is asked for
   query q: is not what is asked for
   header x-beta: is not what is asked for
-> /users/* [*]: decides from here on
   /* [GET]: has not the method
   4 with another first segment
     /users/{id:[0-9]+} [GET]: has not the method
  -> /users/{name} [POST PUT]: serves it
     /users/{name}/posts/{n} [*]: the path ends too early
     2 with another first segment
= PUT /users/{name}: name = 7"
    );
}

#[test]
fn each_end_has_its_words() {
    for (method, target, last) in [
        (Method::GET, "/users", "= GET /users (users)"),
        (
            Method::PATCH,
            "/users/7",
            "= 405, allow: GET, HEAD, POST, PUT",
        ),
        (Method::GET, "/users/a/posts", "= 404"),
        (Method::GET, "/slash/x", "= 308 to ./x/"),
        (Method::GET, "/foreign/x", "= * /foreign/*"),
        (Method::GET, "http://b.example/", "= GET /: t = b"),
        (Method::GET, "http://a.example/", "= 405, allow: POST"),
        (Method::GET, "/a?q", "= GET /a"),
    ] {
        let text = explained(method, target);
        assert_eq!(text.lines().last(), Some(last), "{text}");
    }
    assert!(app().explain(&Method::GET, "no path").is_none());
}

#[test]
fn a_mount_is_one_candidate() {
    for target in ["/users", "/users/", "/users/7"] {
        let app = app();
        let explanation = app.explain(&Method::GET, target).unwrap();
        let mounts = explanation
            .steps()
            .iter()
            .filter(|step| step.candidate() == "/users/*");
        let whys: Vec<_> = mounts.map(|step| (step.depth(), step.why())).collect();
        assert_eq!(whys, [(0, &Why::Enters)], "{target}");
    }
}

#[test]
fn another_spelling_is_told() {
    let text = explained(Method::GET, "/slash/x");
    assert!(
        text.contains("/x: the path ends too early") || text.contains("nothing so far"),
        "{text}"
    );
    assert!(
        text.contains("nothing so far; the same for `/x/`"),
        "{text}"
    );
    assert!(text.contains("/slash/x/ [GET]: serves it"), "{text}");
}

#[test]
fn what_would_do_but_comes_later_is_told_apart() {
    let mut req = Request::new(());
    *req.uri_mut() = "http://a.example/?q".parse().unwrap();
    req.headers_mut().insert("x-beta", "1".parse().unwrap());
    let app = app();
    let explanation = app.explain_for(&req);
    let steps: Vec<_> = explanation
        .steps()
        .iter()
        .map(|step| (step.candidate(), step.why()))
        .collect();
    assert_eq!(
        steps[..4],
        [
            ("host a.example", &Why::Enters),
            ("host {t}.example", &Why::Later),
            ("query q", &Why::Later),
            ("header x-beta", &Why::Later),
        ]
    );
    let found = app.find_for(&req);
    assert_eq!(format!("{found:?}"), format!("{:?}", explanation.found()));
}

#[test]
fn no_host_is_not_any_host() {
    let app = Router::<Body>::new()
        .host("*", Router::new())
        .route("/", get(|| async {}))
        .build()
        .unwrap();
    let explanation = app.explain(&Method::GET, "/").unwrap();
    assert_eq!(*explanation.steps()[0].why(), Why::Unmet, "{explanation}");
    let explanation = app.explain(&Method::GET, "http://h/").unwrap();
    assert_eq!(*explanation.steps()[0].why(), Why::Enters, "{explanation}");
}

/// `http` lets them pass, and a terminal would do what they say.
#[test]
fn a_path_cannot_write_to_the_terminal() {
    let app = Router::<Body>::new()
        .route("/{x}", get(|| async {}))
        .trailing_slash(TrailingSlash::Redirect)
        .build()
        .unwrap();
    for path in ["/\u{9b}31m", "/\u{9b}31m/", "/a/\u{9b}31m"] {
        let text = app.explain(&Method::GET, path).unwrap().to_string();
        assert!(text.contains("\\u{9b}31m"), "{text}");
        assert!(!text.contains('\u{9b}'), "{text}");
    }
}
