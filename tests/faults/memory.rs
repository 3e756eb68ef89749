use crate::ours;

/// A breaker that looked at each call of its window anew would not come to an end here: five hundred thousand times it is
/// asked for its rate.
#[tokio::test(start_paused = true)]
async fn fault_30_a_million_calls_in_a_window_leave_nothing_behind() {
    assert_eq!(ours::left_behind(1_000_000).await, 0);
}
