//! What a call through a hedge allocates: nothing of its own, but for a hedge.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::Extensions;
use tower::{Layer, Service, service_fn};
use tower_chassis_core::{BoxError, Carrier, verdict::Outcome};
use tower_chassis_resilience::hedge::{HedgeLayer, HedgePolicy};

use super::made;

#[derive(Clone, Default)]
struct Ask(Extensions);

impl Carrier for Ask {
    fn extensions(&self) -> &Extensions {
        &self.0
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.0
    }
    fn is_idempotent(&self) -> bool {
        true
    }
}

struct Said;
impl Outcome for Said {}

async fn answer(_: Ask) -> Result<Said, BoxError> {
    // Polled twice.
    let mut polled = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut polled, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    Ok(Said)
}

#[tokio::test]
async fn a_call_in_time_allocates_nothing() {
    let fixed = HedgePolicy::after(Duration::from_secs(10)).unwrap();
    for policy in [fixed, HedgePolicy::default()] {
        let layer = HedgeLayer::new(policy).clone_body().untracked();
        let mut service = layer.layer(service_fn(answer));
        let mut cx = Context::from_waker(Waker::noop());
        for n in 0..200 {
            let before = made();
            assert!(matches!(service.poll_ready(&mut cx), Poll::Ready(Ok(()))));
            let mut call = pin!(service.call(Ask::default()));
            while call.as_mut().poll(&mut cx).is_pending() {}
            // The first timer of a thread makes its wheel.
            assert!(made() == before || n == 0, "{n}: {}", made() - before);
        }
    }
}
