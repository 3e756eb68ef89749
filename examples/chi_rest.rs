//! The REST service of chi's README with this router: nested resources, a middleware that loads what the path
//! names, a part for admins, and documents of its own routes.
//!
//! ```text
//! cargo run --example chi_rest
//! curl http://127.0.0.1:3000/articles
//! curl -X POST -d '{"title":"Hi"}' http://127.0.0.1:3000/articles
//! curl http://127.0.0.1:3000/admin -H 'x-role: admin'
//! cargo run --example chi_rest -- --routes        # Markdown, as chi's docgen
//! ```
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{Request, Response, StatusCode, Uri, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use tower::{ServiceExt, layer::layer_fn, service_fn};
use tower_chassis::{
    Body, BoxError, RescueLayer,
    router::{
        Extract, IntoResponse, Match, MatchedTemplate, Params, Route, RouteDocs, RouteLayer,
        Router, State, get, named,
    },
    server::{Drain, Server, ServerPolicy},
};

#[derive(Clone)]
struct Article {
    id: u64,
    slug: String,
    title: String,
}

#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<BTreeMap<u64, Article>>>);

impl Shelf {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Article>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, id: Option<u64>, title: &str) -> Article {
        let mut articles = self.lock();
        let id = id.unwrap_or_else(|| articles.keys().next_back().map_or(1, |last| last + 1));
        let slug = title.to_lowercase().replace(' ', "-");
        let title = title.to_owned();
        let article = Article { id, slug, title };
        articles.insert(id, article.clone());
        article
    }
}

/// JSON with a status.
struct Json(StatusCode, Value);

impl IntoResponse for Json {
    fn into_response(self) -> Response<Body> {
        let mut response = (self.0, self.1.to_string()).into_response();
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

fn rendered(article: &Article) -> Value {
    json!({ "id": article.id, "slug": article.slug, "title": article.title })
}

/// chi's `ArticleCtx`: the article that the path names, by number or by slug, or 404.
struct Loaded(Article);

impl<B> Extract<B> for Loaded {
    type Needs = State<Shelf>;
    type Refusal = Json;

    fn extract(
        req: &mut Request<B>,
        matched: Match<'_>,
        shelf: &State<Shelf>,
    ) -> Result<Self, Json> {
        let params = matched.params(req);
        let articles = shelf.lock();
        let found = match params.parse::<u64>("id") {
            Ok(id) => articles.get(&id),
            Err(_) => articles
                .values()
                .find(|article| params.get("slug").as_deref() == Some(&article.slug)),
        };
        let missing = || {
            Json(
                StatusCode::NOT_FOUND,
                json!({ "status": "Resource not found." }),
            )
        };
        found.cloned().map(Self).ok_or_else(missing)
    }
}

/// chi's `paginate`, which there is left as an exercise.
fn page(uri: &Uri) -> (usize, usize) {
    let value = |name: &str| {
        let mut pairs = uri
            .query()?
            .split('&')
            .filter_map(|pair| pair.split_once('='));
        pairs.find(|(known, _)| *known == name)?.1.parse().ok()
    };
    (value("skip").unwrap_or(0), value("limit").unwrap_or(10))
}

async fn list(State(shelf): State<Shelf>, uri: Uri) -> Json {
    let (skip, limit) = page(&uri);
    let articles: Vec<_> = shelf
        .lock()
        .values()
        .skip(skip)
        .take(limit)
        .map(rendered)
        .collect();
    Json(StatusCode::OK, articles.into())
}

async fn search(State(shelf): State<Shelf>, uri: Uri) -> Json {
    let wanted = uri
        .query()
        .and_then(|query| query.strip_prefix("q="))
        .unwrap_or_default();
    let fits = |article: &&Article| article.title.to_lowercase().contains(wanted);
    let articles: Vec<_> = shelf.lock().values().filter(fits).map(rendered).collect();
    Json(StatusCode::OK, articles.into())
}

/// At most 64 KiB of JSON with a title.
async fn title(req: Request<Body>) -> Result<String, Json> {
    let bad = |what: &str| Json(StatusCode::BAD_REQUEST, json!({ "status": what }));
    let body = Limited::new(req.into_body(), 64 << 10).collect().await;
    let body = body.map_err(|error| bad(&error.to_string()))?.to_bytes();
    let value: Value = serde_json::from_slice(&body).map_err(|error| bad(&error.to_string()))?;
    let title = value.get("title").and_then(Value::as_str);
    title
        .map(str::to_owned)
        .ok_or_else(|| bad("title is missing"))
}

async fn create(State(shelf): State<Shelf>, req: Request<Body>) -> Result<Json, Json> {
    let title = title(req).await?;
    Ok(Json(
        StatusCode::CREATED,
        rendered(&shelf.put(None, &title)),
    ))
}

async fn update(
    Loaded(article): Loaded,
    State(shelf): State<Shelf>,
    req: Request<Body>,
) -> Result<Json, Json> {
    let title = title(req).await?;
    Ok(Json(
        StatusCode::OK,
        rendered(&shelf.put(Some(article.id), &title)),
    ))
}

async fn one(Loaded(article): Loaded) -> Json {
    Json(StatusCode::OK, rendered(&article))
}

async fn delete(Loaded(article): Loaded, State(shelf): State<Shelf>) -> Json {
    shelf.lock().remove(&article.id);
    Json(StatusCode::OK, rendered(&article))
}

/// chi's `AdminOnly`.
fn admins_only() -> impl RouteLayer<Body> {
    layer_fn(|route: Route<Body>| {
        service_fn(move |req: Request<Body>| {
            let route = route.clone();
            async move {
                match req.headers().get("x-role") {
                    Some(role) if role == "admin" => route.oneshot(req).await,
                    _ => Ok(StatusCode::FORBIDDEN.into_response()),
                }
            }
        })
    })
}

async fn user(params: Params, template: MatchedTemplate) -> String {
    let id = params.get("userId").unwrap_or_default();
    format!("admin: view user id {id} ({template})\n")
}

async fn panics() -> &'static str {
    panic!("test")
}

fn app() -> Router {
    let article = Router::new().route("/", get(one).put(update).delete(delete));
    let articles = Router::new()
        .route("/", get(list).post(create).name("articles"))
        .route("/search", get(search))
        .nest("/{id:[0-9]+}", article)
        .route("/{slug:[a-z-]+}", get(one).name("article"));
    let admin = Router::new()
        .route("/", get(|| async { "admin: index\n" }))
        .route("/accounts", get(|| async { "admin: list accounts..\n" }))
        .route("/users/{userId}", get(user));
    let shelf = Shelf::default();
    for title in ["Hi", "Sup", "Alo", "Bonjour", "Whats up"] {
        shelf.put(None, title);
    }
    Router::new()
        .route("/", get(|| async { "root.\n" }))
        .route("/ping", get(|| async { "pong\n" }))
        .route("/panic", get(panics))
        .nest("/articles", articles)
        .with(named("admins only", admins_only()), |router| {
            router.nest("/admin", admin)
        })
        .with_state(shelf)
        // A panic becomes a 500, and the connection lives on.
        .layer(RescueLayer::new())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("--routes") {
        println!(
            "{}",
            RouteDocs::new(app().routes())
                .title("chi's README")
                .markdown()
        );
        return Ok(());
    }
    let server = Server::new(ServerPolicy::default())
        .listen(argument.unwrap_or_else(|| "127.0.0.1:3000".into()))
        .bind()
        .await?;
    for address in server.addresses() {
        println!("listening on {address}");
    }
    let drain = Drain::new();
    let on_signal = drain.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.start();
            on_signal.hurry();
        }
    });
    println!("drained: {:?}", server.serve(app().build()?, drain).await);
    Ok(())
}
