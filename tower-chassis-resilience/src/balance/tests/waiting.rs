//! Calls whose endpoint is not ready.

use std::time::Duration;

use tokio::time::{Instant, advance};
use tower::ServiceExt;
use tower_chassis_core::{Verdict, cause, invocation::OnEmpty};

use super::*;

fn ids(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("e{i}")).collect()
}

fn unready(count: usize) -> (Balance<Fake>, Source, Fakes) {
    let (balance, source, fakes) =
        balance(ids(count).iter().map(|id| endpoint(id)), Picker::default());
    fakes
        .0
        .lock()
        .unwrap()
        .values()
        .for_each(|fake| fake.set_ready(false));
    (balance, source, fakes)
}

fn polls(fakes: &Fakes) -> usize {
    fakes.0.lock().unwrap().values().map(Fake::polls).sum()
}

/// Instances that calls hold: not this list's, nor the set's.
fn held(fakes: &Fakes) -> usize {
    fakes
        .0
        .lock()
        .unwrap()
        .values()
        .map(|fake| Arc::strong_count(&fake._live) - 2)
        .sum()
}

#[tokio::test]
async fn an_endpoint_that_is_not_ready_is_passed_over() {
    let (balance, _source, fakes) = unready(3);
    fakes.get("e1").set_ready(true);
    for _ in 0..100 {
        let mut call = Hand::new(balance.clone().oneshot(request()));
        assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
        assert_eq!(call.wakes(), 0);
    }
    assert_eq!(fakes.calls("e1"), 100);
    assert_eq!((pending(&balance.handle()), held(&fakes)), (0, 0));
}

#[tokio::test]
async fn three_are_awaited_and_the_first_that_is_ready_is_called() {
    for winner in 0..3 {
        let (balance, _source, fakes) = unready(3);
        let mut asked = request();
        let mut second = asked.invocation_mut().clone();
        second.set_attempt(2);
        let tried = || {
            balance
                .handle()
                .endpoints()
                .iter()
                .filter(|s| second.has_tried(s.endpoint.key()))
                .count()
        };
        let mut call = Hand::new(balance.clone().oneshot(asked));
        assert!(call.poll().is_pending());
        assert_eq!(tried(), 1, "a retry after a timeout knows where it waited");
        assert_eq!(
            (polls(&fakes), held(&fakes), pending(&balance.handle())),
            (3, 3, 3),
            "each once"
        );
        assert!(call.poll().is_pending());
        assert_eq!((polls(&fakes), call.wakes()), (6, 0), "no self-wake");
        let winner = fakes.get(&format!("e{winner}"));
        winner.hold();
        winner.set_ready(true);
        assert!(call.wakes() > 0);
        assert!(call.poll().is_pending());
        assert_eq!(
            (held(&fakes), pending(&balance.handle())),
            (1, 1),
            "the others let go"
        );
        assert!(second.has_tried(winner.endpoint.key()) && tried() == 1);
        winner.answer(1);
        assert_eq!(call.wakes(), 1);
        assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
        assert_eq!(pending(&balance.handle()), 0);
        let statuses = balance.handle().endpoints();
        assert_eq!(
            statuses.iter().map(|status| status.attempts).sum::<u64>(),
            1,
            "waiting is no attempt"
        );
        let measured = statuses
            .iter()
            .filter(|status| status.latency.is_some())
            .count();
        assert_eq!(measured, 1, "losing is no answer");
    }
}

#[tokio::test]
async fn no_more_than_three_are_awaited() {
    let (balance, _source, fakes) = unready(20);
    let mut call = Hand::new(balance.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    assert_eq!(
        (polls(&fakes), held(&fakes), pending(&balance.handle())),
        (3, 3, 3)
    );
}

#[tokio::test]
async fn a_new_set_wakes_those_who_wait() {
    let (balance, source, fakes) = unready(1);
    let mut calls: Vec<_> = (0..5)
        .map(|_| Hand::new(balance.clone().oneshot(request())))
        .collect();
    assert!(calls.iter_mut().all(|call| call.poll().is_pending()));
    set(&source, [endpoint("e0"), endpoint("new")]);
    settle().await;
    for call in &mut calls {
        assert_eq!(call.wakes(), 1);
        assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
    }
    assert_eq!((fakes.calls("new"), pending(&balance.handle())), (5, 0));
}

#[tokio::test]
async fn news_help_also_who_waits_for_three() {
    let (balance, source, fakes) = unready(3);
    let mut call = Hand::new(balance.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    set(
        &source,
        ids(3)
            .iter()
            .map(|id| endpoint(id))
            .chain([endpoint("new")]),
    );
    settle().await;
    assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
    assert_eq!(fakes.calls("new"), 1);

    set(&source, ids(3).iter().map(|id| endpoint(id)));
    settle().await;
    let mut call = Hand::new(balance.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    for _ in 0..5 {
        set(
            &source,
            ids(3).iter().map(|id| endpoint(id)).chain([endpoint("x")]),
        );
        settle().await;
        fakes.get("x").set_ready(false);
        assert!(call.poll().is_pending());
        assert_eq!(pending(&balance.handle()), 3, "the oldest gave way");
        set(&source, ids(3).iter().map(|id| endpoint(id)));
        settle().await;
        assert!(call.poll().is_pending());
        assert_eq!(pending(&balance.handle()), 3);
    }
}

#[tokio::test]
async fn a_change_between_the_call_and_its_first_poll_is_heard() {
    let (mut balance, source, fakes) = unready(1);
    let mut call = Hand::new(balance.call(request()));
    set(&source, [endpoint("new")]);
    settle().await;
    assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
    assert_eq!(fakes.calls("new"), 1);
}

#[tokio::test]
async fn an_endpoint_that_went_away_is_not_awaited() {
    let (balance, source, fakes) = unready(2);
    let mut call = Hand::new(balance.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    set(&source, [endpoint("e1")]);
    settle().await;
    assert!(call.poll().is_pending());
    let before = fakes.get("e0").polls();
    fakes.get("e0").set_ready(true);
    assert!(call.poll().is_pending());
    assert_eq!(fakes.get("e0").polls(), before);
    set(&source, []);
    settle().await;
    assert_eq!(call.wakes(), 3, "two sets, and the endpoint that it left");
    let Poll::Ready(refused) = call.poll() else {
        panic!("nothing to wait for")
    };
    assert_eq!(
        rejection(&refused).map(Rejection::kind),
        Some(Kind::NoEndpoint)
    );
}

#[tokio::test]
async fn a_moved_endpoint_is_awaited_at_its_new_address() {
    let (balance, source, fakes) = unready(1);
    let mut call = Hand::new(balance.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    set(
        &source,
        [Endpoint::new("http://elsewhere:80").unwrap().with_id("e0")],
    );
    settle().await;
    assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
    assert_eq!((fakes.calls("e0"), pending(&balance.handle())), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_opens_wakes_those_who_wait() {
    let (balance, _source, fakes) = unready(2);
    let open = fakes.get("e1");
    open.set_ready(true);
    open.gate
        .shut_until(Instant::now() + Duration::from_secs(5));
    let mut call = Hand::new(balance.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(call.wakes(), 0);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(call.wakes(), 1);
    assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
    assert_eq!(fakes.calls("e1"), 1);
}

#[tokio::test]
async fn who_waits_stays_in_its_subset() {
    let v2 = || endpoint("e0").with_tags([("version", "v2")]);
    let (balance, source, fakes) = balance([v2(), endpoint("e1")], Picker::default());
    fakes.get("e0").set_ready(false);
    let mut call = Hand::new(
        balance
            .clone()
            .oneshot(request_to(Subset::new([("version", "v2")], OnEmpty::Any))),
    );
    assert!(call.poll().is_pending());
    assert_eq!(fakes.calls("e1"), 0);
    set(&source, [endpoint("e1")]);
    settle().await;
    assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
    assert_eq!(fakes.calls("e1"), 1, "its subset is empty now");
}

#[tokio::test]
async fn a_readiness_that_fails_ends_the_wait() {
    let (balance, _source, fakes) = unready(2);
    let mut call = Hand::new(balance.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    fakes.get("e1").state.broken.store(true, SeqCst);
    fakes.get("e1").set_ready(true);
    let Poll::Ready(failed) = call.poll() else {
        panic!("it failed")
    };
    assert_eq!(
        rejection(&failed).map(Rejection::kind),
        Some(Kind::Unreachable)
    );
    let statuses = balance.handle().endpoints();
    assert_eq!(
        (
            statuses[1].attempts,
            statuses[1].failures,
            pending(&balance.handle())
        ),
        (1, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_drop_lets_go_at_every_stage() {
    for stage in 0..5 {
        let (balance, _source, fakes) = unready(3);
        let mut service = balance.clone();
        let mut call = Hand::new(service.call(request()));
        assert_eq!(pending(&balance.handle()), 1);
        let first = fakes.get("e0");
        first.hold();
        if stage > 0 {
            assert!(call.poll().is_pending());
            advance(Duration::from_millis(5)).await;
        }
        if stage > 1 {
            assert!(call.poll().is_pending());
        }
        if stage > 2 {
            first.set_ready(true);
        }
        if stage > 3 {
            assert!(call.poll().is_pending());
        }
        match stage {
            1 => cause::drop_with(Verdict::TIMEOUT, || drop(call)),
            _ => drop(call),
        }
        drop(first);
        assert_eq!(
            (pending(&balance.handle()), held(&fakes)),
            (0, 0),
            "stage {stage}"
        );
        let known: Vec<_> = balance
            .handle()
            .endpoints()
            .iter()
            .filter_map(|status| status.latency)
            .collect();
        match stage {
            0 => assert!(known.is_empty()),
            1 => assert_eq!(known, [Duration::from_secs(1); 3]),
            2 | 3 => assert_eq!(known, [Duration::from_millis(5); 3]),
            _ => assert_eq!(known.len(), 1),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_beside_a_waiting_call_is_no_failure_of_its_endpoints() {
    let (balance, _source, _fakes) = unready(3);
    let mut call = Hand::new(balance.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    advance(Duration::from_millis(5)).await;
    let beside = std::panic::AssertUnwindSafe(move || {
        let _call = call;
        panic!("planted")
    });
    assert!(std::panic::catch_unwind(beside).is_err());
    let endpoints = balance.handle().endpoints();
    let known = endpoints.iter().filter_map(|status| status.latency);
    assert!(known.eq([Duration::from_millis(5); 3]), "{endpoints:?}");
}

#[tokio::test]
async fn a_waiting_call_keeps_the_set_alive() {
    let (source, fakes) = (
        Source::new([endpoint("a")].into_iter().collect()),
        Fakes::default(),
    );
    let (mut balance, worker) = Balance::new(source.subscribe(), fakes.make(), Picker::default());
    let worker = worker.spawn();
    fakes.get("a").set_ready(false);
    let mut call = Hand::new(balance.call(request()));
    assert!(call.poll().is_pending());
    drop(balance);
    set(&source, [endpoint("b")]);
    settle().await;
    assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
    drop(call);
    worker.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_wakeup_is_lost() {
    let (balance, source, fakes) = unready(10);
    fakes.get("e3").set_ready(true);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let balance = balance.clone();
            tokio::spawn(async move {
                for _ in 0..500 {
                    balance.clone().oneshot(request()).await.unwrap();
                }
            })
        })
        .collect();
    let flips = tokio::spawn(async move {
        for round in 0.. {
            let fake = fakes.get(&format!("e{}", round % 10));
            fake.set_ready(round % 20 < 10);
            fakes.get("e3").set_ready(true);
            if round % 50 == 0 {
                set(
                    &source,
                    ids(10)
                        .iter()
                        .map(|id| endpoint(id).with_weight(1 + round % 2)),
                );
            }
            tokio::task::yield_now().await;
        }
    });
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(30), task)
            .await
            .unwrap()
            .unwrap();
    }
    flips.abort();
    assert_eq!(pending(&balance.handle()), 0);
}
