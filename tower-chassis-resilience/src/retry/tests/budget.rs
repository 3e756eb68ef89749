use proptest::prelude::*;

use super::*;

fn budget(ratio: f64, min_per_second: f64) -> (Budget, Instant) {
    (Budget::new(&tokens(ratio, min_per_second)), Instant::now())
}

/// A call that is over at once.
fn pay(budget: &Budget, now: Instant) {
    drop(budget.deposit(now));
}

/// A retry that is over at once.
fn take(budget: &Budget, now: Instant) -> bool {
    budget.try_withdraw(now).is_some()
}

fn drain(budget: &Budget, now: Instant) -> u64 {
    (0..1_000_000u64).take_while(|_| take(budget, now)).count() as u64
}

#[test]
fn every_ratio_is_exact() {
    for tenths in 0..=10u32 {
        let (budget, now) = budget(f64::from(tenths) / 10.0, 0.0);
        for _ in 0..10_000 {
            pay(&budget, now);
        }
        assert_eq!(drain(&budget, now), 1_000 * u64::from(tenths));
    }
    let (odd, now) = budget(0.333, 0.0);
    (0..10_000).for_each(|_| pay(&odd, now));
    assert_eq!(drain(&odd, now), 3_330);
}

#[test]
fn what_is_not_used_within_the_window_is_lost() {
    let (budget, start) = budget(1.0, 0.0);
    let at = |millis| start + ms(millis);
    pay(&budget, at(500));
    pay(&budget, at(5_500));
    assert!(budget.is_funded(at(9_900)));
    assert_eq!(budget.snapshot(at(9_900)).saved, 2.0);
    // The first one was put in before the oldest of the ten slots that count now.
    assert_eq!(budget.snapshot(at(10_100)).saved, 1.0);
    // Steps of any size lead to the same.
    assert_eq!(budget.snapshot(at(14_900)).saved, 1.0);
    assert_eq!(budget.snapshot(at(15_100)).saved, 0.0);
    pay(&budget, at(15_200));
    assert_eq!(budget.snapshot(at(9_000_000)).saved, 0.0);
    assert!(!take(&budget, at(9_000_000)));
}

#[test]
fn the_oldest_tokens_are_used_first() {
    let (budget, start) = budget(1.0, 0.0);
    let at = |secs| start + Duration::from_secs(secs);
    pay(&budget, at(0));
    pay(&budget, at(5));
    assert!(take(&budget, at(6)));
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

/// -0.0 is within the range of the setting, and a billion by that is no interval.
#[test]
fn a_reserve_without_a_rate_gives_nothing() {
    for rate in [0.0, -0.0] {
        let (none, start) = budget(1.0, rate);
        assert_eq!(none.snapshot(start + ms(60_000)).reserve, 0);
        assert_eq!(drain(&none, start + ms(60_000)), 0);
    }
}

#[test]
fn a_budget_shows_what_it_saved() {
    let (budget, now) = budget(0.25, 10.0);
    pay(&budget, now);
    assert_eq!(format!("{budget:?}"), "Budget { saved: 250, .. }");
}

#[test]
fn a_change_keeps_what_is_there() {
    let (budget, now) = budget(1.0, 0.0);
    (0..10).for_each(|_| pay(&budget, now));
    budget.set(&tokens(0.5, 0.0));
    pay(&budget, now);
    assert_eq!(budget.snapshot(now).saved, 10.5);
}

#[test]
fn a_change_of_the_rate_keeps_the_tokens_of_the_reserve() {
    let start = Instant::now();
    let at = |millis| start + ms(millis);
    let starting = |rate| Budget::at(&tokens(0.0, rate), start);
    let reserve = |budget: &Budget, millis| budget.snapshot(at(millis)).reserve;

    // An empty one fills at the new rate from then on: neither at once nor after the debt of the old rate.
    let budget = starting(0.1);
    assert_eq!(drain(&budget, start), 1);
    budget.set_at(&tokens(0.0, 1_000.0), start);
    assert_eq!((reserve(&budget, 0), reserve(&budget, 100)), (0, 100));
    assert_eq!(drain(&budget, at(60_000)), 2_000);

    let budget = starting(1_000.0);
    assert_eq!(drain(&budget, start), 2_000);
    budget.set_at(&tokens(0.0, 0.1), start);
    assert_eq!(drain(&budget, at(9_999)), 0);
    assert_eq!(drain(&budget, at(10_000)), 1);

    // What is there stays, up to what the new rate holds.
    let budget = starting(10.0);
    assert_eq!((0..15).filter(|_| take(&budget, start)).count(), 15);
    for (rate, left) in [(5.0, 5), (100.0, 5), (1.0, 2), (1_000_000.0, 2), (0.0, 0)] {
        budget.set_at(&tokens(0.0, rate), start);
        assert_eq!(reserve(&budget, 0), left, "{rate}");
    }
    // From nothing it begins empty.
    budget.set_at(&tokens(0.0, 10.0), start);
    assert_eq!((reserve(&budget, 99), reserve(&budget, 100)), (0, 1));

    // A change of the ratio alone changes nothing of it.
    let budget = starting(10.0);
    assert!((0..7).all(|_| take(&budget, start)));
    budget.set_at(&tokens(0.5, 10.0), at(50));
    assert_eq!((reserve(&budget, 699), reserve(&budget, 700)), (19, 20));
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
                        pay(&budget, now);
                        // Twice as eager as the ratio allows.
                        if take(&budget, now) {
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
                    pay(budget, now);
                    if take(budget, now) {
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

/// A token of the model. Rates are eighths of a token per second, so that a millisecond gives as many grains.
const GRAINS: u64 = 8_000;

/// A budget as its page tells it, with every number a whole one: deposits in the second in which they were made,
/// oldest first, and a reserve that fills as time goes by.
struct Model {
    ratio: u64,
    rate: u64,
    millis: u64,
    /// The second of each deposit, and what is left of it in thousandths.
    deposits: std::collections::VecDeque<(u64, u64)>,
    /// In grains.
    reserve: u64,
}

impl Model {
    fn new(ratio: u64, rate: u64) -> Self {
        Self {
            ratio,
            rate,
            millis: 0,
            deposits: std::collections::VecDeque::new(),
            reserve: Self::holds(rate),
        }
    }

    /// Two seconds' worth and at least one token.
    const fn holds(rate: u64) -> u64 {
        match rate {
            0 => 0,
            1..4 => GRAINS,
            rate => rate * 2_000,
        }
    }

    fn wait(&mut self, millis: u64) {
        self.millis += millis;
        self.reserve = (self.reserve + millis * self.rate).min(Self::holds(self.rate));
        // Ten seconds count: the one that runs and the nine before it.
        let now = self.millis / 1_000;
        self.deposits.retain(|(second, _)| second + 10 > now);
    }

    fn deposit(&mut self) {
        self.deposits.push_back((self.millis / 1_000, self.ratio));
    }

    fn saved(&self) -> u64 {
        self.deposits.iter().map(|(_, left)| left).sum()
    }

    fn withdraw(&mut self) -> bool {
        if self.saved() >= 1_000 {
            let mut owed = 1_000;
            for (_, left) in &mut self.deposits {
                let taken = owed.min(*left);
                *left -= taken;
                owed -= taken;
            }
            return true;
        }
        let can = self.reserve >= GRAINS;
        if can {
            self.reserve -= GRAINS;
        }
        can
    }

    fn change(&mut self, ratio: u64, rate: u64) {
        (self.ratio, self.rate) = (ratio, rate);
        self.reserve = self.reserve.min(Self::holds(rate));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Deposit(u32),
    Withdraw(u32),
    Change(u64, u64),
}

fn ratios() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(200), Just(333), 0u64..=10_000]
}

/// Powers of two, so that no change of the rate rounds.
fn rates() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), (0u32..=6).prop_map(|power| 1 << power)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => prop_oneof![0u64..300, 0u64..4_000, Just(1_000), 0u64..30_000].prop_map(Step::Wait),
        3 => (0u32..20).prop_map(Step::Deposit),
        3 => (0u32..20).prop_map(Step::Withdraw),
        1 => (ratios(), rates()).prop_map(|(ratio, rate)| Step::Change(ratio, rate)),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn it_does_as_a_plain_model_does(ratio in ratios(), rate in rates(), steps in steps()) {
        let real = |ratio, rate| (ratio as f64 / 1_000.0, rate as f64 / 8.0);
        let start = Instant::now();
        let mut model = Model::new(ratio, rate);
        let (ratio, rate) = real(ratio, rate);
        let budget = Budget::at(&tokens(ratio, rate), start);
        for step in steps {
            match step {
                Step::Wait(millis) => model.wait(millis),
                Step::Deposit(times) => for _ in 0..times {
                    pay(&budget, start + ms(model.millis));
                    model.deposit();
                },
                Step::Withdraw(times) => for _ in 0..times {
                    let now = start + ms(model.millis);
                    let funded = budget.is_funded(now);
                    prop_assert_eq!(take(&budget, now), funded);
                    prop_assert_eq!(model.withdraw(), funded);
                },
                Step::Change(ratio, rate) => {
                    model.change(ratio, rate);
                    let (ratio, rate) = real(ratio, rate);
                    budget.set_at(&tokens(ratio, rate), start + ms(model.millis));
                }
            }
            let there = budget.snapshot(start + ms(model.millis));
            prop_assert_eq!((there.saved * 1_000.0).round() as u64, model.saved());
            prop_assert_eq!(there.reserve, model.reserve / GRAINS);
        }
    }
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
                pay(&budget, now);
                calls += 1.0;
                history.push(now);
            }
            let recent = history.iter().filter(|at| now - **at <= ms(10_000)).count() as f64;
            prop_assert!(budget.snapshot(now).saved <= recent * ratio + 1e-9);
            for _ in 0..wanted {
                retries += f64::from(u8::from(take(&budget, now)));
            }
            let burst = if rate > 0.0 { (2.0 * rate).max(1.0) } else { 0.0 };
            let bound = calls * ratio + rate * (now - start).as_secs_f64() + burst;
            prop_assert!(retries <= bound + 1e-6, "{retries} > {bound}");
        }
    }
}

#[test]
fn places_are_a_share_of_the_calls_under_way() {
    let now = Instant::now();
    let budget = Budget::default();
    let taken =
        |budget: &Budget| std::iter::from_fn(|| budget.try_withdraw(now)).collect::<Vec<_>>();
    // Three however few calls there are, although the reserve holds twenty.
    let mut few = taken(&budget);
    assert_eq!((few.len(), budget.snapshot(now).reserve), (3, 17));
    few.pop();
    assert_eq!(taken(&budget).len(), 1);
    drop(few);
    let mut calls: Vec<_> = (0..34).map(|_| budget.deposit(now)).collect();
    let there = budget.snapshot(now);
    assert_eq!((there.calls, there.places, there.retries), (34, 6, 0));
    let six = taken(&budget);
    assert_eq!(six.len(), 6);
    // Fewer calls take no place from a retry under way, and give none to another.
    calls.truncate(10);
    assert_eq!(budget.snapshot(now).retries, 6);
    assert!(budget.try_withdraw(now).is_none());
    drop((six, calls));
    let there = budget.snapshot(now);
    assert_eq!((there.calls, there.places, there.retries), (0, 3, 0));
}

#[test]
fn who_finds_no_token_holds_no_place() {
    let (budget, now) = budget(0.0, 0.0);
    for _ in 0..5 {
        assert!(budget.try_withdraw(now).is_none());
    }
    assert_eq!(budget.snapshot(now).retries, 0);
}

#[test]
fn eight_threads_never_hold_more_than_their_places() {
    let policy = BudgetConfig {
        min_per_second: 1e6,
        in_flight_ratio: 0.0,
        min_in_flight: 4,
        ..BudgetConfig::default()
    };
    let (budget, now) = (
        Budget::new(&BudgetPolicy::try_from(policy).unwrap()),
        Instant::now(),
    );
    let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    if let Some(_place) = budget.try_withdraw(now) {
                        let now = held.fetch_add(1, Ordering::Relaxed) + 1;
                        most.fetch_max(now, Ordering::Relaxed);
                        std::thread::yield_now();
                        held.fetch_sub(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let most = most.into_inner();
    assert!((1..=4).contains(&most), "{most}");
    assert_eq!(budget.snapshot(now).retries, 0);
}

#[derive(Clone, Debug)]
enum Move {
    Begin(usize),
    End(usize),
    Withdraw(usize),
    Release(usize),
    Change(u32, u32),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => (0usize..30).prop_map(Move::Begin),
        3 => (0usize..30).prop_map(Move::End),
        4 => (0usize..10).prop_map(Move::Withdraw),
        3 => (0usize..10).prop_map(Move::Release),
        1 => (0u32..=1_500, 0u32..8).prop_map(|(part, floor)| Move::Change(part, floor)),
    ];
    proptest::collection::vec(one, 1..80)
}

proptest! {
    /// Calls and retries as two numbers, and one comparison.
    #[test]
    fn places_are_as_a_plain_model_has_them(part in 0u32..=1_500, floor in 0u32..8, moves in moves()) {
        let policy = |part: u32, floor| BudgetPolicy::try_from(BudgetConfig {
            ratio: 0.0,
            min_per_second: 1e6,
            in_flight_ratio: f64::from(part) / 1_000.0,
            min_in_flight: floor,
        }).unwrap();
        let now = Instant::now();
        let budget = Budget::at(&policy(part, floor), now);
        let (mut part, mut floor) = (part as usize, floor as usize);
        let (mut calls, mut retries) = (Vec::new(), Vec::new());
        for step in moves {
            match step {
                Move::Begin(times) => calls.extend((0..times).map(|_| budget.deposit(now))),
                Move::End(times) => calls.truncate(calls.len().saturating_sub(times)),
                Move::Withdraw(times) => for _ in 0..times {
                    let free = retries.len() < floor.max(calls.len() * part / 1_000);
                    let got = budget.try_withdraw(now);
                    prop_assert_eq!(got.is_some(), free);
                    retries.extend(got);
                },
                Move::Release(times) => retries.truncate(retries.len().saturating_sub(times)),
                Move::Change(new, least) => {
                    (part, floor) = (new as usize, least as usize);
                    budget.set_at(&policy(new, least), now);
                }
            }
            let there = budget.snapshot(now);
            prop_assert_eq!(
                (there.calls, there.retries, there.places),
                (calls.len() as u64, retries.len() as u64, floor.max(calls.len() * part / 1_000) as u64)
            );
        }
    }
}

/// The way of the layer, which does not read the clock for each call.
mod by_the_way {
    use std::cell::Cell;

    use super::*;

    /// A call that is over at once.
    fn pass(budget: &Budget, now: Instant, readings: &Cell<u32>) -> bool {
        let funded = budget.enter(|| {
            readings.set(readings.get() + 1);
            now
        });
        budget.leave();
        funded
    }

    #[test]
    fn calls_in_quick_succession_hardly_read_the_clock() {
        let (budget, start) = budget(0.2, 10.0);
        let readings = Cell::new(0);
        for call in 0..20_000u64 {
            assert!(pass(
                &budget,
                start + Duration::from_micros(call * 1_000),
                &readings
            ));
        }
        assert!((100..600).contains(&readings.get()), "{}", readings.get());
        // Ten seconds of a thousand calls each, but for what was paid since the last look.
        let saved = budget.snapshot(start + ms(20_000)).saved;
        assert!((1_770.0..=2_000.0).contains(&saved), "{saved}");
        // Then they become rare, and each is counted when it is made.
        let rare = |call: u64| start + ms(20_000 + call * 1_000);
        assert!((1..=80).all(|call| pass(&budget, rare(call), &readings)));
        readings.set(0);
        assert!((81..=90).all(|call| pass(&budget, rare(call), &readings)));
        assert_eq!(readings.get(), 10);
        assert!((budget.snapshot(rare(90)).saved - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_call_is_told_that_there_is_nothing_until_there_is() {
        let (budget, now) = budget(0.5, 0.0);
        let readings = Cell::new(0);
        assert!(!pass(&budget, now, &readings));
        assert!(pass(&budget, now, &readings));
        assert!(take(&budget, now) && !take(&budget, now));
        assert!(!pass(&budget, now, &readings));
    }

    proptest! {
        /// What is saved is never more than if the clock had been read each time.
        #[test]
        fn it_never_saves_more(
            ratio in 1u32..=1_000,
            steps in proptest::collection::vec((0u64..3_000, 1u32..200, 0u64..3, 0u32..40), 1..60),
        ) {
            let ratio = f64::from(ratio) / 1_000.0;
            let (sparing, start) = budget(ratio, 0.0);
            let exact = Budget::at(&tokens(ratio, 0.0), start);
            let readings = Cell::new(0);
            let mut now = start;
            for (wait, calls, apart, wanted) in steps {
                now += ms(wait);
                for _ in 0..calls {
                    now += ms(apart);
                    pass(&sparing, now, &readings);
                    pay(&exact, now);
                }
                let least = sparing.snapshot(now).saved;
                prop_assert!(least <= exact.snapshot(now).saved + 1e-9);
                for _ in 0..wanted {
                    // What one gives, the other gives too.
                    if take(&sparing, now) {
                        prop_assert!(take(&exact, now));
                    }
                }
            }
            prop_assert_eq!(sparing.snapshot(now).calls, 0);
        }
    }
}
