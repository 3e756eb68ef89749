//! The set while it changes.

use std::time::Duration;

use tower::ServiceExt;

use super::*;

#[tokio::test]
async fn churn_keeps_state_by_id() {
    let (balance, source, fakes) = balance([endpoint("a"), endpoint("b")], RoundRobin::new());
    let handle = balance.handle();
    for _ in 0..10 {
        balance.clone().oneshot(request()).await.unwrap();
    }
    let old = fakes.get("a");
    old.gate.shut();
    set(
        &source,
        [
            endpoint("c"),
            endpoint("a").with_weight(7).with_tags([("zone", "z1")]),
        ],
    );
    settle().await;
    let statuses = handle.endpoints();
    assert_eq!(
        statuses
            .iter()
            .map(|s| &**s.endpoint.id())
            .collect::<Vec<_>>(),
        ["c", "a"]
    );
    let a = &statuses[1];
    assert_eq!(
        (
            a.attempts,
            a.open,
            a.endpoint.weight(),
            a.endpoint.tag("zone")
        ),
        (5, false, 7, Some("z1"))
    );
    assert!(
        Arc::ptr_eq(&old.state, &fakes.get("a").state),
        "the service was not made again"
    );
    assert_eq!((statuses[0].attempts, statuses[0].latency), (0, None));
}

#[tokio::test]
async fn a_new_address_is_a_new_service_behind_a_new_gate() {
    let moved = Endpoint::new("http://elsewhere:80").unwrap().with_id("a");
    let (balance, source, fakes) = balance([endpoint("a")], Picker::default());
    balance.clone().oneshot(request()).await.unwrap();
    let old = fakes.get("a");
    old.gate.shut();
    set(&source, [moved]);
    settle().await;
    balance.clone().oneshot(request()).await.unwrap();
    assert!(!Arc::ptr_eq(&old.state, &fakes.get("a").state));
    let status = balance.handle().endpoints().remove(0);
    assert_eq!((status.attempts, status.open), (2, true));
    assert_eq!(fakes.calls("a"), 1);
}

#[tokio::test]
async fn calls_in_flight_survive_churn() {
    let (balance, source, fakes) = balance([endpoint("a")], Picker::default());
    let (handle, a) = (balance.handle(), fakes.get("a"));
    a.hold();
    let mut calls: Vec<_> = (0..3)
        .map(|_| Hand::new(balance.clone().oneshot(request())))
        .collect();
    assert!(calls.iter_mut().all(|call| call.poll().is_pending()));
    set(&source, [endpoint("a").with_weight(2)]);
    settle().await;
    assert_eq!(pending(&handle), 3);
    set(&source, [endpoint("b")]);
    settle().await;
    assert_eq!(pending(&handle), 0, "it is gone");
    set(&source, [endpoint("a"), endpoint("b")]);
    settle().await;
    assert_eq!(pending(&handle), 3, "it came back, and so did its calls");
    a.answer(3);
    for mut call in calls {
        assert!(matches!(call.poll(), Poll::Ready(Ok(_))));
    }
    assert_eq!(pending(&handle), 0);
}

#[tokio::test]
async fn a_clone_sees_the_new_set() {
    let (balance, source, fakes) = balance([endpoint("a")], Picker::default());
    let mut clone = balance.clone();
    clone.ready().await.unwrap().call(request()).await.unwrap();
    set(&source, [endpoint("b")]);
    settle().await;
    for mut service in [clone.clone(), clone, balance] {
        service
            .ready()
            .await
            .unwrap()
            .call(request())
            .await
            .unwrap();
    }
    assert_eq!((fakes.calls("a"), fakes.calls("b")), (1, 3));
}

#[tokio::test]
async fn a_balancer_works_before_its_worker_runs() {
    let (source, fakes) = (
        Source::new([endpoint("a")].into_iter().collect()),
        Fakes::default(),
    );
    let (balance, worker) = Balance::new(source.subscribe(), fakes.make(), Picker::default());
    balance.clone().oneshot(request()).await.unwrap();
    set(&source, [endpoint("b")]);
    let worker = worker.spawn();
    settle().await;
    balance.clone().oneshot(request()).await.unwrap();
    assert_eq!((fakes.calls("a"), fakes.calls("b")), (1, 1));
    drop(source);
    settle().await;
    balance.clone().oneshot(request()).await.unwrap();
    assert_eq!(fakes.calls("b"), 2, "the last value stays in force");
    assert!(!worker.is_finished());
}

#[tokio::test]
async fn the_worker_ends_with_the_last_balancer() {
    let (source, fakes) = (
        Source::new([endpoint("a")].into_iter().collect()),
        Fakes::default(),
    );
    let (balance, worker) = Balance::new(source.subscribe(), fakes.make(), Picker::default());
    let (worker, handle, clone) = (worker.spawn(), balance.handle(), balance.clone());
    drop(balance);
    settle().await;
    assert!(!worker.is_finished());
    drop(clone);
    worker.await.unwrap();
    assert!(handle.endpoints().is_empty() && handle.is_empty() && handle.service().is_empty());
    assert_eq!(source.receiver_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_worker_drops_old_sets_not_the_caller() {
    let (mut balance, source, fakes) = balance([endpoint("a")], Picker::default());
    let old = fakes.get("a");
    fakes.0.lock().unwrap().clear();
    // This test holds one; the set another.
    let instances = || Arc::strong_count(&old._live) - 1;
    assert_eq!(instances(), 1);
    let called = balance.ready().await.unwrap().call(request()).await;
    called.unwrap();
    let idle = balance.clone();
    set(&source, [endpoint("b")]);
    settle().await;
    assert_eq!(instances(), 1, "the balancer holds the old set");
    balance
        .ready()
        .await
        .unwrap()
        .call(request())
        .await
        .unwrap();
    assert_eq!(instances(), 1, "the worker holds it still");
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(instances(), 0, "a clone that is not called holds nothing");
    drop(idle);
}

#[tokio::test]
async fn an_id_named_twice_is_one_endpoint() {
    let twice = [
        endpoint("a").with_weight(2),
        endpoint("b").with_weight(5),
        endpoint("a").with_weight(3),
    ];
    let (balance, _source, _) = balance(twice, RoundRobin::new());
    let statuses = balance.handle().endpoints();
    assert_eq!(
        statuses
            .iter()
            .map(|s| s.endpoint.weight())
            .collect::<Vec<_>>(),
        [5, 5]
    );
    assert_eq!(balance.handle().len(), 2);
}
