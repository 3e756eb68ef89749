use crate::{ours, scenario};

#[tokio::test]
async fn fault_22_traffic_with_a_rhythm_is_split_by_weight_at_every_beat() {
    for weights in [[1, 1], [3, 1], [9, 1], [1, 2], [51, 49]] {
        let picks = ours::picks(weights, 24_000).await;
        for period in 2..=12 {
            let worst = scenario::worst_place(&picks, period);
            assert!(
                worst < 0.05,
                "{weights:?} and every {period}: off by {worst}"
            );
        }
    }
}

#[tokio::test]
async fn fault_22_and_every_cycle_of_the_weights_is_exact() {
    for (weights, cycle, first) in [([1, 1], 2, 1), ([3, 1], 4, 3), ([90, 10], 10, 9)] {
        let picks = ours::picks(weights, 100 * cycle).await;
        for calls in picks.chunks(cycle) {
            assert_eq!(calls.iter().filter(|picked| **picked).count(), first);
        }
    }
}
