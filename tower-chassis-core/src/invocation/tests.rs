use std::time::Duration;

use http::{Extensions, Request};

use super::*;

#[test]
fn a_retry_sees_what_was_tried() {
    let first = Invocation::new(Instant::now());
    first.note_endpoint(7);
    assert!(!first.has_tried(7));
    let mut second = first.clone();
    second.set_attempt(2);
    assert!(second.has_tried(7) && !second.has_tried(8));
    assert!(
        !first.has_tried(7),
        "the copy is the retry, not the original"
    );
}

#[test]
fn the_route_outlives_the_request_and_its_first_word_stays() {
    let mut request = Request::new(());
    let slot = request.invocation_mut().route_slot();
    let table = Arc::new(RouteTable::new(["/a".into(), "/b/{id}".into()]));
    request
        .invocation_mut()
        .set_route(MatchedRoute::new(Arc::clone(&table), 1));
    request
        .invocation_mut()
        .set_route(MatchedRoute::new(table, 0));
    drop(request);
    assert_eq!(slot.get().map(MatchedRoute::template), Some("/b/{id}"));
}

#[test]
fn methods_say_whether_a_request_may_be_repeated() {
    let request = |method: &str| Request::builder().method(method).body(()).unwrap();
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        assert!(request(method).is_idempotent(), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "PURGE"] {
        let mut request = request(method);
        assert!(!request.is_idempotent(), "{method}");
        request.extensions_mut().insert(Idempotent);
        assert!(request.is_idempotent(), "{method}");
    }
    let keyed = Request::post("/").header("Idempotency-Key", "7").body(());
    assert!(keyed.unwrap().is_idempotent());
}

#[test]
fn a_deadline_only_comes_forward() {
    let now = Instant::now();
    let mut invocation = Invocation::new(now);
    let near = Deadline::after(now, Duration::from_secs(1));
    invocation.limit_deadline(near);
    invocation.limit_deadline(Deadline::after(now, Duration::from_secs(9)));
    assert_eq!(invocation.deadline(), Some(near));
}

fn incoming() -> Invocation {
    let mut incoming = Invocation::new(Instant::now());
    incoming.limit_deadline(Deadline::after(incoming.start(), Duration::from_secs(5)));
    incoming.set_trace(
        TraceContext::new([1; 16], [2; 8], true).unwrap(),
        Some("a=b".into()),
    );
    incoming.set_request_id("r-1".into());
    incoming.set_service("shop".into());
    incoming.set_client("10.0.0.1:1".parse().unwrap());
    incoming.set_subset(Some(Arc::default()));
    incoming.set_attempt(2);
    incoming.note_endpoint(7);
    incoming.set_route(MatchedRoute::new(
        Arc::new(RouteTable::new(["/a".into()])),
        0,
    ));
    incoming.upload().set_waiting(true);
    incoming
}

#[tokio::test(start_paused = true)]
async fn a_child_has_the_deadline_the_trace_and_the_request_id_and_nothing_else() {
    let incoming = incoming();
    tokio::time::advance(Duration::from_secs(1)).await;
    let mut request = Request::new(());
    incoming.carry(&mut request);
    let child = request.invocation().unwrap();
    assert_eq!(child.deadline(), incoming.deadline());
    assert_eq!(child.trace(), incoming.trace());
    assert_eq!(child.trace_state(), incoming.trace_state());
    assert_eq!(child.request_id(), incoming.request_id());
    assert_eq!(child.start(), Instant::now());
    assert!(child.service().is_none() && child.client().is_none() && child.subset().is_none());
    assert!(child.route().is_none() && child.attempt() == 1);
    assert_eq!(child.caller_attempt(), 2);
    assert_eq!(child.child().caller_attempt(), 2, "and so does its own");
    assert!(!child.upload().is_waiting());
    let mut second = child.clone();
    second.set_attempt(2);
    assert!(!second.has_tried(7), "the tried endpoints are the caller's");
}

#[test]
fn what_a_request_says_already_stays() {
    let incoming = incoming();
    let mut request = Request::new(());
    let trace = TraceContext::new([3; 16], [4; 8], false).unwrap();
    let own = request.invocation_mut();
    own.set_trace(trace, None);
    own.set_request_id("mine".into());
    own.set_service("prices".into());
    own.set_caller_attempt(3);
    own.limit_deadline(Deadline::after(incoming.start(), Duration::from_secs(9)));
    incoming.carry(&mut request);
    let own = request.invocation().unwrap();
    assert_eq!(own.deadline(), incoming.deadline(), "the nearer one");
    assert_eq!((own.trace(), own.trace_state()), (Some(trace), None));
    assert_eq!(own.request_id().map(|id| &**id), Some("mine"));
    assert_eq!(own.service(), Some("prices"));
    assert_eq!(own.caller_attempt(), 3, "the later one");

    let near = Deadline::after(incoming.start(), Duration::from_secs(1));
    request.invocation_mut().limit_deadline(near);
    incoming.carry(&mut request);
    assert_eq!(request.invocation().unwrap().deadline(), Some(near));
}

#[test]
fn a_further_attempt_shares_the_route_and_what_was_tried() {
    let first = incoming();
    let mut again = Invocation::again(&first.route_slot());
    assert_eq!((again.start(), again.attempt()), (first.start(), 1));
    assert!(again.deadline().is_none() && again.service().is_none());
    assert!(again.route().is_some());
    again.set_attempt(3);
    assert!(again.has_tried(7));
}

#[test]
fn the_content_type_says_what_is_grpc() {
    struct Own(Extensions, Option<&'static str>);
    impl Carrier for Own {
        fn extensions(&self) -> &Extensions {
            &self.0
        }
        fn extensions_mut(&mut self) -> &mut Extensions {
            &mut self.0
        }
        fn meta(&self, name: &str) -> Option<&str> {
            self.1.filter(|_| name == "content-type")
        }
    }
    for (kind, grpc) in [
        (Some("application/grpc"), true),
        (Some("application/grpc+proto"), true),
        (Some("application/json"), false),
        (None, false),
    ] {
        assert_eq!(Own(Extensions::new(), kind).is_grpc(), grpc);
        let mut request = Request::new(());
        if let Some(kind) = kind {
            assert!(request.set_meta("content-type", kind.into()));
        }
        assert_eq!(request.is_grpc(), grpc);
    }
}
