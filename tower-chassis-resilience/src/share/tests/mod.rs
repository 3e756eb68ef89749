//! Which requests are the same, and which answers may be shared.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tower_chassis_core::Body;

use super::*;

fn get(uri: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).unwrap()
}

#[test]
fn what_an_answer_depends_on_is_in_the_key() {
    let keys = HttpKeys::new().vary(["accept"]).unwrap();
    let key = |uri, headers: &[_]| keys.key(&get(uri, headers)).unwrap();
    let base = key("/a?x=1", &[("host", "one.test"), ("accept", "a")]);
    for (uri, headers) in [
        ("/a?x=2", [("host", "one.test"), ("accept", "a")]),
        ("/A?x=1", [("host", "one.test"), ("accept", "a")]),
        ("/a", [("host", "one.test"), ("accept", "a")]),
        ("/a?x=1", [("host", "two.test"), ("accept", "a")]),
        ("/a?x=1", [("host", "one.test"), ("accept", "b")]),
        ("/a?x=1", [("host", "one.test"), ("x", "a")]),
        (
            "http://two.test/a?x=1",
            [("host", "one.test"), ("accept", "a")],
        ),
        (
            "https://one.test/a?x=1",
            [("host", "one.test"), ("accept", "a")],
        ),
    ] {
        assert_ne!(key(uri, &headers), base, "{uri} {headers:?}");
    }
    assert_eq!(
        key(
            "/a?x=1",
            &[("host", "One.Test"), ("x", "y"), ("accept", "a")]
        ),
        base
    );
    let mut head = get("/a?x=1", &[("host", "one.test"), ("accept", "a")]);
    *head.method_mut() = http::Method::HEAD;
    assert_ne!(keys.key(&head).unwrap(), base);
    assert_eq!(format!("{base:?}"), "HttpKey { len: 25 }");
}

#[test]
fn what_is_private_or_partial_passes_by() {
    let keys = HttpKeys::new();
    for header in [
        ("authorization", "Bearer x"),
        ("cookie", "session=1"),
        ("proxy-authorization", "x"),
        ("range", "bytes=0-1"),
        ("if-none-match", "x"),
        ("cache-control", "max-age=0, No-Cache"),
        ("cache-control", "no-store"),
        ("pragma", "no-cache"),
        ("upgrade", "websocket"),
    ] {
        assert_eq!(keys.key(&get("/", &[header])), None, "{header:?}");
    }
    assert!(
        keys.key(&get("/", &[("cache-control", "max-age=0")]))
            .is_some()
    );
    let body = |method| {
        Request::builder()
            .method(method)
            .body(Full::new(Bytes::from("x")))
            .unwrap()
    };
    assert_eq!(keys.key(&body("GET")), None);
    let empty = |method| {
        Request::builder()
            .method(method)
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(keys.key(&empty("POST")), None);
    let keys = keys.credentials_in_key();
    let user = |session| keys.key(&get("/", &[("cookie", session)])).unwrap();
    assert_eq!(user("session=1"), user("session=1"));
    assert_ne!(user("session=1"), user("session=2"));
    assert_ne!(
        user("session=1"),
        keys.key(&get("/", &[("authorization", "session=1")]))
            .unwrap()
    );
    assert!(HttpKeys::new().vary(["no header"]).is_err());
}

/// The name of a host has no case, but who asks has.
#[test]
fn a_user_in_the_address_is_a_credential() {
    let keys = HttpKeys::new();
    assert_eq!(keys.key(&get("http://ann:secret@one.test/", &[])), None);
    let keys = keys.credentials_in_key();
    let key = |uri| keys.key(&get(uri, &[])).unwrap();
    assert_ne!(
        key("http://ann:Secret@one.test/"),
        key("http://ann:secret@one.test/")
    );
    assert_eq!(
        key("http://ann:secret@One.test/"),
        key("http://ann:secret@one.test/")
    );
}

/// A service may look at either. Whoever writes another host into one of them must not choose what others get.
#[test]
fn both_of_two_hosts_are_in_the_key() {
    let keys = HttpKeys::new();
    let key = |uri, headers: &[_]| keys.key(&get(uri, headers)).unwrap();
    let plain = key("http://one.test/", &[]);
    assert_eq!(key("http://one.test/", &[("host", "One.test")]), plain);
    let mixed = [
        plain,
        key("http://one.test/", &[("host", "two.test")]),
        key("http://two.test/", &[("host", "one.test")]),
        key("http://two.test/", &[]),
        key("/", &[("host", "one.test")]),
        key("/", &[("host", "one.test"), ("host", "two.test")]),
        key("/", &[("host", "two.test"), ("host", "one.test")]),
    ];
    for (index, one) in mixed.iter().enumerate() {
        assert!(!mixed[..index].contains(one), "{index}");
    }
}

/// Not every key to a door is called `authorization`.
#[test]
fn what_names_the_caller_is_a_credential() {
    for name in [
        "x-api-key",
        "x-auth-token",
        "x-amz-security-token",
        "x-forwarded-user",
        "x-forwarded-client-cert",
    ] {
        assert_eq!(
            HttpKeys::new().key(&get("/", &[(name, "ann")])),
            None,
            "{name}"
        );
        let of = |keys: &HttpKeys, user| keys.key(&get("/", &[(name, user)])).unwrap();
        let keys = HttpKeys::new().credentials_in_key();
        assert_ne!(of(&keys, "ann"), of(&keys, "bob"));
        // Whoever names it means it.
        let keys = HttpKeys::new().vary([name]).unwrap();
        assert_ne!(of(&keys, "ann"), of(&keys, "bob"));
        assert_eq!(of(&keys, "ann"), of(&keys, "ann"));
    }
}

#[test]
fn an_answer_for_one_is_not_for_all() {
    let rule = Http::new(10, HttpKeys::new().vary(["accept"]).unwrap().covered());
    for (header, shared) in [
        (("content-type", "text/html"), true),
        (("cache-control", "public, max-age=3"), true),
        (("vary", "Accept"), true),
        (("vary", "accept,"), true),
        (("vary", "accept, cookie"), false),
        (("vary", "*"), false),
        (("set-cookie", "a=b"), false),
        (("cache-control", "private"), false),
        (("cache-control", "private=\"x\""), false),
        (("cache-control", "max-age=1,no-store"), false),
        (("cache-control", "no-cache"), false),
        (("content-type", "Text/Event-Stream; charset=utf-8"), false),
        (("content-type", "application/grpc+proto"), false),
        (("content-range", "bytes 0-1/2"), false),
        (("content-type", "application/x-ndjson"), false),
        (("pragma", "no-cache"), false),
    ] {
        let response = Response::builder().header(header.0, header.1);
        let response = response.body(Body::from("0123456789")).unwrap();
        assert_eq!(rule.is_shareable(&response), shared, "{header:?}");
    }
    assert!(!rule.is_shareable(&Response::new(Body::from("0123456789a"))));
    for (status, shared, if_said) in [
        (200, true, true),
        (204, true, true),
        (301, true, true),
        (404, true, true),
        (410, true, true),
        (500, true, true),
        (503, true, true),
        // Where to go may be made for one caller, such as the way to a login.
        (302, false, true),
        (307, false, true),
        (202, false, true),
        // What is wrong with one request, or with who sent it.
        (400, false, false),
        (401, false, false),
        (403, false, false),
        (429, false, false),
        (431, false, false),
        (304, false, false),
        (206, false, false),
        (101, false, false),
    ] {
        let response = Response::builder().status(status);
        let mut response = response.body(Body::empty()).unwrap();
        assert_eq!(rule.is_shareable(&response), shared, "{status}");
        let said = http::HeaderValue::from_static("max-age=3");
        response.headers_mut().insert("cache-control", said);
        assert_eq!(rule.is_shareable(&response), if_said, "{status}");
    }
}

/// A body of these frames, which may break at its end.
fn body(
    frames: Vec<Vec<u8>>,
    trailers: bool,
    breaks: bool,
) -> impl http_body::Body<Data = Bytes, Error = String> + use<> {
    let mut frames: Vec<_> = frames
        .into_iter()
        .map(|f| Ok(http_body::Frame::data(Bytes::from(f))))
        .collect();
    if breaks {
        frames.push(Err("broke".to_owned()));
    } else if trailers {
        let mut map = http::HeaderMap::new();
        map.insert("x-last", http::HeaderValue::from_static("1"));
        frames.push(Ok(http_body::Frame::trailers(map)));
    }
    Frames(frames.into_iter())
}

struct Frames(std::vec::IntoIter<Result<http_body::Frame<Bytes>, String>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = String;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, String>>> {
        std::task::Poll::Ready(self.0.next())
    }
}

/// All bytes, whether there were trailers, and whether it broke.
async fn read(body: impl http_body::Body<Data = Bytes, Error = String>) -> (Vec<u8>, bool, bool) {
    let mut body = Box::pin(body);
    let (mut all, mut trailers) = (Vec::new(), false);
    while let Some(frame) = body.frame().await {
        match frame {
            Err(_) => return (all, trailers, true),
            Ok(frame) => match frame.into_data() {
                Ok(data) => all.extend_from_slice(&data),
                Err(_) => trailers = true,
            },
        }
    }
    (all, trailers, false)
}

#[derive(Clone, Default)]
struct Kept(std::sync::Arc<std::sync::Mutex<Vec<std::sync::Arc<StoredResponse>>>>);

impl Sink<std::sync::Arc<StoredResponse>> for Kept {
    fn keep(self, kept: std::sync::Arc<StoredResponse>) {
        self.0.lock().unwrap().push(kept);
    }
}

proptest! {
    /// Whatever the frames, whoever asks first gets what was sent, and what is kept is the same, if it is whole and fits.
    #[test]
    fn a_body_comes_through_as_it_was_sent(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..6),
        trailers: bool,
        breaks: bool,
        limit in 0_usize..40,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let rule = Http::new(limit, Vec::new());
            let sent = read(body(frames.clone(), trailers, breaks)).await;
            let fits = !breaks && sent.0.len() <= limit;

            let collected = rule.collect(Response::new(body(frames.clone(), trailers, breaks))).await;
            let response = match collected {
                Collected::Shared(shared) => {
                    assert!(fits);
                    <Http as Share<Response<Frames>>>::again(&rule, shared, None)
                }
                Collected::Apart(response) => {
                    assert!(!fits);
                    let (head, _) = response.into_parts();
                    let again = rule.collect(Response::new(body(frames.clone(), trailers, breaks))).await;
                    let Collected::Apart(again) = again else { panic!() };
                    assert_eq!(read(again.into_body()).await, sent);
                    drop(head);
                    return;
                }
            };
            assert_eq!(read(response.into_body()).await, sent);

            let kept = Kept::default();
            let sink = kept.clone();
            let passes = rule.tee(Response::new(body(frames.clone(), trailers, breaks)), sink);
            assert_eq!(read(passes.into_body()).await, sent);
            let kept = kept.0.lock().unwrap().pop();
            assert_eq!(kept.is_some(), fits);
            let again = <Http as Share<Response<Frames>>>::again(&rule, kept.unwrap(), None);
            assert_eq!(read(again.into_body()).await, sent);
        });
    }
}

#[tokio::test]
async fn a_body_that_is_left_half_read_is_not_kept() {
    let rule = Http::new(100, Vec::new());
    let kept = Kept::default();
    let frames = vec![b"one".to_vec(), b"two".to_vec()];
    let passes = rule.tee(Response::new(body(frames, false, false)), kept.clone());
    let mut half = Box::pin(passes.into_body());
    assert!(half.frame().await.is_some());
    drop(half);
    assert!(kept.0.lock().unwrap().is_empty());
    // hyper does not ask a body of known length for its end.
    let passes = rule.tee(Response::new(Full::new(Bytes::from("all"))), kept.clone());
    let mut whole = Box::pin(passes.into_body());
    assert!(whole.frame().await.is_some());
    drop(whole);
    assert_eq!(kept.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_said_of_one_connection_is_not_said_to_others() {
    let rule = Http::new(100, Vec::new());
    let response = || {
        let response = Response::builder()
            .header("connection", "close")
            .header("x", "y");
        response
            .header("transfer-encoding", "chunked")
            .body(Full::new(Bytes::from("all")))
            .unwrap()
    };
    let kept = Kept::default();
    let passes = rule.tee(response(), kept.clone());
    assert!(passes.headers().contains_key("connection"));
    assert!(passes.into_body().collect().await.is_ok());
    let teed = kept.0.lock().unwrap().pop().unwrap();
    let Collected::Shared(collected) = rule.collect(response()).await else {
        panic!()
    };
    for shared in [teed, collected] {
        let again = <Http as Share<Response<Full<Bytes>>>>::again(&rule, shared, None);
        assert_eq!(again.headers().keys().collect::<Vec<_>>(), ["x"]);
    }
}

/// A connection that closes early ends a body as if it were whole.
#[tokio::test]
async fn a_body_that_is_shorter_than_announced_is_not_kept() {
    let rule = Http::new(100, Vec::new());
    for (length, kept_at_all) in [("3", true), ("4", false)] {
        let kept = Kept::default();
        let response = Response::builder().header("content-length", length);
        let response = response.body(body(vec![b"all".to_vec()], false, false));
        let passes = rule.tee(response.unwrap(), kept.clone());
        assert_eq!(read(passes.into_body()).await.0, b"all");
        assert_eq!(kept.0.lock().unwrap().len() == 1, kept_at_all, "{length}");
    }
}
