//! A resource as a router of its own, mounted where it belongs, and one below it.

use tower_chassis::router::{Params, Router, get};

fn todos() -> Router {
    let todo = Router::new()
        .route(
            "/",
            get(one("todo"))
                .put(one("todo updated"))
                .delete(one("todo deleted")),
        )
        .route("/sync", get(one("todo synced")));
    Router::new()
        .route(
            "/",
            get(|| async { "todos\n" }).post(|| async { "todo created\n" }),
        )
        .nest("/{id:[0-9]+}", todo)
}

fn users() -> Router {
    Router::new()
        .route("/", get(|| async { "users\n" }))
        // What is nested is a value: the same resource in two places is two calls.
        .nest("/{user}/todos", todos())
}

fn one(
    what: &'static str,
) -> impl Fn(Params) -> std::future::Ready<String> + Clone + Send + Sync + 'static {
    move |params| {
        let of = params
            .get("user")
            .map(|user| format!(" of {user}"))
            .unwrap_or_default();
        let id = params.get("id").unwrap_or_default();
        std::future::ready(format!("{what} {id}{of}\n"))
    }
}

pub(crate) fn app() -> Router {
    Router::new()
        .route("/", get(|| async { ".\n" }))
        .nest("/users", users())
        .nest("/todos", todos())
}
