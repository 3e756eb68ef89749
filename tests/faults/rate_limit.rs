use std::time::Duration;

use tokio::time::advance;
use tower::Layer;
use tower_chassis::Rejection;

use crate::{ours, scenario, script::Script};

#[tokio::test(start_paused = true)]
async fn fault_19_a_call_that_has_no_chance_is_refused_at_once() {
    let (took, refused) = ours::refusal().await;
    assert_eq!(took, Duration::ZERO);
    let rejection = Rejection::find(&*refused).unwrap();
    assert!(rejection.is_rate_limited());
    assert_eq!(rejection.retry_after(), Some(Duration::from_secs(60)));
}

#[tokio::test(start_paused = true)]
async fn fault_19_what_a_refusal_says_of_when_to_come_back_is_exact() {
    let script = Script::default();
    let mut service = ours::one_a_minute().layer(script.clone());
    assert!(scenario::passes(&mut service, &script).await);
    for (step, left) in [(0, 60), (20, 40), (39, 1)] {
        advance(Duration::from_secs(step)).await;
        let refused = scenario::call(&mut service).await.unwrap_err();
        let after = Rejection::find(&*refused).unwrap().retry_after();
        assert_eq!(after, Some(Duration::from_secs(left)));
    }
    advance(Duration::from_nanos(999_999_999)).await;
    assert!(!scenario::passes(&mut service, &script).await);
    advance(Duration::from_nanos(1)).await;
    assert!(scenario::passes(&mut service, &script).await);
}
