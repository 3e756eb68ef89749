//! axum's templates, where a layer can see them.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use ::axum::{Router, body::Body, routing};
use http::{Request, Response};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, service_fn};
use tower_chassis_observe::{
    access_log::{AccessLogLayer, Format, PathShown},
    audit::{AuditLayer, AuditPolicy, AuditRecord, AuditRule},
};

use crate::support::Routes;

fn routes() -> Router {
    let ok = || routing::get(|| async { "ok" });
    let inner = Router::new().route("/items/{item}", ok());
    Router::new()
        .route("/users/{id}", ok())
        .nest("/shop", inner.clone())
        .nest_service("/blind", inner)
}

async fn call(app: Router, path: &str) {
    let request = Request::builder().uri(path).body(Body::empty()).unwrap();
    let response: Response<Body> = app.oneshot(request).await.unwrap();
    response.into_body().collect().await.unwrap();
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn layer(&self) -> AccessLogLayer {
        let lines = self.clone();
        AccessLogLayer::new(Format::Json, move |line: &str| {
            lines.0.lock().unwrap().push(line.to_owned());
        })
    }
    fn routes(&self) -> Vec<Option<String>> {
        let lines = self.0.lock().unwrap();
        let parsed = lines
            .iter()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        parsed
            .map(|line| line["route"].as_str().map(str::to_owned))
            .collect()
    }
}

fn some(route: &str) -> Option<String> {
    Some(route.to_owned())
}

#[tokio::test]
async fn a_line_has_the_template_of_axum() {
    let lines = Lines::default();
    let app = routes().layer(lines.layer());
    for path in ["/users/1", "/shop/items/3", "/nothing"] {
        call(app.clone(), path).await;
    }
    let told = [some("/users/{id}"), some("/shop/items/{item}"), None];
    assert_eq!(lines.routes(), told);
}

#[tokio::test]
async fn around_the_whole_router_and_in_a_mounted_service_axum_tells_none() {
    let lines = Lines::default();
    let app = lines.layer().layer(routes());
    let request = Request::builder().uri("/users/1").body(Body::empty());
    let response = app.oneshot(request.unwrap()).await.unwrap();
    response.into_body().collect().await.unwrap();
    call(routes().layer(lines.layer()), "/blind/items/1").await;
    assert_eq!(lines.routes(), [None, None]);
}

#[tokio::test]
async fn skips_and_shown_paths_go_by_it() {
    let lines = Lines::default();
    let layer = lines.layer().path(PathShown::Template);
    let skip = |config: &mut tower_chassis_observe::access_log::AccessLogConfig| {
        config.skip = vec!["/shop/items/{item}".to_owned()];
    };
    layer.handle().update(skip).unwrap();
    let app = routes().layer(layer);
    for path in ["/users/1", "/shop/items/3"] {
        call(app.clone(), path).await;
    }
    let lines = lines.0.lock().unwrap();
    let [line] = &**lines else {
        panic!("{lines:?}")
    };
    assert!(line.contains(r#""path":"/users/{id}""#), "{line}");
}

#[tokio::test]
async fn our_router_s_word_counts_before_axum_s() {
    let lines = Lines::default();
    let ours = Routes::default();
    let ours = service_fn(move |request: Request<Body>| {
        let ours = ours.clone();
        async move { Ok::<_, Infallible>(ours.call(request).await?.map(Body::new)) }
    });
    let app = Router::new().route_service("/users/{name}", ours);
    call(app.layer(lines.layer()), "/users/1").await;
    assert_eq!(lines.routes(), [some("/users/{id}")]);
}

#[tokio::test]
async fn the_rules_of_an_audit_go_by_it() {
    let records = Arc::new(Mutex::new(Vec::new()));
    let put = Arc::clone(&records);
    let policy = AuditPolicy::default().with(|config| {
        config.rules = vec![AuditRule {
            routes: vec!["/shop/*".to_owned()],
            ..AuditRule::default()
        }];
    });
    let layer = AuditLayer::new(policy.unwrap(), move |record: AuditRecord| {
        put.lock().unwrap().push(record);
        true
    });
    let app = routes().layer(layer);
    for path in ["/users/1", "/shop/items/3", "/nothing"] {
        call(app.clone(), path).await;
    }
    let records = records.lock().unwrap();
    let routes: Vec<_> = records.iter().map(|record| record.route.clone()).collect();
    assert_eq!(routes, [Some("/shop/items/{item}".into())]);
}
