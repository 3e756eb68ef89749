use ::http::Response;

use super::*;
use crate::Kind;

#[test]
fn verdict_is_eight_bytes() {
    assert_eq!(size_of::<Verdict>(), 8);
}

#[test]
fn http_table() {
    for (status, class) in [
        (200, Class::Success),
        (302, Class::Success),
        (404, Class::ClientFault),
        (408, Class::ClientFault),
        (429, Class::RateLimited),
        (500, Class::Failure),
        (503, Class::Failure),
        (504, Class::Timeout),
    ] {
        let response = Response::builder().status(status).body(()).unwrap();
        assert_eq!(response.verdict().class(), class, "{status}");
        assert_eq!(response.verdict().http_status(), Some(status));
    }
}

#[test]
fn the_exception_in_the_response_wins() {
    let mut response = Response::builder().status(503).body(()).unwrap();
    response.extensions_mut().insert(Verdict::REFUSED);
    assert_eq!(response.verdict().class(), Class::Refused);
}

#[test]
fn grpc_is_judged_by_its_trailers() {
    let response = Response::builder()
        .header("content-type", "application/grpc+proto")
        .body(())
        .unwrap();
    let head = response.verdict();
    assert_eq!(head.class(), Class::Success);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "14".parse().unwrap());
    let end = Auto.end(head, End::Trailers(&trailers));
    assert_eq!((end.class(), end.grpc_code()), (Class::Failure, Some(14)));
    assert_eq!(Auto.end(head, End::Unread).class(), Class::Cancelled);
}

#[test]
fn only_a_success_can_still_turn() {
    let head = Verdict::http(StatusCode::SERVICE_UNAVAILABLE);
    for end in [
        End::Clean,
        End::Broken(Verdict::FAILURE),
        End::Unread,
        End::Dropped,
    ] {
        assert_eq!(Auto.end(head, end), head);
    }
    let ok = Verdict::http(StatusCode::OK);
    assert_eq!(
        Auto.end(ok, End::Broken(Verdict::FAILURE)).class(),
        Class::Failure
    );
    assert_eq!(Auto.end(ok, End::Unread).class(), Class::Success);
    assert_eq!(Auto.end(ok, End::Dropped).class(), Class::Cancelled);
}

/// A body that a layer of ours ends, or the caller's own, is judged as that, and not as a failure of the service.
#[test]
fn what_broke_a_body_says_its_error() {
    let ok = Verdict::http(StatusCode::OK);
    for (kind, class) in [
        (Kind::Timeout, Class::Timeout),
        (Kind::Reset, Class::Unreachable),
        (Kind::BodyTimeout, Class::Cancelled),
        (Kind::Overloaded, Class::Refused),
        (Kind::Internal, Class::Failure),
    ] {
        let said = Rejection::new(kind, "x").verdict();
        let end = Auto.end(ok, End::Broken(said));
        assert_eq!((end.class(), end.http_status()), (class, Some(200)));
        let judged = Ending::new(Auto, ok);
        assert!(judged.end(End::Clean).is_success());
        assert_eq!(judged.end(End::Broken(said)).class(), class);
    }
    // What broke off did not go well, whatever it says.
    for class in [Class::Success, Class::ClientFault] {
        let end = Auto.end(ok, End::Broken(Verdict::new(class)));
        assert_eq!(end.class(), Class::Failure);
    }
}

#[test]
fn retry_after_is_read_from_refusals_only() {
    let response = Response::builder()
        .status(503)
        .header("retry-after", "2")
        .body(())
        .unwrap();
    assert_eq!(
        response.verdict().retry_after(),
        Some(Duration::from_secs(2))
    );
    let response = Response::builder()
        .status(200)
        .header("retry-after", "2")
        .body(())
        .unwrap();
    assert_eq!(response.verdict().retry_after(), None);
}

fn grpc(content_type: &str, status: u16, code: Option<&str>) -> Response<()> {
    let mut response = Response::builder()
        .status(status)
        .header("content-type", content_type);
    if let Some(code) = code {
        response = response.header("grpc-status", code);
    }
    response.body(()).unwrap()
}

#[test]
fn grpc_that_ends_without_a_status_is_unknown() {
    let head = grpc("application/grpc", 200, None).verdict();
    assert_eq!(head.class(), Class::Success);
    assert_eq!(head.grpc_code(), None, "not said yet");
    for end in [End::Clean, End::Trailers(&HeaderMap::new())] {
        let end = Auto.end(head, end);
        assert_eq!((end.class(), end.grpc_code()), (Class::Failure, Some(2)));
    }
    // Trailers-only: the head is the end.
    let head = grpc("application/grpc", 200, Some("0")).verdict();
    assert_eq!(Auto.end(head, End::Clean).class(), Class::Success);
    assert_eq!(Auto.end(head, End::Unread).class(), Class::Success);
    let head = grpc("application/grpc", 200, Some("5")).verdict();
    assert_eq!(head.class(), Class::ClientFault);
    assert_eq!(Auto.end(head, End::Clean).grpc_code(), Some(5));
}

#[test]
fn what_only_http_can_judge_is_judged_by_http() {
    let page = grpc("application/grpc", 503, None).verdict();
    assert_eq!(
        (page.class(), page.http_status()),
        (Class::Failure, Some(503))
    );
    let web = grpc("application/grpc-web+proto", 200, None).verdict();
    assert_eq!(Auto.end(web, End::Clean).class(), Class::Success);
    let web = grpc("application/grpc-web+proto", 200, Some("14")).verdict();
    assert_eq!(web.class(), Class::Failure);
}

#[test]
fn a_pushback_is_a_wait_or_forbids() {
    let said = |value: &str| {
        let mut response = grpc("application/grpc", 200, Some("14"));
        response
            .headers_mut()
            .insert("grpc-retry-pushback-ms", value.parse().unwrap());
        let verdict = response.verdict();
        (verdict.retry_after(), verdict.forbids_retry())
    };
    assert_eq!(said("1500"), (Some(Duration::from_millis(1500)), false));
    for value in ["-1", "soon", ""] {
        assert_eq!(said(value), (None, true), "{value}");
    }
    assert!(!Verdict::FAILURE.forbids_retry());
    let long = Verdict::FAILURE.with_retry_after(Duration::MAX);
    assert!(long.retry_after().is_some() && !long.forbids_retry());
}

#[test]
fn the_outermost_word_on_an_error_counts() {
    let judged = |verdict, source: BoxError| -> BoxError { Judged::new(verdict, source).into() };
    let refused: BoxError = Rejection::new(Kind::CircuitOpen, "breaker").into();
    assert_eq!(Verdict::of_error(&refused).class(), Class::Refused);
    let other = judged(Verdict::SUCCESS, refused);
    assert_eq!(Verdict::of_error(&other), Verdict::SUCCESS);
    assert!(
        Rejection::find(&*other).is_some(),
        "the cause can still be found"
    );
    let io = std::io::Error::other(judged(Verdict::TIMEOUT, "late".into()));
    assert_eq!(Verdict::of_error(&io), Verdict::TIMEOUT);
    assert_eq!(Verdict::of_error(&BoxError::from(io)), Verdict::TIMEOUT);
    let bare = Judged::new(Verdict::REFUSED, "x");
    assert_eq!(Verdict::of_error(&bare), Verdict::REFUSED);
}

#[test]
fn an_ending_is_asked_once_and_a_later_break_still_counts() {
    #[derive(Clone, Default)]
    struct Counts(std::sync::Arc<std::sync::atomic::AtomicU32>);
    impl ClassifyEnd for Counts {
        fn end(&self, head: Verdict, end: End<'_>) -> Verdict {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            match end {
                End::Dropped => Verdict::SUCCESS,
                _ => default_end(head, &end),
            }
        }
    }
    let counts = Counts::default();
    let ending = Ending::new(counts.clone(), Verdict::http(StatusCode::OK));
    assert!(ending.end(End::Clean).is_success());
    assert!(ending.end(End::Trailers(&HeaderMap::new())).is_success());
    assert_eq!(
        ending.end(End::Broken(Verdict::FAILURE)).class(),
        Class::Failure
    );
    assert_eq!(counts.0.load(std::sync::atomic::Ordering::Relaxed), 1);
    let ending = Ending::new(counts, Verdict::http(StatusCode::OK));
    assert_eq!(ending.end(End::Dropped), Verdict::SUCCESS);
    assert_eq!(
        ending.end(End::Dropped),
        Verdict::SUCCESS,
        "its own word on it stays"
    );
}
