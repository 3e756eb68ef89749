//! How evenly picks fall, and on whom they may fall at all.

use tokio::time::Instant;
use tower_chassis_core::{Invocation, invocation::OnEmpty};
use twox_hash::XxHash64;

use super::*;
use crate::balance::snapshot::{Plan, plan_of};

fn plan(weights: &[u32]) -> Plan {
    plan_of(
        weights
            .iter()
            .enumerate()
            .map(|(i, weight)| endpoint(&format!("e{i}")).with_weight(*weight)),
    )
}

/// How often each is picked; `in_flight` calls are on their way at any time.
fn picks<P: Pick>(plan: &Plan, picker: &P, count: u32, in_flight: usize) -> Vec<u32> {
    let (mut rng, now) = (Rng::seeded(7), Instant::now());
    let table = picker.table(&Members::new(plan));
    let mut picks = vec![0; plan.entries.len()];
    let mut flying = std::collections::VecDeque::new();
    for number in 0..count {
        let hash = XxHash64::oneshot(1, &number.to_le_bytes());
        let chosen = plan.choose((picker, &table), Some(hash), None, &[], now, &mut rng);
        let index = chosen.unwrap();
        picks[index] += 1;
        plan.entries[index].state.load.enter(now);
        flying.push_back(index);
        if flying.len() > in_flight
            && let Some(over) = flying.pop_front()
        {
            plan.entries[over].state.load.leave();
        }
    }
    picks
}

fn peak_to_mean(picks: &[u32]) -> f64 {
    let total: u32 = picks.iter().sum();
    f64::from(*picks.iter().max().unwrap()) * picks.len() as f64 / f64::from(total)
}

const PICKS: u32 = if cfg!(debug_assertions) {
    200_000
} else {
    1_000_000
};

#[test]
fn a_hundred_equals_are_called_as_often_as_their_picker_promises() {
    let equals = || plan(&[1; 100]);
    let peak = |picks: Vec<u32>| peak_to_mean(&picks);
    for (name, peak, bar) in [
        (
            "round robin",
            peak(picks(&equals(), &RoundRobin::new(), PICKS, 50)),
            1.05,
        ),
        (
            "smooth",
            peak(picks(&equals(), &SmoothRoundRobin::new(), PICKS, 50)),
            1.05,
        ),
        (
            "peak ewma",
            peak(picks(&equals(), &PeakEwma::new(), PICKS, 50)),
            1.5,
        ),
        (
            "least request",
            peak(picks(&equals(), &LeastRequest::new(), PICKS, 50)),
            1.5,
        ),
        (
            "least of 5",
            peak(picks(&equals(), &LeastRequest::new().choices(5), PICKS, 50)),
            1.5,
        ),
        (
            "maglev",
            peak(picks(&equals(), &Maglev::new(), PICKS, 50)),
            1.1,
        ),
        (
            "ring of 1024",
            peak(picks(&equals(), &Ring::new().points(1_024), PICKS, 50)),
            1.2,
        ),
        ("ring", peak(picks(&equals(), &Ring::new(), PICKS, 50)), 1.5),
        (
            "rendezvous",
            peak(picks(&equals(), &Rendezvous::new(), PICKS / 10, 50)),
            1.3,
        ),
        (
            "weighted response",
            peak(picks(&equals(), &WeightedResponse::new(), PICKS, 50)),
            1.05,
        ),
    ] {
        assert!(peak <= bar, "{name}: {peak}");
    }
}

/// Above this, chance explains it once in a thousand times (Wilson and Hilferty).
fn critical(freedom: f64) -> f64 {
    let spread = 2.0 / (9.0 * freedom);
    freedom * (1.0 - spread + 3.09 * spread.sqrt()).powi(3)
}

fn chi_square(picks: &[u32], weights: &[u32]) -> (f64, f64) {
    let total = f64::from(picks.iter().sum::<u32>());
    let all = f64::from(weights.iter().sum::<u32>());
    let mut sum = 0.0;
    for (picks, weight) in picks.iter().zip(weights) {
        let expected = total * f64::from(*weight) / all;
        if expected == 0.0 {
            assert_eq!(*picks, 0);
        } else {
            sum += (f64::from(*picks) - expected).powi(2) / expected;
        }
    }
    let freedom = weights.iter().filter(|weight| **weight > 0).count() - 1;
    (sum, critical(freedom as f64))
}

#[test]
fn chance_is_chance() {
    assert!((critical(10.0) - 29.588).abs() < 0.3, "a table's value");
    let equal = [1; 20];
    let weights = [1, 2, 3, 4, 10, 0, 50, 7];
    for (name, picks, weights) in [
        (
            "random",
            picks(&plan(&equal), &Random::new(), 100_000, 0),
            &equal[..],
        ),
        // Weights do not count for it.
        (
            "random",
            picks(&plan(&[1, 9, 5]), &Random::new(), 100_000, 0),
            &[1, 1, 1],
        ),
        (
            "weighted",
            picks(&plan(&weights), &WeightedRandom::new(), 100_000, 0),
            &weights,
        ),
        (
            "idle least request",
            picks(&plan(&weights), &LeastRequest::new(), 100_000, 0),
            &weights,
        ),
        (
            "rendezvous",
            picks(&plan(&weights), &Rendezvous::new(), 100_000, 0),
            &weights,
        ),
        // The first of two that nobody measured is taken.
        ("first draw", first_draws(&weights), &weights),
    ] {
        let (sum, critical) = chi_square(&picks, weights);
        assert!(sum <= critical, "{name}: {sum} above {critical}: {picks:?}");
    }
}

#[test]
fn chance_is_chance_around_those_that_may_not_be_called() {
    let plan = plan(&[1, 2, 3, 4, 5, 6]);
    for index in [0, 3, 4] {
        plan.entries[index].gate.shut();
    }
    for (picks, weights) in [
        (picks(&plan, &Random::new(), 100_000, 0), [0, 1, 1, 0, 0, 1]),
        (
            picks(&plan, &WeightedRandom::new(), 100_000, 0),
            [0, 2, 3, 0, 0, 6],
        ),
    ] {
        let (sum, critical) = chi_square(&picks, &weights);
        assert!(sum <= critical, "{sum} above {critical}: {picks:?}");
    }
}

fn first_draws(weights: &[u32]) -> Vec<u32> {
    struct First;
    impl Pick for First {
        type Table = ();
        fn table(&self, _: &Members<'_>) {}
        fn pick(&self, candidates: &Candidates<'_>, rng: &mut Rng) -> Option<usize> {
            candidates.draw_two(rng).map(|(first, _)| first)
        }
    }
    picks(&plan(weights), &First, 100_000, 0)
}

#[test]
fn weights_hold_while_calls_are_in_flight() {
    for weights in [&[2, 1][..], &[10, 1, 5], &[1, 2, 3, 4]] {
        let all = f64::from(weights.iter().sum::<u32>());
        for in_flight in [0, 3, 100] {
            let picks = picks(&plan(weights), &LeastRequest::new(), 100_000, in_flight);
            for (picks, weight) in picks.iter().zip(weights) {
                let ratio = f64::from(*picks) / 1e5 / (f64::from(*weight) / all);
                assert!(
                    (0.6..1.5).contains(&ratio),
                    "{weights:?} {in_flight}: {ratio}"
                );
            }
        }
    }
}

#[test]
fn a_bounded_ring_keeps_its_bound_and_an_unbounded_one_does_not() {
    for bound in [1.0, 1.25, 2.0] {
        for shut in [0, 7] {
            let (plan, mut rng, now) = (
                plan(&[1, 2, 1, 3, 1, 1, 5, 1, 1, 4]),
                Rng::seeded(3),
                Instant::now(),
            );
            plan.entries[..shut]
                .iter()
                .for_each(|entry| entry.gate.shut());
            let ring = Ring::new().bounded(bound);
            let table = ring.table(&Members::new(&plan));
            let open = &plan.entries[shut..];
            let total: u32 = open.iter().map(|entry| entry.weight).sum();
            for sent in 0..500_u32 {
                // All of one key.
                let index = plan
                    .choose((&ring, &table), Some(42), None, &[], now, &mut rng)
                    .unwrap();
                let entry = &plan.entries[index];
                let share = f64::from(sent + 1) * f64::from(entry.weight) / f64::from(total);
                entry.state.load.enter(now);
                let pending = f64::from(entry.state.load.pending());
                assert!(
                    pending <= (bound * share).ceil() + 1e-6,
                    "{bound}: {pending} of {share}"
                );
            }
        }
    }
    let (plan, mut rng, now) = (plan(&[1; 10]), Rng::seeded(3), Instant::now());
    let table = Ring::new().table(&Members::new(&plan));
    let picks: Vec<_> = (0..100)
        .filter_map(|_| {
            let index = plan.choose((&Ring::new(), &table), Some(42), None, &[], now, &mut rng)?;
            plan.entries[index].state.load.enter(now);
            Some(index)
        })
        .collect();
    assert!(picks.iter().all(|index| *index == picks[0]) && picks.len() == 100);
}

/// Whom a picker chose in many picks of many hashes, and without one.
fn chosen<P: Pick>(
    plan: &Plan,
    picker: &P,
    call: Option<&Invocation>,
    awaited: &[u64],
) -> Vec<usize> {
    let (mut rng, now) = (Rng::seeded(5), Instant::now());
    let table = picker.table(&Members::new(plan));
    let mut seen: Vec<usize> = (0..600_u64)
        .filter_map(|number| {
            let hash = (number % 3 > 0).then(|| XxHash64::oneshot(2, &number.to_le_bytes()));
            let index = plan.choose((picker, &table), hash, call, awaited, now, &mut rng)?;
            // It stays in flight, so that who may not be called looks better.
            plan.entries[index].state.load.enter(now);
            Some(index)
        })
        .collect();
    seen.sort_unstable();
    seen.dedup();
    seen
}

fn only_candidates<P: Pick>(name: &str, picker: &P) {
    let key = |plan: &Plan, index: usize| plan.entries[index].state.key;
    let none: [usize; 0] = [];
    // None at all, one, all shut, one open of many.
    assert_eq!(chosen(&plan(&[]), picker, None, &[]), none, "{name}");
    assert_eq!(chosen(&plan(&[3]), picker, None, &[]), [0], "{name}");
    let shut = plan(&[1; 40]);
    shut.entries.iter().for_each(|entry| entry.gate.shut());
    assert_eq!(chosen(&shut, picker, None, &[]), none, "{name}");
    shut.entries[17].gate.open();
    assert_eq!(chosen(&shut, picker, None, &[]), [17], "{name}");
    // Without weight only where nobody else can; all without are equal.
    let idle = plan(&[0, 2, 0, 5]);
    assert_eq!(chosen(&idle, picker, None, &[]), [1, 3], "{name}");
    idle.entries[1].gate.shut();
    idle.entries[3].gate.shut();
    assert_eq!(chosen(&idle, picker, None, &[]), [0, 2], "{name}");
    assert_eq!(
        chosen(&plan(&[0, 0, 0]), picker, None, &[]),
        [0, 1, 2],
        "{name}"
    );
    // A subset of one of many.
    let tagged = plan_of((0..300).map(|i| {
        let version = if i == 251 { "v2" } else { "v1" };
        endpoint(&format!("e{i}")).with_tags([("version", version)])
    }));
    let mut call = Invocation::new(Instant::now());
    let subset = Subset::new([("version", "v2")], OnEmpty::Refuse);
    call.set_subset(Some(Arc::new(subset)));
    assert_eq!(chosen(&tagged, picker, Some(&call), &[]), [251], "{name}");
    // Tried ones last, and all again once all were.
    let three = plan(&[1, 2, 3]);
    let mut call = Invocation::new(Instant::now());
    call.note_endpoint(key(&three, 0));
    call.set_attempt(2);
    assert_eq!(chosen(&three, picker, Some(&call), &[]), [1, 2], "{name}");
    call.note_endpoint(key(&three, 2));
    call.set_attempt(3);
    call.note_endpoint(key(&three, 1));
    call.set_attempt(4);
    assert_eq!(
        chosen(&three, picker, Some(&call), &[]),
        [0, 1, 2],
        "{name}"
    );
    // Not the one that is awaited.
    let awaited = [key(&three, 2), key(&three, 0)];
    assert_eq!(chosen(&three, picker, None, &awaited), [1], "{name}");
    // Measured ones, too.
    let now = Instant::now();
    for (entry, ms) in three.entries.iter().zip([1, 50, 20]) {
        let took = std::time::Duration::from_millis(ms);
        entry
            .state
            .load
            .record(took, tower_chassis_core::Verdict::SUCCESS, now);
    }
    three.entries[0].gate.shut();
    assert!(
        chosen(&three, picker, None, &[])
            .iter()
            .all(|index| *index > 0),
        "{name}"
    );
}

fn all_algorithms() -> Vec<Algorithm> {
    vec![
        Algorithm::PeakEwma,
        Algorithm::RoundRobin,
        Algorithm::SmoothRoundRobin,
        Algorithm::Random,
        Algorithm::WeightedRandom,
        Algorithm::LeastRequest(LeastRequestConfig::default()),
        Algorithm::Ring(RingConfig::default()),
        Algorithm::Ring(RingConfig {
            bounded: Some(1.25),
            ..RingConfig::default()
        }),
        Algorithm::Ketama(KetamaConfig::default()),
        Algorithm::Maglev(MaglevConfig::default()),
        Algorithm::Rendezvous(RendezvousConfig::default()),
        Algorithm::WeightedResponse,
    ]
}

#[test]
fn every_picker_picks_only_candidates() {
    only_candidates("peak ewma", &PeakEwma::new());
    only_candidates("round robin", &RoundRobin::new());
    only_candidates("smooth", &SmoothRoundRobin::new());
    only_candidates("random", &Random::new());
    only_candidates("weighted random", &WeightedRandom::new());
    only_candidates("least of 4", &LeastRequest::new().choices(4));
    only_candidates("ring", &Ring::new());
    only_candidates("maglev", &Maglev::new().size(101));
    only_candidates("rendezvous", &Rendezvous::new());
    only_candidates("weighted response", &WeightedResponse::new());
    for algorithm in all_algorithms() {
        let policy = BalancePolicy::try_from(BalanceConfig {
            algorithm: algorithm.clone(),
        });
        only_candidates(&format!("{algorithm:?}"), &Picker::new(policy.unwrap()));
    }
}

#[test]
fn the_fastest_takes_seven_of_ten_and_its_turns() {
    let (plan, now) = (plan(&[1; 4]), Instant::now());
    for (entry, ms) in plan.entries.iter().zip([20, 5, 30, 40]) {
        let took = std::time::Duration::from_millis(ms);
        entry
            .state
            .load
            .record(took, tower_chassis_core::Verdict::SUCCESS, now);
    }
    let picks = picks(&plan, &WeightedResponse::new(), 100_000, 0);
    assert!((76_000..79_000).contains(&picks[1]), "{picks:?}");
    assert!(picks.iter().all(|picks| *picks > 7_000), "{picks:?}");
}

fn hash_of(parts: impl IntoIterator<Item = HashOn>, request: &Request<()>) -> Option<u64> {
    Rendezvous::new().hash_on(parts).hash(request)
}

#[test]
fn parts_of_a_request_are_hashed() {
    let xxh = |text: &str| Some(XxHash64::oneshot(0, text.as_bytes()));
    let mut request = Request::get("http://shop/cart/42?a=1&user=u%201&user=2")
        .header("x-user", "ann")
        .header("cookie", "theme=dark; sid=abc=")
        .body(())
        .unwrap();
    for (part, wanted) in [
        (HashOn::header("X-User"), "ann"),
        (HashOn::meta("x-user"), "ann"),
        (HashOn::cookie("sid"), "abc="),
        (HashOn::path(), "/cart/42"),
        (HashOn::query("user"), "u%201"),
    ] {
        assert_eq!(hash_of([part.clone()], &request), xxh(wanted), "{part:?}");
    }
    for part in [
        HashOn::header("x-other"),
        HashOn::cookie("s"),
        HashOn::query("use"),
        HashOn::client(),
    ] {
        assert_eq!(hash_of([part.clone()], &request), None, "{part:?}");
    }
    for (address, wanted) in [
        ("10.1.2.3:5", "10.1.2.3"),
        ("[::ffff:10.1.2.3]:9", "10.1.2.3"),
        ("[2001:db8::1]:9", "2001:db8::1"),
        (
            "[2001:1db8:1111:2222:3333:4444:5555:6666]:9",
            "2001:1db8:1111:2222:3333:4444:5555:6666",
        ),
    ] {
        request
            .invocation_mut()
            .set_client(address.parse().unwrap());
        assert_eq!(
            hash_of([HashOn::client()], &request),
            xxh(wanted),
            "{address}"
        );
    }
    // Of several all count, and their order; what is not there is left out; a terminal one ends it.
    let (user, path) = (HashOn::header("x-user"), HashOn::path());
    let both = hash_of([user.clone(), path.clone()], &request);
    let folded = xxh("ann").unwrap().rotate_left(1) ^ xxh("/cart/42").unwrap();
    assert_eq!(both, Some(folded));
    assert_ne!(hash_of([path.clone(), user.clone()], &request), both);
    assert_eq!(
        hash_of([HashOn::cookie("s"), user.clone(), path.clone()], &request),
        both
    );
    assert_eq!(
        hash_of([user.terminal(), path.clone()], &request),
        xxh("ann")
    );
    let absent = HashOn::cookie("s").terminal();
    assert_eq!(hash_of([absent, path], &request), xxh("/cart/42"));
    let by = Maglev::new().by(|call| call.path().map(|path| path.len() as u64));
    assert_eq!(by.hash(&request), Some(8));
}

#[tokio::test]
async fn a_live_hash_sends_one_user_to_one_endpoint() {
    use tower::ServiceExt;
    use tower_chassis_core::Live;

    let live = Live::new(BalancePolicy::default());
    let ids: Vec<String> = (0..10).map(|i| format!("e{i}")).collect();
    let (balance, _source, fakes) =
        balance(ids.iter().map(|id| endpoint(id)), Picker::new(live.clone()));
    for algorithm in all_algorithms() {
        let hash_on = vec![HashOn::header("x-user")];
        let algorithm = match algorithm {
            Algorithm::Ring(config) => Algorithm::Ring(RingConfig { hash_on, ..config }),
            Algorithm::Ketama(config) => Algorithm::Ketama(KetamaConfig { hash_on, ..config }),
            Algorithm::Maglev(config) => Algorithm::Maglev(MaglevConfig { hash_on, ..config }),
            Algorithm::Rendezvous(_) => Algorithm::Rendezvous(RendezvousConfig { hash_on }),
            // None that hashes.
            _ => continue,
        };
        live.set(BalancePolicy::try_from(BalanceConfig { algorithm }).unwrap())
            .unwrap();
        settle().await;
        let mut homes = Vec::new();
        for user in 0..20 {
            let before: Vec<usize> = ids.iter().map(|id| fakes.calls(id)).collect();
            for _ in 0..5 {
                let mut request = request();
                let user = user.to_string().parse().unwrap();
                request.headers_mut().insert("x-user", user);
                balance.clone().oneshot(request).await.unwrap();
            }
            let after = ids.iter().map(|id| fakes.calls(id));
            let took: Vec<usize> = after
                .zip(before)
                .map(|(after, before)| after - before)
                .collect();
            assert_eq!(took.iter().max(), Some(&5), "{took:?}");
            homes.push(took.iter().position(|took| *took == 5));
        }
        homes.sort_unstable();
        homes.dedup();
        assert!(homes.len() > 4, "users are spread: {homes:?}");
    }
}

#[tokio::test]
async fn a_change_before_the_worker_runs_is_not_missed() {
    use tower::ServiceExt;
    use tower_chassis_core::Live;

    let live = Live::new(BalancePolicy::default());
    let (source, fakes) = (
        Source::new([endpoint("a"), endpoint("b")].into_iter().collect()),
        Fakes::default(),
    );
    let (balance, worker) =
        Balance::new(source.subscribe(), fakes.make(), Picker::new(live.clone()));
    *fakes.get("a").state.status.lock().unwrap() = 500;
    let algorithm = Algorithm::RoundRobin;
    live.set(BalancePolicy::try_from(BalanceConfig { algorithm }).unwrap())
        .unwrap();
    worker.spawn();
    settle().await;
    for _ in 0..100 {
        balance.clone().oneshot(request()).await.unwrap();
    }
    assert_eq!(fakes.calls("a"), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn live_changes_under_load_keep_what_is_known() {
    use tower::ServiceExt;
    use tower_chassis_core::Live;

    let live = Live::new(BalancePolicy::default());
    let (balance, _source, _fakes) = balance(
        (0..5).map(|i| endpoint(&format!("e{i}"))),
        Picker::new(live.clone()),
    );
    let handle = balance.handle();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let balance = balance.clone();
            tokio::spawn(async move {
                for _ in 0..500 {
                    balance.clone().oneshot(request()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for algorithm in all_algorithms().into_iter().cycle().take(60) {
        live.set(BalancePolicy::try_from(BalanceConfig { algorithm }).unwrap())
            .unwrap();
        tokio::task::yield_now().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let attempts: u64 = handle
        .endpoints()
        .iter()
        .map(|status| status.attempts)
        .sum();
    assert_eq!((attempts, pending(&handle)), (4_000, 0));
}

#[test]
fn parameters_have_ranges() {
    let fault = |algorithm: Algorithm| {
        let config = BalanceConfig { algorithm };
        BalancePolicy::try_from(config).unwrap_err().to_string()
    };
    let ring = RingConfig::default();
    for (algorithm, wanted) in [
        (
            Algorithm::LeastRequest(LeastRequestConfig { choices: 1 }),
            "algorithm.least_request.choices must be 2 to 10",
        ),
        (
            Algorithm::Ring(RingConfig {
                points: 0,
                ..ring.clone()
            }),
            "algorithm.ring.points must be 1 to 65536",
        ),
        (
            Algorithm::Ring(RingConfig {
                bounded: Some(f64::NAN),
                ..ring.clone()
            }),
            "algorithm.ring.bounded must be at least 1",
        ),
        (
            Algorithm::Ring(RingConfig {
                hash_on: vec![],
                ..ring.clone()
            }),
            "algorithm.ring.hash_on must name what is hashed",
        ),
        (
            Algorithm::Ring(RingConfig {
                hash_on: vec![HashOn::path(), HashOn::header("a b")],
                ..ring
            }),
            "algorithm.ring.hash_on[1].header must be a name of a header",
        ),
        (
            Algorithm::Maglev(MaglevConfig {
                size: 65_536,
                ..MaglevConfig::default()
            }),
            "algorithm.maglev.size must be a prime number up to 5000011, such as 65537",
        ),
        (
            Algorithm::Rendezvous(RendezvousConfig {
                hash_on: vec![HashOn::cookie("")],
            }),
            "algorithm.rendezvous.hash_on[0].cookie must not be empty",
        ),
    ] {
        assert_eq!(fault(algorithm), wanted);
    }
    for algorithm in all_algorithms() {
        assert_eq!(algorithm.check(), Ok(()));
    }
}

#[cfg(feature = "config")]
mod written {
    use tower_chassis_core::config::{Format, Loader};

    use super::*;

    fn read(text: &str) -> Result<Algorithm, String> {
        let loader = Loader::new().text("b.yaml", Format::Yaml, text);
        let read = loader.load_as::<BalanceConfig>();
        read.map(|(_, config)| config.algorithm)
            .map_err(|fault| fault.to_string())
    }

    #[test]
    fn an_algorithm_is_a_word_or_a_map() {
        for algorithm in all_algorithms() {
            let word = format!("{algorithm:?}");
            let word = word.split('(').next().unwrap();
            let mut snake = String::new();
            for c in word.chars() {
                if c.is_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.push(c.to_ascii_lowercase());
            }
            let found = read(&format!("algorithm: {snake}")).unwrap();
            let same = std::mem::discriminant(&found) == std::mem::discriminant(&algorithm);
            assert!(same, "{snake}");
            assert_eq!(
                read(&format!("algorithm: {{ {snake}: {{}} }}")),
                Ok(found),
                "{snake}"
            );
        }
        assert_eq!(
            read(
                "algorithm:\n  ring:\n    points: 320\n    bounded: 1.5\n    hash_on:\n    - { header: X-User, terminal: true }\n    - client\n    - cookie: sid\n"
            ),
            Ok(Algorithm::Ring(RingConfig {
                points: 320,
                bounded: Some(1.5),
                hash_on: vec![
                    HashOn::header("x-user").terminal(),
                    HashOn::client(),
                    HashOn::cookie("sid"),
                ],
            }))
        );
        assert_eq!(
            read("algorithm: { least_request: { choices: 4 } }"),
            Ok(Algorithm::LeastRequest(LeastRequestConfig { choices: 4 }))
        );
    }

    #[test]
    fn a_fault_names_its_place() {
        for (text, place, why) in [
            ("algorithm: rnig", "b.yaml:1:12", "rnig"),
            ("algorithm: { rnig: {} }", "b.yaml:1", "rnig"),
            (
                "algorithm:\n  ring:\n    points: many",
                "b.yaml:3:13",
                "many",
            ),
            ("algorithm:\n  ring:\n    size: 7", "b.yaml:3:5", "size"),
            (
                "algorithm:\n  ring:\n    hash_on: [clinet]",
                "b.yaml:3:15",
                "clinet",
            ),
            (
                "algorithm:\n  ring:\n    hash_on:\n    - { header: a, cookie: b }",
                "b.yaml:4:7",
                "one of",
            ),
            (
                "algorithm:\n  random:\n    points: 1",
                "b.yaml:3:5",
                "points",
            ),
            (
                "algorithm:\n  ring: {}\n  maglev: {}",
                "b.yaml",
                "one algorithm",
            ),
        ] {
            let fault = read(text).unwrap_err();
            assert!(
                fault.contains(place) && fault.contains(why),
                "{text}: {fault}"
            );
        }
    }
}
