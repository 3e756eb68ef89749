//! What is sent, and whose answer it is.

use tower_chassis_core::{Deadline, Events, clock, events::Event};

use super::*;

const LOST: Fate = Fate::Dropped(Some(Class::Cancelled));

async fn answer(layer: &Layered, upstream: &Upstream) -> usize {
    send(layer, upstream, Ask::default()).await.unwrap().attempt
}

#[tokio::test(start_paused = true)]
async fn a_call_in_time_is_made_once() {
    let (layer, upstream) = (layer(after_20()), Upstream::plans([good(19)]));
    assert_eq!(answer(&layer, &upstream).await, 0);
    sleep(ms(100)).await;
    assert_eq!(upstream.fates(), [Fate::Ended]);
    assert_eq!(layer.handle().sent(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_late_call_is_made_again_and_the_first_answer_wins() {
    for (plans, winner, at) in [
        ([good(1_000), good(5)], 1, 25),
        ([good(30), good(100)], 0, 30),
    ] {
        let (layer, upstream) = (layer(after_20()), Upstream::plans(plans));
        let begun = Instant::now();
        assert_eq!(answer(&layer, &upstream).await, winner);
        assert_eq!(begun.elapsed(), ms(at));
        let mut fates = [LOST; 2];
        fates[winner] = Fate::Ended;
        assert_eq!(upstream.fates(), fates);
        assert_eq!(upstream.began(), [0, 20]);
        let handle = layer.handle();
        assert_eq!((handle.sent(), handle.won()), (1, winner as u64));
    }
}

/// The second attempt knows what the first one tried.
#[tokio::test(start_paused = true)]
async fn attempts_are_numbered_and_share_what_was_tried() {
    let upstream = Upstream::plans([good(1_000), good(1_000), good(5)]);
    let policy = after_20().with(|config| config.hedges = 2).unwrap();
    answer(&layer(policy.clone()), &upstream).await;
    let numbers = |upstream: &Upstream| -> Vec<_> {
        upstream
            .seen()
            .iter()
            .map(|attempt| attempt.number)
            .collect()
    };
    assert_eq!(numbers(&upstream), [Some(1), Some(2), Some(3)]);

    // Under a retry the numbers go on.
    let upstream = Upstream::plans([good(1_000), good(5)]);
    let mut ask = Ask::default();
    ask.invocation_mut().set_attempt(2);
    ask.invocation_mut().note_endpoint(7);
    send(&layer(policy), &upstream, ask).await.unwrap();
    assert_eq!(numbers(&upstream), [Some(2), Some(3)]);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_is_not_hedged() {
    let (layer, upstream) = (layer(after_20()), Upstream::plans([good(1_000)]));
    let ask = Ask {
        unsafe_to_repeat: true,
        ..Ask::default()
    };
    send(&layer, &upstream, ask).await.unwrap();
    assert_eq!(upstream.fates(), [Fate::Ended]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_before_the_hedge_is_the_answer() {
    let (layer, upstream) = (layer(after_20()), Upstream::plans([bad(5)]));
    assert_eq!(answer(&layer, &upstream).await, 0);
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_fails_waits_for_the_others() {
    let refused = Plan {
        after: 1,
        says: Says::Refusal,
    };
    for (plans, winner, at) in [
        // The first fails after the hedge was sent.
        ([bad(25), good(100)], Ok(1), 120),
        // The hedge fails, or is refused on its way.
        ([good(50), bad(1)], Ok(0), 50),
        ([good(50), refused], Ok(0), 50),
        ([good(50), says(1, Verdict::grpc(1))], Ok(0), 50),
        // What the caller did wrong is wrong everywhere.
        ([good(50), says(1, Verdict::grpc(3))], Ok(1), 21),
        // All fail: the last says how.
        ([bad(25), bad(100)], Ok(1), 120),
        ([bad(60), bad(20)], Ok(0), 60),
        (
            [
                bad(25),
                Plan {
                    after: 30,
                    ..refused
                },
            ],
            Err(()),
            50,
        ),
    ] {
        let (layer, upstream) = (layer(after_20()), Upstream::plans(plans));
        let begun = Instant::now();
        let result = send(&layer, &upstream, Ask::default()).await;
        assert_eq!(
            result.map(|said| said.attempt).map_err(drop),
            winner,
            "{plans:?}"
        );
        assert_eq!(begun.elapsed(), ms(at), "{plans:?}");
    }
}

/// A failed response holds no permit and no connection while the others are waited for.
#[tokio::test(start_paused = true)]
async fn a_failed_response_is_dropped_at_once() {
    let (layer, upstream) = (layer(after_20()), Upstream::plans([bad(25), good(1_000)]));
    let call = tokio::spawn({
        let upstream = upstream.clone();
        async move { answer(&layer, &upstream).await }
    });
    sleep(ms(30)).await;
    assert_eq!(upstream.fates(), [Fate::Ended, Fate::Running]);
    assert_eq!(call.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_hedge_after_the_deadline() {
    for (left, attempts) in [(20, 1), (21, 2), (500, 2)] {
        let (layer, upstream) = (layer(after_20()), Upstream::plans([good(100)]));
        let mut ask = Ask::default();
        let deadline = Deadline::after(Instant::now(), ms(left));
        ask.invocation_mut().limit_deadline(deadline);
        send(&layer, &upstream, ask).await.unwrap();
        assert_eq!(upstream.seen().len(), attempts, "{left}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_service_of_a_hedge_is_waited_for_while_the_first_goes_on() {
    for (first, attempts, at) in [(good(40), 1, 40), (good(1_000), 2, 75)] {
        let mut upstream = Upstream::plans([first, good(5)]);
        upstream.readies = Some((ms(50), false));
        let layer = layer(after_20());
        let begun = Instant::now();
        answer(&layer, &upstream).await;
        assert_eq!(begun.elapsed(), ms(at));
        assert_eq!(upstream.seen().len(), attempts);
        assert_eq!(layer.handle().sent(), attempts as u64 - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_fails_to_be_ready_ends_no_call() {
    let mut upstream = Upstream::plans([good(100), good(5)]);
    upstream.readies = Some((ms(10), true));
    let layer = layer(after_20().with(|config| config.hedges = 3).unwrap());
    assert_eq!(answer(&layer, &upstream).await, 0);
    assert_eq!(layer.handle().sent(), 0);
}

#[tokio::test(start_paused = true)]
async fn pushback_delays_the_next_or_forbids_it() {
    let policy = after_20().with(|config| config.hedges = 3).unwrap();
    let failure = Verdict::grpc(14);
    for (second, began, winner) in [
        (failure, vec![0, 20, 40, 60], 2),
        (failure.with_retry_after(ms(100)), vec![0, 20, 125, 145], 0),
        (failure.without_retry(), vec![0, 20], 0),
        (Verdict::grpc(8), vec![0, 20], 0),
    ] {
        let upstream = Upstream::plans([good(1_000), says(5, second), good(900)]);
        let layer = layer(policy.clone());
        assert_eq!(answer(&layer, &upstream).await, winner, "{second:?}");
        assert_eq!(upstream.began(), began, "{second:?}");
    }
}

/// gRPC A6: success, fatal, non-fatal, pushback, negative pushback.
#[tokio::test(start_paused = true)]
async fn on_failure_is_the_table_of_grpc() {
    let policy = after_20().with(|config| {
        config.hedges = 2;
        config.on_failure = true;
    });
    let policy = policy.unwrap();
    let failure = Verdict::grpc(14);
    for (first, began, winner) in [
        (Verdict::SUCCESS, vec![0], 0),
        (Verdict::grpc(3), vec![0], 0),
        (failure, vec![0, 5], 1),
        (failure.with_retry_after(ms(7)), vec![0, 12], 1),
        (failure.without_retry(), vec![0], 0),
    ] {
        let upstream = Upstream::plans([says(5, first), good(10)]);
        let begun = Instant::now();
        assert_eq!(
            answer(&layer(policy.clone()), &upstream).await,
            winner,
            "{first:?}"
        );
        assert_eq!(upstream.began(), began, "{first:?}");
        let last = began.last().unwrap() + if winner == 0 { 5 } else { 10 };
        assert_eq!(begun.elapsed(), ms(last), "{first:?}");
    }
    // All fail at once: the last says how, and there are no more than the policy allows.
    let upstream = Upstream::plans([says(0, failure)]);
    assert_eq!(answer(&layer(policy), &upstream).await, 2);
    assert_eq!(upstream.began(), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_hedges() {
    let policy = after_20().with(|config| {
        config.budget_ratio = 0.1;
        config.budget_min_per_second = 0.0;
    });
    let layer = layer(policy.unwrap());
    let handle = layer.handle();
    let mut late = 0;
    for _ in 0..100 {
        // Nine quick calls pay for one hedge.
        late += usize::from(answer(&layer, &Upstream::plans([good(30)])).await == 0);
    }
    assert_eq!(late, 100);
    assert_eq!(handle.sent(), 10);
    assert_eq!(handle.exhausted(), 90);
}

#[tokio::test(start_paused = true)]
async fn a_retry_around_it_pays() {
    let budget = {
        let config = crate::retry::BudgetConfig {
            ratio: 1.0,
            min_per_second: 0.0,
            ..Default::default()
        };
        crate::retry::Budget::new(&config.try_into().unwrap())
    };
    let layer = layer(after_20()).budget_of_retry(budget.clone());
    assert_eq!(answer(&layer, &Upstream::plans([good(30)])).await, 0);
    assert_eq!(layer.handle().sent(), 0);
    drop(budget.deposit(clock::now()));
    assert_eq!(
        answer(&layer, &Upstream::plans([good(1_000), good(1)])).await,
        1
    );
    assert_eq!(budget.snapshot(clock::now()).saved, 0.0);
    // Nor does an attempt of a retry pay where the budget is its own.
    let layer = layer.budget(budget.clone());
    let mut ask = Ask::default();
    ask.invocation_mut().set_attempt(2);
    send(&layer, &Upstream::plans([good(1)]), ask)
        .await
        .unwrap();
    assert_eq!(budget.snapshot(clock::now()).saved, 0.0);
    answer(&layer, &Upstream::plans([good(1)])).await;
    assert_eq!(budget.snapshot(clock::now()).saved, 1.0);
}

#[tokio::test(start_paused = true)]
async fn it_can_be_switched_off_and_changed() {
    let layer = layer(after_20());
    let handle = layer.handle();
    let late = || Upstream::plans([good(1_000), good(1)]);
    handle.switch_off();
    assert_eq!(answer(&layer, &late()).await, 0);
    handle.switch_on();
    assert_eq!(answer(&layer, &late()).await, 1);
    handle.update(|config| config.hedges = 0).unwrap();
    assert_eq!(answer(&layer, &late()).await, 0);
    let at_once = |config: &mut HedgeConfig| {
        config.hedges = 1;
        config.delay = Some(Duration::ZERO);
    };
    handle.update(at_once).unwrap();
    let upstream = late();
    assert_eq!(answer(&layer, &upstream).await, 1);
    assert_eq!(upstream.began(), [0, 0]);
    assert!(handle.update(|config| config.hedges = 5).is_err());
    assert_eq!(handle.config().load().config().hedges, 1);
}

#[tokio::test(start_paused = true)]
async fn each_hedge_is_reported_once() {
    let events = Events::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    events.listen(move |event| {
        if let Event::Hedged {
            name,
            attempt,
            outcome,
            ..
        } = event
        {
            assert_eq!(&**name, "search");
            ears.lock().unwrap().push((*attempt, *outcome));
        }
    });
    let layer = layer(after_20());
    assert_eq!(layer.handle().name(), "hedge");
    let layer = layer.events(events).named("search");
    assert_eq!(layer.clone().fresh().handle().name(), "search");
    for (plans, outcome) in [
        ([good(1_000), good(1)], "won"),
        ([good(30), good(100)], "lost"),
        ([good(30), bad(1)], "failed"),
        ([bad(30), bad(100)], "failed"),
    ] {
        answer(&layer, &Upstream::plans(plans)).await;
        assert_eq!(mem::take(&mut *heard.lock().unwrap()), [(2, outcome)]);
    }
    let upstream = Upstream::plans([good(1_000)]);
    let call = answer(&layer, &upstream);
    assert!(tokio::time::timeout(ms(50), call).await.is_err());
    assert_eq!(*heard.lock().unwrap(), [(2, "cancelled")]);
    assert_eq!(upstream.fates(), [Fate::Dropped(None); 2]);
}

#[tokio::test(start_paused = true)]
async fn a_first_attempt_that_panics_takes_the_hedge_with_it() {
    let panics = Plan {
        after: 30,
        says: Says::Panic,
    };
    let (layer, upstream) = (layer(after_20()), Upstream::plans([panics, good(1_000)]));
    let call = tokio::spawn({
        let upstream = upstream.clone();
        async move { answer(&layer, &upstream).await }
    });
    assert!(call.await.unwrap_err().is_panic());
    assert_eq!(upstream.fates(), [Fate::Ended, Fate::Dropped(None)]);
}

/// A first attempt that never lets the task's timers run is hedged all the same.
#[tokio::test(start_paused = true)]
async fn a_busy_first_attempt_is_hedged() {
    use tokio::task::coop::{consume_budget, has_budget_remaining};
    let service = tower::service_fn(async |ask: Ask| {
        let attempt = ask.invocation().map_or(0, Invocation::attempt) as usize;
        let verdict = Verdict::SUCCESS;
        if attempt == 1 {
            loop {
                while has_budget_remaining() {
                    consume_budget().await;
                }
                tokio::time::advance(ms(1)).await;
                consume_budget().await;
            }
        }
        Ok::<_, BoxError>(Said { attempt, verdict })
    });
    let mut service = layer(after_20()).layer(service);
    let said = tokio::time::timeout(ms(100), service.call(Ask::default()));
    assert_eq!(said.await.unwrap().unwrap().attempt, 2);
}

/// What is carried through the stack by value.
#[test]
fn the_future_is_small() {
    let future = |_: &Layered| {
        size_of::<HedgeFuture<Upstream, crate::retry::Cloned, tower_chassis_core::verdict::Auto, Ask>>(
        )
    };
    let size = future(&layer(HedgePolicy::default()));
    // A boxed inner future, a copy of the request, a timer.
    assert!(size <= 300, "{size}");
}

#[tokio::test(start_paused = true)]
async fn without_a_delay_all_are_sent_at_once_but_for_a_pushback() {
    let policy = after_20().with(|config| {
        config.delay = Some(Duration::ZERO);
        config.hedges = 2;
    });
    let mut policy = policy.unwrap();
    let upstream = Upstream::plans([good(1_000), good(10), good(20)]);
    assert_eq!(answer(&layer(policy.clone()), &upstream).await, 1);
    assert_eq!(upstream.began(), [0, 0, 0]);

    policy = policy.with(|config| config.on_failure = true).unwrap();
    let pushback = Verdict::grpc(14).with_retry_after(ms(50));
    let upstream = Upstream::plans([says(0, pushback), good(10)]);
    assert_eq!(answer(&layer(policy), &upstream).await, 1);
    assert_eq!(upstream.began()[..2], [0, 50]);
}
