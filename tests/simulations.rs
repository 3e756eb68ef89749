//! The figures of `examples/simulations`, held to their bounds for three seeds.

#[path = "../examples/simulations/chart.rs"]
mod chart;
#[path = "../examples/simulations/flapping.rs"]
mod flapping;
#[path = "../examples/simulations/storm.rs"]
mod storm;
#[path = "../examples/simulations/world.rs"]
mod world;

const SEEDS: [u64; 3] = [1, 7, 42];

#[test]
fn retry_storm() {
    for seed in SEEDS {
        let storm = storm::storm(seed);
        println!("{seed}: {storm:?}");
        assert!(
            storm.unbounded > 2.9,
            "no storm to bound: {}",
            storm.unbounded
        );
        assert!(storm.budget <= 1.25, "{}", storm.budget);
        assert!(storm.breaker <= 1.0, "{}", storm.breaker);
        assert_eq!(storm.failed_after, 0);
        assert!(storm.chart.to_string().ends_with("</svg>\n"));
    }
}

#[test]
fn flapping_upstream() {
    for seed in SEEDS {
        let flapping = flapping::flapping(seed);
        println!("{seed}: {flapping:?}");
        assert_eq!(flapping.failed, 0);
        assert!(
            flapping.failed_attempts <= 0.01,
            "{}",
            flapping.failed_attempts
        );
        assert!(flapping.comes_back >= 0.1, "{}", flapping.comes_back);
    }
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let figures = || format!("{:?}", flapping::flapping(3));
    assert_eq!(figures(), figures());
}
