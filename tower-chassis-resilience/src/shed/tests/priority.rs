//! Priorities, as users of the layer see them.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use http::Request;
use tower::service_fn;
use tower_chassis_core::{
    Body, Events, Kind, Live, clock,
    events::{Event, Received},
    testing::advance,
};
use tower_layer::Layer;
use tower_service::Service;

use super::{super::*, MS, SECOND, echo, is_shed, policy, send};

const CLASSES: [PriorityClass; 5] = PriorityClass::ALL;

/// A request is its priority.
fn shed(layer: ShedLayer) -> ShedLayer<ByFn<fn(&Priority) -> Priority>> {
    let same: fn(&Priority) -> Priority = |priority| *priority;
    layer.priority(same)
}

fn plain() -> ShedLayer<ByFn<fn(&Priority) -> Priority>> {
    shed(ShedLayer::new(policy(|_| {})).seed(7))
}

/// How many of a thousand calls of a priority pass.
async fn pass<S>(service: &S, priority: Priority) -> usize
where
    S: Service<Priority, Error = tower_chassis_core::BoxError> + Clone,
{
    let mut passed = 0;
    for _ in 0..1_000 {
        match send(service, priority).await {
            Ok(_) => passed += 1,
            Err(error) => assert!(is_shed(&error)),
        }
    }
    passed
}

/// Calls of all classes for a second, and then the share of each that passes.
async fn shares<S>(service: &S) -> [f64; 5]
where
    S: Service<Priority, Error = tower_chassis_core::BoxError> + Clone,
{
    let mut passed = [0.0; 5];
    for round in 0..2_000 {
        for (class, passed) in CLASSES.into_iter().zip(&mut passed) {
            let came = send(service, Priority::new(class)).await.is_ok();
            *passed += f64::from(u8::from(came && round >= 1_000)) / 1_000.0;
        }
        advance(MS).await;
    }
    passed
}

#[tokio::test(start_paused = true)]
async fn the_lowest_are_refused_first() {
    for (pressure, passing) in [
        (0.8, [1.0, 1.0, 1.0, 1.0, 1.0]),
        (0.92, [0.5, 1.0, 1.0, 1.0, 1.0]),
        (1.4, [0.0, 0.0, 0.5, 1.0, 1.0]),
        (1.99, [0.0, 0.0, 0.0, 0.0, 1.0]),
        (3.0, [0.0, 0.0, 0.0, 0.0, 1.0]),
        (3.6, [0.0, 0.0, 0.0, 0.0, 0.5]),
        (1e9, [0.0, 0.0, 0.0, 0.0, 0.1]),
    ] {
        let layer = plain();
        let handle = layer.handle();
        handle.set_pressure(pressure);
        let passed = shares(&layer.layer(service_fn(echo))).await;
        for (passed, passing) in passed.into_iter().zip(passing) {
            assert!((passed - passing).abs() < 0.06, "{pressure}: {passed:?}");
        }
        assert_eq!(handle.pressure(), pressure);
        let seen = CLASSES.map(|class| handle.seen(class));
        assert_eq!(seen, [2_000; 5]);
        let refused: u64 = CLASSES.iter().map(|class| handle.refused(*class)).sum();
        assert_eq!(refused == 0, pressure <= 0.8);
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_is_in_or_out() {
    let layer = plain();
    layer.handle().force(250_u16);
    let service = layer.layer(service_fn(echo));
    // On another instance as well.
    let other = plain();
    other.handle().force(250_u16);
    let other = other.layer(service_fn(echo));
    let mut passed = 0;
    for user in 0..1_000 {
        let priority = Priority::NORMAL.user(format!("user-{user}"));
        let first = send(&service, priority).await.is_ok();
        for service in [&service, &other] {
            assert_eq!(send(service, priority).await.is_ok(), first);
        }
        passed += usize::from(first);
        assert!(
            send(&service, Priority::HIGH.user(format!("user-{user}")))
                .await
                .is_ok()
        );
    }
    assert!((450..550).contains(&passed), "{passed}");
    // Those with another seed are others.
    let apart = shed(ShedLayer::new(policy(|_| {})).seed(8));
    apart.handle().force(250_u16);
    let apart = apart.layer(service_fn(echo));
    let mut same = 0;
    for user in 0..1_000 {
        let priority = Priority::NORMAL.user(format!("user-{user}"));
        same += usize::from(
            send(&service, priority).await.is_ok() == send(&apart, priority).await.is_ok(),
        );
    }
    assert!((450..550).contains(&same), "{same}");
}

/// With `rotate` the levels of today are not those of another day, and a change of it counts from the next call on.
#[tokio::test(start_paused = true)]
async fn users_do_not_keep_their_levels_for_ever() {
    let layer = plain();
    let handle = layer.handle();
    handle.force(250_u16);
    let service = layer.layer(service_fn(echo));
    let passing = async || {
        let mut passing = Vec::new();
        for user in 0..1_000 {
            let priority = Priority::NORMAL.user(format!("user-{user}"));
            passing.push(send(&service, priority).await.is_ok());
        }
        passing
    };
    let same = |one: &[bool], two: &[bool]| one.iter().zip(two).filter(|(a, b)| a == b).count();
    let for_ever = passing().await;
    let day = SECOND * 24 * 60 * 60;
    handle.update(|config| config.rotate = 30 * day).unwrap();
    let of_the_month = passing().await;
    let found = same(&for_ever, &of_the_month);
    assert!((400..600).contains(&found), "{found}");
    handle.update(|config| config.rotate = 360 * day).unwrap();
    let found = same(&of_the_month, &passing().await);
    assert!((400..600).contains(&found), "{found}");
    handle
        .update(|config| config.rotate = std::time::Duration::ZERO)
        .unwrap();
    assert_eq!(for_ever, passing().await);
}

/// The same on every machine, in every version: computed once, from XXH64 and SplitMix64.
#[tokio::test(start_paused = true)]
async fn levels_of_users_are_the_same_everywhere() {
    let layer = shed(ShedLayer::new(policy(|_| {})));
    let service = layer.layer(service_fn(echo));
    let mut levels = Vec::new();
    for user in ["alice", "bob", "carol", ""] {
        let mut level = 0;
        for at in 0..100_u16 {
            layer.handle().force(200 + at);
            if send(&service, Priority::NORMAL.user(user)).await.is_ok() {
                level = at;
            }
        }
        levels.push(level);
    }
    assert_eq!(levels, GOLDEN);
}

const GOLDEN: [u16; 4] = [64, 51, 28, 8];

#[tokio::test(start_paused = true)]
async fn a_level_is_what_is_said_and_is_refused_in_part() {
    let layer = plain();
    let (handle, service) = (layer.handle(), layer.layer(service_fn(echo)));
    handle.force(130_u16);
    assert_eq!(pass(&service, Priority::LOW.level(29)).await, 0);
    assert_eq!(pass(&service, Priority::LOW.level(30)).await, 1_000);
    assert_eq!(pass(&service, Priority::VERY_LOW.level(255)).await, 0);
    assert_eq!(pass(&service, Priority::NORMAL.level(0)).await, 1_000);
    handle.release();
    // All are of one level: half of them is half, and not all or none.
    handle.set_pressure(1.4);
    advance(SECOND).await;
    pass(&service, Priority::NORMAL.level(50)).await;
    for _ in 0..30 {
        advance(100 * MS).await;
        pass(&service, Priority::NORMAL.level(50)).await;
    }
    let passed = pass(&service, Priority::NORMAL.level(50)).await;
    assert!((430..570).contains(&passed), "{passed}");
}

/// Also by the finest step: one draw in 65,536 is at the very edge.
#[tokio::test(start_paused = true)]
async fn what_is_at_the_threshold_passes() {
    let handle = plain().handle();
    let now = clock::now();
    handle.force(130_u16);
    for _ in 0..400_000 {
        assert!(handle.0.admits(Priority::LOW.level(30), now));
        assert!(!handle.0.admits(Priority::LOW.level(29), now));
    }
}

#[tokio::test(start_paused = true)]
async fn the_caller_says_where_it_is_trusted() {
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    let shed = ShedLayer::new(policy(|_| {}));
    let layer = shed
        .priority(|request: &Request<Body>| match request.uri().path() {
            "/pay" => Priority::HIGH,
            _ => Priority::LOW,
        })
        .trusted(move |request: &Request<Body>| {
            count.fetch_add(1, Relaxed);
            request.headers().contains_key("mesh")
        });
    layer.handle().force(PriorityClass::Normal);
    let service = layer.layer(service_fn(async |_: Request<Body>| {
        Ok::<_, tower_chassis_core::BoxError>(())
    }));
    for (path, said, trusted, passes) in [
        ("/", None, true, false),
        ("/pay", None, true, true),
        ("/", Some("very-high"), true, true),
        ("/", Some("very-high"), false, false),
        ("/pay", Some("very-low"), true, false),
        ("/pay", Some("very-low:99"), false, true),
        ("/pay", Some("nonsense"), true, true),
        ("/", Some("normal:5"), true, true),
    ] {
        let mut request = Request::get(path);
        if let Some(said) = said {
            request = request.header(PRIORITY, said);
        }
        if trusted {
            request = request.header("mesh", "yes");
        }
        let request = request.body(Body::empty()).unwrap();
        let passed = send(&service, request).await.is_ok();
        assert_eq!(passed, passes, "{path} {said:?} {trusted}");
    }
    assert_eq!(asked.load(Relaxed), 5);
    // Alone, what is not said is normal.
    let alone = ShedLayer::new(policy(|_| {})).trusted(|_: &Request<Body>| true);
    alone.handle().force(PriorityClass::Normal);
    let service = alone.layer(service_fn(async |_: Request<Body>| {
        Ok::<_, tower_chassis_core::BoxError>(())
    }));
    let said = |said| {
        Request::get("/")
            .header(PRIORITY, said)
            .body(Body::empty())
            .unwrap()
    };
    assert!(send(&service, Request::default()).await.is_ok());
    assert!(send(&service, said("low")).await.is_err());
}

#[test]
fn priorities_are_read_as_they_are_written() {
    for class in CLASSES {
        let priority = Priority::from(class);
        assert_eq!(priority.to_string().parse(), Ok(priority));
        for level in 0..100 {
            let priority = priority.level(level);
            assert_eq!(priority.to_string().parse(), Ok(priority));
        }
        assert_eq!(u16::from(class), class as u16 * 100);
    }
    assert_eq!(" high ".parse(), Ok(Priority::HIGH));
    for wrong in [
        "", "High", "high:", "high:100", "high:-1", "high:1:2", "highest", "3",
    ] {
        assert!(wrong.parse::<Priority>().is_err(), "{wrong}");
    }
}

/// What is watched is read once in an interval, and the highest counts.
#[tokio::test(start_paused = true)]
async fn pressure_is_read_now_and_then() {
    let reads = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&reads);
    let layer = ShedLayer::new(policy(|_| {})).seed(7);
    let layer = layer.watch(move || f64::from(count.fetch_add(1, Relaxed)) * 0.0 + 0.3);
    let layer = shed(layer.watch(|| 0.7));
    let (handle, service) = (layer.handle(), layer.layer(service_fn(echo)));
    for _ in 0..100 {
        pass(&service, Priority::NORMAL).await;
        advance(MS).await;
    }
    assert_eq!(reads.load(Relaxed), 10);
    assert_eq!(handle.pressure(), 0.7);
    handle.set_pressure(0.9);
    advance(10 * MS).await;
    assert_eq!(handle.pressure(), 0.9);
    handle.set_pressure(f64::NAN);
    advance(10 * MS).await;
    assert_eq!(handle.pressure(), 0.7);
}

/// What is known at this moment counts from `full` on, at once and for all but the highest class; not where the threshold
/// is forced or nothing is to be refused.
#[tokio::test(start_paused = true)]
async fn what_waits_now_counts_before_the_threshold_follows() {
    struct Now(Arc<AtomicU32>);
    impl Pressure for Now {
        fn pressure(&self) -> f64 {
            0.0
        }
        fn now(&self) -> f64 {
            f64::from(self.0.load(Relaxed)) / 100.0
        }
    }
    let waiting = Arc::new(AtomicU32::new(199));
    let layer = ShedLayer::new(policy(|_| {})).seed(7).watch(|| 0.0);
    let layer = shed(layer.watch(Now(Arc::clone(&waiting))));
    let (handle, service) = (layer.handle(), layer.layer(service_fn(echo)));
    let of_all = async || {
        let mut passed = [0; 5];
        for (class, passed) in CLASSES.into_iter().zip(&mut passed) {
            *passed = pass(&service, Priority::new(class)).await;
        }
        passed
    };
    let (all, highest) = ([1_000; 5], [0, 0, 0, 0, 1_000]);
    assert_eq!(of_all().await, all);
    waiting.store(200, Relaxed);
    assert_eq!(of_all().await, highest);
    assert_eq!((handle.threshold(), handle.pressure()), (0.0, 0.0));
    let refused = CLASSES.map(|class| handle.refused(class));
    assert_eq!(refused, [1_000, 1_000, 1_000, 1_000, 0]);
    // Whatever is the highest: its own bound is by the pressure that is read.
    waiting.store(100_000, Relaxed);
    assert_eq!(of_all().await, highest);
    handle.force(0_u16);
    assert_eq!(of_all().await, all);
    handle.release();
    assert_eq!(of_all().await, highest);
    handle.disable();
    assert_eq!(of_all().await, all);
    handle.enable();
    waiting.store(250, Relaxed);
    handle
        .update(|config| (config.full, config.highest) = (2.51, 4.0))
        .unwrap();
    assert_eq!(of_all().await, all);
    waiting.store(251, Relaxed);
    assert_eq!(of_all().await, highest);
    handle.force_for(0_u16, SECOND);
    assert_eq!(of_all().await, all);
    advance(SECOND).await;
    assert_eq!(of_all().await, highest);
}

/// A closure that panics takes the call with it, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_user_s_code_leaves_all_as_it_was() {
    let layer = ShedLayer::new(policy(|_| {})).watch(|| -> f64 { panic!("planted") });
    let layer = shed(layer);
    let mut service = layer.layer(service_fn(echo));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(Priority::LOW)))).is_err());
    // For the interval nobody reads.
    assert!(send(&service, Priority::LOW).await.is_ok());
    advance(10 * MS).await;
    assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(Priority::LOW)))).is_err());
    assert_eq!(layer.handle().seen(PriorityClass::Low), 3);
    let layer =
        ShedLayer::new(policy(|_| {})).priority(|_: &u32| -> Priority { panic!("planted") });
    let mut service = layer.layer(service_fn(echo::<u32>));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(1)))).is_err());
    assert_eq!(CLASSES.map(|class| layer.handle().seen(class)), [0; 5]);
}

#[tokio::test(start_paused = true)]
async fn a_threshold_can_be_forced_for_a_time() {
    let layer = plain();
    let (handle, service) = (layer.handle(), layer.layer(service_fn(echo)));
    handle.force_for(PriorityClass::High, 10 * SECOND);
    assert_eq!((handle.forced(), handle.threshold()), (Some(300), 300.0));
    assert_eq!(pass(&service, Priority::NORMAL).await, 0);
    assert_eq!(pass(&service, Priority::HIGH).await, 1_000);
    advance(9_999 * MS).await;
    assert_eq!(pass(&service, Priority::NORMAL).await, 0);
    advance(MS).await;
    assert_eq!(pass(&service, Priority::NORMAL).await, 1_000);
    assert_eq!((handle.forced(), handle.threshold()), (None, 0.0));
    // Everything, and then nothing, whatever was forced.
    handle.force(u16::MAX);
    assert_eq!(
        (handle.forced(), pass(&service, Priority::VERY_HIGH).await),
        (Some(500), 0)
    );
    handle.disable();
    assert_eq!(pass(&service, Priority::VERY_LOW).await, 1_000);
    handle.enable();
    assert_eq!(pass(&service, Priority::VERY_HIGH).await, 0);
    handle.release();
    assert_eq!(pass(&service, Priority::VERY_LOW).await, 1_000);
    // Less than is found by the pressure is in force as well.
    handle.set_pressure(3.0);
    handle.force(0_u16);
    advance(SECOND).await;
    assert_eq!(pass(&service, Priority::VERY_LOW).await, 1_000);
}

#[tokio::test(start_paused = true)]
async fn settings_are_live_and_state_is_the_layer_s() {
    let live = Live::new(policy(|_| {}));
    let layer = shed(ShedLayer::new(live.clone()).seed(7).named("shop"));
    let handle = layer.handle();
    let service = layer.layer(service_fn(echo));
    let other = layer.clone().layer(service_fn(echo));
    let fresh = layer.fresh();
    handle.set_pressure(1.5);
    advance(SECOND).await;
    shares(&service).await;
    assert_eq!(pass(&service, Priority::VERY_LOW).await, 0);
    assert_eq!(pass(&other, Priority::VERY_LOW).await, 0);
    let fresh = (fresh.handle(), fresh.layer(service_fn(echo)));
    assert_eq!(pass(&fresh.1, Priority::VERY_LOW).await, 1_000);
    assert_eq!((fresh.0.pressure(), fresh.0.name()), (0.0, "shop"));
    live.update(|policy| {
        *policy = policy
            .clone()
            .with(|config| {
                config.start = 1.5;
                config.reaction = MS;
            })
            .unwrap()
    })
    .unwrap();
    advance(SECOND).await;
    assert_eq!(pass(&service, Priority::VERY_LOW).await, 1_000);
    assert!(handle.update(|config| config.full = 1.0).is_err());
    assert_eq!(handle.config().load().config().full, 2.0);
}

#[test]
fn settings_out_of_their_range_are_refused() {
    let wrong: [(fn(&mut ShedConfig), &str); 12] = [
        (|config| config.max_unready = SECOND * 86_401, "max_unready"),
        (|config| config.start = -0.1, "start"),
        (|config| config.start = f64::NAN, "start"),
        (|config| config.full = 0.8, "full"),
        (|config| config.full = f64::INFINITY, "full"),
        (|config| config.highest = 1.9, "highest"),
        (|config| config.highest = 1_001.0, "highest"),
        (|config| config.highest = f64::NAN, "highest"),
        (|config| config.interval = MS / 2, "interval"),
        (|config| config.interval = 11 * SECOND, "interval"),
        (|config| config.reaction = MS / 2, "reaction"),
        (|config| config.rotate = SECOND, "rotate"),
    ];
    for (change, field) in wrong {
        let refused = ShedPolicy::default().with(change).unwrap_err();
        assert_eq!(refused.field(), field);
    }
    assert!(ShedPolicy::try_from(ShedConfig::default()).is_ok());
}

#[cfg(feature = "config")]
#[test]
fn settings_are_read_as_they_are_written() {
    use tower_chassis_core::config::{Format, Loader};
    let text = "
max_unready: 250ms
start: 0.6
full: 1
highest: 1.5
interval: 5ms
reaction: 20ms
rotate: 0s
";
    let loader = Loader::new().text("shed.yaml", Format::Yaml, text);
    let (_, config) = loader.load_as::<ShedConfig>().unwrap();
    let read = ShedConfig {
        max_unready: 250 * MS,
        start: 0.6,
        full: 1.0,
        highest: 1.5,
        interval: 5 * MS,
        reaction: 20 * MS,
        rotate: std::time::Duration::ZERO,
    };
    assert_eq!(config, read);
    assert!(ShedPolicy::try_from(config).is_ok());
}

#[tokio::test(start_paused = true)]
async fn refusals_are_reported_and_the_threshold_is_read() {
    let events = Events::new();
    let mut heard = events.subscribe(4);
    let layer = shed(
        ShedLayer::new(policy(|_| {}))
            .events(events.clone())
            .named("shop"),
    );
    layer.handle().force(PriorityClass::Normal);
    let service = layer.layer(service_fn(echo));
    assert!(send(&service, Priority::LOW).await.is_err());
    let refused = Event::refused_by("shed", "shop", Kind::Overloaded);
    assert_eq!(heard.try_recv(), Ok(Received::Event(refused)));
    let mut gauges = Vec::new();
    events.read(|metric, name, value| gauges.push((metric, name.to_string(), value)));
    assert_eq!(
        gauges,
        [("chassis_shed_threshold", "shop".to_owned(), 200.0)]
    );
}

/// A refusal is an answer with `.respond()`, and the error type that of the inner service.
#[tokio::test(start_paused = true)]
async fn refusals_are_answered() {
    let layer = ShedLayer::new(policy(|_| {}));
    let layer = layer.priority(|_: &Request<Body>| Priority::LOW);
    layer.handle().force(PriorityClass::Normal);
    let inner = service_fn(async |_: Request<Body>| {
        Ok::<_, std::convert::Infallible>(http::Response::new(Body::empty()))
    });
    let mut service = layer.respond().layer(inner);
    let Ok(answer) = service.call(Request::default()).await;
    assert_eq!(answer.status(), 503);
}

/// Without priority no clock is read; with it, the reading of a layer outside will do. The future is small.
#[tokio::test(start_paused = true)]
async fn what_it_costs() {
    let mut alone = ShedLayer::new(policy(|_| {})).layer(service_fn(echo));
    let before = clock::readings();
    let call = alone.call(Priority::LOW);
    assert_eq!(clock::readings(), before);
    let inner = size_of_val(&echo(Priority::LOW));
    println!("a future of {} in {inner}", size_of_val(&call));
    assert!(size_of_val(&call) <= inner + 8);
    let mut service = plain().layer(service_fn(echo));
    let before = clock::readings();
    drop(service.call(Priority::LOW));
    assert_eq!(clock::readings(), before + 1);
    clock::entered(|_| drop(service.call(Priority::LOW)));
    assert_eq!(clock::readings(), before + 2);
}
