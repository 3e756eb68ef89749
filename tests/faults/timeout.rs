use crate::{ours, scenario::Saw};

#[tokio::test(start_paused = true)]
async fn fault_23_a_panic_under_a_timeout_stays_a_panic() {
    assert_eq!(ours::a_panic().await, Saw::Panic);
}
