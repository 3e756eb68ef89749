//! What counts for the percentile.

use super::*;

fn by_percentile(change: impl FnOnce(&mut HedgeConfig)) -> Layered {
    let policy = HedgePolicy::default().with(|config| {
        config.budget_min_per_second = 1e6;
        config.budget_min_in_flight = 1_000;
        config.min_samples = 10;
        change(config);
    });
    layer(policy.unwrap())
}

/// So many calls that do this, one after the other, and then a pause until the percentile is looked up anew.
async fn calls(layer: &Layered, count: usize, plans: impl Into<Vec<Plan>>) -> Vec<Upstream> {
    let plans = plans.into();
    let mut upstreams = Vec::new();
    for _ in 0..count {
        let upstream = Upstream::plans(plans.clone());
        let _ = send(layer, &upstream, Ask::default()).await;
        upstreams.push(upstream);
    }
    sleep(ms(250)).await;
    upstreams
}

/// The delay is at or just above.
fn about(layer: &Layered, wanted: u64) {
    let delay = layer.handle().delay().unwrap();
    let most = ms(wanted) + ms(wanted) / 32 + Duration::from_nanos(1);
    assert!(ms(wanted) < delay && delay <= most, "{delay:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_hedged_before_something_is_known() {
    let layer = by_percentile(|_| ());
    calls(&layer, 9, [good(100)]).await;
    assert_eq!(layer.handle().delay(), None);
    let upstreams = calls(&layer, 1, [good(1_000), good(1)]).await;
    assert_eq!(upstreams[0].seen().len(), 1);
    // Ten, one of them slow.
    layer
        .handle()
        .update(|config| config.percentile = 0.9)
        .unwrap();
    sleep(ms(250)).await;
    about(&layer, 100);
    let upstreams = calls(&layer, 1, [good(1_000), good(1)]).await;
    assert_eq!(upstreams[0].fates()[1], Fate::Ended);
    assert!((100..=105).contains(&upstreams[0].began()[1]));
}

#[tokio::test(start_paused = true)]
async fn failures_do_not_count_and_timeouts_do() {
    let layer = by_percentile(|_| ());
    calls(&layer, 20, [good(100)]).await;
    calls(&layer, 100, [bad(1)]).await;
    calls(&layer, 100, [says(1, Verdict::new(Class::RateLimited))]).await;
    about(&layer, 100);
    calls(&layer, 20, [says(1, Verdict::grpc(5))]).await;
    about(&layer, 100);
    calls(&layer, 50, [says(90, Verdict::TIMEOUT)]).await;
    layer
        .handle()
        .update(|config| config.percentile = 0.5)
        .unwrap();
    sleep(ms(250)).await;
    about(&layer, 90);
}

/// Attempts that a hedge beat count for as long as they went on, hedges that were beaten at once do not.
#[tokio::test(start_paused = true)]
async fn losers_count_if_they_outlasted_the_delay() {
    let layer = by_percentile(|config| config.percentile = 0.9);
    calls(&layer, 100, [good(40)]).await;
    about(&layer, 40);
    // All first attempts are black holes now, and hedges are quick. Half of what is measured outlasts 50 ms.
    calls(&layer, 100, [good(100_000), good(10)]).await;
    let delay = layer.handle().delay().unwrap();
    assert!(delay > ms(50), "{delay:?}");
    // What hedges took that were dropped as soon as they were sent is not among it.
    let layer = by_percentile(|config| config.percentile = 0.5);
    calls(&layer, 20, [good(20)]).await;
    calls(&layer, 100, [good(22), good(1_000)]).await;
    let delay = layer.handle().delay().unwrap();
    assert!(delay > ms(20), "{delay:?}");
}

/// Nor do callers that left at once, while a timeout around it says how long nothing came.
#[tokio::test(start_paused = true)]
async fn cancelled_calls_count_if_they_outlasted_the_delay() {
    let layer = by_percentile(|config| config.hedges = 1);
    calls(&layer, 100, [good(40)]).await;
    let cancelled = async |after| {
        for _ in 0..100 {
            let upstream = Upstream::plans([good(100_000)]);
            let call = send(&layer, &upstream, Ask::default());
            assert!(tokio::time::timeout(ms(after), call).await.is_err());
        }
        sleep(ms(250)).await;
    };
    cancelled(60).await;
    about(&layer, 60);
    // Early ones do not, however many they are.
    let percentile = |percentile| {
        let change = |config: &mut HedgeConfig| config.percentile = percentile;
        layer.handle().update(change).unwrap();
    };
    percentile(0.5);
    for _ in 0..3 {
        cancelled(1).await;
    }
    about(&layer, 40);

    // Told that it was a timeout, also before anything is known.
    let layer = by_percentile(|_| ());
    for _ in 0..10 {
        let upstream = Upstream::plans([good(100_000)]);
        let mut call = Box::pin(send(&layer, &upstream, Ask::default()));
        assert!(tokio::time::timeout(ms(30), &mut call).await.is_err());
        cause::drop_with(Verdict::TIMEOUT, || drop(call));
    }
    sleep(ms(250)).await;
    about(&layer, 30);
}

#[tokio::test(start_paused = true)]
async fn a_slow_service_is_not_hedged() {
    let layer = by_percentile(|config| config.max_delay = ms(200));
    calls(&layer, 20, [good(150)]).await;
    about(&layer, 150);
    calls(&layer, 20, [good(250)]).await;
    assert_eq!(layer.handle().delay(), None);
    // What is old is forgotten.
    sleep(Duration::from_secs(31)).await;
    calls(&layer, 20, [good(0)]).await;
    assert_eq!(layer.handle().delay(), Some(Duration::from_nanos(1 << 20)));
    sleep(Duration::from_secs(31)).await;
    assert_eq!(layer.handle().delay(), None);
}

#[tokio::test(start_paused = true)]
async fn it_is_measured_while_it_is_switched_off() {
    let layer = by_percentile(|_| ());
    layer.handle().switch_off();
    calls(&layer, 20, [good(30)]).await;
    about(&layer, 30);
    let upstreams = calls(&layer, 1, [good(1_000), good(1)]).await;
    assert_eq!(upstreams[0].seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own() {
    let layer = by_percentile(|_| ()).keyed(|ask: &Ask| ask.extensions.get::<u32>().copied());
    let handle = layer.handle();
    let call = async |key: Option<u32>, plans: &[Plan]| {
        let upstream = Upstream::plans(plans);
        let mut service = layer.layer(upstream.clone());
        let mut ask = Ask::default();
        if let Some(key) = key {
            ask.extensions.insert(key);
        }
        std::future::poll_fn(|cx| service.poll_ready(cx))
            .await
            .unwrap();
        service.call(ask).await.unwrap();
        upstream
    };
    for _ in 0..20 {
        call(Some(1), &[good(10)]).await;
        call(Some(2), &[good(100)]).await;
        call(None, &[good(50)]).await;
    }
    sleep(ms(250)).await;
    let between = |delay: Option<Duration>, low| {
        let delay = delay.unwrap();
        assert!(
            ms(low) < delay && delay < ms(low) * 33 / 32 + ms(1),
            "{delay:?}"
        );
    };
    between(layer.delay_of(1), 10);
    between(layer.delay_of(2), 100);
    between(handle.delay(), 50);
    assert_eq!((layer.delay_of(3), handle.keys()), (None, 2));
    let late = [good(1_000), good(1)];
    for (key, at) in [(Some(1), 10..12), (Some(2), 100..105), (None, 50..53)] {
        assert!(at.contains(&call(key, &late).await.began()[1]));
    }
    // Bounded, and what is not used is dropped.
    let few = layer.clone().max_keys(16);
    for key in 0..1_000 {
        let mut service = few.layer(Upstream::plans([good(0)]));
        let mut ask = Ask::default();
        ask.extensions.insert::<u32>(key);
        std::future::poll_fn(|cx| service.poll_ready(cx))
            .await
            .unwrap();
        service.call(ask).await.unwrap();
    }
    assert!(few.handle().keys() <= 16);
}

/// The clock is read once on the way in and once on the way out; with a fixed delay not even that.
#[tokio::test(start_paused = true)]
async fn the_clock_is_read_twice() {
    use tower_chassis_core::clock::readings;
    for (layer, wanted) in [(by_percentile(|_| ()), 2), (layer(after_20()), 1)] {
        let upstream = Upstream::plans([good(1)]);
        let before = readings();
        send(&layer, &upstream, Ask::default()).await.unwrap();
        assert_eq!(readings() - before, wanted);
    }
}
