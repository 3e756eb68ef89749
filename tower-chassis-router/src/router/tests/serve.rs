//! Methods, 404 and 405, bodies of any kind, the matched route.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{Body, Carrier, invocation::MatchedRoute};

use super::{ask, check, read, request, template};
use crate::{
    MethodRouter, Params, Router, any, delete, get, get_service, head, on, options, patch, post,
    put,
};

#[tokio::test]
async fn each_method_has_its_function() {
    let all = get(|| async { "get" })
        .post(|| async { "post" })
        .put(|| async { "put" })
        .delete(|| async { "delete" })
        .patch(|| async { "patch" })
        .head(|| async { "head" })
        .options(|| async { "options" })
        .on(Method::from_bytes(b"PURGE").unwrap(), || async { "purge" });
    let router = Router::new()
        .route("/all", all)
        .route("/one", get(|| async { "get" }))
        .route("/one", post(|| async { "post" }))
        .route("/any", any(|| async { "any" }).get(|| async { "get" }))
        .route("/none", MethodRouter::new())
        .route("/put", put(|| async { "put" }))
        .route("/delete", delete(|| async { "delete" }))
        .route("/patch", patch(|| async { "patch" }))
        .route("/head", head(|| async { "head" }))
        .route("/options", options(|| async { "options" }))
        .route("/trace", on(Method::TRACE, || async { "trace" }));
    check(
        router,
        &[
            ("GET /all", "get"),
            ("POST /all", "post"),
            ("PUT /all", "put"),
            ("DELETE /all", "delete"),
            ("PATCH /all", "patch"),
            ("HEAD /all", "head"),
            ("OPTIONS /all", "options"),
            ("PURGE /all", "purge"),
            (
                "TRACE /all",
                "405 [DELETE, GET, HEAD, OPTIONS, PATCH, POST, PURGE, PUT]",
            ),
            ("GET /one", "get"),
            ("HEAD /one", "get"),
            ("POST /one", "post"),
            ("PUT /one", "405 [GET, HEAD, POST]"),
            ("OPTIONS /one", "405 [GET, HEAD, POST]"),
            ("GET /any", "get"),
            ("HEAD /any", "get"),
            ("BREW /any", "any"),
            ("PUT /put", "put"),
            ("DELETE /delete", "delete"),
            ("PATCH /patch", "patch"),
            ("HEAD /head", "head"),
            ("GET /none", "404"),
            ("GET /head", "405 [HEAD]"),
            ("OPTIONS /options", "options"),
            ("TRACE /trace", "trace"),
            ("GET /one/", "404"),
            ("GET /", "404"),
            ("BREW /nowhere", "404"),
        ],
    )
    .await;
}

#[tokio::test]
async fn strict_head_is_a_choice() {
    let sub = || Router::new().route("/a", get(|| async { "a" }));
    check(
        sub()
            .implicit_head(false)
            .nest("/inherits", sub())
            .nest("/own", sub().implicit_head(true)),
        &[
            ("HEAD /a", "405 [GET]"),
            ("HEAD /inherits/a", "405 [GET]"),
            ("HEAD /own/a", "a"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_is_no_path_is_not_found() {
    let app = Router::new()
        .route("/*", any(|| async { "all" }))
        .build()
        .unwrap();
    assert_eq!(ask(&app, "OPTIONS *").await, "404");
    assert_eq!(ask(&app, "CONNECT example.org:443").await, "404");
    assert_eq!(ask(&app, "GET http://example.org").await, "all");
}

#[tokio::test]
async fn what_handlers_return_is_an_answer() {
    let router = Router::<Body>::new()
        .route("/status", get(|| async { StatusCode::IM_A_TEAPOT }))
        .route("/pair", get(|| async { (StatusCode::CREATED, "made") }))
        .route("/string", get(|| async { String::from("owned") }))
        .route("/bytes", get(|| async { Bytes::from_static(b"bytes") }))
        .route("/unit", get(|| async {}))
        .route("/body", get(|| async { Body::full("body") }))
        .route(
            "/full",
            get(|| async { Response::new(Full::new(Bytes::from_static(b"full"))) }),
        )
        .route("/ok", get(|| async { Ok::<_, StatusCode>("fine") }))
        .route(
            "/err",
            get(|| async { Err::<&str, _>((StatusCode::CONFLICT, "no")) }),
        )
        .route("/never", get(|| async { Ok::<_, Infallible>("never") }));
    check(
        router,
        &[
            ("GET /status", "418"),
            ("GET /pair", "201 made"),
            ("GET /string", "owned"),
            ("GET /bytes", "bytes"),
            ("GET /unit", ""),
            ("GET /body", "body"),
            ("GET /full", "full"),
            ("GET /ok", "fine"),
            ("GET /err", "409 no"),
            ("GET /never", "never"),
        ],
    )
    .await;
}

#[tokio::test]
async fn text_has_a_content_type() {
    let app = Router::new()
        .route("/", get(|| async { "text" }))
        .build()
        .unwrap();
    let response = app.oneshot(request("GET /")).await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
}

#[tokio::test]
async fn the_default_405_can_be_replaced_and_keeps_its_allow() {
    let router = Router::new()
        .route("/a", post(|| async { "a" }))
        .fallback(|req: Request<Body>| async move {
            (StatusCode::NOT_FOUND, format!("no {}", req.uri().path()))
        })
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "not so") });
    check(
        router,
        &[("GET /a", "405 not so [POST]"), ("GET /b", "404 no /b")],
    )
    .await;
}

#[tokio::test]
async fn services_serve_routes() {
    let echo = service_fn(|req: Request<Body>| async move {
        let params = req
            .extensions()
            .get::<Params>()
            .map(|params| format!("{params:?}"));
        Ok::<_, Infallible>(Response::new(Body::full(format!(
            "{} {params:?}",
            req.uri()
        ))))
    });
    check(
        Router::new()
            .route("/plain", get_service(echo))
            .route("/users/{id}", get_service(echo))
            .route_service("/files/*", echo)
            .fallback_service(echo),
        &[
            ("GET /plain?q", "/plain?q None"),
            ("GET /users/7", r#"/users/7 Some("{\"id\": \"7\"}")"#),
            ("PUT /files/a/b", r#"/files/a/b Some("{\"*\": \"a/b\"}")"#),
            ("PUT /plain", "405 [GET, HEAD]"),
            ("GET /x", "/x None"),
        ],
    )
    .await;
}

/// A service that is ready on its third poll only, and that panics if it is called before.
#[derive(Clone)]
struct Slow(u8);

impl Service<Request<Body>> for Slow {
    type Response = &'static str;
    type Error = Infallible;
    type Future = std::future::Ready<Result<&'static str, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.0 == 2 {
            return Poll::Ready(Ok(()));
        }
        self.0 += 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        assert_eq!(self.0, 2, "called before it was ready");
        std::future::ready(Ok("ready"))
    }
}

#[tokio::test]
async fn the_clone_that_was_readied_is_called() {
    check(
        Router::new()
            .route_service("/", Slow(0))
            .nest_service("/sub", Slow(0)),
        &[("GET /", "ready"), ("GET /sub", "ready")],
    )
    .await;
}

/// A body as a framework would bring it: neither ours nor hyper's, and not `Sync`.
struct OwnBody(std::cell::Cell<u8>);

impl http_body::Body for OwnBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }
}

#[tokio::test]
async fn request_bodies_are_of_any_kind() {
    fn app<B: Send + 'static>() -> crate::RouteService<B> {
        let sub = Router::new().route(
            "/{id}",
            get(|_: Request<B>, params: Params| async move {
                params
                    .get("id")
                    .map(|id| id.into_owned())
                    .unwrap_or_default()
            }),
        );
        Router::new()
            .nest("/sub", sub)
            .with(tower::layer::util::Identity::new(), |router| {
                router.route("/", get(|| async { "root" }))
            })
            .build()
            .unwrap()
    }
    let own = app::<OwnBody>()
        .oneshot(
            Request::get("/sub/7")
                .body(OwnBody(std::cell::Cell::new(0)))
                .unwrap(),
        )
        .await;
    assert_eq!(read(own.unwrap()).await.1, "7");
    let unit = app::<()>()
        .oneshot(Request::get("/").body(()).unwrap())
        .await;
    assert_eq!(read(unit.unwrap()).await.1, "root");
    let _ = OwnBody(std::cell::Cell::new(1)).0.get();
}

#[tokio::test]
async fn outer_layers_read_the_template() {
    let sub = Router::new()
        .route("/", get(|| async { "" }))
        .route("/users/{id:[0-9]+}", get(|| async { "" }));
    let app = Router::new()
        .route("/", get(|| async { "" }))
        .route("/p/{id}", get(|| async { "" }))
        .route("/p/{slug}", post(|| async { "" }))
        .nest("/api/{tenant}", sub)
        .nest_service(
            "/foreign",
            service_fn(|_: Request<Body>| async { Ok::<_, Infallible>("") }),
        )
        .build()
        .unwrap();
    for (line, expected) in [
        ("GET /", Some("/")),
        ("GET /p/1", Some("/p/{id}")),
        ("POST /p/1", Some("/p/{slug}")),
        ("GET /api/t", Some("/api/{tenant}")),
        ("GET /api/t/", Some("/api/{tenant}")),
        (
            "GET /api/t/users/7",
            Some("/api/{tenant}/users/{id:[0-9]+}"),
        ),
        ("GET /foreign/x/y", Some("/foreign/*")),
        ("GET /api/t/users/x", None),
        ("GET /nowhere", None),
        ("PUT /p/1", None),
    ] {
        assert_eq!(template(&app, line).await.as_deref(), expected, "{line}");
    }
}

#[tokio::test]
async fn the_template_is_known_when_the_call_is_cancelled() {
    let app = Router::new()
        .route("/slow/{id}", get(std::future::pending::<()>))
        .build()
        .unwrap();
    let mut request = request("GET /slow/1");
    let slot = request.invocation_mut().route_slot();
    let call = app.clone().oneshot(request);
    assert!(
        tokio::time::timeout(std::time::Duration::ZERO, call)
            .await
            .is_err()
    );
    let route = slot.get().unwrap();
    assert_eq!((route.template(), route.index()), ("/slow/{id}", 0));
    assert!(std::sync::Arc::ptr_eq(route.table(), app.table().unwrap()));
    let _: &MatchedRoute = route;
}
