//! Nesting, merging, groups, and the order of layers.

use std::convert::Infallible;

use http::{Request, StatusCode};
use tower::{ServiceExt, layer::util::Identity, service_fn, util::MapRequestLayer};
use tower_chassis_core::Body;

use super::{Log, ask, check, template};
use crate::{MatchedTemplate, Params, RouteService, Router, State, get, layered, post};

async fn all(params: Params) -> String {
    let all: Vec<_> = params
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    all.join(" ")
}

#[tokio::test]
async fn a_mount_answers_its_prefix_the_slash_and_all_below() {
    let sub = || {
        Router::new()
            .route("/", get(|| async { "root" }))
            .route("/x", get(|| async { "x" }))
    };
    check(
        Router::new()
            .nest("/a", sub())
            .nest("/slash/", sub())
            .nest("/deep", Router::new().nest("/er", sub())),
        &[
            ("GET /a", "root"),
            ("GET /a/", "root"),
            ("GET /a?q", "root"),
            ("GET /a/x", "x"),
            ("GET /a/x/", "404"),
            ("GET /ax", "404"),
            ("GET /slash", "404"),
            ("GET /slash/", "root"),
            ("GET /slash/x", "x"),
            ("GET /deep/er", "root"),
            ("GET /deep/er/", "root"),
            ("GET /deep/er/x", "x"),
            ("GET /deep", "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_mount_at_the_root_takes_what_is_left() {
    let sub = Router::new()
        .route("/", get(|| async { "root" }))
        .route("/x", get(|| async { "x" }));
    let inner = Router::new().nest(
        "/",
        Router::new()
            .route("/", get(|| async { "inner" }))
            .route("/y", get(all)),
    );
    check(
        Router::new()
            .route("/a", get(|| async { "a" }))
            .nest("/", sub)
            .nest("/in", inner),
        &[
            ("GET /", "root"),
            ("GET /x", "x"),
            ("GET /a", "a"),
            ("GET /in", "inner"),
            ("GET /in/", "inner"),
            ("GET /in/y", ""),
        ],
    )
    .await;
}

#[tokio::test]
async fn inside_of_a_mount_there_is_no_way_back() {
    let sub = Router::new().route("/x", get(|| async { "sub" }));
    check(
        Router::new()
            .route("/a/x/{id}", get(|| async { "parent" }))
            .route("/a/special", get(|| async { "parent" }))
            .route("/a/y", post(|| async { "parent" }))
            .route("/*", get(|| async { "rest" }))
            .nest("/a", sub),
        &[
            ("GET /a/x", "sub"),
            // More specific than `/a/*`.
            ("GET /a/special", "parent"),
            ("GET /a/x/1", "parent"),
            // Committed: the parent's `/*` is not asked again, its POST is nobody's business (chi
            // answers 405).
            ("GET /a/none", "404"),
            ("GET /a/y", "404"),
            ("GET /b", "rest"),
        ],
    )
    .await;
}

#[tokio::test]
async fn captures_add_up_and_the_innermost_name_wins() {
    let inner = Router::new().route("/{id}/{x}", get(all)).route(
        "/last/{id}",
        get(|params: Params| async move { params.get("id").unwrap_or_default().into_owned() }),
    );
    let middle = Router::new().nest("/m-{y}", inner);
    check(
        Router::new().nest("/{id}", middle),
        &[
            ("GET /1/m-2/3/4", "id=1 y=2 id=3 x=4"),
            ("GET /1/m-2/last/9", "9"),
        ],
    )
    .await;
}

#[tokio::test]
async fn fallbacks_are_inherited() {
    let leaf = || Router::new().route("/x", get(|| async { "x" }));
    let own = leaf()
        .fallback(|| async { "own 404" })
        .nest("/below", leaf());
    let router = Router::new()
        .nest("/inherits", leaf())
        .nest("/own", own)
        .nest("/t/{tenant}", leaf())
        .fallback(|params: Params| async move {
            format!("parent 404 {}", params.get("tenant").unwrap_or_default())
        })
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "parent 405") });
    check(
        router,
        &[
            ("GET /inherits/none", "parent 404 "),
            ("PUT /inherits/x", "405 parent 405 [GET, HEAD]"),
            ("GET /own/none", "own 404"),
            ("GET /own/below/none", "own 404"),
            ("PUT /own/below/x", "405 parent 405 [GET, HEAD]"),
            ("GET /t/acme/none", "parent 404 acme"),
            ("GET /none", "parent 404 "),
        ],
    )
    .await;
}

#[tokio::test]
async fn foreign_services_see_the_rest_alone() {
    let echo = service_fn(|req: Request<Body>| async move {
        let params = req
            .extensions()
            .get::<Params>()
            .map(|params| params.iter().count());
        Ok::<_, Infallible>(format!("{} {params:?}", req.uri()))
    });
    check(
        Router::new()
            .nest_service("/a", echo)
            .nest_service("/t/{tenant}", echo)
            .nest("/sub", Router::new().nest_service("/b", echo))
            .with(Identity::new(), |router| {
                router.nest_service("/layered", echo)
            })
            .nest_service("/slash/", echo),
        &[
            ("GET /a", "/ None"),
            ("GET /a?q=1", "/?q=1 None"),
            ("GET /a/", "/ None"),
            ("GET /a/b/c?q=1", "/b/c?q=1 None"),
            ("GET /a//b", "//b None"),
            ("GET /a/%2Fb%20", "/%2Fb%20 None"),
            ("PUT http://example.org/a/b", "http://example.org/b None"),
            ("GET /t/acme/x", "/x Some(1)"),
            ("GET /sub/b/x", "/x None"),
            ("GET /layered/x?y", "/x?y None"),
            ("GET /slash/x", "/x None"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_built_router_is_a_foreign_service_too() {
    let inner: RouteService = Router::new().route("/{x}", get(all)).build().unwrap();
    let app = Router::new().nest_service("/v/{v}", inner).build().unwrap();
    assert_eq!(ask(&app, "GET /v/1/a").await, "x=a");
    assert_eq!(
        template(&app, "GET /v/1/a").await.as_deref(),
        Some("/v/{v}/*")
    );
}

#[tokio::test]
async fn merged_routes_are_ones_own() {
    let other = Router::new()
        .route("/b", get(|| async { "b" }))
        .fallback(|| async { "fallback" });
    let router = Router::new()
        .route("/a", get(|| async { "a" }))
        .merge(other)
        .group(|router| router.route("/c", get(|| async { "c" })));
    check(
        router,
        &[
            ("GET /a", "a"),
            ("GET /b", "b"),
            ("GET /c", "c"),
            ("GET /d", "fallback"),
        ],
    )
    .await;
}

#[tokio::test]
async fn layers_run_from_the_outside_in() {
    let log = Log::default();
    let sub = Router::new()
        .route("/x", get(|| async { "x" }))
        .route_layer(log.note("sub-route"))
        .layer(log.note("sub"));
    let merged = Router::new()
        .route("/merged", get(|| async { "merged" }))
        .layer(log.note("merged"));
    let app = Router::new()
        .layer(log.note("inner"))
        .route("/plain", get(|| async { "plain" }))
        .route_layer(log.note("first"))
        .route_layer(log.note("second"))
        .route("/later", get(|| async { "later" }))
        .with(log.note("with"), |router| {
            router
                .route("/with", get(|| async { "with" }).layer(log.note("method")))
                .with(log.note("within"), |router| {
                    router.route("/within", get(|| async { "within" }))
                })
                .nest("/sub/{id}", sub)
        })
        .merge(merged)
        .layer(log.note("outer"))
        .build()
        .unwrap();
    for (line, expected) in [
        ("GET /plain", "outer inner second first"),
        ("GET /later", "outer inner"),
        ("GET /with", "outer inner with method"),
        ("GET /within", "outer inner with within"),
        ("GET /sub/1/x", "outer inner with sub sub-route"),
        // The whole router of a mount is wrapped, its 404 and 405 too.
        ("GET /sub/1/none", "outer inner with sub"),
        ("PUT /sub/1/x", "outer inner with sub"),
        ("GET /merged", "outer inner merged"),
        ("GET /none", "outer inner"),
        ("PUT /plain", "outer inner"),
    ] {
        ask(&app, line).await;
        assert_eq!(log.take(), expected, "{line}");
    }
}

#[tokio::test]
async fn a_fallback_inside_of_with_has_the_layer_around_it() {
    let log = Log::default();
    let app = Router::new()
        .with(log.note("with"), |router| {
            router.fallback(|| async { "fallback" })
        })
        .nest("/sub", Router::new().route("/x", get(|| async { "x" })))
        .build()
        .unwrap();
    assert_eq!(ask(&app, "GET /none").await, "fallback");
    assert_eq!(log.take(), "with");
    assert_eq!(ask(&app, "GET /sub/none").await, "fallback");
    assert_eq!(log.take(), "with");
    assert_eq!(ask(&app, "GET /sub/x").await, "x");
    assert_eq!(log.take(), "");
}

#[tokio::test]
async fn captures_pass_through_layers() {
    let log = Log::default();
    let sub = Router::new()
        .route("/{b}", get(all))
        .layer(log.note("sub"))
        .route_layer(log.note("route"));
    let app = Router::new()
        .with(log.note("with"), |router| {
            router.nest("/{a}", sub).route("/x/y/{c}", get(all))
        })
        .build()
        .unwrap();
    assert_eq!(ask(&app, "GET /1/2").await, "a=1 b=2");
    assert_eq!(ask(&app, "GET /x/y/3").await, "c=3");
    assert_eq!(
        template(&app, "GET /1/2").await.as_deref(),
        Some("/{a}/{b}")
    );
}

#[tokio::test]
async fn a_layer_of_the_whole_router_may_change_the_path_of_the_match() {
    let rewrite = || {
        MapRequestLayer::new(|mut req: Request<Body>| {
            *req.uri_mut() = "/new".parse().unwrap();
            req
        })
    };
    let app = Router::new()
        .route("/new", get(|| async { "new" }))
        .layer(rewrite())
        .build()
        .unwrap();
    assert_eq!(ask(&app, "GET /old").await, "new");
    // Nor was anything of the path matched by a host, whether it captures something or not.
    for host in ["h.example", "{h}.example"] {
        let router = Router::new()
            .route(
                "/new",
                get(|params: Params| async move { format!("new {params:?}") }),
            )
            .layer(rewrite());
        let app = Router::new().host(host, router).build().unwrap();
        let answer = ask(&app, "GET http://h.example/old").await;
        assert!(answer.starts_with("new {"), "{host}: {answer}");
        assert_eq!(answer.contains("h"), host.contains('{'), "{answer}");
    }
    // Below a mount the search goes on where the prefix ended, whatever the path says by then.
    let sub = Router::new().route("/{x}", get(all)).layer(rewrite());
    let app = Router::new().nest("/sub", sub).build().unwrap();
    assert_eq!(ask(&app, "GET /sub/old").await, "x=old");
}

#[tokio::test]
async fn a_layer_can_answer_by_itself_and_read_params() {
    let guard = tower::layer::layer_fn(|inner: crate::Route<Body>| {
        service_fn(move |req: Request<Body>| {
            let inner = inner.clone();
            async move {
                let blocked = req
                    .extensions()
                    .get::<Params>()
                    .is_some_and(|params| params.raw("id") == Some("0"));
                if blocked {
                    Ok(crate::IntoResponse::into_response(StatusCode::FORBIDDEN))
                } else {
                    inner.oneshot(req).await
                }
            }
        })
    });
    check(
        Router::new().with(guard, |router| router.route("/{id}", get(all))),
        &[("GET /0", "403"), ("GET /1", "id=1")],
    )
    .await;
}

#[tokio::test]
async fn a_handler_can_be_layered_in_its_own_type() {
    #[derive(Clone)]
    struct Shop(&'static str);
    let log = Log::default();
    let handler = |State(shop): State<Shop>, params: Params, template: MatchedTemplate| async move {
        format!("{} {params:?} {template}", shop.0)
    };
    let stack = (log.note("a"), log.note("b"));
    let inner = Router::new()
        .route(
            "/{x}",
            get(layered(stack.clone(), handler)).layer(log.note("erased")),
        )
        .route("/", get(layered(stack.clone(), handler)))
        .with_state(Shop("tea"));
    let foreign: RouteService = inner.build().unwrap();
    let app = Router::new()
        .nest_service("/{y}", foreign)
        .host(
            "{t}.example",
            Router::new()
                .route("/", get(layered(stack, handler)))
                .with_state(Shop("host")),
        )
        .build()
        .unwrap();
    for (line, expected, ran) in [
        ("GET /1/2", r#"tea {"x": "2"} /{x}"#, "erased a b"),
        // What the router around it captured is not its own.
        ("GET /1", "tea {} /", "a b"),
        ("GET http://h.example/", r#"host {"t": "h"} /"#, "a b"),
    ] {
        assert_eq!(ask(&app, line).await, expected);
        assert_eq!(log.take(), ran, "{line}");
    }
    let missing = Router::<Body>::new()
        .route("/", get(layered(log.note("a"), handler)))
        .build();
    assert!(
        missing
            .unwrap_err()
            .iter()
            .all(crate::BuildError::is_missing_state)
    );
}

/// As everywhere: a layer that holds a limit would have one for each request.
#[tokio::test]
async fn a_layer_of_a_handler_is_made_once_also_inside_of_another() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };
    let made = Arc::new(AtomicUsize::new(0));
    let log = Log::default();
    let counted = {
        let (made, note) = (Arc::clone(&made), log.note("inner"));
        tower::layer::layer_fn(move |inner| {
            made.fetch_add(1, Ordering::Relaxed);
            tower::Layer::layer(&note, inner)
        })
    };
    let handler = layered(log.note("outer"), layered(counted, all));
    let app = Router::new()
        .route("/a/{x}", get(handler.clone()))
        .route("/b/{y}", get(handler))
        .build()
        .unwrap();
    for (line, text) in [
        ("GET /a/1", "x=1"),
        ("GET /b/2", "y=2"),
        ("GET /a/3", "x=3"),
    ] {
        assert_eq!(ask(&app, line).await, text);
        assert_eq!(log.take(), "outer inner");
    }
    assert_eq!(made.load(Ordering::Relaxed), 2, "once for each route");
}

#[test]
fn a_layered_handler_is_listed_with_its_layers() {
    let log = Log::default();
    let router = Router::<Body>::new().route(
        "/",
        get(layered(
            (log.note("a"), log.note("b")),
            layered(MapRequestLayer::new(|req: Request<Body>| req), all),
        ))
        .layer(crate::named("outer", log.note("c"))),
    );
    let route = &router.routes()[0];
    let layers: Vec<_> = route.layers().collect();
    assert_eq!(layers, ["outer", "Note", "Note", "MapRequestLayer"]);
    assert!(
        route.handler().ends_with("compose::all"),
        "{}",
        route.handler()
    );
}

/// A service that passes a request on to the router again has what it captured in the request, and the next
/// route does not take it for its own.
#[tokio::test]
async fn a_request_can_be_sent_through_the_router_again() {
    let log = Log::default();
    let swap = crate::SwapRouter::<Body>::new(RouteService::default());
    let again = swap.clone();
    let forward = service_fn(move |mut req: Request<Body>| {
        *req.uri_mut() = match req.uri().query() {
            Some("layered") => "/layered",
            Some("sub") => "/sub",
            _ => "/plain",
        }
        .parse()
        .unwrap();
        again.clone().oneshot(req)
    });
    let sub = Router::new().route("/", get(all)).layer(log.note("sub"));
    let app = Router::new()
        .with(log.note("with"), |router| {
            router.route_service("/forward/{x}", forward)
        })
        .route("/plain", get(all).layer(log.note("plain")))
        .route("/layered", get(layered(log.note("own"), all)))
        .nest("/sub", sub)
        .layer(log.note("whole"))
        .build()
        .unwrap();
    swap.swap(app.clone());
    for (line, ran) in [
        ("GET /forward/1", "whole with whole plain"),
        ("GET /forward/1?layered", "whole with whole own"),
        ("GET /forward/1?sub", "whole with whole sub"),
    ] {
        assert_eq!(ask(&app, line).await, "", "{line}");
        assert_eq!(log.take(), ran, "{line}");
    }
}

/// So does a layer, and what stands around the next route does not take it for its own either: neither the captures
/// nor where the path went on.
#[tokio::test]
async fn a_layer_can_send_a_request_through_the_router_again() {
    let log = Log::default();
    let swap = crate::SwapRouter::<Body>::new(RouteService::default());
    let again = swap.clone();
    let forward = tower::layer::layer_fn(move |_: crate::Route<Body>| {
        let again = again.clone();
        service_fn(move |mut req: Request<Body>| {
            let path = format!("/{}", req.uri().query().unwrap_or_default());
            *req.uri_mut() = path.parse().unwrap();
            again.clone().oneshot(req)
        })
    });
    let service = service_fn(|req: Request<Body>| async move {
        let params = req.extensions().get::<Params>();
        Ok::<_, Infallible>(format!("{:?}", params.map(Params::len)))
    });
    let app = Router::new()
        .with(forward, |router| {
            router
                .route("/forward/{x}", get(all))
                .nest("/mount", Router::new())
        })
        .route("/plain", get(all).layer(log.note("plain")))
        .route("/own", get(layered(log.note("own"), all)))
        .route_service("/service", service)
        .nest(
            "/sub",
            Router::new().route("/", get(all)).layer(log.note("sub")),
        )
        .layer(log.note("whole"))
        .build()
        .unwrap();
    swap.swap(app.clone());
    for from in ["/forward/1", "/mount/1", "/mount"] {
        for (to, text, ran) in [
            ("plain", "", "whole whole plain"),
            ("own", "", "whole whole own"),
            ("sub", "", "whole whole sub"),
            ("service", "None", "whole whole"),
        ] {
            assert_eq!(ask(&app, &format!("GET {from}?{to}")).await, text);
            assert_eq!(log.take(), ran, "{from} {to}");
        }
    }
}
