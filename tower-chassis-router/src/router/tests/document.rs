//! Documents of routes.

use tower::layer::util::Identity;
use tower_chassis_core::Body;

use super::{Log, check};
use crate::{RouteDocs, Router, any, get, named, post};

fn router(log: &Log) -> Router {
    let users = Router::new()
        .route("/{id:[a-z`|\"<]+}", get(|| async {}).name("user"))
        .route("/", any(|| async {}).post(|| async {}))
        .layer(named("auth", log.note("auth")));
    Router::<Body>::new()
        .nest("/users", users)
        .route("/", get(|| async {}).layer(log.note("x")))
        .host("h.example", Router::new().route("/", post(|| async {})))
        .layer(Identity::new())
}

#[test]
fn a_table_is_sorted_and_aligned() {
    let docs = RouteDocs::new(router(&Log::default()).routes());
    let expected = r#"METHOD  PATH                    NAME  IF              LAYERS
GET     /                                             Note
*       /users                                        auth
POST    /users                                        auth
GET     /users/{id:[a-z`|"<]+}  user                  auth
POST    /                             host h.example
"#;
    assert_eq!(docs.text(), expected);
    let built = router(&Log::default()).build().unwrap();
    assert_eq!(
        RouteDocs::new(built.routes().iter().cloned()).text(),
        expected
    );
}

#[test]
fn json_has_a_line_for_each_route() {
    let docs = RouteDocs::new(router(&Log::default()).routes());
    let expected = r#"{"routes":[
{"method":"GET","path":"/","layers":["Note"]},
{"method":"*","path":"/users","layers":["auth"]},
{"method":"POST","path":"/users","layers":["auth"]},
{"method":"GET","path":"/users/{id:[a-z`|\"<]+}","name":"user","layers":["auth"]},
{"method":"POST","path":"/","guards":["host h.example"]}
]}
"#;
    assert_eq!(docs.json(), expected);
    let source = docs.source(true).json();
    assert!(
        source.contains(r#""handler":"tower_chassis_router::router::tests::document::router::"#),
        "{source}"
    );
    assert!(source.contains(r#"document.rs","line":1"#), "{source}");
    assert_eq!(RouteDocs::new([]).json(), "{\"routes\":[\n]}\n");
}

#[test]
fn markdown_folds_each_path() {
    let docs = RouteDocs::new(router(&Log::default()).routes()).title("Shop");
    let expected = "\
# Shop

<details>
<summary><code>/</code></summary>

- **GET**
  - `Note`

</details>

<details>
<summary><code>/users</code></summary>

- **&#42;**
  - `auth`
- **POST**
  - `auth`

</details>

<details>
<summary><code>/users/{id:[a-z`|\"&lt;]+}</code></summary>

- **GET** (`user`)
  - `auth`

</details>

<details>
<summary><code>/</code> if host h.example</summary>

- **POST**

</details>

Total: 5 routes
";
    assert_eq!(docs.markdown(), expected);
}

#[tokio::test]
async fn the_documents_are_served() {
    let router = Router::new().route("/a", get(|| async {}));
    let docs = RouteDocs::new(router.routes());
    check(
        router.nest("/routes", docs.router()),
        &[
            ("GET /routes", "METHOD  PATH\nGET     /a\n"),
            (
                "GET /routes/json",
                "{\"routes\":[\n{\"method\":\"GET\",\"path\":\"/a\"}\n]}\n",
            ),
            ("GET /routes/none", "404"),
            ("PUT /routes", "405 [GET, HEAD]"),
        ],
    )
    .await;
}

#[test]
fn a_text_stays_in_its_place() {
    let router = Router::<Body>::new()
        .route("/a\nb", get(|| async {}).name("`x``"))
        .route("/c", get(|| async {}).name("one\r\n- two"));
    let docs = RouteDocs::new(router.routes());
    assert_eq!(
        docs.text(),
        "METHOD  PATH   NAME\n\
         GET     /a\\nb  `x``\n\
         GET     /c     one\\r\\n- two\n"
    );
    let markdown = docs.markdown();
    for line in [
        "<summary><code>/a\\nb</code></summary>",
        "- **GET** (``` `x`` ```)",
        "- **GET** (`one\\r\\n- two`)",
    ] {
        assert!(markdown.lines().any(|known| known == line), "{markdown}");
    }
}
