//! What hedging does to the tail of a service, and what it costs.

use super::*;

fn calls() -> usize {
    if std::env::var_os("CHASSIS_LONG").is_some() {
        100_000
    } else {
        20_000
    }
}

/// Most answers take 5 to 15 ms, 1.5 of a hundred 200 to 1,000.
fn drawn(rng: &mut fastrand::Rng) -> Plan {
    good(if rng.u32(..1_000) < 15 {
        rng.u64(200..1_000)
    } else {
        rng.u64(5..=15)
    })
}

struct Figures {
    p99: Duration,
    p999: Duration,
    extra: f64,
}

/// A call every millisecond.
async fn run(policy: HedgePolicy, seed: u64) -> Figures {
    let layer = layer(policy);
    let rng = Mutex::new(fastrand::Rng::with_seed(seed));
    let upstream = Upstream::new(move |_| drawn(&mut rng.lock().unwrap()));
    let count = calls();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (layer, upstream) = (layer.clone(), upstream.clone());
        calls.spawn(async move {
            let begun = Instant::now();
            send(&layer, &upstream, Ask::default()).await.unwrap();
            begun.elapsed()
        });
        sleep(ms(1)).await;
    }
    let mut took = calls.join_all().await;
    took.sort_unstable();
    let extra = upstream.seen().len() - count;
    assert_eq!(extra as u64, layer.handle().sent());
    let at = |share: f64| took[(count as f64 * share) as usize];
    Figures {
        p99: at(0.99),
        p999: at(0.999),
        extra: extra as f64 / count as f64,
    }
}

#[test]
fn two_percent_more_load_cut_the_tail() {
    let off = HedgePolicy::default()
        .with(|config| config.hedges = 0)
        .unwrap();
    for seed in [11, 12, 13] {
        let run = |policy| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(run(policy, seed))
        };
        let (without, with) = (run(off.clone()), run(HedgePolicy::default()));
        println!(
            "seed {seed}: p99 {:?} -> {:?}, p99.9 {:?} -> {:?}, {:.2} % more calls",
            without.p99,
            with.p99,
            without.p999,
            with.p999,
            with.extra * 100.0
        );
        assert!(with.extra <= 0.022, "{}", with.extra);
        assert!(with.p99 * 2 <= without.p99);
        assert!(with.p999 * 5 <= without.p999);
    }
}

/// All calls are late: the budget alone bounds what is added.
#[tokio::test(start_paused = true)]
async fn the_budget_holds_when_everything_is_late() {
    let policy = HedgePolicy::after(ms(20)).unwrap().with(|config| {
        config.budget_ratio = 0.1;
        config.budget_min_per_second = 2.0;
        config.budget_min_in_flight = 1_000;
    });
    let layer = layer(policy.unwrap());
    let upstream = Upstream::plans([good(100)]);
    let mut calls = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for _ in 0..10_000 {
        let (layer, upstream) = (layer.clone(), upstream.clone());
        calls.spawn(async move {
            send(&layer, &upstream, Ask::default())
                .await
                .unwrap()
                .attempt
        });
        sleep(ms(1)).await;
    }
    calls.join_all().await;
    let most = 10_000.0 * 0.1 + 2.0 * begun.elapsed().as_secs_f64() + 4.0;
    let sent = layer.handle().sent();
    assert!(sent as f64 <= most && sent > 900, "{sent} {most}");
    assert!(layer.handle().exhausted() >= 8_000);
}

/// No more hedges are under way than a share of the calls that are.
#[tokio::test(start_paused = true)]
async fn the_budget_bounds_hedges_under_way() {
    let policy = HedgePolicy::after(ms(20)).unwrap().with(|config| {
        config.budget_min_per_second = 1e6;
        config.budget_in_flight_ratio = 0.1;
        config.budget_min_in_flight = 1;
    });
    let layer = layer(policy.unwrap());
    let upstream = Upstream::plans([good(10_000)]);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (layer, upstream) = (layer.clone(), upstream.clone());
        calls.spawn(async move {
            send(&layer, &upstream, Ask::default())
                .await
                .unwrap()
                .attempt
        });
    }
    sleep(ms(1_000)).await;
    assert_eq!(
        (layer.handle().sent(), layer.handle().budget().retries),
        (5, 5)
    );
    calls.join_all().await;
    assert_eq!(layer.handle().budget().retries, 0);
}
