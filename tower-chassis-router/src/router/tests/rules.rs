//! Each rule of the module's page, by its number.

use http::Method;
use tower_chassis_core::Body;

use super::{check, template};
use crate::{Found, Params, Router, any, get, post, put};

/// The page numbers the rules; each has a test that is named by it.
#[test]
fn every_rule_has_a_test() {
    let numbers = |page: &str| -> Vec<usize> {
        let rules = page.split("* **R").skip(1);
        let rules = rules.filter_map(|rest| rest.split_once("**"));
        rules.map(|(number, _)| number.parse().unwrap()).collect()
    };
    let before = numbers(include_str!("../../matcher/mod.rs"));
    let rules = numbers(include_str!("../mod.rs"));
    let first = before.len() + 1;
    assert_eq!(rules, (first..first + rules.len()).collect::<Vec<_>>());
    assert!(rules.len() >= 8);
    let tests = include_str!("rules.rs");
    let named = tests.lines().filter_map(|line| {
        line.trim_start_matches("async ")
            .strip_prefix("fn r")?
            .split_once('_')
    });
    let named: Vec<usize> = named.map(|(number, _)| number.parse().unwrap()).collect();
    assert_eq!(named, rules, "the tests are in the order of the rules");
}

async fn all(params: Params) -> String {
    format!("{params:?}")
}

fn says(path: &str, text: &'static str) -> Router {
    Router::new().route(path, get(move || async move { text }))
}

#[tokio::test]
async fn r20_a_mount_answers_its_prefix_and_all_below() {
    let sub = || says("/", "root").merge(says("/x", "x"));
    check(
        Router::new().nest("/a", sub()).nest("/b/", sub()),
        &[
            ("GET /a", "root"),
            ("GET /a/", "root"),
            ("GET /a/x", "x"),
            ("GET /ax", "404"),
            ("GET /b", "404"),
            ("GET /b/", "root"),
            ("GET /b/x", "x"),
        ],
    )
    .await;
}

#[tokio::test]
async fn r21_inside_of_a_nested_router_there_is_no_way_back() {
    let router = Router::new()
        .nest("/a", says("/own", "own"))
        .route("/a/x", post(|| async { "parent" }))
        .route("/a/more/{id}", get(|| async { "parent" }))
        .merge(says("/{x}/{y}", "beside"));
    check(
        router,
        &[
            ("GET /a/own", "own"),
            ("GET /a/more/1", "parent"),
            ("GET /b/none", "beside"),
            ("GET /a/none", "404"),
            // Not 405: the POST is not the nested router's (chi says it is).
            ("GET /a/x", "404"),
            ("PUT /a/own", "405 [GET, HEAD]"),
        ],
    )
    .await;
}

#[test]
fn r22_a_mount_shares_no_place() {
    for taken in ["/a", "/a/", "/a/*"] {
        for first in [true, false] {
            let mount = |router: Router| router.nest("/a", Router::new());
            let route = |router: Router| router.merge(says(taken, "route"));
            let router = match first {
                true => route(mount(Router::new())),
                false => mount(route(Router::new())),
            };
            let errors = router.build().unwrap_err();
            assert!(
                errors.iter().all(|error| error.is_mount_conflict()),
                "{errors}"
            );
        }
    }
    let twice = Router::<Body>::new().nest("/{x}", Router::new());
    assert!(twice.nest("/{y}", Router::new()).build().is_err());
    let beside = Router::new().nest("/a", Router::new());
    assert!(
        beside
            .merge(says("/a/b", "b"))
            .merge(says("/ab", "ab"))
            .build()
            .is_ok()
    );
}

#[tokio::test]
async fn r23_what_is_not_said_is_inherited() {
    let leaf = || Router::new().route("/x", get(|| async { "x" }));
    let own = leaf().fallback(|| async { "own" }).implicit_head(true);
    check(
        Router::new()
            .nest("/before", leaf())
            .nest("/own", own.nest("/deep", leaf()))
            .fallback(|| async { "parent" })
            .implicit_head(false)
            .nest("/after", leaf()),
        &[
            ("GET /before/none", "parent"),
            ("HEAD /before/x", "405 [GET]"),
            ("GET /after/none", "parent"),
            ("HEAD /after/x", "405 [GET]"),
            ("GET /own/none", "own"),
            ("GET /own/deep/none", "own"),
            ("HEAD /own/deep/x", "x"),
        ],
    )
    .await;
}

#[tokio::test]
async fn r24_a_template_has_no_slash_twice() {
    let rest = || Router::new().route("/*", any(|| async { "" }));
    let app = Router::new()
        .nest("/a/", rest())
        .nest(
            "/b",
            rest().nest("/c", says("/", "").nest("/", says("/d", ""))),
        )
        .build()
        .unwrap();
    for (line, expected) in [
        ("GET /a/", "/a/*"),
        ("GET /a/x", "/a/*"),
        ("GET /b/x", "/b/*"),
        ("GET /b/c/", "/b/c"),
        ("GET /b/c/d", "/b/c/d"),
    ] {
        assert_eq!(
            template(&app, line).await.as_deref(),
            Some(expected),
            "{line}"
        );
    }
}

#[tokio::test]
async fn r25_the_innermost_of_equal_names_is_meant() {
    let id =
        |params: Params| async move { format!("{:?} {:?}", params.get("id"), params.get("*")) };
    let sub = Router::new()
        .route("/x/{id}", get(id))
        .route("/y", get(id))
        .route("/z/*", get(id))
        .route("/all/{b}", get(all));
    check(
        Router::new().nest("/{id}", sub),
        &[
            ("GET /1/x/2", r#"Some("2") None"#),
            ("GET /1/y", r#"Some("1") None"#),
            ("GET /1/z/r/s", r#"Some("1") Some("r/s")"#),
            ("GET /1/all/2", r#"{"id": "1", "b": "2"}"#),
        ],
    )
    .await;
}

#[test]
fn r26_a_mount_is_found_by_what_is_in_it() {
    let sub = Router::new().route("/x", put(|| async {}));
    let app = Router::<Body>::new()
        .nest("/empty", sub)
        .nest("/whole", says("/", "whole"))
        .build()
        .unwrap();
    for path in ["/empty", "/empty/"] {
        assert!(matches!(app.find(&Method::GET, path), Found::NotFound));
    }
    let found = app.find(&Method::GET, "/empty/x");
    assert!(matches!(found, Found::MethodNotAllowed { allow } if allow == "PUT"));
    for path in ["/whole", "/whole/"] {
        let found = app.find(&Method::HEAD, path);
        assert_eq!(found.route().unwrap().template(), "/whole");
    }
}

#[test]
fn r27_all_faults_come_at_once() {
    let nested = says("/{a}{b}", "").route("/x", get(|| async {}).get(|| async {}));
    let errors = says("/{open", "")
        .nest("no-slash", nested)
        .merge(says("", ""))
        .build()
        .unwrap_err();
    assert_eq!(errors.iter().len(), 5, "{errors}");
}
