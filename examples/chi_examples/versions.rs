//! Three versions of an API: one set of routes, and each version gives its own state to it.

use tower_chassis::router::{Condition, Params, Router, State, get, rules::HeaderMatch};

#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Version {
    V1,
    V2,
    V3,
}

async fn article(State(version): State<Version>, params: Params) -> String {
    let id = params.get("id").unwrap_or_default();
    let mut text = format!("article {id}");
    if version >= Version::V2 {
        text.push_str(", 7 views");
    }
    if version >= Version::V3 {
        text.push_str(", see /api/v3/articles/");
        text.push_str(&id);
    }
    text.push('\n');
    text
}

fn articles(version: Version) -> Router {
    Router::new()
        .route("/articles/{id}", get(article))
        .with_state(version)
}

pub(crate) fn app() -> Router {
    let newest = Condition::header(HeaderMatch::exact("accept", "application/vnd.articles.v3"));
    Router::new()
        .nest("/api/v1", articles(Version::V1))
        .nest("/api/v2", articles(Version::V2))
        .nest("/api/v3", articles(Version::V3))
        // Who names no version in the path may do so in a header, else gets the first.
        .when(newest, articles(Version::V3))
        .merge(articles(Version::V1))
}
