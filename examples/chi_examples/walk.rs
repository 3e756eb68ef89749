//! A router that lists itself, and says why a request goes where it goes.

use http::Method;
use tower::layer::util::Identity;
use tower_chassis::{
    BoxError,
    router::{RouteDocs, Router, any, get, named, post},
};

pub(crate) fn app() -> Router {
    let admin = Router::new()
        .route(
            "/users/{id:[0-9]+}",
            get(|| async { "user\n" }).name("user"),
        )
        .route("/users/{name}", post(|| async { "renamed\n" }));
    Router::new()
        .route("/", get(|| async { "root.\n" }))
        .with(named("auth", Identity::new()), |router| {
            router.nest("/admin", admin)
        })
        .route("/static/*", any(|| async { "files\n" }))
        .layer(named("log", Identity::new()))
}

pub(crate) fn print() -> Result<(), BoxError> {
    let app = app().build()?;
    println!("{}", RouteDocs::new(app.routes().iter().cloned()));
    for path in ["/admin/users/7", "/admin/users/me"] {
        if let Some(explanation) = app.explain(&Method::POST, path) {
            println!("{explanation}\n");
        }
    }
    println!("{}", app.url("user", [("id", "7")])?);
    Ok(())
}
