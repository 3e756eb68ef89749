use crate::ours;

#[tokio::test(start_paused = true)]
async fn fault_27_one_breaker_layer_over_two_services_is_one_breaker() {
    assert!(ours::a_breaker_opens_for_both().await);
}

#[tokio::test(start_paused = true)]
async fn fault_27_one_rate_limit_over_five_services_is_one_rate() {
    assert_eq!(ours::passed_by_a_rate().await, 2);
}
