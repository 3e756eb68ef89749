//! What a router tells about itself.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Method, Request};
use tower::{ServiceBuilder, ServiceExt, layer::layer_fn, service_fn};
use tower_chassis_core::Body;

use super::{Log, Note, ask, request};
use crate::{Found, Route, RouteInfo, Router, any, get, named, post};

fn app(log: &Log) -> Router {
    let service = || service_fn(|_: Request<Body>| async { Ok::<_, Infallible>("") });
    let stack = ServiceBuilder::new()
        .layer(log.note("outer"))
        .layer(log.note("inner"));
    let sub = Router::new()
        .route(
            "/{id}",
            get(|| async {})
                .layer(named("method", log.note("method")))
                .post(|| async {}),
        )
        .layer(named("sub", log.note("sub")));
    Router::new()
        .route("/", get(|| async {}).name("home"))
        .route_layer(named("route", log.note("route")))
        .with(named("with", log.note("with")), |router| {
            router
                .nest("/sub", sub)
                .nest_service("/foreign", service())
                .route_service("/any", service())
        })
        .with((log.note("a"), named_tuple(log)), |router| {
            router.route("/tuple", post(|| async {}))
        })
        .layer(stack)
        .layer(named("whole", log.note("whole")))
}

fn named_tuple(log: &Log) -> (Note, Note) {
    (log.note("b"), log.note("c"))
}

#[test]
fn a_list_names_the_layers_in_run_order() {
    let log = Log::default();
    let expected = [
        "GET / [whole Note Note route]",
        "GET /sub/{id} [whole Note Note with sub method]",
        "POST /sub/{id} [whole Note Note with sub]",
        "* /foreign/* [whole Note Note with]",
        "* /any [whole Note Note with]",
        "POST /tuple [whole Note Note Note Note Note]",
    ];
    let text = |routes: &[RouteInfo]| -> Vec<String> {
        let line = |route: &RouteInfo| {
            let layers: Vec<_> = route.layers().collect();
            format!("{route} [{}]", layers.join(" "))
        };
        routes.iter().map(line).collect()
    };
    assert_eq!(text(&app(&log).routes()), expected);
    let built = app(&log).build().unwrap();
    assert_eq!(text(built.routes()), expected);
    assert_eq!(built.routes(), app(&log).routes());
    let home = &built.routes()[0];
    assert_eq!((home.name(), home.guards().len()), (Some("home"), 0));
    assert!(home.location().file().ends_with("introspect.rs"));
    assert!(
        home.handler().contains("introspect::app"),
        "{}",
        home.handler()
    );
}

#[tokio::test]
async fn the_list_is_what_runs() {
    let log = Log::default();
    let app = app(&log).build().unwrap();
    for (line, expected) in [
        ("GET /", "whole outer inner route"),
        ("GET /sub/1", "whole outer inner with sub method"),
        ("POST /tuple", "whole outer inner a b c"),
        ("GET /foreign/x", "whole outer inner with"),
    ] {
        ask(&app, line).await;
        assert_eq!(log.take(), expected, "{line}");
        let (method, path) = line.split_once(' ').unwrap();
        let found = app.find(&method.parse().unwrap(), path);
        let route = found.route().unwrap();
        assert_eq!(route.layers().len(), expected.split(' ').count(), "{line}");
        assert_eq!(log.take(), "", "nothing runs");
    }
}

#[tokio::test]
async fn find_knows_what_a_request_would_get() {
    let sub = Router::new().route("/x/{b}", get(|| async {}).put(|| async {}));
    let app = Router::<Body>::new()
        .route("/a", any(|| async {}))
        .nest("/sub/{a}", sub)
        .build()
        .unwrap();
    let Found::Route { route, params } = app.find(&Method::HEAD, "/sub/1/x/2%20") else {
        panic!()
    };
    assert_eq!(route.to_string(), "GET /sub/{a}/x/{b}");
    assert_eq!(format!("{params:?}"), r#"{"a": "1", "b": "2%20"}"#);
    assert!(app.find(&Method::TRACE, "/a").route().is_some());
    assert!(
        matches!(app.find(&Method::POST, "/sub/1/x/2"), Found::MethodNotAllowed { allow } if allow == "GET, HEAD, PUT")
    );
    for path in ["/sub/1/y", "/sub", "", "no path", "/a b"] {
        assert!(
            matches!(app.find(&Method::GET, path), Found::NotFound),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_layer_can_be_made_for_each_route() {
    let made = Arc::new(Mutex::new(Vec::new()));
    let log = Log::default();
    let per_route = {
        let (made, log) = (Arc::clone(&made), log.clone());
        move |info: &RouteInfo| {
            made.lock()
                .unwrap()
                .push(format!("{info} {}", info.name().unwrap_or("-")));
            let name: &'static str = info.template().to_owned().leak();
            let note = log.note(name);
            layer_fn(move |route: Route<Body>| tower::Layer::layer(&note, route))
        }
    };
    let app = Router::<Body>::new()
        .with_route(per_route, |router| {
            router
                .route("/a", get(|| async {}).post(|| async {}).name("a"))
                .nest(
                    "/sub",
                    Router::new()
                        .route("/{x}", get(|| async {}))
                        .host("h", Router::new().route("/h", get(|| async {}))),
                )
                .nest_service(
                    "/f",
                    service_fn(|_: Request<Body>| async { Ok::<_, Infallible>("") }),
                )
                .fallback(|| async { "fallback" })
        })
        .route("/without", get(|| async {}))
        .build()
        .unwrap();
    assert_eq!(
        *made.lock().unwrap(),
        [
            "GET /a a",
            "POST /a a",
            "GET /sub/{x} -",
            "GET /sub/h -",
            "* /f/* -"
        ]
    );
    for (line, expected) in [
        ("GET /a", "/a"),
        ("POST /a", "/a"),
        ("GET /sub/1", "/sub/{x}"),
        ("GET http://h/sub/h", "/sub/h"),
        ("GET /f/x", "/f/*"),
        ("GET /without", ""),
        ("GET /none", ""),
    ] {
        let _ = app.clone().oneshot(request(line)).await;
        assert_eq!(log.take(), expected, "{line}");
    }
    assert_eq!(made.lock().unwrap().len(), 5, "layers are made once");
    assert!(app.routes()[0].layers().eq(["LayerFn"]));
}

#[test]
fn a_layer_for_each_route_is_around_what_its_closure_adds() {
    let log = Log::default();
    let note = |name| named(name, log.note(name));
    let nested = Router::<Body>::new()
        .route("/x", get(|| async {}))
        .layer(note("nested"));
    let router = Router::new().with_route(
        |_| layer_fn(|route: Route<Body>| route),
        |router| {
            router
                .route("/a", get(|| async {}).layer(note("method")))
                .nest("/n", nested)
                .layer(note("closure"))
        },
    );
    let lists: Vec<Vec<_>> = router
        .routes()
        .iter()
        .map(|route| route.layers().map(str::to_owned).collect())
        .collect();
    assert_eq!(lists[0], ["LayerFn", "closure", "method"]);
    assert_eq!(lists[1], ["closure", "nested", "LayerFn"]);
}
