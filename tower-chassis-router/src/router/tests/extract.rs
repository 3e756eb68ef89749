//! What handlers read of the path.

use http::Request;
use tower_chassis_core::Body;

use super::check;
use crate::{ParamError, Params, Router, get};

#[tokio::test]
async fn values_are_decoded_when_asked_for() {
    let router =
        Router::new()
            .route(
                "/get/{x}",
                get(|params: Params| async move {
                    format!("{:?} {:?}", params.get("x"), params.raw("x"))
                }),
            )
            .route(
                "/files/*",
                get(|params: Params| async move { format!("{:?}", params.get("*")) }),
            )
            .route(
                "/named/{*rest}",
                get(|params: Params| async move {
                    format!("{:?} {:?}", params.get("rest"), params.get("*"))
                }),
            );
    check(
        router,
        &[
            ("GET /get/plain", r#"Some("plain") Some("plain")"#),
            ("GET /get/a%20b%2Fc", r#"Some("a b/c") Some("a%20b%2Fc")"#),
            ("GET /get/1+1", r#"Some("1+1") Some("1+1")"#),
            ("GET /get/100%", r#"Some("100%") Some("100%")"#),
            ("GET /get/%ff", r#"None Some("%ff")"#),
            ("GET /get/%C3%9F", r#"Some("ß") Some("%C3%9F")"#),
            ("GET /files/", r#"Some("")"#),
            ("GET /files/a%2Fb/c", r#"Some("a/b/c")"#),
            ("GET /named/a/b", r#"Some("a/b") None"#),
        ],
    )
    .await;
}

async fn parse(params: Params) -> Result<String, ParamError> {
    let id: u32 = params.parse("id")?;
    Ok(id.to_string())
}

#[tokio::test]
async fn what_cannot_be_parsed_is_the_clients_fault_what_is_missing_ours() {
    check(
        Router::new()
            .route("/{id}", get(parse))
            .route("/other/{x}", get(parse)),
        &[
            ("GET /7", "7"),
            ("GET /%37", "7"),
            ("GET /x", "400 path parameter `id` is not valid"),
            ("GET /%ff", "400 path parameter `id` is not UTF-8"),
            (
                "GET /other/7",
                "500 path parameter `id` is not captured by this route",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn errors_say_what_they_are() {
    let router = Router::new().route(
        "/{id}/{bad}",
        get(|params: Params| async move {
            let kinds = |error: ParamError| {
                (
                    error.is_missing(),
                    error.is_not_utf8(),
                    error.is_unparsable(),
                )
            };
            assert_eq!(
                kinds(params.decode("none").unwrap_err()),
                (true, false, false)
            );
            assert_eq!(
                kinds(params.decode("bad").unwrap_err()),
                (false, true, false)
            );
            let error = params.parse::<u8>("id").unwrap_err();
            assert_eq!(error.name(), "id");
            assert_eq!(
                std::error::Error::source(&error).unwrap().to_string(),
                "invalid digit found in string"
            );
            assert_eq!(kinds(error), (false, false, true));
            assert_eq!((params.len(), params.is_empty()), (2, false));
        }),
    );
    check(router, &[("GET /x/%ff", "")]).await;
}

#[tokio::test]
async fn handlers_take_what_they_need() {
    async fn nothing() -> &'static str {
        "nothing"
    }
    async fn request(req: Request<Body>) -> String {
        req.uri().to_string()
    }
    async fn both(req: Request<Body>, params: Params) -> String {
        format!("{} {:?}", req.method(), params)
    }
    check(
        Router::new()
            .route("/a", get(nothing))
            .route("/b", get(request))
            .route("/c/{x}", get(both)),
        &[
            ("GET /a", "nothing"),
            ("GET /b?q", "/b?q"),
            ("GET /c/1", r#"GET {"x": "1"}"#),
        ],
    )
    .await;
}

#[tokio::test]
async fn more_captures_than_fit_in_place() {
    let names: Vec<_> = (0..20).map(|index| format!("{{p{index}}}")).collect();
    let path: Vec<_> = (0..20).map(|index| index.to_string()).collect();
    let router = Router::new().route(
        &format!("/{}", names.join("/")),
        get(|params: Params| async move {
            format!(
                "{:?} {:?} {}",
                params.get("p0"),
                params.get("p19"),
                params.len()
            )
        }),
    );
    check(
        router,
        &[(
            &format!("GET /{}", path.join("/")),
            r#"Some("0") Some("19") 20"#,
        )],
    )
    .await;
}
