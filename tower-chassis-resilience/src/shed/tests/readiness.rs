//! An inner service that is not ready.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::Response;
use tokio::time::Instant;
use tower::{ServiceExt, load_shed::LoadShedLayer};
use tower_chassis_core::{
    Body, BoxError, Events, Kind,
    events::{Event, Received},
    testing::{Control, ControlledService, CountingWaker, Hand, Plan, advance},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{super::*, MS, SECOND, is_shed, policy, send};

fn over<P: Clone>(layer: &ShedLayer<P>) -> (Shed<ControlledService, P>, Control) {
    let inner = ControlledService::new();
    let control = inner.control();
    (layer.layer(inner), control)
}

fn patient(max: Duration) -> ShedLayer {
    ShedLayer::new(policy(|config| config.max_unready = max))
}

fn ready(service: &mut Shed<ControlledService>, waker: &Waker) -> Poll<Result<(), BoxError>> {
    Service::<()>::poll_ready(service, &mut Context::from_waker(waker))
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ready_is_refused_at_once() {
    let events = Events::new();
    let mut heard = events.subscribe(4);
    let layer = ShedLayer::new(ShedPolicy::default())
        .named("shop")
        .events(events);
    let handle = layer.handle();
    let (service, control) = over(&layer);
    assert_eq!(send(&service, ()).await.unwrap().status(), 200);
    control.close();
    let before = Instant::now();
    assert!(is_shed(&send(&service, ()).await.unwrap_err()));
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!((control.counts().calls, handle.refused_unready()), (1, 1));
    let refused = Event::refused_by("shed", "shop", Kind::Overloaded);
    assert_eq!(heard.try_recv(), Ok(Received::Event(refused)));
    control.open();
    assert_eq!(send(&service, ()).await.unwrap().status(), 200);
}

/// Who is refused keeps its place: it is woken, and the next call is that of the instance that was asked.
#[tokio::test(start_paused = true)]
async fn readiness_and_its_waker_are_not_lost() {
    let (mut service, control) = over(&ShedLayer::new(ShedPolicy::default()));
    control.close();
    let waker = CountingWaker::new();
    let wake = Waker::from(Arc::clone(&waker));
    assert!(ready(&mut service, &wake).is_ready());
    let refused = service.call(());
    assert!(is_shed(&refused.await.unwrap_err()));
    control.open();
    assert_eq!(waker.wakes(), 1);
    assert!(ready(&mut service, &wake).is_ready());
    assert_eq!(service.call(()).await.unwrap().status(), 200);
    assert_eq!(control.counts().unready_calls, 0);
}

/// It became ready after it had been refused, and before the call.
#[tokio::test(start_paused = true)]
async fn asked_again_it_may_be_ready() {
    let (mut service, control) = over(&ShedLayer::new(ShedPolicy::default()));
    control.close();
    assert!(ready(&mut service, Waker::noop()).is_ready());
    assert!(ready(&mut service, Waker::noop()).is_ready());
    control.open();
    assert!(ready(&mut service, Waker::noop()).is_ready());
    assert_eq!(service.call(()).await.unwrap().status(), 200);
    assert_eq!(control.counts().unready_calls, 0);
    // A clone of one that would be refused is not.
    control.close();
    assert!(ready(&mut service, Waker::noop()).is_ready());
    let clone = service.clone();
    control.open();
    assert!(send(&clone, ()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_as_long_as_it_may() {
    let (service, control) = over(&patient(SECOND));
    control.close();
    let begun = Instant::now();
    let error = send(&service, ()).await.unwrap_err();
    assert!(is_shed(&error));
    assert_eq!(begun.elapsed(), SECOND);
    // Others are refused at once now, as long as it lasts and somebody asks.
    for _ in 0..5 {
        advance(900 * MS).await;
        let begun = Instant::now();
        assert!(is_shed(&send(&service, ()).await.unwrap_err()));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }
    // Ready once, and it begins anew.
    control.open();
    assert!(send(&service, ()).await.is_ok());
    control.close();
    let begun = Instant::now();
    assert!(send(&service, ()).await.is_err());
    assert_eq!(begun.elapsed(), SECOND);
    // So it does where nobody knows what was between.
    advance(3 * SECOND).await;
    let begun = Instant::now();
    assert!(send(&service, ()).await.is_err());
    assert_eq!(begun.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_goes_on_when_it_is_ready() {
    let (service, control) = over(&patient(SECOND));
    control.close();
    let mut waits = Hand::new(send(&service, ()));
    assert!(matches!(
        waits.poll(),
        tower_chassis_core::testing::Polled::Pending
    ));
    advance(999 * MS).await;
    assert!(!waits.is_woken());
    control.open();
    assert!(waits.is_woken());
    let tower_chassis_core::testing::Polled::Ready(answer) = waits.poll() else {
        panic!("it waits on")
    };
    assert_eq!(
        (answer.unwrap().status().as_u16(), waits.self_wakes()),
        (200, 0)
    );
}

/// The timer wakes, also the task that the call has moved to.
#[tokio::test(start_paused = true)]
async fn the_timer_wakes_the_task_that_waits_last() {
    let (mut service, control) = over(&patient(SECOND));
    control.close();
    let wakers = [CountingWaker::new(), CountingWaker::new()];
    for waker in &wakers {
        assert!(ready(&mut service, &Waker::from(Arc::clone(waker))).is_pending());
    }
    advance(SECOND).await;
    assert_eq!(wakers.map(|waker| waker.wakes()), [0, 1]);
    assert!(ready(&mut service, Waker::noop()).is_ready());
    assert!(is_shed(&service.call(()).await.unwrap_err()));
}

/// One instance of the inner service is never ready and the other always: nobody waits for longer than it may.
#[tokio::test(start_paused = true)]
async fn another_one_that_is_ready_does_not_make_it_wait_for_ever() {
    let (service, control) = over(&patient(SECOND));
    let mut other = service.clone();
    assert!(ready(&mut other, Waker::noop()).is_ready());
    control.close();
    let begun = Instant::now();
    let waits = tokio::spawn(send(&service, ()));
    while !waits.is_finished() {
        advance(100 * MS).await;
        // That one has its readiness from before.
        assert!(ready(&mut other, Waker::noop()).is_ready());
    }
    assert!(waits.await.unwrap().is_err());
    assert!(begun.elapsed() <= SECOND + 100 * MS);
}

/// Services of one layer are ready or not by themselves.
#[tokio::test(start_paused = true)]
async fn two_services_of_a_layer_do_not_know_of_one_another() {
    let layer = patient(SECOND);
    let ((one, first), (two, second)) = (over(&layer), over(&layer));
    first.close();
    assert!(send(&one, ()).await.is_err());
    second.close();
    let begun = Instant::now();
    assert!(send(&two, ()).await.is_err());
    assert_eq!(begun.elapsed(), SECOND);
    assert_eq!(layer.handle().refused_unready(), 2);
    assert_eq!(layer.fresh().handle().refused_unready(), 0);
}

#[tokio::test(start_paused = true)]
async fn it_is_live_and_can_be_disabled() {
    let layer = ShedLayer::new(policy(|_| {}));
    let handle = layer.handle();
    let (service, control) = over(&layer);
    control.close();
    handle.update(|config| config.max_unready = SECOND).unwrap();
    let begun = Instant::now();
    assert!(send(&service, ()).await.is_err());
    assert_eq!(begun.elapsed(), SECOND);
    handle.disable();
    assert!(handle.is_disabled());
    let waits = tokio::spawn(send(&service, ()));
    advance(1_000 * SECOND).await;
    assert!(!waits.is_finished());
    control.open();
    assert!(waits.await.unwrap().is_ok());
    control.close();
    handle.enable();
    assert!(send(&service, ()).await.is_err());
}

/// A wait is not ended by other settings; but once it is looked at again, for whatever reason, it is by these.
#[tokio::test(start_paused = true)]
async fn a_wait_that_is_looked_at_again_is_by_the_settings_of_then() {
    let layer = patient(SECOND);
    let (mut service, control) = over(&layer);
    control.close();
    let wakers = [CountingWaker::new(), CountingWaker::new()];
    assert!(ready(&mut service, &Waker::from(Arc::clone(&wakers[0]))).is_pending());
    let shorter = |config: &mut ShedConfig| config.max_unready = 100 * MS;
    layer.handle().update(shorter).unwrap();
    advance(50 * MS).await;
    assert!(ready(&mut service, &Waker::from(Arc::clone(&wakers[1]))).is_pending());
    advance(49 * MS).await;
    assert_eq!(wakers.each_ref().map(|waker| waker.wakes()), [0, 0]);
    advance(MS).await;
    assert_eq!(wakers.map(|waker| waker.wakes()), [0, 1]);
    assert!(ready(&mut service, Waker::noop()).is_ready());
    assert!(is_shed(&service.call(()).await.unwrap_err()));
}

/// What an instance was told is for its next call, and for no clone.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_of_one_call() {
    let layer = ShedLayer::new(policy(|_| {}));
    let handle = layer.handle();
    let (mut service, control) = over(&layer);
    control.close();
    assert!(ready(&mut service, Waker::noop()).is_ready());
    let mut clone = service.clone();
    // From now on all of them wait, but who was told that it may call may do so.
    handle.disable();
    assert!(ready(&mut service, Waker::noop()).is_ready());
    assert!(ready(&mut clone, Waker::noop()).is_pending());
    assert!(is_shed(&service.call(()).await.unwrap_err()));
    assert!(ready(&mut service, Waker::noop()).is_pending());
    control.open();
    for mut service in [service, clone] {
        assert!(ready(&mut service, Waker::noop()).is_ready());
        assert!(service.call(()).await.is_ok());
    }
    assert_eq!(handle.refused_unready(), 1);
}

/// Dropped at each poll, at each place: nothing stays reserved in the inner service, and nothing is counted.
#[tokio::test(start_paused = true)]
async fn dropped_at_any_poll_nothing_is_left() {
    for max in [Duration::ZERO, SECOND] {
        for closed in [true, false] {
            for polls in 0..4 {
                let layer = patient(max);
                let (service, control) = over(&layer);
                control.plan(Plan::answer().after_polls(2));
                if closed {
                    control.close();
                }
                let instances = control.counts().instances;
                let mut call = Hand::new(send(&service, ()));
                for _ in 0..polls {
                    if call.is_over() {
                        break;
                    }
                    let _ = call.poll();
                    control.open();
                }
                drop(call);
                let counts = control.counts();
                assert_eq!((counts.in_flight, counts.reserved), (0, 0));
                assert_eq!(counts.instances, instances);
                control.open();
                control.plan(Plan::answer());
                assert!(send(&service, ()).await.is_ok());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn errors_and_panics_of_readiness_are_those_of_the_inner_service() {
    let (mut service, control) = over(&patient(SECOND));
    control.close();
    assert!(ready(&mut service, Waker::noop()).is_pending());
    control.fail_ready();
    let Poll::Ready(Err(error)) = ready(&mut service, Waker::noop()) else {
        panic!("it failed")
    };
    assert!(!is_shed(&error));
    control.panic_ready();
    assert!(catch_unwind(AssertUnwindSafe(|| ready(&mut service, Waker::noop()))).is_err());
    control.open();
    assert!(ready(&mut service, Waker::noop()).is_ready());
    assert!(service.call(()).await.is_ok());
}

/// As tower's own, which has no time to wait and no priority.
#[tokio::test(start_paused = true)]
async fn at_once_it_is_tower_s() {
    let mut rng = fastrand::Rng::with_seed(7);
    let (inner, outer) = (ControlledService::new(), ControlledService::new());
    let controls = [inner.control(), outer.control()];
    let mut ours = ShedLayer::new(ShedPolicy::default()).layer(inner);
    let mut theirs = LoadShedLayer::new().layer(outer);
    for _ in 0..2_000 {
        for control in &controls {
            match rng.clone().u8(..4) {
                0 => control.close(),
                1 => control.open(),
                2 => control.next(Plan::error()),
                _ => {}
            }
        }
        rng.u8(..);
        let status = |response: Response<Body>| response.status().as_u16();
        let one = ServiceExt::<()>::ready(&mut ours).await.unwrap().call(());
        let two = ServiceExt::<()>::ready(&mut theirs).await.unwrap().call(());
        let (one, two) = (one.await, two.await);
        let shed = (
            one.as_ref().is_err_and(is_shed),
            two.as_ref()
                .is_err_and(|error| error.is::<tower::load_shed::error::Overloaded>()),
        );
        assert_eq!(shed.0, shed.1);
        assert_eq!(one.ok().map(status), two.ok().map(status));
    }
    let [one, two] = controls.map(|control| control.counts());
    assert_eq!((one.calls, one.reserved), (two.calls, two.reserved));
    assert!(one.calls > 100 && one.unready_calls == 0);
}
