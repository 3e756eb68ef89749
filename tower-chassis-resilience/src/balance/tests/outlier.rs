use std::time::Duration;

use tokio::time::advance;
use tower::ServiceExt;
use tower_chassis_core::{Events, Live, events::Event};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn answers_with(fake: &Fake, status: u16) {
    *fake.state.status.lock().unwrap() = status;
}

fn policy() -> OutlierPolicy {
    OutlierPolicy::default()
        .with(|config| config.jitter = 0.0)
        .unwrap()
}

fn ids(count: usize) -> impl Iterator<Item = Endpoint> {
    (0..count).map(|id| endpoint(&format!("e{id}")))
}

/// What is reported of endpoints.
fn heard(events: &Events) -> Arc<Mutex<Vec<String>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&heard);
    events.listen(move |event| {
        if let Event::EndpointTurned {
            service,
            endpoint,
            to,
            reason,
            lasts,
            ..
        } = event
        {
            let line = format!("{service} {endpoint} {to} {reason} {lasts:?}");
            sink.lock().unwrap().push(line);
        }
    });
    heard
}

async fn send<P: Pick>(balance: &Balance<Fake, P>, calls: usize) {
    for _ in 0..calls {
        balance.clone().oneshot(request()).await.unwrap();
        settle().await;
    }
}

fn status<P: Pick>(balance: &Balance<Fake, P>, id: &str) -> EndpointStatus {
    let all = balance.handle().endpoints();
    all.into_iter()
        .find(|status| &**status.endpoint.id() == id)
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_failing_endpoint_of_ten_is_ejected_and_comes_back() {
    let (balance, _source, fakes) = balance(ids(10), RoundRobin::new());
    let events = Events::new();
    let heard = heard(&events);
    let balance = balance.named("shop").events(events).outlier(policy());
    settle().await;
    let bad = fakes.get("e3");
    answers_with(&bad, 500);
    send(&balance, 40).await;
    assert_eq!(status(&balance, "e3").ejections, 0);
    send(&balance, 10).await;
    assert_eq!(fakes.calls("e3"), 5);
    let now = status(&balance, "e3");
    assert_eq!((now.ejected_for, now.ejections), (Some(30 * SECOND), 1));
    send(&balance, 100).await;
    assert_eq!(fakes.calls("e3"), 5, "passed over");

    // Still ill when its time comes: one call after the other finds out, and it is out for longer.
    advance(30 * SECOND).await;
    settle().await;
    assert_eq!(status(&balance, "e3").ejected_for, None);
    send(&balance, 100).await;
    assert_eq!(fakes.calls("e3"), 10);
    assert_eq!(status(&balance, "e3").ejected_for, Some(60 * SECOND));

    // Well again: one call, then its share grows.
    answers_with(&bad, 200);
    advance(60 * SECOND).await;
    settle().await;
    bad.hold();
    let held: Vec<_> = (0..20)
        .map(|_| tokio::spawn(balance.clone().oneshot(request())))
        .collect();
    settle().await;
    assert_eq!(fakes.calls("e3"), 11, "one call finds out");
    bad.answer(100_000);
    for call in held {
        call.await.unwrap().unwrap();
    }
    let mut shares = Vec::new();
    for _ in 0..3 {
        let before = fakes.calls("e3");
        send(&balance, 1_000).await;
        shares.push(fakes.calls("e3") - before);
        advance(5 * SECOND).await;
        settle().await;
    }
    assert!(
        (1..=25).contains(&shares[0]),
        "a tenth of a tenth: {shares:?}"
    );
    assert!(
        (30..=70).contains(&shares[1]),
        "half of a tenth: {shares:?}"
    );
    assert_eq!(shares[2], 100, "{shares:?}");
    assert_eq!(
        *heard.lock().unwrap(),
        [
            "shop e3 ejected consecutive-failures Some(30s)",
            "shop e3 readmitted time None",
            "shop e3 ejected consecutive-failures Some(60s)",
            "shop e3 readmitted time None",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn outliers_serve_what_nobody_else_can() {
    let (balance, _source, fakes) = balance(ids(2), PeakEwma::new());
    let handle = balance.handle();
    assert!(handle.eject("e0", SECOND) && handle.eject("e1", SECOND));
    assert!(!handle.eject("e2", SECOND));
    send(&balance, 20).await;
    assert!(fakes.calls("e0") > 0 && fakes.calls("e1") > 0);
    // Behind a gate that is shut there is no way, and the other is all there is.
    fakes
        .get("e0")
        .gate
        .shut_until(tokio::time::Instant::now() + 60 * SECOND);
    let before = fakes.calls("e0");
    send(&balance, 20).await;
    assert_eq!(fakes.calls("e0"), before);
    // Who is well takes all.
    assert!(handle.readmit("e1") && !handle.readmit("e1"));
    assert!(handle.eject("e0", 60 * SECOND));
    fakes.get("e0").gate.open();
    send(&balance, 20).await;
    assert_eq!(fakes.calls("e0"), before);
}

#[tokio::test(start_paused = true)]
async fn somebody_ejects_for_a_time_without_any_rule() {
    let (balance, _source, fakes) = balance(ids(3), RoundRobin::new());
    settle().await;
    assert!(balance.handle().eject("e1", 7 * SECOND));
    send(&balance, 30).await;
    assert_eq!(fakes.calls("e1"), 0);
    advance(7 * SECOND).await;
    settle().await;
    assert_eq!(status(&balance, "e1").ejected_for, None);
    send(&balance, 30).await;
    assert!(fakes.calls("e1") > 0);
}

#[tokio::test(start_paused = true)]
async fn a_retry_goes_to_one_that_is_well_rather_than_to_an_outlier() {
    let (balance, _source, fakes) = balance(ids(2), RoundRobin::new());
    assert!(balance.handle().eject("e1", SECOND));
    let mut first = request();
    let call = first.invocation_mut().clone();
    balance.clone().oneshot(first).await.unwrap();
    for attempt in 2..=4 {
        let mut again = request();
        *again.invocation_mut() = call.clone();
        again.invocation_mut().set_attempt(attempt);
        balance.clone().oneshot(again).await.unwrap();
    }
    assert_eq!((fakes.calls("e0"), fakes.calls("e1")), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn settings_are_live() {
    let (balance, _source, fakes) = balance(ids(4), RoundRobin::new());
    let live = Live::new(policy());
    let balance = balance.outlier(live.clone());
    settle().await;
    answers_with(&fakes.get("e0"), 500);
    send(&balance, 20).await;
    assert_eq!(status(&balance, "e0").ejections, 1);
    live.set(policy().with(|config| config.enabled = false).unwrap())
        .unwrap();
    settle().await;
    let now = status(&balance, "e0");
    assert_eq!((now.ejected_for, now.ejections), (None, 1));
    send(&balance, 80).await;
    assert_eq!(status(&balance, "e0").ejections, 1, "nothing is counted");
    live.set(
        policy()
            .with(|config| config.consecutive_failures = 2)
            .unwrap(),
    )
    .unwrap();
    settle().await;
    let before = fakes.calls("e0");
    send(&balance, 40).await;
    assert_eq!(fakes.calls("e0") - before, 2);
    assert_eq!(
        status(&balance, "e0").ejected_for,
        Some(30 * SECOND),
        "the first time again"
    );
}

#[tokio::test(start_paused = true)]
async fn who_went_away_is_forgotten() {
    let (balance, source, fakes) = balance(ids(3), RoundRobin::new());
    let balance = balance.outlier(policy());
    settle().await;
    answers_with(&fakes.get("e2"), 500);
    send(&balance, 15).await;
    assert_eq!(status(&balance, "e2").ejections, 1);
    set(&source, ids(2));
    settle().await;
    set(&source, ids(3));
    settle().await;
    let now = status(&balance, "e2");
    assert_eq!((now.ejected_for, now.ejections), (None, 0));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_ejected_where_all_are_bad_at_the_end_of_an_interval() {
    let (balance, _source, fakes) = balance(ids(6), RoundRobin::new());
    // Rows are not what is looked at.
    let balance = balance.outlier(
        policy()
            .with(|config| config.consecutive_failures_enforce = 0)
            .unwrap(),
    );
    settle().await;
    for id in 0..6 {
        answers_with(&fakes.get(&format!("e{id}")), 500);
    }
    send(&balance, 1_200).await;
    advance(10 * SECOND).await;
    settle().await;
    let all = balance.handle().endpoints();
    assert!(all.iter().all(|status| status.ejections == 0), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_below_the_rate_of_the_others_is_ejected_at_the_end_of_an_interval() {
    let (balance, _source, fakes) = balance(ids(6), RoundRobin::new());
    let balance = balance.outlier(policy());
    settle().await;
    for round in 0..120 {
        // One of two, so that there is no row.
        answers_with(&fakes.get("e5"), if round % 2 == 0 { 500 } else { 200 });
        send(&balance, 6).await;
    }
    assert_eq!(status(&balance, "e5").ejections, 0);
    advance(10 * SECOND).await;
    settle().await;
    let out: Vec<u32> = balance
        .handle()
        .endpoints()
        .iter()
        .map(|status| status.ejections)
        .collect();
    assert_eq!(out, [0, 0, 0, 0, 0, 1]);
}
