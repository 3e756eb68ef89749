//! The limit in front of simulated services.

use super::sim::{Limited, MS, Nanos, Record, SECOND, Shape, Work, World, run};
use crate::adaptive::AdaptiveConfig;

const SEEDS: [u64; 3] = [1, 2, 3];

/// What takes long in a debug build is run for one seed, and for all with `CHASSIS_LONG=1`.
fn few() -> &'static [u64] {
    let all = std::env::var_os("CHASSIS_LONG").is_some();
    if all { &SEEDS } else { &SEEDS[..1] }
}

fn shape(servers: u32, mean: Nanos) -> Shape {
    Shape { servers, mean }
}

/// What a service can do in a second.
fn capacity(shape: Shape) -> f64 {
    f64::from(shape.servers) * SECOND as f64 / shape.mean as f64
}

fn limited(seed: u64) -> Limited {
    Limited::new(AdaptiveConfig::default(), seed)
}

fn report(name: &str, record: &Record) {
    let (mean, most) = record.limit();
    println!(
        "{name}: goodput {:.1}/s, refused {}, p99 {:.1} ms, limit {mean:.1} in the mean, {most} at the most",
        record.goodput(),
        record.refused(),
        record.p99() as f64 / MS as f64,
    );
}

/// So many times what the service can do, from the first call on: what is served is nine tenths of what it can,
/// and in two or three times the time that it takes without load.
fn overload(seeds: &[u64], load: f64, slower: f64) {
    for &seed in seeds {
        for work in [
            Work::Exponential,
            Work::LogNormal(0.5),
            Work::LogNormal(1.0),
        ] {
            for shape in [shape(20, 20 * MS), shape(100, 50 * MS)] {
                let world = World::new(shape, work, load, 30 * SECOND, seed);
                let record = run(&world, &mut limited(seed)).part(10, 30);
                report(
                    &format!("{load} x {work:?} {} seed {seed}", shape.servers),
                    &record,
                );
                let goodput = record.goodput() / capacity(shape);
                let p99 = record.p99() as f64 / work.p99(shape.mean) as f64;
                let limit = record.limit().0 / f64::from(shape.servers);
                assert!(goodput >= 0.9, "{goodput}");
                assert!(p99 <= slower, "{p99}");
                assert!((0.8..=1.5).contains(&limit), "{limit}");
            }
        }
    }
}

#[test]
fn at_twice_its_capacity_a_service_does_its_work() {
    overload(&SEEDS, 2.0, 2.0);
}

#[test]
fn at_ten_times_its_capacity_a_service_does_its_work() {
    overload(few(), 10.0, 3.0);
}

/// Calls that all take the same time begin and end together, and the queue is empty after each: it never stands, so
/// who waits does for longer, and some see twice the latency while others see none of it. The limit is a little higher.
#[test]
fn calls_that_all_take_the_same_time() {
    for seed in SEEDS {
        for load in [1.2, 3.0] {
            let shape = shape(20, 20 * MS);
            let world = World::new(shape, Work::Fixed, load, 30 * SECOND, seed);
            let record = run(&world, &mut limited(seed)).part(10, 30);
            report(&format!("fixed {load} seed {seed}"), &record);
            assert!(record.goodput() / capacity(shape) >= 0.9);
            assert!(record.limit().0 <= 1.75 * f64::from(shape.servers));
            assert!(record.p99() <= 150 * MS);
        }
    }
}

/// Nothing is refused, nothing dips: the limit is never in the way, and is not lowered to look.
#[test]
fn a_healthy_service_does_not_feel_it() {
    for seed in SEEDS {
        for shape in [shape(20, 20 * MS), shape(100, 50 * MS)] {
            let world = World::new(shape, Work::Exponential, 0.7, 120 * SECOND, seed);
            let record = run(&world, &mut limited(seed)).part(5, 120);
            report(&format!("healthy {} seed {seed}", shape.servers), &record);
            assert_eq!(record.refused(), 0);
            assert!(record.p99() as f64 <= 1.2 * Work::Exponential.p99(shape.mean) as f64);
        }
    }
}

/// Half of its servers, or each half as fast: ten seconds later it does what it then can.
#[test]
fn a_step_of_capacity_is_followed_within_ten_seconds() {
    for &seed in few() {
        let full = shape(100, 20 * MS);
        for (name, half) in [
            ("fewer", shape(50, 20 * MS)),
            ("slower", shape(100, 40 * MS)),
        ] {
            for load in [1.2, 2.0] {
                let mut world = World::new(full, Work::Exponential, load, 100 * SECOND, seed);
                let at = move |now| {
                    if (30 * SECOND..60 * SECOND).contains(&now) {
                        half
                    } else {
                        full
                    }
                };
                world.shape = Box::new(at);
                let record = run(&world, &mut limited(seed));
                for (from, to, shape) in [(20, 30, full), (40, 60, half), (70, 90, full)] {
                    let part = record.part(from, to);
                    report(&format!("{name} {load} seed {seed} from {from}"), &part);
                    let goodput = part.goodput() / capacity(shape);
                    let limit = part.limit().0 / f64::from(shape.servers);
                    assert!(goodput >= 0.9, "{goodput}");
                    let p99 = part.p99() as f64 / Work::Exponential.p99(shape.mean) as f64;
                    assert!(p99 <= 2.0, "{p99}");
                    assert!((0.8..=1.5).contains(&limit), "{limit}");
                }
            }
        }
    }
}

/// Pauses of the whole service are no reason to do less between them.
#[test]
fn pauses_do_not_lower_the_limit_for_long() {
    for seed in SEEDS {
        for (every, length) in [(SECOND, 50 * MS), (5 * SECOND, 300 * MS)] {
            let shape = shape(50, 20 * MS);
            let mut world = World::new(shape, Work::Exponential, 1.5, 90 * SECOND, seed);
            world.pauses = Some((every, length));
            let record = run(&world, &mut limited(seed)).part(30, 90);
            report(
                &format!("pauses of {} ms seed {seed}", length / MS),
                &record,
            );
            let awake = 1.0 - length as f64 / every as f64;
            let goodput = record.goodput() / (capacity(shape) * awake);
            assert!(goodput >= 0.88, "{goodput}");
        }
    }
}

/// A day of a fifth more than it can do: the limit does not drift.
#[test]
fn a_day_of_overload_moves_the_limit_nowhere() {
    const HOUR: usize = 3_600;
    for &seed in few() {
        let shape = shape(10, 500 * MS);
        let length = 24 * HOUR as Nanos * SECOND;
        let world = World::new(shape, Work::Exponential, 1.2, length, seed);
        let record = run(&world, &mut limited(seed));
        for hour in 1..24 {
            let part = record.part(hour * HOUR, (hour + 1) * HOUR);
            let (limit, goodput) = (part.limit().0, part.goodput() / capacity(shape));
            assert!((8.0..=15.0).contains(&limit), "hour {hour}: {limit}");
            assert!(goodput >= 0.85, "hour {hour}: {goodput}");
        }
        report(
            &format!("a day, seed {seed}, its last hour"),
            &record.part(23 * HOUR, 24 * HOUR),
        );
    }
}

/// Callers that give up tell it as well as latency does.
#[test]
fn callers_that_give_up_are_heard() {
    for seed in SEEDS {
        let shape = shape(20, 20 * MS);
        let mut world = World::new(shape, Work::Exponential, 5.0, 60 * SECOND, seed);
        world.patience = 200 * MS;
        let record = run(&world, &mut limited(seed)).part(20, 60);
        report(&format!("patience seed {seed}"), &record);
        assert!(record.goodput() / capacity(shape) >= 0.85);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = |seed| {
        let world = World::new(shape(5, 10 * MS), Work::Exponential, 2.0, 5 * SECOND, seed);
        let record = run(&world, &mut limited(seed));
        (record.goodput(), record.refused(), record.p99())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// What seeds other than those that the constants were found with come to: their spread, printed. Only with `CHASSIS_LONG=1`.
#[test]
fn other_seeds_are_no_worse() {
    if std::env::var_os("CHASSIS_LONG").is_none() {
        return;
    }
    for work in [
        Work::Exponential,
        Work::LogNormal(0.5),
        Work::LogNormal(1.0),
        Work::Fixed,
    ] {
        for max_wait in [5, 100] {
            let shape = shape(20, 20 * MS);
            let (mut goodputs, mut p99s, mut limits) = (Vec::new(), Vec::new(), Vec::new());
            for seed in 4..=20 {
                let world = World::new(shape, work, 2.0, 30 * SECOND, seed);
                let config = AdaptiveConfig {
                    max_wait: std::time::Duration::from_millis(max_wait),
                    ..AdaptiveConfig::default()
                };
                let record = run(&world, &mut Limited::new(config, seed)).part(10, 30);
                goodputs.push(record.goodput() / capacity(shape));
                p99s.push(record.p99() as f64 / work.p99(shape.mean) as f64);
                limits.push(record.limit().0 / f64::from(shape.servers));
            }
            let spread = |values: &mut Vec<f64>| {
                values.sort_by(f64::total_cmp);
                (
                    values[0],
                    values[values.len() / 2],
                    values[values.len() - 1],
                )
            };
            let [goodput, p99, limit] = [&mut goodputs, &mut p99s, &mut limits].map(spread);
            println!(
                "{work:?}, wait {max_wait} ms: goodput {goodput:.2?}, p99 {p99:.2?}, limit {limit:.2?}"
            );
            assert!(goodput.0 >= 0.88, "{goodput:?}");
            assert!(
                p99.2
                    <= if matches!(work, Work::Fixed) {
                        8.0
                    } else {
                        2.2
                    },
                "{p99:?}"
            );
            assert!(limit.0 >= 0.7 && limit.2 <= 1.8, "{limit:?}");
        }
    }
    // Few calls in a window, and a limit that is nearly in the way from the first of them on.
    let shape = shape(20, 500 * MS);
    let mut shares: Vec<_> = (4..=20)
        .map(|seed| {
            let world = World::new(shape, Work::Exponential, 0.7, 60 * SECOND, seed);
            let record = run(&world, &mut limited(seed)).part(20, 60);
            record.goodput() / (0.7 * capacity(shape))
        })
        .collect();
    shares.sort_by(f64::total_cmp);
    println!("slow, 0.7 of what it can: goodput {shares:.2?}");
}
