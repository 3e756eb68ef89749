use std::{
    future::Future,
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use super::*;
use crate::Kind;

fn retry(attempt: u32) -> Event {
    Event::retry(attempt, Duration::ZERO)
}

fn event(attempt: u32) -> Option<Received> {
    Some(Received::Event(retry(attempt)))
}

#[derive(Default)]
struct Wakes(AtomicUsize);
impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn an_event_is_built_only_if_somebody_listens_and_once() {
    let events = Events::new();
    let built = AtomicUsize::new(0);
    let emit = || {
        events.emit(|| {
            built.fetch_add(1, Relaxed);
            Event::BudgetExhausted
        });
    };
    emit();
    Events::none().emit(|| unreachable!("nobody can listen"));
    drop(events.subscribe(1));
    emit();
    assert_eq!(built.load(Relaxed), 0, "the stream is gone");

    let heard = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        let heard = Arc::clone(&heard);
        events.listen(move |_| {
            heard.fetch_add(1, Relaxed);
        });
    }
    let mut streams = [events.subscribe(1), events.subscribe(1)];
    emit();
    assert_eq!((built.load(Relaxed), heard.load(Relaxed)), (1, 2));
    for stream in &mut streams {
        assert_eq!(
            stream.try_recv(),
            Ok(Received::Event(Event::BudgetExhausted))
        );
    }
}

#[tokio::test]
async fn a_full_stream_drops_the_oldest_and_says_so_in_its_place() {
    let events = Events::new();
    let mut stream = events.subscribe(2);
    let mut wide = events.subscribe(8);
    for attempt in 1..=2 {
        events.emit(|| retry(attempt));
    }
    assert_eq!(stream.recv().await, event(1));
    for attempt in 3..=5 {
        events.emit(|| retry(attempt));
    }
    assert_eq!(stream.recv().await, Some(Received::Missed(2)));
    assert_eq!(stream.recv().await, event(4));
    events.emit(|| retry(6));
    assert_eq!(stream.recv().await, event(5));
    assert_eq!(stream.recv().await, event(6));
    assert_eq!(stream.try_recv(), Err(TryRecvError::Empty));
    for attempt in 1..=6 {
        assert_eq!(wide.recv().await, event(attempt), "each has its own room");
    }
}

#[tokio::test]
async fn a_stream_without_room_still_holds_the_newest() {
    let events = Events::new();
    let mut stream = events.subscribe(0);
    for attempt in 1..=3 {
        events.emit(|| retry(attempt));
    }
    assert_eq!(stream.recv().await, Some(Received::Missed(2)));
    assert_eq!(stream.recv().await, event(3));
}

#[tokio::test]
async fn it_ends_after_the_last_event_of_the_last_owner() {
    let events = Events::new();
    let mut stream = events.subscribe(4);
    let other = events.clone();
    drop(events);
    assert_eq!(stream.try_recv(), Err(TryRecvError::Empty));
    other.emit(|| retry(1));
    drop(other);
    assert_eq!(stream.recv().await, event(1));
    assert_eq!(stream.recv().await, None);
    assert_eq!(stream.try_recv(), Err(TryRecvError::Closed));
    assert_eq!(Events::none().subscribe(1).recv().await, None);
}

#[test]
fn who_waits_is_woken_by_an_event_and_by_the_end_and_by_nothing_else() {
    let events = Events::new();
    let mut stream = events.subscribe(4);
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(Arc::clone(&wakes));
    let mut cx = Context::from_waker(&waker);
    for _ in 0..3 {
        assert!(stream.poll_recv(&mut cx).is_pending());
    }
    assert_eq!(wakes.0.load(Relaxed), 0, "nothing wakes itself");
    events.emit(|| retry(1));
    events.emit(|| retry(2));
    assert_eq!(wakes.0.load(Relaxed), 1);
    assert_eq!(stream.poll_recv(&mut cx), Poll::Ready(event(1)));
    assert_eq!(stream.poll_recv(&mut cx), Poll::Ready(event(2)));
    assert!(stream.poll_recv(&mut cx).is_pending());
    drop(events);
    assert_eq!(wakes.0.load(Relaxed), 2);
    assert_eq!(stream.poll_recv(&mut cx), Poll::Ready(None));
}

#[test]
fn the_task_that_polled_last_is_woken() {
    let events = Events::new();
    let mut stream = events.subscribe(4);
    let tasks = [Arc::new(Wakes::default()), Arc::new(Wakes::default())];
    for task in &tasks {
        let waker = Waker::from(Arc::clone(task));
        assert!(
            stream
                .poll_recv(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    events.emit(|| retry(1));
    assert_eq!(tasks.map(|task| task.0.load(Relaxed)), [0, 1]);
}

#[tokio::test]
async fn a_wait_that_is_dropped_has_taken_nothing() {
    let events = Events::new();
    let mut stream = events.subscribe(4);
    {
        let mut wait = pin!(stream.recv());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(wait.as_mut().poll(&mut cx).is_pending());
        events.emit(|| retry(1));
    }
    assert_eq!(stream.recv().await, event(1));
}

#[test]
fn a_stream_that_is_dropped_leaves_nothing_behind() {
    let events = Events::new();
    let kept = events.subscribe(1);
    let name: Arc<str> = "a".into();
    let stream = events.subscribe(4);
    events.emit(|| Event::breaker(Arc::clone(&name), "open", "x", None));
    assert_eq!(Arc::strong_count(&name), 3);
    drop(stream);
    assert_eq!(Arc::strong_count(&name), 2, "its events are gone with it");
    assert_eq!(format!("{events:?}"), "Events { listeners: 1 }");
    drop(events);
    drop(kept);
    assert_eq!(Arc::strong_count(&name), 1);
}

#[test]
fn a_listener_that_panics_hurts_nobody_and_is_called_again() {
    let events = Events::new();
    let called = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&called);
    events.listen(move |_| {
        calls.fetch_add(1, Relaxed);
        panic!("planted");
    });
    let mut stream = events.subscribe(4);
    let logged = Arc::new(Mutex::new(Vec::new()));
    tracing::subscriber::with_default(Lines(Arc::clone(&logged)), || {
        events.emit(|| retry(1));
        events.emit(|| retry(2));
    });
    assert_eq!(called.load(Relaxed), 2);
    assert_eq!(stream.try_recv().ok(), event(1));
    assert_eq!(stream.try_recv().ok(), event(2));
    assert_eq!(logged.lock().unwrap().len(), 1, "it is said once");
}

#[test]
fn a_log_that_panics_hurts_nobody() {
    struct Panics;
    impl tracing::Subscriber for Panics {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            panic!("planted")
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    let events = Events::new();
    log(&events);
    let mut stream = events.subscribe(1);
    tracing::subscriber::with_default(Panics, || events.emit(|| retry(1)));
    assert_eq!(stream.try_recv().ok(), event(1));
}

#[test]
fn a_listener_may_listen_subscribe_and_emit() {
    let events = Events::new();
    let weak = events.clone();
    let streams = Arc::new(Mutex::new(Vec::new()));
    let mine = Arc::clone(&streams);
    events.listen(move |event| {
        if matches!(event, Event::BudgetExhausted) {
            mine.lock().unwrap().push(weak.subscribe(4));
            weak.emit(|| retry(1));
        }
    });
    events.emit(|| Event::BudgetExhausted);
    assert_eq!(streams.lock().unwrap()[0].try_recv().ok(), event(1));
}

/// What was logged: level and message.
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                use fmt::Write as _;
                let _ = write!(self.0, " {field}={value:?}");
            }
        }
        let metadata = event.metadata();
        let mut fields = Fields(format!("{} {}", metadata.level(), metadata.target()));
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn what_is_logged_is_what_is_emitted() {
    let events = Events::new();
    log(&events);
    let logged = Arc::new(Mutex::new(Vec::new()));
    let second = Duration::from_secs(1);
    tracing::subscriber::with_default(Lines(Arc::clone(&logged)), || {
        for event in [
            Event::breaker("a", "open", "failure-rate", Some(second)),
            Event::breaker("a", "closed", "reset", None),
            Event::ejected("a", "failure-rate", second),
            Event::refused("rate_limit", Kind::RateLimited),
            Event::refused_by("breaker", "a", Kind::CircuitOpen),
            retry(2),
            Event::BudgetExhausted,
            Event::endpoints("s", 3),
            Event::config_applied(7),
            Event::config_refused(2),
        ] {
            events.emit(|| event);
        }
    });
    let at = |level: &str, rest: &str| format!("{level} tower_chassis::events message={rest}");
    assert_eq!(
        *logged.lock().unwrap(),
        [
            at(
                "WARN",
                r#"breaker opened name="a" to="open" reason="failure-rate" open_for=Some(1s)"#
            ),
            at(
                "INFO",
                r#"breaker changed its state name="a" to="closed" reason="reset""#
            ),
            at(
                "INFO",
                r#"endpoint ejected name="a" reason="failure-rate" shut_for=1s"#
            ),
            at(
                "DEBUG",
                r#"call refused layer="rate_limit" kind="rate-limited""#
            ),
            at(
                "DEBUG",
                r#"call refused layer="breaker" name="a" kind="circuit-open""#
            ),
            at("DEBUG", "retry attempt=2 backoff=0ns"),
            at("DEBUG", "retry budget exhausted"),
            at("INFO", r#"endpoints changed service="s" count=3"#),
            at("INFO", "configuration applied version=7"),
            at("DEBUG", "configuration refused faults=2"),
        ]
    );
}

#[test]
fn gauges_are_read_while_their_owner_lives_and_once_more() {
    let events = Events::new();
    let read = || {
        let mut all = Vec::new();
        events.read(|metric, name, value| all.push((metric, name.to_string(), value)));
        all
    };
    let value = |value: &AtomicUsize| value.load(Relaxed) as f64;
    let [a, b, other, unread] = [1, 2, 4, 8].map(|n| Arc::new(AtomicUsize::new(n)));
    for owner in [&a, &b] {
        events.gauge("chassis_x", "a", owner, value);
    }
    events.gauge("chassis_x", "other", &other, value);
    events.gauge("chassis_x", "unread", &unread, value);
    drop(unread);
    let x = |name: &str, value| ("chassis_x", name.to_owned(), value);
    assert_eq!(read(), [x("a", 3.0), x("other", 4.0)]);
    a.store(10, Relaxed);
    drop((b, other));
    assert_eq!(read(), [x("a", 10.0), x("other", 0.0)]);
    assert_eq!(read(), [x("a", 10.0)]);
    Events::none().gauge("chassis_x", "a", &a, value);
    Events::none().read(|_, _, _| unreachable!("nobody can offer"));
    // Those that come and go unread are not kept.
    for _ in 0..1_000 {
        events.gauge("chassis_x", "gone", &Arc::new(AtomicUsize::new(0)), value);
    }
    assert!(events.0.as_ref().unwrap().gauges.kept() <= 8);
}

#[test]
fn gauges_with_a_label_are_read_by_themselves() {
    let events = Events::new();
    let owner = Arc::new(AtomicUsize::new(3));
    let value = |value: &AtomicUsize| value.load(Relaxed) as f64;
    for state in ["up", "shut", "up"] {
        events.gauge_in("chassis_y", "a", ("state", state), &owner, value);
    }
    events.gauge("chassis_y", "a", &owner, value);
    let read = || {
        let mut all = Vec::new();
        events.read_labelled(|metric, name, label, value| {
            all.push((metric, name.to_string(), label, value));
        });
        all
    };
    let y = |state, value| ("chassis_y", "a".to_owned(), ("state", state), value);
    assert_eq!(read(), [y("shut", 3.0), y("up", 6.0)]);
    let mut plain = Vec::new();
    events.read(|metric, name, value| plain.push((metric, name.to_string(), value)));
    assert_eq!(plain, [("chassis_y", "a".to_owned(), 3.0)]);
    drop(owner);
    assert_eq!(read(), [y("shut", 0.0), y("up", 0.0)], "once more");
    assert_eq!(read(), []);
}

#[test]
fn every_event_tells_its_name_and_its_fields() {
    let second = Duration::from_secs(1);
    let all = [
        (
            Event::breaker("a", "open", "r", Some(second)),
            "name=a to=open reason=r open_for=1s",
        ),
        (
            Event::ejected("a", "r", second),
            "name=a reason=r shut_for=1s",
        ),
        (retry(2), "attempt=2 backoff=0ns"),
        (Event::BudgetExhausted, ""),
        (
            Event::refused_by("l", "a", Kind::CircuitOpen),
            "layer=l name=a kind=circuit-open",
        ),
        (Event::config_applied(7), "version=7"),
        (Event::config_refused(2), "faults=2"),
        (Event::endpoints("s", 3), "service=s count=3"),
        (Event::breaker_would_open("a", "r", None), "name=a reason=r"),
        (
            Event::breaker_forced("a", "auto", Some(second)),
            "name=a mode=auto lasts=1s",
        ),
        (Event::limit("a", 5, "grew"), "name=a limit=5 reason=grew"),
        (
            Event::fallback("a", crate::Class::Timeout),
            "name=a failed=timeout",
        ),
        (Event::coalesced("a"), "name=a"),
        (Event::cache("a", "hit"), "name=a result=hit"),
        (Event::fault_injected("a", "delay"), "rule=a fault=delay"),
        (Event::mirrored("ok"), "outcome=ok"),
        (
            Event::hedged("a", 2, second, "won"),
            "name=a attempt=2 after=1s outcome=won",
        ),
        (Event::cache_evicted("a", 4), "name=a count=4"),
        (
            Event::endpoint_turned("s", "a", "ejected", "latency", Some(second)),
            "service=s endpoint=a to=ejected reason=latency lasts=1s",
        ),
    ];
    for ((event, expected), name) in all.iter().zip(Event::NAMES) {
        let mut fields = Vec::new();
        event.fields(&mut |name, field| {
            fields.push(match field {
                Field::Text(text) => format!("{name}={text}"),
                Field::Number(number) => format!("{name}={number}"),
                Field::Duration(time) => format!("{name}={time:?}"),
            });
        });
        assert_eq!(
            (event.name(), fields.join(" ")),
            (name, (*expected).to_owned())
        );
    }
    assert_eq!(all.len(), Event::NAMES.len());
}
