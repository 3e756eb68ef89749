use std::time::Duration;

use http::Method;

use crate::ours;

#[tokio::test(start_paused = true)]
async fn fault_17_a_budget_bounds_attempts_although_every_retry_succeeds() {
    // A hundredth of a thousand, and each of the ten was used.
    assert_eq!(ours::attempts_within_the_budget().await, 1_010);
}

#[tokio::test(start_paused = true)]
async fn fault_18_a_failed_response_is_let_go_before_the_wait() {
    assert_eq!(ours::held_over_the_wait().await, 0);
}

#[tokio::test(start_paused = true)]
async fn fault_18_the_last_attempt_copies_no_request() {
    assert_eq!(ours::copies_of_a_request().await, (3, 2));
}

#[tokio::test(start_paused = true)]
async fn fault_18_jitter_stays_below_the_longest_wait() {
    let longest = ours::longest_wait().await;
    // The timer rounds up to whole milliseconds. Waits that all were short would prove nothing.
    assert!(
        (Duration::from_millis(90)..=Duration::from_millis(101)).contains(&longest),
        "{longest:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn fault_18_a_post_that_may_have_been_served_is_not_sent_again() {
    assert_eq!(ours::attempts_when_broken(Method::POST).await, 1);
    assert_eq!(ours::attempts_when_broken(Method::GET).await, 3);
}
