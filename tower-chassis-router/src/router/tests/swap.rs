//! A router that is replaced while it serves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::oneshot;
use tower::ServiceExt;

use super::{read, request};
use crate::{RouteService, Router, SwapRouter, get};

fn version(version: u32) -> RouteService {
    let router = Router::new().route("/version", get(move || async move { version.to_string() }));
    router
        .nest(
            "/nested",
            Router::new().route("/version", get(move || async move { version.to_string() })),
        )
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_request_finishes_on_the_router_it_began_on() {
    let (go, gone) = oneshot::channel::<()>();
    let gone = Arc::new(std::sync::Mutex::new(Some(gone)));
    let slow = Router::new().route(
        "/version",
        get(move || {
            let gone = gone.lock().unwrap().take();
            async move {
                let _ = gone.unwrap().await;
                "old"
            }
        }),
    );
    let app = SwapRouter::new(slow.build().unwrap());
    let begun = tokio::spawn(app.clone().oneshot(request("GET /version")));
    tokio::task::yield_now().await;
    drop(app.swap(version(2)));
    assert_eq!(
        read(app.clone().oneshot(request("GET /version")).await.unwrap())
            .await
            .1,
        "2"
    );
    go.send(()).unwrap();
    assert_eq!(read(begun.await.unwrap().unwrap()).await.1, "old");
    assert_eq!(app.load().routes().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_and_versions_only_go_up() {
    const LAST: u32 = 300;
    let app = SwapRouter::new(version(0));
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (app, done) = (app.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let line = if caller % 2 == 0 {
                    "GET /version"
                } else {
                    "GET /nested/version"
                };
                let mut seen = 0;
                let mut calls = 0u32;
                while !done.load(Ordering::Acquire) {
                    let (status, text, _) =
                        read(app.clone().oneshot(request(line)).await.unwrap()).await;
                    assert_eq!(status, 200);
                    let version: u32 = text.parse().unwrap();
                    assert!(version >= seen, "{version} after {seen}");
                    seen = version;
                    calls += 1;
                    tokio::task::yield_now().await;
                }
                calls
            })
        })
        .collect();
    for next in 1..=LAST {
        app.swap(version(next));
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    done.store(true, Ordering::Release);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
    assert_eq!(
        read(app.oneshot(request("GET /version")).await.unwrap())
            .await
            .1,
        LAST.to_string()
    );
}
