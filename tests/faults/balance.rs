use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Request;
use tower::{Service, limit::ConcurrencyLimit};
use tower_chassis::BoxError;

use crate::{
    ours,
    scenario::{self, Res},
    script::Script,
};

#[tokio::test(start_paused = true)]
async fn fault_21_an_idle_clone_keeps_no_endpoint_from_others() {
    assert_eq!(ours::served_beside_an_idle_clone().await, 10);
}

#[derive(Clone)]
struct MaybeDead(ConcurrencyLimit<Script>, Arc<bool>);

impl<B: Send + 'static> Service<Request<B>> for MaybeDead {
    type Response = Res;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Res, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if *self.1 {
            return Poll::Pending;
        }
        Service::<Request<B>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.0.call(request))
    }
}

#[tokio::test(start_paused = true)]
async fn fault_21_one_endpoint_that_is_never_ready_stops_nobody() {
    let script = Script::default();
    let inner = ConcurrencyLimit::new(script.clone(), 1);
    let service = ours::balanced(move |number| MaybeDead(inner.clone(), Arc::new(number == 0)));
    assert_eq!(scenario::served_beside_an_idle_clone(service, 10).await, 10);
    assert_eq!(script.calls(), 10);
}
