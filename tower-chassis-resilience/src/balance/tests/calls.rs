//! Calls through the service.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::{Instant, advance};
use tower::ServiceExt;
use tower_chassis_core::{
    Class, Events, Live, Verdict, cause, events::Event, invocation::OnEmpty, settle::Observe,
};

use super::*;
use crate::balance::outlier;

async fn body(response: Response<Body>) -> String {
    String::from_utf8(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    )
    .unwrap()
}

#[tokio::test]
async fn a_call_is_counted_and_its_endpoint_noted() {
    let (balance, _source, _) = balance([endpoint("a"), endpoint("b")], RoundRobin::new());
    let mut request = request();
    request.invocation_mut();
    let invocation = request.invocation().unwrap().clone();
    let id = body(balance.clone().oneshot(request).await.unwrap()).await;
    let statuses = balance.handle().endpoints();
    for status in &statuses {
        let chosen = **status.endpoint.id() == *id;
        assert_eq!(
            (status.attempts, status.failures, status.pending),
            (u64::from(chosen), 0, 0)
        );
        assert_eq!(status.latency.is_some(), chosen);
        let mut second = invocation.clone();
        second.set_attempt(2);
        assert_eq!(second.has_tried(status.endpoint.key()), chosen);
    }
}

#[tokio::test]
async fn the_second_attempt_goes_elsewhere() {
    let (balance, _source, _) = balance(
        [endpoint("a"), endpoint("b"), endpoint("c")],
        Picker::default(),
    );
    for _ in 0..50 {
        let mut ids = Vec::new();
        let mut first = request();
        first.invocation_mut();
        for attempt in 1..=3 {
            let mut again = request();
            *again.invocation_mut() = first.invocation().unwrap().clone();
            again.invocation_mut().set_attempt(attempt);
            ids.push(body(balance.clone().oneshot(again).await.unwrap()).await);
        }
        ids.sort_unstable();
        assert_eq!(ids, ["a", "b", "c"]);
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_say_why_and_until_when() {
    let (balance, source, fakes) = balance([], Picker::default());
    let none = balance.clone().oneshot(request()).await;
    assert_eq!(
        rejection(&none).map(Rejection::kind),
        Some(Kind::NoEndpoint)
    );
    assert_eq!(rejection(&none).map(Rejection::layer), Some("balance"));

    set(
        &source,
        [endpoint("a"), endpoint("b").with_tags([("version", "v2")])],
    );
    settle().await;
    let (a, b) = (fakes.get("a"), fakes.get("b"));
    b.gate.shut_until(Instant::now() + Duration::from_secs(9));
    for _ in 0..20 {
        assert_eq!(
            body(balance.clone().oneshot(request()).await.unwrap()).await,
            "a"
        );
    }
    let v2 = |on_empty| request_to(Subset::new([("version", "v2")], on_empty));
    assert_eq!(
        body(balance.clone().oneshot(v2(OnEmpty::Any)).await.unwrap()).await,
        "a"
    );
    let refused = balance.clone().oneshot(v2(OnEmpty::Refuse)).await;
    assert_eq!(
        rejection(&refused).map(Rejection::kind),
        Some(Kind::NoEndpoint)
    );
    assert_eq!(
        rejection(&refused).and_then(Rejection::retry_after),
        Some(Duration::from_secs(9))
    );

    a.gate.shut_until(Instant::now() + Duration::from_secs(3));
    let shut = balance.clone().oneshot(request()).await;
    assert!(rejection(&shut).is_some_and(Rejection::is_circuit_open));
    assert_eq!(
        rejection(&shut).and_then(Rejection::retry_after),
        Some(Duration::from_secs(3))
    );
    advance(Duration::from_secs(3)).await;
    assert_eq!(
        body(balance.clone().oneshot(request()).await.unwrap()).await,
        "a"
    );
}

#[tokio::test]
async fn failures_of_the_call_and_of_readiness_are_counted() {
    let (balance, _source, fakes) = balance([endpoint("a")], Picker::default());
    let (handle, a) = (balance.handle(), fakes.get("a"));
    *a.state.status.lock().unwrap() = 503;
    assert_eq!(
        balance.clone().oneshot(request()).await.unwrap().status(),
        503
    );
    *a.state.status.lock().unwrap() = 0;
    assert!(balance.clone().oneshot(request()).await.is_err());
    a.state.broken.store(true, SeqCst);
    let unreachable = balance.clone().oneshot(request()).await;
    assert_eq!(
        rejection(&unreachable).map(Rejection::kind),
        Some(Kind::Unreachable)
    );
    let status = handle.endpoints().remove(0);
    assert_eq!(
        (status.attempts, status.failures, status.pending),
        (3, 3, 0)
    );
    assert!(status.latency.unwrap() > Duration::from_millis(990));
}

#[tokio::test(start_paused = true)]
async fn a_call_cut_short_tells_its_latency() {
    let (balance, _source, fakes) = balance([endpoint("a")], Picker::default());
    let handle = balance.handle();
    fakes.get("a").hold();
    let mut call = Hand::new(balance.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    assert_eq!(pending(&handle), 1);
    advance(Duration::from_millis(700)).await;
    drop(call);
    let status = handle.endpoints().remove(0);
    assert_eq!(
        (status.pending, status.failures, status.latency),
        (0, 0, Some(Duration::from_millis(700)))
    );

    let mut call = Hand::new(balance.clone().oneshot(request()));
    assert!(call.poll().is_pending());
    cause::drop_with(Verdict::TIMEOUT, || drop(call));
    let status = handle.endpoints().remove(0);
    assert_eq!(
        (status.pending, status.failures, status.latency),
        (0, 1, Some(Duration::from_secs(1)))
    );
}

#[tokio::test]
async fn a_panic_lets_go() {
    let (balance, _source, fakes) = balance([endpoint("a")], Picker::default());
    *fakes.get("a").state.status.lock().unwrap() = 1;
    assert!(
        tokio::spawn(balance.clone().oneshot(request()))
            .await
            .is_err()
    );
    let status = balance.handle().endpoints().remove(0);
    assert_eq!(
        (status.attempts, status.failures, status.pending),
        (1, 1, 0)
    );
}

#[tokio::test]
async fn until_end_holds_until_the_body_ended() {
    let (balance, _source, _) = balance([endpoint("a")], Picker::default());
    let handle = balance.handle();
    let response = balance.clone().oneshot(request()).await.unwrap();
    assert_eq!(pending(&handle), 0);
    drop(response);
    let response = balance
        .clone()
        .until_end()
        .oneshot(request())
        .await
        .unwrap();
    assert_eq!(pending(&handle), 1);
    assert!(
        handle.endpoints()[0].latency.is_some(),
        "the latency is that of the head"
    );
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "a"
    );
    assert_eq!(pending(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_condemns_a_good_head() {
    let (balance, _source, _) = balance([endpoint("a")], Picker::default());
    let ticket = |head, end| {
        let snapshot = balance.handle().endpoints().remove(0);
        let mut service = balance.clone();
        let mut call = Hand::new(service.call(request()));
        drop(call.poll());
        let state = Arc::new(snapshot::State {
            load: Load::new(Instant::now()),
            key: snapshot.endpoint.key(),
            id: snapshot.endpoint.id().clone(),
            set: std::sync::Weak::<()>::new(),
            standing: outlier::Standing::default(),
            outlier: Arc::default(),
            record: outlier::Record::default(),
        });
        let mut ticket = Ticket::new(&state, Instant::now());
        ticket.head(Verdict::new(head), Instant::now());
        ticket.done(Verdict::new(end), Instant::now());
        (
            state.load.latency(Instant::now()).unwrap() >= Duration::from_secs(1),
            state.load.failures(),
            state.load.pending(),
        )
    };
    assert_eq!(ticket(Class::Success, Class::Success), (false, 0, 0));
    assert_eq!(ticket(Class::Success, Class::Failure), (true, 1, 0));
    assert_eq!(ticket(Class::Failure, Class::Failure), (true, 1, 0));
    assert_eq!(ticket(Class::Success, Class::Cancelled), (false, 0, 0));
}

#[tokio::test]
async fn the_algorithm_changes_live_and_keeps_what_is_known() {
    let live = Live::new(BalancePolicy::default());
    let (balance, _source, fakes) =
        balance([endpoint("a"), endpoint("b")], Picker::new(live.clone()));
    *fakes.get("a").state.status.lock().unwrap() = 500;
    for _ in 0..100 {
        balance.clone().oneshot(request()).await.unwrap();
    }
    assert!(fakes.calls("a") <= 2, "{}", fakes.calls("a"));
    live.set(
        BalanceConfig {
            algorithm: Algorithm::RoundRobin,
        }
        .try_into()
        .unwrap(),
    )
    .unwrap();
    settle().await;
    let before = fakes.calls("a");
    for _ in 0..100 {
        balance.clone().oneshot(request()).await.unwrap();
    }
    assert_eq!(fakes.calls("a") - before, 50);
    live.set(BalancePolicy::default()).unwrap();
    settle().await;
    let before = fakes.calls("a");
    for _ in 0..100 {
        balance.clone().oneshot(request()).await.unwrap();
    }
    assert_eq!(fakes.calls("a"), before, "it was measured already");
}

#[tokio::test]
async fn events_name_the_service() {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let events = Events::new();
    let sink = Arc::clone(&heard);
    events.listen(move |event| {
        sink.lock().unwrap().push(match event {
            Event::Endpoints { service, count, .. } => format!("{service} {count}"),
            Event::Refused {
                layer, name, kind, ..
            } => format!(
                "{layer} {} {}",
                name.as_deref().unwrap_or("-"),
                kind.as_str()
            ),
            other => format!("{other:?}"),
        });
    });
    let (balance, source, _) = balance([endpoint("a")], Picker::default());
    let balance = balance.named("shop").events(events);
    settle().await;
    set(&source, []);
    settle().await;
    assert!(balance.clone().oneshot(request()).await.is_err());
    assert_eq!(
        *heard.lock().unwrap(),
        ["shop 1", "shop 0", "balance shop no-endpoint"]
    );
    assert_eq!(
        (&*balance.handle().service(), balance.handle().is_empty()),
        ("shop", true)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_tasks_lose_no_count() {
    let (balance, source, fakes) =
        balance((0..5).map(|i| endpoint(&i.to_string())), Picker::default());
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let balance = balance.clone();
            tokio::spawn(async move {
                for call in 0..2_000 {
                    if (task + call) % 7 == 0 {
                        drop(balance.clone().oneshot(request()));
                    }
                    balance.clone().oneshot(request()).await.unwrap();
                    if call % 16 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for round in 0..100_u32 {
        set(
            &source,
            (0..5).map(|i| endpoint(&i.to_string()).with_weight(1 + (i + round) % 3)),
        );
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let statuses = balance.handle().endpoints();
    assert_eq!(
        statuses.iter().map(|status| status.attempts).sum::<u64>(),
        16_000
    );
    assert_eq!(
        (0..5).map(|i| fakes.calls(&i.to_string())).sum::<usize>(),
        16_000
    );
    assert_eq!(pending(&balance.handle()), 0);
}
