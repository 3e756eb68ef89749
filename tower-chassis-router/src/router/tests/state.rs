//! What handlers take besides captures.

use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};
use tower_chassis_core::Body;

use super::{Log, check};
use crate::{Extract, Match, MatchedTemplate, Params, Router, State, get, post};

#[derive(Clone)]
struct Shop(&'static str);

#[derive(Clone)]
struct Limit(u32);

async fn shop(State(shop): State<Shop>) -> &'static str {
    shop.0
}

async fn both(shop: State<Shop>, State(Limit(limit)): State<Limit>, params: Params) -> String {
    format!("{} {limit} {}", shop.0.0, params.len())
}

#[tokio::test]
async fn the_innermost_router_that_has_a_state_gives_it() {
    let inner = Router::new()
        .with_state(Shop("inner"))
        .route("/shop", get(shop))
        .route("/{x}", get(both));
    let merged = Router::new()
        .route("/merged", get(shop))
        .nest(
            "/merged-nest",
            Router::new().route("/{x}", get(both)).with_state(Limit(9)),
        )
        .with_state(Shop("merged"));
    check(
        Router::new()
            .route("/shop", get(shop))
            .with_state(Limit(1))
            .with_state(Shop("replaced"))
            .with_state(Shop("outer"))
            .nest("/inner", inner)
            .nest("/inherits", Router::new().route("/{x}", get(both)))
            .merge(merged)
            .host(
                "a.example",
                Router::new().fallback(shop).with_state(Shop("host")),
            )
            .fallback(shop),
        &[
            ("GET /shop", "outer"),
            ("GET /inner/shop", "inner"),
            ("GET /inner/x", "inner 1 1"),
            ("GET /inner/x/y", "outer"),
            ("GET /inherits/x", "outer 1 1"),
            ("GET /merged", "merged"),
            ("GET /merged-nest/x", "merged 9 1"),
            ("GET http://a.example/", "host"),
            ("GET /none", "outer"),
        ],
    )
    .await;
}

#[test]
fn a_missing_state_is_a_fault_of_the_build() {
    let errors = Router::<Body>::new()
        .route("/a/{x}", get(both).post(shop))
        .nest("/b", Router::new().route("/", get(shop)))
        .nest("/c", Router::new().fallback(shop))
        .with_state(Limit(1))
        .build()
        .unwrap_err();
    let errors: Vec<_> = errors.iter().collect();
    assert!(errors.iter().all(|error| error.is_missing_state()));
    let text = errors[0].to_string();
    assert!(
        text.contains("state.rs:")
            && text.contains("GET /a/{x} needs `State<tower_chassis_router::")
            && text.contains("::Shop>`"),
        "{text}"
    );
    assert!(errors[1].to_string().contains("POST /a/{x} needs"));
    assert!(errors[2].to_string().contains("GET /b needs"));
    assert!(errors[3].to_string().contains("the fallback needs"));
    assert_eq!(errors.len(), 4);
}

async fn parts(method: Method, uri: Uri, version: Version, headers: HeaderMap) -> String {
    format!("{method} {uri} {version:?} {}", headers.len())
}

async fn last(params: Params, template: MatchedTemplate, req: Request<Body>) -> String {
    format!("{template} {params:?} {}", req.uri())
}

async fn first(req: Request<Body>, params: Params, template: MatchedTemplate) -> String {
    last(params, template, req).await
}

#[allow(clippy::too_many_arguments, reason = "that is what is tested")]
async fn eight(
    _: Params,
    _: Method,
    _: Uri,
    _: Version,
    _: HeaderMap,
    _: State<Shop>,
    _: State<Limit>,
    template: MatchedTemplate,
) -> String {
    template.to_uppercase()
}

/// Refuses what is not even.
struct Even(u32);

impl<B> Extract<B> for Even {
    type Needs = (State<Limit>,);
    type Refusal = (StatusCode, &'static str);

    fn extract(
        req: &mut Request<B>,
        matched: Match<'_>,
        needs: &(State<Limit>,),
    ) -> Result<Self, Self::Refusal> {
        let number: u32 = matched
            .params(req)
            .parse("n")
            .map_err(|_| (StatusCode::BAD_REQUEST, "number"))?;
        if number.is_multiple_of(2) && number < needs.0.0.0 {
            Ok(Self(number))
        } else {
            Err((StatusCode::CONFLICT, "odd"))
        }
    }
}

#[tokio::test]
async fn handlers_take_many_things_in_any_order() {
    let log = Log::default();
    check(
        Router::new()
            .route("/parts", get(parts))
            .route("/last/{x}", get(last).post(first))
            .route("/eight", get(eight))
            .nest(
                "/t/{id}",
                Router::new()
                    .route("/{x}", get(last))
                    .layer(log.note("layer")),
            )
            .route(
                "/even/{n}",
                get(|Even(n): Even| async move { n.to_string() }),
            )
            .route(
                "/option/{n}",
                get(|even: Option<Even>| async move { even.is_some().to_string() }),
            )
            .route(
                "/result/{n}",
                post(
                    |even: Result<Even, (StatusCode, &'static str)>| async move {
                        even.map_or_else(|refusal| refusal.1, |_| "even")
                    },
                ),
            )
            .fallback(|template: MatchedTemplate| async move { format!("[{template}]") })
            .with_state(Shop("shop"))
            .with_state(Limit(10)),
        &[
            ("GET /parts?q", "GET /parts?q HTTP/1.1 0"),
            ("GET /last/1", r#"/last/{x} {"x": "1"} /last/1"#),
            ("POST /last/1", r#"/last/{x} {"x": "1"} /last/1"#),
            ("GET /eight", "/EIGHT"),
            ("GET /t/1/2", r#"/t/{id}/{x} {"id": "1", "x": "2"} /t/1/2"#),
            ("GET /even/4", "4"),
            ("GET /even/5", "409 odd"),
            ("GET /even/12", "409 odd"),
            ("GET /even/x", "400 number"),
            ("GET /option/4", "true"),
            ("GET /option/5", "false"),
            ("POST /result/5", "odd"),
            ("POST /result/6", "even"),
            ("GET /none", "[]"),
        ],
    )
    .await;
}
