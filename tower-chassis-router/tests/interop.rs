//! Our routers beside those of others, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{
    Form, Json,
    extract::{FromRequestParts, Query, State, WebSocketUpgrade, ws},
    response::IntoResponse as _,
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tower::{Service, ServiceExt};
use tower_chassis_core::{Body, BoxError};
use tower_chassis_router::{
    MatchedTemplate, Params, Path, PathError, RawPathParams, RouteService, Router, SwapRouter,
    TrailingSlash, axum_handler, get, post,
};

/// Serves HTTP/1 and HTTP/2 on a port of its own.
async fn serve<S>(app: S) -> SocketAddr
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let app = TowerToHyperService::new(app.clone());
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder
                    .serve_connection_with_upgrades(TokioIo::new(stream), app)
                    .await;
            });
        }
    });
    address
}

#[derive(Clone, Copy, Debug)]
enum Http {
    One,
    Two,
}

/// Status, template header and text of an answer.
async fn ask(address: SocketAddr, http: Http, line: &str, body: &str) -> String {
    let (method, target) = line.split_once(' ').unwrap();
    let mut request = Request::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    *request.uri_mut() = format!("http://{address}{target}").parse().unwrap();
    let kind = match body.as_bytes().first() {
        Some(b'{') => "application/json",
        _ => "application/x-www-form-urlencoded",
    };
    request
        .headers_mut()
        .insert(CONTENT_TYPE, kind.parse().unwrap());
    request
        .headers_mut()
        .insert("host", "127.0.0.1".parse().unwrap());
    let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let response = match http {
        Http::One => {
            *request.uri_mut() = target.parse().unwrap();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
        Http::Two => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io)
                    .await
                    .unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
    };
    let status = response.status().as_u16();
    let text = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8_lossy(&text).into_owned();
    match status {
        200 => text,
        _ => format!("{status} {text}"),
    }
}

async fn check(address: SocketAddr, cases: &[(&str, &str, &str)]) {
    for http in [Http::One, Http::Two] {
        for (line, body, expected) in cases {
            assert_eq!(
                ask(address, http, line, body).await,
                *expected,
                "{line} {http:?}"
            );
        }
    }
}

#[derive(Clone)]
struct Shop(&'static str);

#[derive(serde::Deserialize)]
struct Page {
    page: u32,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Item {
    name: String,
}

#[derive(serde::Deserialize)]
struct Place {
    kind: String,
    id: u64,
}

async fn item(
    State(shop): State<Shop>,
    method: Method,
    Path(Place { kind, id }): Path<Place>,
    template: MatchedTemplate,
    Query(page): Query<Page>,
    Json(item): Json<Item>,
) -> (StatusCode, Json<Item>) {
    let name = format!(
        "{method} {} {kind} {id} {template} {} {}",
        shop.0, page.page, item.name
    );
    (StatusCode::CREATED, Json(Item { name }))
}

async fn form(Path((kind, id)): Path<(String, u64)>, Form(item): Form<Item>) -> String {
    format!("{kind} {id} {}", item.name)
}

async fn raw(params: RawPathParams, typed: Params) -> String {
    let raw: Vec<_> = params
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{} {:?}", raw.join("&"), typed.get("kind"))
}

/// What axum's own extractor says on a route that is not axum's.
async fn theirs(
    path: Result<axum::extract::Path<String>, axum::extract::rejection::PathRejection>,
) -> axum::response::Response {
    path.map_or_else(
        |refused| refused.into_response(),
        |path| path.0.into_response(),
    )
}

async fn echo(upgrade: WebSocketUpgrade, Path(room): Path<String>) -> axum::response::Response {
    upgrade.on_upgrade(async move |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if let ws::Message::Text(text) = message {
                let text = format!("{room}: {text}");
                if socket.send(ws::Message::text(text)).await.is_err() {
                    return;
                }
            }
        }
    })
}

fn ours<B>() -> Router<B>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let shop = Router::new()
        .route(
            "/{kind}/{id:[0-9]+}",
            post(axum_handler(item).with_state(Shop("tea"))).put(axum_handler(form)),
        )
        .route("/raw/{kind}", get(axum_handler(raw)))
        .route("/theirs/{x}", get(axum_handler(theirs)))
        .route("/ws/{room}", get(axum_handler(echo)))
        .route(
            "/path/{n}",
            get(|Path(n): Path<u8>| async move { n.to_string() }),
        )
        .route("/nothing", get(axum_handler(|| async { "nothing" })))
        .layer(tower::layer::util::Identity::new());
    Router::new().nest("/shops/{shop}", shop)
}

#[tokio::test]
async fn handlers_of_axum_run_on_our_routes() {
    let address = serve(ours().build().unwrap()).await;
    check(
        address,
        &[
            (
                "POST /shops/1/green/7?page=3",
                r#"{"name":"sencha"}"#,
                r#"201 {"name":"POST tea green 7 /shops/{shop}/{kind}/{id:[0-9]+} 3 sencha"}"#,
            ),
            (
                "PUT /shops/1/green/7",
                "name=sencha",
                "500 the route captures 3 values, 2 are wanted",
            ),
            (
                "GET /shops/1/raw/a%20b",
                "",
                r#"shop=1&kind=a%20b Some("a b")"#,
            ),
            (
                "GET /shops/1/theirs/x",
                "",
                "500 No paths parameters found for matched route",
            ),
            (
                "GET /shops/1/path/7",
                "",
                "500 the route captures 2 values, 1 is wanted",
            ),
            ("GET /shops/1/nothing", "", "nothing"),
            ("GET /shops/1/green/x", "", "404 "),
        ],
    )
    .await;
    let refused = ask(address, Http::One, "POST /shops/1/green/7?page=x", "{}").await;
    assert!(
        refused.starts_with("400 Failed to deserialize query string"),
        "{refused}"
    );
    let refused = ask(address, Http::One, "POST /shops/1/green/7?page=1", "{").await;
    assert!(refused.starts_with("400 Failed to parse"), "{refused}");
}

#[tokio::test]
async fn a_web_socket_is_upgraded_on_our_route() {
    let router: Router<Incoming> = Router::new().route("/ws/{room}", get(axum_handler(echo)));
    let address = serve(router.build().unwrap()).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let url = format!("ws://{address}/ws/lobby");
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    for text in ["one", "two"] {
        socket.send(text.into()).await.unwrap();
        let answer = socket.next().await.unwrap().unwrap();
        assert_eq!(answer.to_text().unwrap(), format!("lobby: {text}"));
    }
}

fn theirs_app() -> axum::Router {
    axum::Router::new()
        .route(
            "/hello/{name}",
            axum::routing::get(
                async |axum::extract::Path(name): axum::extract::Path<String>,
                       Query(page): Query<Page>| {
                    format!("hello {name} {}", page.page)
                },
            ),
        )
        .route("/echo", axum::routing::post(async |text: String| text))
        .with_state(())
}

#[tokio::test]
async fn routers_of_axum_are_mounted_in_ours() {
    let router = Router::new()
        .mount_axum("/ax", theirs_app())
        .nest("/deep/{x}", Router::new().mount_axum("/ax", theirs_app()))
        .route("/own", get(|| async { "own" }));
    check(
        serve(router.build().unwrap()).await,
        &[
            ("GET /ax/hello/bob?page=2", "", "hello bob 2"),
            ("POST /ax/echo", "body", "body"),
            ("GET /deep/1/ax/hello/bob?page=3", "", "hello bob 3"),
            ("GET /ax/none", "", "404 "),
            ("GET /ax/echo", "", "405 "),
            ("GET /own", "", "own"),
        ],
    )
    .await;
}

async fn serve_axum(app: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

#[tokio::test]
async fn our_routers_are_nested_in_axums() {
    let nested: RouteService<axum::body::Body> = Router::new()
        .route(
            "/{x}",
            get(|params: Params| async move { format!("{params:?}") }),
        )
        .route(
            "/a/b/",
            post(|body: Request<axum::body::Body>| async move {
                body.into_body()
                    .collect()
                    .await
                    .map(|body| body.to_bytes())
                    .unwrap_or_default()
            }),
        )
        .trailing_slash(TrailingSlash::Redirect)
        .build()
        .unwrap();
    let fallback = ours().route(
        "/{*rest}",
        get(|Path(rest): Path<String>| async move { rest }),
    );
    let app = theirs_app()
        .nest_service("/ours", nested)
        .fallback_service(fallback.build().unwrap());
    check(
        serve_axum(app).await,
        &[
            ("GET /hello/bob?page=2", "", "hello bob 2"),
            ("GET /ours/1", "", r#"{"x": "1"}"#),
            ("POST /ours/a/b/", "body", "body"),
            // Relative: right in spite of the prefix that axum took away.
            ("POST /ours/a/b", "", "308 "),
            ("PUT /ours/1", "", "405 "),
            ("GET /none/of/axum", "", "none/of/axum"),
            ("GET /shops/1/raw/x", "", r#"shop=1&kind=x Some("x")"#),
        ],
    )
    .await;
}

#[tokio::test]
async fn grpc_is_served_beside() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let (reporter, health) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("shop", tonic_health::ServingStatus::Serving)
        .await;
    let routes = tonic::service::Routes::new(health.clone());
    let router = Router::new()
        .route("/", get(|| async { "http" }))
        .mount_grpc("/grpc.health.v1.Health", health)
        .nest("/all", Router::new().route("/x", get(|| async { "x" })))
        .mount_grpc("/", routes);
    let address = serve(router.build().unwrap()).await;
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = HealthClient::new(channel);
    let request = |service: &str| HealthCheckRequest {
        service: service.into(),
    };
    let answer = client.check(request("shop")).await.unwrap().into_inner();
    assert_eq!(answer.status, 1);
    // The status is in the trailers of an answer without a body.
    let refused = client.check(request("none")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    let mut stream = client.watch(request("shop")).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    drop(stream);
    check(address, &[("GET /", "", "http"), ("GET /all/x", "", "x")]).await;
}

/// One swap after the other, while clients keep asking over their connections: each request is answered by
/// exactly one router, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_swaps_under_load_lose_no_request() {
    fn version(version: u32) -> RouteService<Incoming> {
        let nested = Router::new().route("/{x}", get(move || async move { version.to_string() }));
        let slow = get(move |req: Request<Incoming>| async move {
            // Still at work when the next routers are in.
            tokio::time::sleep(Duration::from_millis(2)).await;
            let body = req
                .into_body()
                .collect()
                .await
                .map(|body| body.to_bytes().len());
            format!("{version} {body:?}")
        });
        Router::new()
            .nest(&format!("/nested-{}", version % 2), nested)
            .nest(
                "/nested",
                Router::new().route("/{x}", get(move || async move { version.to_string() })),
            )
            .route("/slow", slow)
            .build()
            .unwrap()
    }
    const SWAPS: u32 = 1000;
    let app = SwapRouter::new(version(0));
    let address = serve(app.clone()).await;
    let done = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU32::new(0));
    let mut clients = Vec::new();
    for client in 0..4 {
        let (done, answered) = (Arc::clone(&done), Arc::clone(&answered));
        clients.push(tokio::spawn(async move {
            let io = TokioIo::new(TcpStream::connect(address).await.unwrap());
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            let path = if client == 0 { "/slow" } else { "/nested/x" };
            let (mut calls, mut last) = (0u32, 0u32);
            while !done.load(Ordering::Acquire) {
                let request = Request::get(path).header("host", "h");
                let request = request.body(Full::new(Bytes::new())).unwrap();
                sender.ready().await.unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), 200);
                let text = response.into_body().collect().await.unwrap().to_bytes();
                let text = String::from_utf8(text.to_vec()).unwrap();
                let seen: u32 = text.split(' ').next().unwrap().parse().unwrap();
                assert!(seen >= last, "{seen} after {last}");
                last = seen;
                calls += 1;
                answered.fetch_add(1, Ordering::Release);
            }
            calls
        }));
    }
    for next in 1..=SWAPS {
        // Every tenth router serves some requests. A client that failed tells why at the end.
        let before = answered.load(Ordering::Acquire);
        drop(app.swap(version(next)));
        let failed = || clients.iter().any(tokio::task::JoinHandle::is_finished);
        while next % 10 == 0 && answered.load(Ordering::Acquire) == before && !failed() {
            tokio::task::yield_now().await;
        }
    }
    done.store(true, Ordering::Release);
    for client in clients {
        assert!(client.await.unwrap() > 10);
    }
}

#[tokio::test]
async fn a_path_is_whatever_type_fits_it() {
    #[derive(serde::Deserialize, PartialEq, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Green,
        Black,
    }
    #[derive(serde::Deserialize, PartialEq, Debug)]
    struct Id(u64);
    #[derive(serde::Deserialize, PartialEq, Debug)]
    struct Typed {
        kind: Kind,
        id: Option<Id>,
    }
    type Pairs = Vec<(String, String)>;
    async fn of<T>(pattern: &str, path: &str) -> Result<T, (bool, String)>
    where
        T: serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let handler = move |path: Result<Path<T>, PathError>| {
            let sender = sender.clone();
            async move {
                let path = path.map(|path| path.0);
                let _ = sender
                    .send(path.map_err(|error| (error.is_misfit(), error.to_string())))
                    .await;
            }
        };
        let app: RouteService<Body> = Router::new().route(pattern, get(handler)).build().unwrap();
        let request = Request::get(path).body(Body::empty()).unwrap();
        let _ = app.oneshot(request).await;
        receiver.recv().await.unwrap()
    }
    assert_eq!(of("/{x}", "/7").await, Ok(7u64));
    assert_eq!(of("/{x}", "/a%2Fb").await, Ok(String::from("a/b")));
    assert_eq!(of("/{x}", "/%C3%BC").await, Ok('ü'));
    assert_eq!(of("/{x}", "/true").await, Ok((true,)));
    assert_eq!(of("/{x}", "/-1.5").await, Ok(Some(-1.5f32)));
    assert_eq!(of("/{x}", "/7").await, Ok(Id(7)));
    assert_eq!(of("/{x}", "/black").await, Ok(Kind::Black));
    assert_eq!(of("/x", "/x").await, Ok(()));
    assert_eq!(
        of("/{kind}/{id}", "/green/7").await,
        Ok(Typed {
            kind: Kind::Green,
            id: Some(Id(7))
        })
    );
    assert_eq!(
        of("/{kind}", "/green").await,
        Ok(Typed {
            kind: Kind::Green,
            id: None
        })
    );
    assert_eq!(
        of("/{a}/{*b}", "/1/2/3").await,
        Ok((1u8, String::from("2/3")))
    );
    let pairs: Pairs = vec![("a".into(), "1 ".into()), ("b".into(), "2".into())];
    assert_eq!(of("/{a}/{b}", "/1%20/2").await, Ok(pairs));
    assert_eq!(of("/{a}/{b}", "/1/2").await, Ok(vec![1u8, 2]));
    let map = [("a".to_owned(), 1u8), ("b".to_owned(), 2)];
    assert_eq!(
        of("/{a}/{b}", "/1/2").await,
        Ok(std::collections::HashMap::from(map))
    );

    let client = |text: &str| (false, text.to_owned());
    let program = |text: &str| (true, text.to_owned());
    assert_eq!(
        of::<u8>("/{x}", "/256").await,
        Err(client("path parameter `x` is no u8"))
    );
    assert_eq!(
        of::<String>("/{x}", "/%ff").await,
        Err(client("path parameter `x` is not UTF-8"))
    );
    let kind = "path parameter `x`: unknown variant `red`, expected `green` or `black`";
    assert_eq!(of::<Kind>("/{x}", "/red").await, Err(client(kind)));
    assert_eq!(
        of::<u8>("/{x}/{y}", "/1/2").await,
        Err(program("the route captures 2 values, 1 is wanted"))
    );
    assert_eq!(
        of::<(u8, u8)>("/{x}", "/1").await,
        Err(program("the route captures 1 values, 2 are wanted"))
    );
    let missing = "path parameter `kind` is not captured by this route";
    assert_eq!(of::<Typed>("/{x}", "/1").await, Err(program(missing)));
    #[derive(serde::Deserialize, PartialEq, Debug)]
    #[serde(deny_unknown_fields)]
    struct Only {
        id: u64,
    }
    let unwanted = "path parameter `x` is captured by this route, and not wanted";
    assert_eq!(
        of::<Only>("/{id}/{x}", "/1/2").await,
        Err(program(unwanted))
    );
    // No text is a list: no client can do anything about it.
    let list = "path parameter `y`: a path parameter is string \"2\", and a sequence is wanted";
    assert_eq!(
        of::<(u8, Vec<u8>)>("/{x}/{y}", "/1/2").await,
        Err(program(list))
    );
    // But zero is one of the values that a client can avoid.
    let zero = of::<std::num::NonZeroU8>("/{x}", "/0").await;
    assert!(!zero.unwrap_err().0);
}

/// Of equal names of nested routers the innermost has the value, also in a map.
#[tokio::test]
async fn a_map_has_the_innermost_of_equal_names() {
    type Map = std::collections::BTreeMap<String, String>;
    let inner = Router::new().route(
        "/{id}/{x}",
        get(|Path(map): Path<Map>| async move { format!("{map:?}") }),
    );
    let app: RouteService<Body> = Router::new().nest("/{id}", inner).build().unwrap();
    let request = Request::get("/outer/inner/1").body(Body::empty()).unwrap();
    let answer = app.oneshot(request).await.unwrap().into_body();
    let text = answer.collect().await.unwrap().to_bytes();
    assert_eq!(text, r#"{"id": "inner", "x": "1"}"#);
}

/// Outside of our routes the extractors say so.
#[tokio::test]
async fn our_extractors_need_our_route() {
    let (mut head, ()) = Request::new(()).into_parts();
    let refused = Path::<String>::from_request_parts(&mut head, &())
        .await
        .unwrap_err();
    assert!(refused.is_misfit());
    assert_eq!(
        refused.to_string(),
        "no route of tower-chassis-router matched this request"
    );
}
