//! What the callers of one key get, however the call ends.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::timeout;
use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{
    Body, BoxError, Class, Events, Kind, Rejection, Verdict,
    events::{Event, Received},
    testing::{Hand, Plan, Polled},
};
use tower_layer::Layer;

use super::{
    super::{CoalesceHandle, CoalesceLayer, CoalescePolicy, SharedError},
    rig,
};
use crate::share::HttpKeys;

fn ready<T>(polled: Polled<T>) -> T {
    match polled {
        Polled::Ready(output) => output,
        Polled::Pending => panic!("pending"),
        Polled::Panicked => panic!("panicked"),
    }
}

fn pending<T>(polled: Polled<T>) {
    assert!(matches!(polled, Polled::Pending));
}

/// Fault 9: in others who waits wakes itself, 251,731 polls in 200 ms.
#[test]
fn many_wait_for_one_call_and_each_is_polled_twice() {
    let rig = rig(100);
    rig.inner.control().plan(Plan::answer().held());
    let mut hands: Vec<_> = (0..100).map(|_| rig.call(1)).collect();
    for hand in &mut hands {
        pending(hand.poll());
        assert!(!hand.is_woken());
    }
    assert_eq!(rig.inner.control().counts().calls, 1);
    rig.inner.control().release();
    // Only two hear of it, of whom one drives.
    assert_eq!(hands.iter().filter(|hand| hand.is_woken()).count(), 2);
    let driver = hands.iter().position(Hand::is_woken).unwrap();
    hands.swap(0, driver);
    assert_eq!(ready(hands[0].poll()).unwrap(), 7);
    for hand in &mut hands[1..] {
        assert!(hand.is_woken());
        assert_eq!(ready(hand.poll()).unwrap(), 7);
        assert_eq!((hand.polls(), hand.self_wakes()), (2, 0));
    }
    assert_eq!((rig.handle.led(), rig.handle.joined()), (1, 99));
    assert_eq!(
        (rig.handle.in_flight(), rig.inner.control().counts().calls),
        (0, 1)
    );
    // What comes after the end is new.
    let mut next = rig.call(1);
    pending(next.poll());
    assert_eq!(rig.inner.control().counts().calls, 2);
}

/// Fault 10: in others a leader that is dropped fails all who wait.
#[test]
fn a_call_is_handed_on_until_nobody_is_left() {
    let rig = rig(100);
    let control = rig.inner.control();
    control.plan(Plan::answer().held());
    let mut hands: Vec<_> = (0..4).map(|_| rig.call(1)).collect();
    for hand in &mut hands {
        pending(hand.poll());
    }
    for left in (1..4).rev() {
        // The one who drives: it is woken as the call moves on.
        control.nudge();
        let driver = hands.iter().position(Hand::is_woken).unwrap();
        pending(hands[driver].poll());
        hands.remove(driver);
        assert_eq!((control.counts().in_flight, control.counts().calls), (1, 1));
        for hand in &mut hands {
            if hand.is_woken() {
                pending(hand.poll());
            }
        }
        assert_eq!(hands.len(), left);
    }
    control.release();
    assert!(hands[0].is_woken());
    assert_eq!(ready(hands[0].poll()).unwrap(), 7);

    let mut hands: Vec<_> = (0..4).map(|_| rig.call(1)).collect();
    for hand in &mut hands {
        pending(hand.poll());
    }
    drop(hands);
    assert_eq!(
        (control.counts().in_flight, control.counts().instances),
        (0, 2)
    );
    assert_eq!((rig.handle.in_flight(), control.counts().calls), (0, 2));
}

/// The one that was woken to take over is dropped before it does.
#[test]
fn an_heir_that_is_dropped_passes_it_on() {
    let rig = rig(100);
    let control = rig.inner.control();
    control.plan(Plan::answer().held());
    let mut hands: Vec<_> = (0..3).map(|_| rig.call(1)).collect();
    for hand in &mut hands {
        pending(hand.poll());
    }
    // The second drives: it was the first to come by after the call had begun.
    hands.remove(1);
    let heir = hands.iter().position(Hand::is_woken).unwrap();
    hands.remove(heir);
    assert!(hands[0].is_woken());
    pending(hands[0].poll());
    control.release();
    assert_eq!(ready(hands[0].poll()).unwrap(), 7);
    assert_eq!(control.counts().calls, 1);
}

/// Fault 10: in others the key of a call that panicked is taken for ever.
#[test]
fn a_panic_ends_the_wait_of_all_and_frees_the_key() {
    let rig = rig(100);
    let control = rig.inner.control();
    // In the future, in that of one who took over, and in `call` itself.
    for taken_over in [false, true] {
        control.next(Plan::panic().held());
        let mut hands: Vec<_> = (0..4).map(|_| rig.call(1)).collect();
        for hand in &mut hands {
            pending(hand.poll());
        }
        if taken_over {
            hands.remove(1);
            let heir = hands.iter().position(Hand::is_woken).unwrap();
            hands.swap(0, heir);
            pending(hands[0].poll());
        }
        control.release();
        assert!(matches!(hands[0].poll(), Polled::Panicked));
        for hand in &mut hands[1..] {
            assert!(hand.is_woken());
            let error = ready(hand.poll()).unwrap_err();
            assert_eq!(Rejection::find(&*error).unwrap().kind(), Kind::Internal);
        }
        assert_eq!((rig.handle.in_flight(), control.counts().in_flight), (0, 0));
        assert_eq!(ready(rig.call(1).poll()).unwrap(), 7);
    }
    control.next(Plan::panic_in_call());
    assert!(catch_unwind(AssertUnwindSafe(|| rig.call(1))).is_err());
    assert_eq!(rig.handle.in_flight(), 0);
    assert_eq!(ready(rig.call(1).poll()).unwrap(), 7);
}

#[test]
fn an_error_is_shared_with_its_source() {
    let rig = rig(100);
    let control = rig.inner.control();
    control.plan(Plan::error().held());
    let mut hands = [rig.call(1), rig.call(1)];
    for hand in &mut hands {
        pending(hand.poll());
    }
    control.release();
    for hand in &mut hands {
        let error = ready(hand.poll()).unwrap_err();
        let shared: &SharedError = error.downcast_ref().unwrap();
        let source = std::error::Error::source(shared).unwrap();
        assert_eq!(source.to_string(), shared.to_string());
        assert!(tower_chassis_core::testing::Marked::find(&*error).is_some());
    }
}

#[tokio::test]
async fn a_refusal_below_is_read_by_all() {
    let layer = CoalesceLayer::new(CoalescePolicy::default(), |key: &u32| Some(*key));
    let service = layer.layer(service_fn(async |_: u32| {
        tokio::task::yield_now().await;
        Err::<u32, BoxError>(Rejection::new(Kind::CircuitOpen, "breaker").into())
    }));
    let (one, two) = tokio::join!(service.clone().oneshot(1), service.oneshot(1));
    for error in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(Verdict::of_error(&error).class(), Class::Refused);
    }
}

#[test]
fn keys_without_number_and_keys_without_room_are_made_for_themselves() {
    let rig = rig(1);
    let control = rig.inner.control();
    control.plan(Plan::answer().held());
    let hands = [
        rig.call(0),
        rig.call(0),
        rig.call(1),
        rig.call(1),
        rig.call(2),
        rig.call(2),
    ];
    assert_eq!(control.counts().calls, 5);
    assert_eq!((rig.handle.in_flight(), rig.handle.joined()), (1, 1));
    drop(hands);
    let mut two = [rig.call(2), rig.call(2)];
    assert_eq!(control.counts().calls, 6);
    rig.handle.update(|config| config.enabled = false).unwrap();
    let mut third = rig.call(2);
    assert_eq!(control.counts().calls, 7);
    pending(third.poll());
    for hand in &mut two {
        pending(hand.poll());
    }
    control.release();
    for hand in &mut two {
        assert_eq!(ready(hand.poll()).unwrap(), 7);
    }
    assert!(rig.handle.update(|config| config.max_keys = 0).is_err());
}

/// Whoever waits for a call needs no place of its own.
#[test]
fn a_full_service_is_no_reason_to_wait_for_it() {
    let rig = rig(100);
    let control = rig.inner.control();
    control.plan(Plan::answer().held());
    control.slots(1);
    let mut hands = [rig.call(1), rig.call(1), rig.call(1)];
    let mut other = rig.call(2);
    for hand in &mut hands {
        pending(hand.poll());
    }
    pending(other.poll());
    assert_eq!(
        (control.counts().calls, control.counts().unready_calls),
        (1, 0)
    );
    control.release();
    for hand in &mut hands {
        assert_eq!(ready(hand.poll()).unwrap(), 7);
    }
    // The other key was waiting in its call.
    assert!(other.is_woken());
    pending(other.poll());
    control.release();
    assert_eq!(ready(other.poll()).unwrap(), 7);
    assert_eq!(
        (control.counts().reserved, control.counts().in_flight),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_one_is_nothing_to_the_others() {
    let calls = Arc::new(AtomicU32::new(0));
    let layer = CoalesceLayer::new(CoalescePolicy::default(), |key: &u32| Some(*key));
    let service = layer.layer(service_fn({
        let calls = Arc::clone(&calls);
        move |n: u32| {
            calls.fetch_add(1, Relaxed);
            async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, Infallible>(n)
            }
        }
    }));
    let short = timeout(Duration::from_millis(50), service.clone().oneshot(1));
    let long = timeout(Duration::from_millis(150), service.clone().oneshot(1));
    let (short, long) = tokio::join!(short, long);
    assert!(short.is_err());
    assert_eq!((long.unwrap().unwrap(), calls.load(Relaxed)), (1, 1));
}

fn answers(
    calls: &Arc<AtomicU32>,
    make: fn() -> Response<Body>,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ use<> {
    let calls = Arc::clone(calls);
    service_fn(move |_: Request<Body>| {
        calls.fetch_add(1, Relaxed);
        async move {
            // Whoever joins may poll it.
            for _ in 0..4 {
                tokio::task::yield_now().await;
            }
            Ok(make())
        }
    })
}

#[tokio::test]
async fn http_answers_are_shared_unless_they_are_private_or_long() {
    let makes: [(fn() -> Response<Body>, u32); 6] = [
        (|| Response::new(Body::from("0123456789")), 1),
        (
            || {
                Response::builder()
                    .header("set-cookie", "a=1")
                    .body(Body::from("0123456789"))
                    .unwrap()
            },
            3,
        ),
        (
            || {
                Response::builder()
                    .header("cache-control", "max-age=1, Private")
                    .body(Body::from("0123456789"))
                    .unwrap()
            },
            3,
        ),
        (
            || {
                Response::builder()
                    .header("vary", "accept, origin")
                    .body(Body::from("0123456789"))
                    .unwrap()
            },
            3,
        ),
        (
            || {
                Response::builder()
                    .header("vary", "Accept")
                    .body(Body::from("0123456789"))
                    .unwrap()
            },
            1,
        ),
        (
            || {
                Response::builder()
                    .header("x", "long")
                    .body(Body::from("0123456789a"))
                    .unwrap()
            },
            3,
        ),
    ];
    for (make, expected) in makes {
        let calls = Arc::default();
        let keys = HttpKeys::new().vary(["accept"]).unwrap();
        let layer = CoalesceLayer::http(CoalescePolicy::default(), keys).body_limit(10);
        let service = layer.layer(answers(&calls, make));
        let get = || {
            service
                .clone()
                .oneshot(Request::get("/").body(Body::empty()).unwrap())
        };
        let (one, two, three) = tokio::join!(get(), get(), get());
        let expected_body = make().into_body().collect().await.unwrap().to_bytes();
        for response in [one, two, three] {
            let (head, body) = response.unwrap().into_parts();
            assert_eq!(head.headers, make().into_parts().0.headers);
            assert_eq!(body.collect().await.unwrap().to_bytes(), expected_body);
        }
        assert_eq!(calls.load(Relaxed), expected, "{:?}", make());
    }
}

#[tokio::test]
async fn a_call_that_joins_is_reported() {
    let events = Events::new();
    let mut stream = events.subscribe(4);
    let layer = CoalesceLayer::new(CoalescePolicy::default(), |key: &u32| Some(*key));
    let layer = layer.named("stock").events(events);
    let service = layer.layer(service_fn(async |n: u32| {
        tokio::task::yield_now().await;
        Ok::<_, Infallible>(n)
    }));
    let (one, two) = tokio::join!(service.clone().oneshot(1), service.oneshot(1));
    assert_eq!((one.unwrap(), two.unwrap()), (1, 1));
    assert_eq!(
        stream.try_recv().unwrap(),
        Received::Event(Event::coalesced("stock"))
    );
    assert!(stream.try_recv().is_err());
}

/// A limit by client, inside, refuses the one who leads. That says nothing of the others.
#[tokio::test]
async fn what_is_refused_to_one_caller_is_not_refused_to_others() {
    for (kind, shared) in [
        (Kind::RateLimited, false),
        (Kind::Forbidden, false),
        (Kind::Unauthenticated, false),
        (Kind::BadRequest, false),
        (Kind::BodyTooLarge, false),
        (Kind::DeadlineExceeded, false),
        (Kind::CircuitOpen, true),
        (Kind::Timeout, true),
    ] {
        let layer = CoalesceLayer::new(CoalescePolicy::default(), |_: &&str| Some(()));
        let service = layer.layer(service_fn(move |client: &'static str| async move {
            tokio::task::yield_now().await;
            match client {
                "greedy" => Err::<_, BoxError>(Rejection::new(kind, "test").into()),
                _ => Ok(7),
            }
        }));
        let (one, two) = tokio::join!(service.clone().oneshot("greedy"), service.oneshot("ann"));
        assert!(one.is_err());
        assert_eq!(two.is_err(), shared, "{kind:?}");
    }
    let layer = CoalesceLayer::http(CoalescePolicy::default(), HttpKeys::new());
    let service = layer.layer(service_fn(async |request: Request<Body>| {
        tokio::task::yield_now().await;
        let status = if request.headers().contains_key("x-long") {
            431
        } else {
            200
        };
        Response::builder().status(status).body(Body::empty())
    }));
    let bad = Request::get("/")
        .header("x-long", "x")
        .body(Body::empty())
        .unwrap();
    let good = Request::get("/").body(Body::empty()).unwrap();
    let (one, two) = tokio::join!(service.clone().oneshot(bad), service.oneshot(good));
    assert_eq!(
        (
            one.unwrap().status().as_u16(),
            two.unwrap().status().as_u16()
        ),
        (431, 200)
    );
}

/// A call that takes so many steps, each of which is allowed from outside.
fn steps(
    count: usize,
) -> (
    tokio::sync::mpsc::UnboundedSender<()>,
    CoalesceHandle<u32>,
    impl Service<u32, Response = u32, Error = BoxError, Future: 'static> + Clone,
) {
    let (step, steps) = tokio::sync::mpsc::unbounded_channel();
    let steps = Arc::new(tokio::sync::Mutex::new(steps));
    let layer = CoalesceLayer::new(CoalescePolicy::default(), |key: &u32| Some(*key));
    let service = layer.layer(service_fn(move |n: u32| {
        let steps = Arc::clone(&steps);
        async move {
            let mut steps = steps.lock().await;
            for _ in 0..count {
                steps.recv().await;
            }
            Ok::<_, Infallible>(n)
        }
    }));
    (step, layer.handle(), service)
}

fn called<S>(service: &S) -> Hand<Result<u32, BoxError>>
where
    S: Service<u32, Response = u32, Error = BoxError, Future: 'static> + Clone,
{
    let mut service = service.clone();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    Hand::new(service.call(7))
}

/// Whichever of them is neither polled nor dropped from some time on, as behind a `select!` that does something else.
#[test]
fn one_that_is_parked_holds_nobody_up() {
    for (members, steps_) in [(2, 1), (2, 4), (3, 2), (5, 3)] {
        for parked in 0..members {
            for since in 0..=steps_ {
                let (step, handle, service) = steps(steps_);
                let mut hands: Vec<_> = (0..members).map(|_| called(&service)).collect();
                let mut done = vec![false; members];
                for hand in &mut hands {
                    pending(hand.poll());
                }
                for n in 1..=steps_ {
                    step.send(()).unwrap();
                    // Each is polled when it is woken, and not else.
                    while let Some(at) = (0..members).find(|at| {
                        !done[*at] && hands[*at].is_woken() && !(*at == parked && n > since)
                    }) {
                        match hands[at].poll() {
                            Polled::Pending => assert_eq!(hands[at].self_wakes(), 0),
                            Polled::Ready(answer) => {
                                assert_eq!(answer.unwrap(), 7);
                                done[at] = true;
                            }
                            Polled::Panicked => panic!("panicked"),
                        }
                    }
                }
                for (at, done) in done.iter().enumerate() {
                    assert!(*done || (at == parked && since < steps_), "{at} waits");
                }
                if since < steps_ {
                    assert_eq!(ready(hands[parked].poll()).unwrap(), 7);
                }
                assert_eq!((handle.in_flight(), handle.led()), (0, 1));
            }
        }
    }
}

/// What is woken is two. If both are parked, the others wait until one of all is polled for another reason, one of the two is
/// dropped, or one more comes.
#[test]
fn of_two_that_are_parked_anybody_takes_over_who_comes_by() {
    for by in ["a poll", "a drop", "a newcomer"] {
        let (step, _, service) = steps(1);
        let mut hands: Vec<_> = (0..5).map(|_| called(&service)).collect();
        for hand in &mut hands {
            pending(hand.poll());
        }
        step.send(()).unwrap();
        let mut parked = Vec::new();
        while let Some(at) = hands.iter().position(Hand::is_woken) {
            parked.push(hands.remove(at));
        }
        assert_eq!((parked.len(), hands.len()), (2, 3));
        match by {
            "a poll" => assert_eq!(ready(hands.remove(0).poll()).unwrap(), 7),
            "a drop" => drop(parked.pop()),
            _ => assert_eq!(ready(called(&service).poll()).unwrap(), 7),
        }
        while let Some(at) = hands.iter().position(Hand::is_woken) {
            assert_eq!(ready(hands.remove(at).poll()).unwrap(), 7);
        }
        assert!(hands.is_empty(), "{by}");
        for mut hand in parked {
            assert_eq!(ready(hand.poll()).unwrap(), 7);
        }
    }
}

/// A call that was made and never polled is with the one who made it: who joined waits until that one is polled or dropped.
#[test]
fn a_call_that_was_never_polled_is_waited_for() {
    for dropped in [false, true] {
        let rig = rig(100);
        let (mut first, mut second) = (rig.call(1), rig.call(1));
        pending(second.poll());
        assert!(!second.is_woken());
        if dropped {
            drop(first);
            assert_eq!(ready(second.poll()).unwrap(), 7);
        } else {
            assert_eq!(ready(first.poll()).unwrap(), 7);
            assert_eq!(ready(second.poll()).unwrap(), 7);
        }
        assert_eq!(rig.inner.control().counts().calls, 1);
    }
}

/// However few keys there may be, and however many there were before.
#[test]
fn a_bound_that_is_lowered_holds() {
    let rig = rig(10_000);
    let control = rig.inner.control();
    control.plan(Plan::answer().held());
    for most in [1, 5, 15, 16, 100, 1_000, 3] {
        rig.handle.update(|config| config.max_keys = most).unwrap();
        let hands: Vec<_> = (1..=5_000).map(|key| rig.call(key)).collect();
        assert!(rig.handle.in_flight() <= most, "{}", rig.handle.in_flight());
        assert!(
            rig.handle.in_flight() >= most / 2,
            "{}",
            rig.handle.in_flight()
        );
        drop(hands);
        assert_eq!(rig.handle.in_flight(), 0);
    }
}

/// What is for the one alone who began a call is not given to another who happened to poll it, nor is it lost.
#[tokio::test]
async fn whoever_polls_gets_only_what_is_for_all() {
    for leaves in [false, true] {
        let layer = CoalesceLayer::http(CoalescePolicy::default(), HttpKeys::new());
        let service = layer.layer(service_fn(async |request: Request<Body>| {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            let of = request.headers()["x-of"].clone();
            Response::builder()
                .header("set-cookie", of)
                .body(Body::empty())
        }));
        let get = |of: &'static str| {
            let request = Request::get("/").header("x-of", of).body(Body::empty());
            Box::pin(service.clone().oneshot(request.unwrap()))
        };
        let (mut ann, mut bob) = (get("ann"), get("bob"));
        assert!(is_pending(&mut ann) && is_pending(&mut bob));
        let ann = if leaves {
            drop(ann);
            None
        } else {
            Some(ann)
        };
        // It polls the call of the first to its end, and then its own.
        let answer = bob.await.unwrap();
        assert_eq!(answer.headers()["set-cookie"], "bob");
        if let Some(ann) = ann {
            assert_eq!(ann.await.unwrap().headers()["set-cookie"], "ann");
        }
        assert_eq!(layer.handle().in_flight(), 0);
    }
}

fn is_pending<F: Future>(call: &mut std::pin::Pin<Box<F>>) -> bool {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    call.as_mut().poll(&mut cx).is_pending()
}
