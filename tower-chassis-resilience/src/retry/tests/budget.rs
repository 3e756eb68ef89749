use proptest::prelude::*;

use super::*;

fn budget(ratio: f64, min_per_second: f64) -> (Budget, Instant) {
    (Budget::new(ratio, min_per_second).unwrap(), Instant::now())
}

fn drain(budget: &Budget, now: Instant) -> u64 {
    (0..1_000_000u64)
        .take_while(|_| budget.withdraw(now))
        .count() as u64
}

#[test]
fn every_ratio_is_exact() {
    for tenths in 0..=10u32 {
        let (budget, now) = budget(f64::from(tenths) / 10.0, 0.0);
        for _ in 0..10_000 {
            budget.deposit(now);
        }
        assert_eq!(drain(&budget, now), 1_000 * u64::from(tenths));
    }
    let (odd, now) = budget(0.333, 0.0);
    (0..10_000).for_each(|_| odd.deposit(now));
    assert_eq!(drain(&odd, now), 3_330);
}

#[test]
fn what_is_not_used_within_the_window_is_lost() {
    let (budget, start) = budget(1.0, 0.0);
    let at = |millis| start + ms(millis);
    budget.deposit(at(500));
    budget.deposit(at(5_500));
    assert!(budget.is_funded(at(9_900)));
    assert_eq!(budget.snapshot(at(9_900)).saved, 2.0);
    // The first one was put in before the oldest of the ten slots that count now.
    assert_eq!(budget.snapshot(at(10_100)).saved, 1.0);
    // Steps of any size lead to the same.
    assert_eq!(budget.snapshot(at(14_900)).saved, 1.0);
    assert_eq!(budget.snapshot(at(15_100)).saved, 0.0);
    budget.deposit(at(15_200));
    assert_eq!(budget.snapshot(at(9_000_000)).saved, 0.0);
    assert!(!budget.withdraw(at(9_000_000)));
}

#[test]
fn the_oldest_tokens_are_used_first() {
    let (budget, start) = budget(1.0, 0.0);
    let at = |secs| start + Duration::from_secs(secs);
    budget.deposit(at(0));
    budget.deposit(at(5));
    assert!(budget.withdraw(at(6)));
    // The one of second 0 is used, so its end takes nothing.
    assert_eq!(budget.snapshot(at(11)).saved, 1.0);
    assert_eq!(budget.snapshot(at(15)).saved, 0.0);
}

#[test]
fn the_reserve_gives_two_seconds_at_once_and_then_its_rate() {
    let (lone, start) = budget(0.0, 10.0);
    assert_eq!(lone.snapshot(start).reserve, 20);
    assert_eq!(drain(&lone, start), 20);
    assert_eq!(drain(&lone, start + ms(99)), 0);
    assert_eq!(drain(&lone, start + ms(1_000)), 10);
    assert_eq!(drain(&lone, start + ms(60_000)), 20);
    // A slow one gives one at once, all the same.
    let (slow, start) = budget(0.0, 0.1);
    assert_eq!(drain(&slow, start), 1);
    assert_eq!(drain(&slow, start + ms(9_900)), 0);
    assert_eq!(drain(&slow, start + ms(10_100)), 1);
}

#[test]
fn a_change_keeps_what_is_there() {
    let (budget, now) = budget(1.0, 0.0);
    (0..10).for_each(|_| budget.deposit(now));
    budget.set(0.5, 0.0).unwrap();
    budget.deposit(now);
    assert_eq!(budget.snapshot(now).saved, 10.5);
    assert_eq!(budget.set(-1.0, 0.0).unwrap_err().field(), "ratio");
    assert_eq!(
        budget.set(0.0, f64::NAN).unwrap_err().field(),
        "min_per_second"
    );
    assert_eq!(Budget::new(11.0, 0.0).unwrap_err().field(), "ratio");
    assert_eq!(budget.snapshot(now).saved, 10.5);
}

/// Found in tower's by reading: the check and the subtraction are two steps there.
#[test]
fn eight_threads_never_overspend_and_lose_nothing() {
    for round in 0..20 {
        let (budget, now) = budget(0.3, if round % 2 == 0 { 0.0 } else { 50.0 });
        let taken = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        budget.deposit(now);
                        // Twice as eager as the ratio allows.
                        if budget.withdraw(now) {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let taken = taken.into_inner() as u64 + drain(&budget, now);
        let reserve = if round % 2 == 0 { 0 } else { 100 };
        assert_eq!(taken, 16_000 * 3 / 10 + reserve);
    }
}

#[test]
fn eight_threads_at_different_times_stay_within_the_bound() {
    let (budget, start) = budget(0.2, 10.0);
    let taken = AtomicUsize::new(0);
    let (taken, budget) = (&taken, &budget);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                let mut rng = fastrand::Rng::with_seed(thread);
                for step in 0..20_000u64 {
                    // A minute in all, with clocks up to 50 ms apart.
                    let now = start + ms(step * 3 + rng.u64(..50));
                    budget.deposit(now);
                    if budget.withdraw(now) {
                        taken.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let (taken, calls) = (taken.load(Ordering::Relaxed) as f64, 160_000.0);
    let bound = calls * 0.2 + 10.0 * 60.1 + 20.0;
    assert!(taken <= bound, "{taken} > {bound}");
    assert!(
        taken >= calls * 0.2,
        "{taken}: what was paid in was used at once"
    );
}

proptest! {
    /// `attempts <= originals * (1 + ratio) + min_per_second * elapsed + burst` for every pattern, and no more
    /// than the calls of ten seconds have paid for at any time.
    #[test]
    fn the_bound_holds_for_every_pattern(
        ratio in 0u32..=1_000,
        rate in 0u32..=20,
        steps in proptest::collection::vec((0u64..4_000, 0u32..40, 0u32..40), 1..200),
    ) {
        let (ratio, rate) = (f64::from(ratio) / 1_000.0, f64::from(rate));
        let (budget, start) = budget(ratio, rate);
        let mut now = start;
        let (mut calls, mut retries) = (0.0, 0.0);
        let mut history = Vec::new();
        for (wait, deposits, wanted) in steps {
            now += ms(wait);
            for _ in 0..deposits {
                budget.deposit(now);
                calls += 1.0;
                history.push(now);
            }
            let recent = history.iter().filter(|at| now - **at <= ms(10_000)).count() as f64;
            prop_assert!(budget.snapshot(now).saved <= recent * ratio + 1e-9);
            for _ in 0..wanted {
                retries += f64::from(u8::from(budget.withdraw(now)));
            }
            let burst = if rate > 0.0 { (2.0 * rate).max(1.0) } else { 0.0 };
            let bound = calls * ratio + rate * (now - start).as_secs_f64() + burst;
            prop_assert!(retries <= bound + 1e-6, "{retries} > {bound}");
        }
    }
}
