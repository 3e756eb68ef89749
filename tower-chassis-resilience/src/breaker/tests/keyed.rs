use tower::{Service, ServiceExt, service_fn};
use tower_chassis_core::{BoxError, Rejection, verdict::OkIsSuccess};
use tower_layer::Layer;

use super::*;
use crate::breaker::BreakerLayer;

/// A call for a tenant that succeeds or fails.
type Call = (Option<u32>, bool);

async fn serve((_, ok): Call) -> Result<(), BoxError> {
    if ok { Ok(()) } else { Err("down".into()) }
}

fn policy() -> BreakerPolicy {
    let policy = BreakerPolicy::default();
    policy
        .with(|config| {
            config.consecutive_failures = 2;
            config.failure_rate = 0.0;
        })
        .unwrap()
}

/// Whether the breaker refused.
async fn refused(
    service: &mut impl Service<Call, Error = BoxError, Response = ()>,
    call: Call,
) -> bool {
    match service.ready().await.unwrap().call(call).await {
        Ok(()) => false,
        Err(error) => Rejection::find(&*error).is_some_and(Rejection::is_circuit_open),
    }
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_circuit_and_two_services_share_it() {
    let layer = BreakerLayer::new(policy())
        .classify(OkIsSuccess)
        .keyed(|call: &Call| call.0);
    let handle = layer.handle();
    let mut a = layer.layer(service_fn(serve));
    let mut b = layer.clone().layer(service_fn(serve));
    for key in [Some(1), None] {
        assert!(!refused(&mut a, (key, false)).await);
        assert!(!refused(&mut b, (key, false)).await);
        assert!(refused(&mut a, (key, true)).await, "{key:?}");
    }
    assert!(!refused(&mut b, (Some(2), true)).await);
    assert_eq!(handle.get(1).map(|one| one.state()), Some(State::Open));
    assert_eq!(handle.get(2).map(|one| one.state()), Some(State::Closed));
    assert_eq!(handle.one().state(), State::Open);
    assert!(handle.get(3).is_none());
    let mut seen = Vec::new();
    handle.for_each(|key, state| seen.push((*key, state)));
    seen.sort_by_key(|(key, _)| *key);
    assert_eq!(seen, [(1, State::Open), (2, State::Closed)]);

    let mut fresh = layer.fresh().layer(service_fn(serve));
    assert!(!refused(&mut fresh, (Some(1), true)).await);
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_every_circuit() {
    let layer = BreakerLayer::new(policy())
        .classify(OkIsSuccess)
        .keyed(|call: &Call| call.0);
    let mut service = layer.layer(service_fn(serve));
    refused(&mut service, (Some(1), false)).await;
    let change = |config: &mut BreakerConfig| config.consecutive_failures = 3;
    layer.handle().one().update(change).unwrap();
    for (key, passes) in [(1, 2), (2, 3)] {
        for _ in 0..passes {
            assert!(!refused(&mut service, (Some(key), false)).await, "{key}");
        }
        assert!(refused(&mut service, (Some(key), true)).await, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_forced_on_all_is_forced_on_new_keys_and_on_those_without_room() {
    let layer = BreakerLayer::new(policy())
        .classify(OkIsSuccess)
        .keyed(|call: &Call| call.0)
        .max_keys(16);
    let (handle, mut service) = (layer.handle(), layer.layer(service_fn(serve)));
    for key in 0..4 {
        refused(&mut service, (Some(key), true)).await;
    }
    handle.force(Mode::ForcedOpen, Some(SECOND * 60));
    for key in 0..1_000 {
        assert!(refused(&mut service, (Some(key), true)).await, "{key}");
    }
    assert!(refused(&mut service, (None, true)).await);
    assert!(handle.keys() <= 16);
    handle.force(Mode::Auto, None);
    for key in 0..1_000 {
        assert!(!refused(&mut service, (Some(key), true)).await, "{key}");
    }
    // One alone, which then is not forgotten.
    let layer = layer.fresh();
    let (handle, mut service) = (layer.handle(), layer.layer(service_fn(serve)));
    refused(&mut service, (Some(1), true)).await;
    handle.get(1).unwrap().force(Mode::ForcedOpen, None);
    tokio::time::advance(SECOND * 86_400).await;
    for key in 1_000..2_000 {
        assert!(!refused(&mut service, (Some(key), true)).await, "{key}");
    }
    assert!(refused(&mut service, (Some(1), true)).await);
    handle.reset();
    assert!(!refused(&mut service, (Some(1), true)).await);
}

#[tokio::test(start_paused = true)]
async fn keys_with_a_window_of_calls_are_forgotten_as_well() {
    let policy = BreakerPolicy::default()
        .with(|config| config.window_type = WindowType::Count)
        .unwrap();
    let layer = BreakerLayer::new(policy)
        .classify(OkIsSuccess)
        .keyed(|call: &Call| call.0)
        .max_keys(16);
    let mut service = layer.layer(service_fn(serve));
    for key in 0..16 {
        refused(&mut service, (Some(key), false)).await;
    }
    tokio::time::advance(SECOND * 60).await;
    refused(&mut service, (Some(16), false)).await;
    assert!(layer.handle().get(16).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_keys_forgets_no_open_circuit() {
    let layer = BreakerLayer::new(policy())
        .classify(OkIsSuccess)
        .keyed(|call: &Call| call.0)
        .max_keys(64);
    let mut service = layer.layer(service_fn(serve));
    for _ in 0..2 {
        refused(&mut service, (Some(0), false)).await;
    }
    for key in 1..5_000 {
        refused(&mut service, (Some(key), true)).await;
    }
    assert!(layer.handle().keys() <= 64);
    assert!(refused(&mut service, (Some(0), true)).await);
    // Closed and with nothing counted any more, it may go.
    tokio::time::advance(Duration::from_secs(3_600)).await;
    for _ in 0..3 {
        assert!(!refused(&mut service, (Some(0), true)).await);
    }
    tokio::time::advance(Duration::from_secs(3_600)).await;
    for key in 5_000..10_000 {
        refused(&mut service, (Some(key), true)).await;
    }
    assert!(layer.handle().get(0).is_none());
}

#[tokio::test(start_paused = true)]
async fn strangers_without_room_are_not_judged_by_one_another_and_dead_keys_make_room() {
    let layer = BreakerLayer::new(policy())
        .classify(OkIsSuccess)
        .keyed(|call: &Call| call.0)
        .max_keys(16);
    let mut service = layer.layer(service_fn(serve));
    // Each fails: a row of one in each circuit, and then two.
    for key in (0..1_000).chain(0..1_000) {
        refused(&mut service, (Some(key), false)).await;
    }
    for key in 10_000..11_000 {
        assert!(!refused(&mut service, (Some(key), true)).await, "{key}");
    }
    tokio::time::advance(Duration::from_secs(3_600)).await;
    refused(&mut service, (Some(11_000), true)).await;
    assert!(layer.handle().get(11_000).is_some());
}

/// Runs on a thread of its own, so that a deadlock fails.
fn ends(run: impl Future<Output = ()> + Send + 'static) {
    let (done, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().build().unwrap();
        runtime.block_on(run);
        done.send(()).unwrap();
    });
    let ended = wait.recv_timeout(Duration::from_secs(60));
    assert!(ended.is_ok(), "deadlock");
}

#[test]
fn a_handle_may_be_used_while_it_shows_its_keys_and_while_settings_change() {
    ends(async {
        let layer = BreakerLayer::new(policy())
            .classify(OkIsSuccess)
            .keyed(|call: &Call| call.0);
        let handle = layer.handle();
        let mut service = layer.layer(service_fn(serve));
        for _ in 0..2 {
            refused(&mut service, (Some(7), false)).await;
        }
        handle.for_each(|key, state| {
            assert_eq!(state, State::Open);
            handle.get(*key).unwrap().reset();
        });
        assert!(!refused(&mut service, (Some(7), true)).await);
        let change = |config: &mut BreakerConfig| {
            drop(layer.fresh());
            config.consecutive_failures = handle.keys() as u32 + 9;
        };
        handle.one().update(change).unwrap();
        assert_eq!(
            handle.one().config().load().config().consecutive_failures,
            10
        );
    });
}
