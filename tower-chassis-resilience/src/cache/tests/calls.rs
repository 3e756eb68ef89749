//! The cache as its users see it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::advance;
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, BoxError, Events, Kind, Rejection,
    events::{Event, Received},
    testing::{ControlledService, Hand, Plan, Polled},
    verdict::OkIsSuccess,
};
use tower_layer::Layer;

use super::super::{CacheHandle, CacheLayer, CachePolicy};
use crate::share::{HttpKey, HttpKeys, StoredBody};

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> CachePolicy {
    CachePolicy::new(10 * SECOND).unwrap()
}

type Make = Arc<dyn Fn(u32, &Request<Body>) -> Result<Response<Body>, BoxError> + Send + Sync>;

/// A cache over a service that is given the number of its call.
struct Rig {
    calls: Arc<AtomicU32>,
    handle: CacheHandle<HttpKey>,
    service: tower::util::BoxCloneService<Request<Body>, Response<StoredBody<Body>>, BoxError>,
}

fn rig(
    change: impl FnOnce(
        CacheLayer<HttpKeys, HttpKey, crate::share::Http>,
    ) -> CacheLayer<HttpKeys, HttpKey, crate::share::Http>,
    make: impl Fn(u32, &Request<Body>) -> Result<Response<Body>, BoxError> + Send + Sync + 'static,
) -> Rig {
    rig_with(HttpKeys::new(), policy(), change, make)
}

fn rig_with(
    keys: HttpKeys,
    policy: CachePolicy,
    change: impl FnOnce(
        CacheLayer<HttpKeys, HttpKey, crate::share::Http>,
    ) -> CacheLayer<HttpKeys, HttpKey, crate::share::Http>,
    make: impl Fn(u32, &Request<Body>) -> Result<Response<Body>, BoxError> + Send + Sync + 'static,
) -> Rig {
    let (calls, make): (Arc<AtomicU32>, Make) = (Arc::default(), Arc::new(make));
    let layer = change(CacheLayer::http(policy, keys));
    let inner = service_fn({
        let calls = Arc::clone(&calls);
        move |request: Request<Body>| {
            let n = calls.fetch_add(1, Relaxed);
            let made = make(n, &request);
            async move { made }
        }
    });
    Rig {
        handle: layer.handle(),
        service: tower::util::BoxCloneService::new(layer.layer(inner)),
        calls,
    }
}

impl Rig {
    async fn send(
        &self,
        request: http::request::Builder,
    ) -> Result<(Response<()>, String), BoxError> {
        let response = self
            .service
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok((
            Response::from_parts(head, ()),
            String::from_utf8(body.to_vec()).unwrap(),
        ))
    }

    async fn get(&self, uri: &str) -> String {
        self.send(Request::get(uri)).await.unwrap().1
    }

    fn calls(&self) -> u32 {
        self.calls.load(Relaxed)
    }
}

fn numbered(n: u32, _: &Request<Body>) -> Result<Response<Body>, BoxError> {
    Ok(Response::new(Body::from(n.to_string())))
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_given_again_for_its_time() {
    let rig = rig(|layer| layer, numbered);
    assert_eq!(
        (rig.get("/a").await, rig.get("/a").await),
        ("0".into(), "0".into())
    );
    assert_eq!(
        (rig.get("/b").await, rig.get("/a?x").await),
        ("1".into(), "2".into())
    );
    advance(9 * SECOND).await;
    let (head, body) = rig.send(Request::get("/a")).await.unwrap();
    assert_eq!(
        (head.headers()["age"].to_str().unwrap(), &*body),
        ("9", "0")
    );
    advance(SECOND).await;
    assert_eq!(rig.get("/a").await, "3");
    assert_eq!(
        (rig.handle.hits(), rig.handle.misses(), rig.handle.len()),
        (2, 4, 3)
    );
    // A service that has a shorter time in mind.
    rig.handle.update(|config| config.ttl = SECOND).unwrap();
    assert_eq!(
        (rig.get("/c").await, rig.get("/c").await),
        ("4".into(), "4".into())
    );
    advance(SECOND).await;
    assert_eq!(rig.get("/c").await, "5");
    assert!(
        rig.handle.remove(HttpKeys::key_of("/c")) && !rig.handle.remove(HttpKeys::key_of("/c"))
    );
    assert_eq!(rig.get("/c").await, "6");
    rig.handle.clear();
    assert_eq!(
        (rig.handle.len(), rig.handle.bytes(), rig.handle.is_empty()),
        (0, 0, true)
    );
    rig.handle.update(|config| config.enabled = false).unwrap();
    assert_eq!(
        (rig.get("/c").await, rig.get("/c").await),
        ("7".into(), "8".into())
    );
}

impl HttpKeys {
    /// The key of a `GET` of `uri`.
    fn key_of(uri: &str) -> HttpKey {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        crate::share::KeyBy::key(&Self::new(), &request).unwrap()
    }
}

/// What one user was answered is not given to another, whatever the users forget to say.
#[tokio::test(start_paused = true)]
async fn users_are_not_mixed() {
    let who = |_: u32, request: &Request<Body>| {
        let who = request
            .headers()
            .iter()
            .map(|(_, value)| value.to_str().unwrap());
        Ok(Response::new(Body::from(who.collect::<String>())))
    };
    let rig = rig(|layer| layer, who);
    for header in ["cookie", "authorization", "proxy-authorization"] {
        for user in ["ann", "bob", "ann"] {
            let (_, body) = rig
                .send(Request::get("/me").header(header, user))
                .await
                .unwrap();
            assert_eq!(body, user);
        }
    }
    assert_eq!((rig.calls(), rig.handle.len()), (9, 0));

    let keys = HttpKeys::new().credentials_in_key();
    let rig = rig_with(keys, policy(), |layer| layer, who);
    for header in ["cookie", "authorization"] {
        for user in ["ann", "bob", "ann"] {
            let (_, body) = rig
                .send(Request::get("/me").header(header, user))
                .await
                .unwrap();
            assert_eq!(body, user);
        }
    }
    assert_eq!((rig.calls(), rig.handle.len()), (4, 4));

    // The service says on what its answer depends, and the key does not cover it.
    let language = |_: u32, request: &Request<Body>| {
        let language = request.headers()["accept-language"]
            .to_str()
            .unwrap()
            .to_owned();
        Ok(Response::builder()
            .header("vary", "Accept-Language")
            .body(Body::from(language))?)
    };
    for (keys, calls) in [
        (HttpKeys::new(), 3),
        (HttpKeys::new().vary(["accept-language"]).unwrap(), 2),
    ] {
        let rig = rig_with(keys, policy(), |layer| layer, language);
        for language in ["en", "de", "en"] {
            let (_, body) = rig
                .send(Request::get("/").header("accept-language", language))
                .await
                .unwrap();
            assert_eq!(body, language);
        }
        assert_eq!(rig.calls(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_is_good_and_public_is_kept() {
    for (status, name, value, kept) in [
        (200, "x", "y", true),
        (204, "x", "y", true),
        (301, "x", "y", true),
        (200, "set-cookie", "a=b", false),
        (200, "cache-control", "private", false),
        (200, "cache-control", "no-store", false),
        (200, "cache-control", "max-age=0", false),
        (200, "cache-control", "max-age=5, s-maxage=0", false),
        (200, "cache-control", "max-age=soon", false),
        (200, "vary", "*", false),
        // Says of old that it is none to keep.
        (200, "expires", "0", false),
        (200, "pragma", "no-cache", false),
        (302, "location", "/login?nonce=1", false),
        (404, "x", "y", false),
        (429, "x", "y", false),
        // Fault 25: in others every `Ok` is kept.
        (500, "x", "y", false),
    ] {
        let rig = rig(
            |layer| layer,
            move |_, _| {
                Ok(Response::builder()
                    .status(status)
                    .header(name, value)
                    .body(Body::from("a"))?)
            },
        );
        rig.get("/").await;
        assert_eq!(rig.get("/").await, "a");
        assert_eq!(
            rig.calls(),
            if kept { 1 } else { 2 },
            "{status} {name}: {value}"
        );
        // Nor is what is no GET.
        rig.send(Request::post("/")).await.unwrap();
        rig.send(Request::put("/")).await.unwrap();
        assert_eq!(rig.calls(), if kept { 3 } else { 4 });
    }
    // A shorter time that the answer names, less what it has spent in a cache further in.
    let rig = rig(
        |layer| layer,
        |_, _| {
            Ok(Response::builder()
                .header("cache-control", "public, max-age=8")
                .header("age", "3")
                .body(Body::empty())?)
        },
    );
    rig.get("/").await;
    advance(4 * SECOND).await;
    let (head, _) = rig.send(Request::get("/")).await.unwrap();
    assert_eq!(head.headers()["age"], "7");
    advance(SECOND).await;
    rig.get("/").await;
    assert_eq!(rig.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_long_body_passes_and_many_are_bounded() {
    let sized = |_: u32, request: &Request<Body>| {
        let len = request.uri().path()[1..].parse().unwrap();
        Ok(Response::new(Body::from("x".repeat(len))))
    };
    let rig = rig(|layer| layer.body_limit(1_000), sized);
    assert_eq!(rig.get("/1001").await.len(), 1001);
    assert_eq!(rig.handle.len(), 0);
    rig.handle
        .update(|config| (config.max_entries, config.max_bytes) = (100, 50_000))
        .unwrap();
    for len in 0..1_000 {
        rig.get(&format!("/{len}")).await;
        assert!(rig.handle.len() <= 100 && rig.handle.bytes() <= 50_000);
    }
    assert!(rig.handle.len() >= 20, "{}", rig.handle.len());
    // The key counts: a client may choose it as long as it likes.
    rig.handle.clear();
    rig.get(&format!("/1?{}", "y".repeat(60_000))).await;
    assert_eq!(rig.handle.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_old_answer_is_better_than_a_failure() {
    for (fails, stale) in [
        (Kind::Unreachable, true),
        (Kind::CircuitOpen, true),
        (Kind::Timeout, true),
        (Kind::Forbidden, false),
        (Kind::RateLimited, false),
    ] {
        let policy = policy()
            .with(|config| config.stale_if_error = 20 * SECOND)
            .unwrap();
        let make = move |n: u32, _: &Request<Body>| match n {
            0 => Ok(Response::new(Body::from("old"))),
            1 => Err(Rejection::new(fails, "test").into()),
            2 => Ok(Response::builder()
                .status(fails.status())
                .body(Body::from("failed"))?),
            _ => Err("gone".into()),
        };
        let rig = rig_with(HttpKeys::new(), policy, |layer| layer, make);
        rig.get("/").await;
        advance(10 * SECOND).await;
        assert_eq!(
            rig.send(Request::get("/")).await.is_ok(),
            stale,
            "{fails:?}"
        );
        assert_eq!(rig.get("/").await, if stale { "old" } else { "failed" });
        advance(20 * SECOND).await;
        assert!(rig.send(Request::get("/")).await.is_err());
    }
}

/// What was asked for before it was emptied does not come in after.
#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_is_not_kept_when_it_is_emptied() {
    let layer = CacheLayer::new(policy(), |key: &u32| Some(*key)).classify(OkIsSuccess);
    let inner: ControlledService<u32, BoxError> = ControlledService::answering(|| 7);
    let control = inner.control();
    control.plan(Plan::answer().held());
    let (service, handle) = (layer.layer(inner), layer.handle());
    for empties in [
        |handle: &CacheHandle<u32>| handle.clear(),
        |handle: &CacheHandle<u32>| _ = handle.remove(1),
    ] {
        let mut hand = Hand::new(service.clone().oneshot(1));
        assert!(matches!(hand.poll(), Polled::Pending));
        empties(&handle);
        control.release();
        assert!(matches!(hand.poll(), Polled::Ready(Ok(7))));
        assert_eq!(handle.len(), 0);
    }
}

/// Fault 25: in others a hit needs the inner service to be ready.
#[tokio::test(start_paused = true)]
async fn a_hit_needs_nothing_of_the_service() {
    let layer = CacheLayer::new(policy(), |key: &u32| (*key != 0).then_some(*key));
    let layer = layer.classify(OkIsSuccess);
    let inner: ControlledService<u32, BoxError> = ControlledService::answering(|| 7);
    let control = inner.control();
    let service = layer.layer(inner);
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 7);
    control.slots(0);
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 7);
    assert_eq!(control.counts().calls, 1);
    // A miss waits, in its call.
    let mut hand = Hand::new(service.clone().oneshot(2));
    assert!(matches!(hand.poll(), Polled::Pending));
    control.slots(1);
    assert!(hand.is_woken() && matches!(hand.poll(), Polled::Ready(Ok(7))));
    // One that is ready and not needed is let go.
    let mut ready = service.clone();
    ServiceExt::<u32>::ready(&mut ready).await.unwrap();
    assert_eq!(control.counts().reserved, 1);
    assert_eq!(ready.call(1).await.unwrap(), 7);
    assert_eq!(
        (control.counts().reserved, control.counts().unready_calls),
        (0, 0)
    );
    control.fail_ready();
    assert!(service.clone().oneshot(1).await.is_ok());
    control.plan(Plan::error());
    assert!(service.clone().oneshot(3).await.is_err());
    assert!(service.oneshot(0).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_poll_it_leaves_nothing() {
    for polls in 0..4 {
        let inner: ControlledService = ControlledService::new();
        let control = inner.control();
        control.plan(Plan::answer().after_polls(2));
        let layer = CacheLayer::http(policy(), HttpKeys::new());
        let handle = layer.handle();
        {
            let service = layer.layer(inner);
            let mut hand = Hand::new(async move {
                let request = Request::get("/").body(Body::empty()).unwrap();
                let response: Response<StoredBody<Body>> = service.oneshot(request).await.unwrap();
                let mut body = response.into_body();
                _ = body.frame().await;
                // The rest is never read.
                std::future::pending::<()>().await;
            });
            for _ in 0..polls {
                assert!(matches!(hand.poll(), Polled::Pending));
                control.nudge();
            }
        }
        let counts = control.counts();
        assert_eq!(
            (
                counts.in_flight,
                counts.reserved,
                counts.bodies,
                counts.instances
            ),
            (0, 0, 0, 0)
        );
        assert_eq!(handle.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_call_is_reported() {
    let events = Events::new();
    let mut stream = events.subscribe(8);
    let rig = rig(|layer| layer.named("pages").events(events), numbered);
    rig.get("/").await;
    rig.get("/").await;
    rig.send(Request::post("/")).await.unwrap();
    for result in ["miss", "hit", "bypass"] {
        assert_eq!(
            stream.try_recv().unwrap(),
            Received::Event(Event::cache("pages", result))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_driven_out_is_reported_and_counted() {
    let events = Events::new();
    let mut stream = events.subscribe(10_000);
    let rig = rig(|layer| layer.named("pages").events(events), numbered);
    let mut evicted = move || {
        let mut evicted = Vec::new();
        while let Ok(Received::Event(event)) = stream.try_recv() {
            if let Event::CacheEvicted { name, count, .. } = event {
                assert_eq!(&*name, "pages");
                evicted.push(count);
            }
        }
        evicted
    };
    rig.get("/1").await;
    // A new answer in place of an old one, and one that is taken away by hand, drive nothing out.
    advance(20 * SECOND).await;
    rig.get("/1").await;
    assert!(rig.handle.remove(HttpKeys::key_of("/1")));
    assert_eq!((evicted(), rig.handle.evictions()), (vec![], 0));
    let room = |entries| {
        let change = |config: &mut super::super::CacheConfig| config.max_entries = entries;
        rig.handle.update(change).unwrap();
    };
    room(10_000);
    for page in 0..200 {
        rig.get(&format!("/{page}")).await;
    }
    assert_eq!((evicted(), rig.handle.evictions()), (vec![], 0));
    room(100);
    let (sent, left) = (evicted(), rig.handle.len());
    assert_eq!((sent, left), (vec![200 - left], left));
    // Each shard has its share of the room: a page goes for one that falls into a full one.
    for page in 200..300 {
        rig.get(&format!("/{page}")).await;
    }
    let gone = 200 - left + evicted().iter().sum::<usize>();
    assert_eq!(gone, 300 - rig.handle.len());
    assert_eq!(rig.handle.evictions(), gone as u64);
}

/// What a type holds on the heap is seen by whoever knows the type.
#[tokio::test(start_paused = true)]
async fn answers_and_keys_of_ones_own_are_bounded_by_their_bytes() {
    let policy = policy().with(|config| config.max_bytes = 16 * 10_000);
    let layer = CacheLayer::new(policy.unwrap(), |key: &String| Some(key.clone()));
    let layer = layer.weigh(|answer: &String| answer.len());
    let layer = layer.weigh_keys(|key| key.len()).classify(OkIsSuccess);
    let handle = layer.handle();
    let service = layer.layer(service_fn(async |key: String| {
        Ok::<_, BoxError>("x".repeat(key.len()))
    }));
    for n in 0..1_000 {
        let key = format!("{n:01000}");
        assert_eq!(service.clone().oneshot(key).await.unwrap().len(), 1_000);
        assert!(handle.bytes() <= 160_000 && handle.bytes() >= 2_000 * handle.len());
    }
    assert!((16..80).contains(&handle.len()), "{}", handle.len());
    // One that is longer than a shard is not kept.
    service.clone().oneshot("y".repeat(6_000)).await.unwrap();
    assert!(!handle.remove("y".repeat(6_000)));
}

#[test]
fn every_setting_is_checked_and_named() {
    let change: [(fn(&mut super::super::CacheConfig), &str); 5] = [
        (|config| config.ttl = Duration::ZERO, "ttl"),
        (|config| config.ttl = Duration::MAX, "ttl"),
        (
            |config| config.stale_if_error = Duration::MAX,
            "stale_if_error",
        ),
        (|config| config.max_entries = 0, "max_entries"),
        (|config| config.max_bytes = 0, "max_bytes"),
    ];
    for (change, field) in change {
        assert_eq!(policy().with(change).unwrap_err().field(), field);
    }
}

/// An origin may forbid it, whatever the policy says.
#[tokio::test(start_paused = true)]
async fn what_must_be_revalidated_is_not_given_when_it_is_old() {
    for (said, stale) in [("public", true), ("must-revalidate", false)] {
        let policy = policy()
            .with(|config| config.stale_if_error = 20 * SECOND)
            .unwrap();
        let make = move |n: u32, _: &Request<Body>| match n {
            0 => Ok(Response::builder()
                .header("cache-control", said)
                .body(Body::from("old"))?),
            _ => Err("gone".into()),
        };
        let rig = rig_with(HttpKeys::new(), policy, |layer| layer, make);
        assert_eq!(
            (rig.get("/").await, rig.get("/").await),
            ("old".into(), "old".into())
        );
        advance(10 * SECOND).await;
        assert_eq!(rig.send(Request::get("/")).await.is_ok(), stale, "{said}");
    }
}

/// Takes an answer away at the last moment before it is put in.
#[derive(Clone)]
struct Late;

thread_local! {
    static HANDLE: std::cell::RefCell<Option<CacheHandle<u32>>> = const { std::cell::RefCell::new(None) };
}

impl crate::share::Share<u32> for Late {
    type Response = u32;
    type Shared = u32;
    type Collect = std::future::Ready<crate::share::Collected<u32, u32>>;

    fn collect(&self, response: u32) -> Self::Collect {
        std::future::ready(crate::share::Collected::Shared(response))
    }
    fn tee<P: crate::share::Sink<u32>>(&self, response: u32, sink: P) -> u32 {
        sink.keep(response);
        response
    }
    fn pass(&self, response: u32) -> u32 {
        response
    }
    fn is_shareable(&self, _: &u32) -> bool {
        true
    }
    fn again(&self, shared: u32, _: Option<Duration>) -> u32 {
        shared
    }
    fn weight(_: &u32) -> usize {
        HANDLE.with_borrow(|handle| handle.as_ref().map(|handle| handle.remove(7)));
        1
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_away_while_it_is_put_in_stays_away() {
    let layer = CacheLayer::new(policy(), |key: &u32| Some(*key));
    let layer = layer.classify(OkIsSuccess).share(Late);
    let handle = layer.handle();
    HANDLE.set(Some(handle.clone()));
    let service = layer.layer(service_fn(async |key: u32| Ok::<_, BoxError>(key)));
    service.oneshot(7).await.unwrap();
    HANDLE.set(None);
    assert_eq!(handle.len(), 0);
}
