//! The limit in front of simulated services.

use super::sim::{Limited, MS, Nanos, Record, SECOND, Shape, Work, World, run};
use crate::adaptive::AdaptiveConfig;

const SEEDS: [u64; 3] = [1, 2, 3];

fn shape(servers: u32, mean: Nanos) -> Shape {
    Shape { servers, mean }
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

#[test]
fn explore() {
    let works = [
        ("fixed", Work::Fixed),
        ("exponential", Work::Exponential),
        ("lognormal 1", Work::LogNormal(1.0)),
    ];
    for (name, work) in works {
        let only = std::env::var("ONLY").ok();
        for (servers, mean) in [(4, 10 * MS), (20, 20 * MS), (100, 50 * MS), (500, 100 * MS)] {
            for load in [0.7, 1.2, 2.0, 10.0] {
                let id = format!("{name} {servers} {load}");
                if only.as_ref().is_some_and(|only| !id.contains(only)) {
                    continue;
                }
                let world = World::new(shape(servers, mean), work, load, 90 * SECOND, 1);
                let mut gate = Limited::new(AdaptiveConfig::default(), 1);
                let record = run(&world, &mut gate).part(30, 90);
                let capacity = f64::from(servers) * SECOND as f64 / mean as f64;
                let (mean_limit, most) = record.limit();
                println!(
                    "{name:12} {servers:4} x {:3} ms at {load:4}: goodput {:.3}, refused {:6}, p99 {:.2} x, limit {:.2} mean {:.2} max, changes {}",
                    mean / MS,
                    record.goodput() / (capacity * load.min(1.0)),
                    record.refused(),
                    record.p99() as f64 / work.p99(mean) as f64,
                    mean_limit / f64::from(servers),
                    f64::from(most) / f64::from(servers),
                    gate.changes,
                );
            }
        }
    }
}
