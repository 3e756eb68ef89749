//! Whose turn it is.

/// The golden section, 0.618…, in parts of 2^64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Distributes turns by weight: evenly mixed, and exact in every full cycle.
///
/// A cycle has as many slots as the (reduced) weights add up to, and each destination owns as many as
/// it weighs. Turns walk through the slots in steps of about the golden section of a cycle, which
/// spreads any number of successive turns evenly; the step has no divisor in common with the cycle, so
/// that each slot is visited once. Where the walk begins is drawn anew for each cycle: were it always
/// the same, traffic that repeats itself in step with the cycle would be split by what it is and not by
/// weight, every second call for one version and the others for the other.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    step: u64,
    seed: u64,
    /// Where the slots of each destination end; the last is the length of a cycle, above 0.
    ends: Box<[u64]>,
}

impl Shares {
    /// `None` if the weights add up to 0.
    pub(super) fn new(weights: impl Iterator<Item = u32>, seed: u64) -> Option<Self> {
        let mut ends: Box<[u64]> = weights
            .scan(0u64, |sum, weight| {
                *sum = sum.saturating_add(u64::from(weight));
                Some(*sum)
            })
            .collect();
        let divisor = ends.iter().copied().fold(0, gcd);
        if divisor == 0 {
            return None;
        }
        ends.iter_mut().for_each(|end| *end /= divisor);
        let cycle = *ends.last()?;
        // 0.618… of the cycle.
        let mut step = ((u128::from(cycle) * u128::from(GOLDEN)) >> 64) as u64;
        while gcd(step, cycle) != 1 {
            step += 1;
        }
        Some(Self {
            step,
            seed: mix(seed),
            ends,
        })
    }

    /// Which destination serves the `turn`th request.
    pub(super) fn pick(&self, turn: u64) -> usize {
        let cycle = self.ends.last().copied().unwrap_or(1);
        let first = mix(self.seed.wrapping_add((turn / cycle).wrapping_mul(GOLDEN))) % cycle;
        let walked = u128::from(turn % cycle) * u128::from(self.step);
        let slot = (walked + u128::from(first)) % u128::from(cycle);
        self.ends.partition_point(|end| u128::from(*end) <= slot)
    }
}

fn gcd(left: u64, right: u64) -> u64 {
    let (mut left, mut right) = (left, right);
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

/// The finalizer of splitmix64: near seeds start far apart.
fn mix(seed: u64) -> u64 {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn weights_of_nothing_are_refused() {
        assert!(Shares::new([].into_iter(), 1).is_none());
        assert!(Shares::new([0, 0].into_iter(), 1).is_none());
    }

    #[test]
    fn no_run_of_turns_is_far_off() {
        for seed in 0..20 {
            let shares = Shares::new([900, 100].into_iter(), seed).unwrap();
            for start in 0..50 {
                let hits = (start..start + 100)
                    .filter(|turn| shares.pick(*turn) == 1)
                    .count();
                // Ten cycles, of which the first and the last may be cut.
                assert!((9..=11).contains(&hits), "{start}: {hits}");
            }
        }
    }

    #[test]
    fn no_rhythm_of_the_traffic_meets_one_destination_alone() {
        for weights in [[1, 1], [3, 1], [9, 1], [51, 49]] {
            let shares = Shares::new(weights.into_iter(), 7).unwrap();
            let share = f64::from(weights[1]) / f64::from(weights[0] + weights[1]);
            for period in (2..=12).chain([50, 100]) {
                for place in 0..period {
                    let turns = (0..2_000).map(|n| n * period + place);
                    let hits = turns.filter(|turn| shares.pick(*turn) == 1).count();
                    let off = hits as f64 / 2_000.0 - share;
                    assert!(off.abs() < 0.06, "{weights:?}, {place} of {period}: {off}");
                }
            }
        }
    }

    #[test]
    fn large_weights_mix_well_too() {
        let weights = [4_000_000_007u32, 444_444_445];
        let shares = Shares::new(weights.into_iter(), 3).unwrap();
        for turns in [100u32, 1_000, 10_000] {
            let hits = (0..u64::from(turns))
                .filter(|turn| shares.pick(*turn) == 1)
                .count();
            assert!(
                (hits as f64 - f64::from(turns) / 10.0).abs() < 3.0,
                "{hits} of {turns}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_full_cycle_is_exact(weights in proptest::collection::vec(0u32..60, 1..6), seed: u64, nth in 0u64..1000) {
            let Some(shares) = Shares::new(weights.iter().copied(), seed) else {
                prop_assert_eq!(weights.iter().sum::<u32>(), 0);
                return Ok(());
            };
            // In whole, so that it is one cycle of the reduced weights or several.
            let cycle = u64::from(weights.iter().sum::<u32>());
            let mut hits = vec![0; weights.len()];
            for turn in nth * cycle..(nth + 1) * cycle {
                hits[shares.pick(turn)] += 1;
            }
            prop_assert_eq!(hits, weights);
        }
    }
}
