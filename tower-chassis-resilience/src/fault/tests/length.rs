//! The lengths of delays: their moments, from the dice themselves.

use std::time::Duration;

use super::super::Delay;
use crate::dice::Die;

const MANY: u32 = 200_000;

fn lengths(delay: Delay) -> Vec<f64> {
    let die = Die::new(11, "rule", "delay");
    (0..MANY)
        .map(|n| delay.length(die.roll(&n.to_le_bytes())).as_secs_f64())
        .collect()
}

fn mean(of: &[f64]) -> f64 {
    of.iter().sum::<f64>() / of.len() as f64
}

fn near(found: f64, wanted: f64, share: f64) {
    assert!(
        (found - wanted).abs() <= wanted * share,
        "{found}, not {wanted}"
    );
}

#[test]
fn fixed_is_always_the_same() {
    let length = Duration::from_millis(250);
    assert!(lengths(Delay::Fixed(length)).iter().all(|one| *one == 0.25));
}

#[test]
fn uniform_has_the_mean_and_the_variance_of_its_distribution() {
    let (min, max) = (Duration::from_secs(1), Duration::from_secs(3));
    let all = lengths(Delay::Uniform { min, max });
    assert!(all.iter().all(|one| (1.0..=3.0).contains(one)));
    let mean = mean(&all);
    near(mean, 2.0, 0.005);
    let variance = all.iter().map(|one| (one - mean).powi(2)).sum::<f64>() / f64::from(MANY);
    near(variance, 4.0 / 12.0, 0.01);
}

#[test]
fn pareto_has_its_tail_its_mean_and_its_cut() {
    let (min, max) = (Duration::from_millis(100), Duration::from_secs(3600));
    let shape = 3.0;
    let all = lengths(Delay::Pareto { min, shape, max });
    assert!(all.iter().all(|one| (0.1..3600.0).contains(one)));
    // shape · min / (shape − 1)
    near(mean(&all), 0.15, 0.01);
    for times in [1.5_f64, 2.0, 4.0] {
        let above = all.iter().filter(|one| **one > 0.1 * times).count();
        near(above as f64 / f64::from(MANY), times.powf(-shape), 0.05);
    }
    let mut sorted = all;
    sorted.sort_by(f64::total_cmp);
    near(
        sorted[MANY as usize / 2],
        0.1 * 2f64.powf(1.0 / shape),
        0.01,
    );
    let max = Duration::from_millis(200);
    let cut = lengths(Delay::Pareto { min, shape, max });
    assert!(cut.iter().all(|one| *one <= 0.2) && cut.contains(&0.2));
}

#[test]
fn the_length_says_nothing_of_who_was_chosen() {
    let (min, max) = (Duration::ZERO, Duration::from_secs(1));
    let delay = Delay::Uniform { min, max };
    let die = Die::new(11, "rule", "delay");
    let rolls = (0..MANY).map(|n| die.roll(&n.to_le_bytes()));
    let chosen: Vec<f64> = rolls
        .filter(|roll| roll.hits(100_000))
        .map(|roll| delay.length(roll).as_secs_f64())
        .collect();
    near(mean(&chosen), 0.5, 0.02);
}
