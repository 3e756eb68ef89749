//! The figures of `examples/simulations`, held to their bounds for three seeds.

#[path = "../examples/simulations/chart.rs"]
mod chart;
#[path = "../examples/simulations/flapping.rs"]
mod flapping;
#[path = "../examples/simulations/overload.rs"]
mod overload;
#[path = "../examples/simulations/slow.rs"]
mod slow;
#[path = "../examples/simulations/storm.rs"]
mod storm;
#[path = "../examples/simulations/world.rs"]
mod world;

/// Three, and with `CHASSIS_LONG=1` the first twelve as well.
fn seeds() -> impl Iterator<Item = u64> {
    let long = std::env::var_os("CHASSIS_LONG").is_some();
    let more = 1..=if long { 12 } else { 0 };
    let known = [1, 7, 42];
    known
        .into_iter()
        .chain(more.filter(move |seed| !known.contains(seed)))
}

#[test]
fn retry_storm() {
    for seed in seeds() {
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
    for seed in seeds() {
        let flapping = flapping::flapping(seed);
        println!("{seed}: {flapping:?}");
        assert_eq!(flapping.failed, 0);
        assert!(
            flapping.failed_attempts <= 0.01,
            "{}",
            flapping.failed_attempts
        );
        assert!(!flapping.chart.to_string().is_empty());
        assert!(flapping.comes_back >= 0.1, "{}", flapping.comes_back);
    }
}

#[test]
fn overload() {
    for seed in seeds() {
        let overload = overload::overload(seed);
        println!("{seed}: {overload:?}");
        assert!(
            overload.unlimited < 0.2,
            "no overload: {}",
            overload.unlimited
        );
        assert!(overload.goodput >= 0.9, "{}", overload.goodput);
        assert!(
            overload.admitted <= 2 * overload.unloaded,
            "{:?}",
            overload.admitted
        );
        // What matters most is untouched, from the first call on.
        assert!(overload.peers >= 0.999, "{}", overload.peers);
        assert!(
            overload.peers_took <= 2 * overload.unloaded,
            "{:?}",
            overload.peers_took
        );
        // Only because it is told apart, and not by who says so.
        assert!(overload.peers_without < 0.9, "{}", overload.peers_without);
        assert!(
            (0.3..0.6).contains(&overload.pretenders),
            "{}",
            overload.pretenders
        );
        assert!(!overload.chart.to_string().is_empty());
    }
}

#[test]
fn slow_upstream() {
    for seed in seeds() {
        let slow = slow::slow(seed);
        println!("{seed}: {slow:?}");
        assert!(slow.hedged * 2 <= slow.plain, "{:?}", slow.hedged);
        assert!(slow.extra <= 0.02, "{}", slow.extra);
        assert!(!slow.chart.to_string().is_empty());
    }
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    let figures = || format!("{:?}", flapping::flapping(3));
    assert_eq!(figures(), figures());
}
