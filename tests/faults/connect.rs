//! 13: many wait for one connection.
//!
//! There is no layer here that reconnects: a connection is made where it is needed, by the pool of a client, and what is waited
//! for is the readiness of an endpoint. So ours is what callers share above it, over endpoints whose clones share
//! one connect.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::OnceCell, time::sleep};
use tower::Service;

use crate::{
    ours,
    plain::{Ask, Failed, Plain, Said, Subject, call},
    script::Script,
};

/// How long it takes to connect.
pub const CONNECT: Duration = Duration::from_millis(50);

/// Of five callers, how many are not served although what they wait for was there long ago.
pub async fn hanging<S: Subject>(service: S) -> usize {
    let callers = [(); 5].map(|()| tokio::spawn(call(service.clone(), "/")));
    // Not by a timeout for each: it would poll the call once more.
    sleep(20 * CONNECT).await;
    let mut hanging = 0;
    for caller in callers {
        if caller.is_finished() {
            assert!(caller.await.unwrap().is_ok());
        } else {
            hanging += 1;
            caller.abort();
        }
    }
    hanging
}

/// Is ready once it is connected. Clones have one connection, that whoever comes first makes.
pub struct Connecting {
    inner: Plain,
    connection: Arc<OnceCell<()>>,
    made: Arc<AtomicUsize>,
    waits: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

impl Connecting {
    fn new(script: &Script) -> Self {
        Self {
            inner: Plain::new(script),
            connection: Arc::default(),
            made: Arc::default(),
            waits: None,
        }
    }
}

impl Clone for Connecting {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            connection: Arc::clone(&self.connection),
            made: Arc::clone(&self.made),
            waits: None,
        }
    }
}

impl fmt::Debug for Connecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connecting").finish_non_exhaustive()
    }
}

impl Service<Ask> for Connecting {
    type Response = Said;
    type Error = Failed;
    type Future = <Plain as Service<Ask>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        if self.connection.initialized() {
            return Poll::Ready(Ok(()));
        }
        let waits = self.waits.get_or_insert_with(|| {
            let (connection, made) = (Arc::clone(&self.connection), Arc::clone(&self.made));
            Box::pin(async move {
                let connect = || async {
                    sleep(CONNECT).await;
                    made.fetch_add(1, SeqCst);
                };
                connection.get_or_init(connect).await;
            })
        });
        std::task::ready!(waits.as_mut().poll(cx));
        self.waits = None;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, ask: Ask) -> Self::Future {
        assert!(self.connection.initialized());
        self.inner.call(ask)
    }
}

/// Callers of a balancer that hang, of five.
pub async fn ours_hanging() -> usize {
    let connecting = Connecting::new(&Script::default());
    let made = Arc::clone(&connecting.made);
    let hanging = hanging(ours::balanced(move |_| connecting.clone())).await;
    assert_eq!(made.load(SeqCst), 1);
    hanging
}

#[cfg(test)]
mod tests {
    use tower::Layer;
    use tower_chassis::{
        adaptive::{AdaptiveLayer, AdaptivePolicy},
        breaker::{BreakerLayer, BreakerPolicy},
        bulkhead::{BulkheadLayer, BulkheadPolicy},
        coalesce::{CoalesceLayer, CoalescePolicy},
        hedge::{HedgeLayer, HedgePolicy},
        retry::{RetryLayer, RetryPolicy},
    };

    use super::*;
    use crate::coalesce::path;

    #[tokio::test(start_paused = true)]
    async fn fault_13_all_that_wait_for_an_endpoint_are_woken() {
        assert_eq!(ours_hanging().await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_13_all_that_wait_behind_a_layer_are_woken() {
        let connecting = || Connecting::new(&Script::default());
        // All five wait for the connection, then three of them for a permit.
        let queue = BulkheadPolicy::new(2).unwrap().with(|it| it.queue = 3);
        let bulkhead = BulkheadLayer::new(queue.unwrap());
        assert_eq!(hanging(bulkhead.layer(connecting())).await, 0);
        let adaptive = AdaptiveLayer::new(AdaptivePolicy::default());
        assert_eq!(hanging(adaptive.layer(connecting())).await, 0);
        let breaker = BreakerLayer::new(BreakerPolicy::default());
        assert_eq!(hanging(breaker.layer(connecting())).await, 0);
        let retry = RetryLayer::new(RetryPolicy::default()).clone_body();
        assert_eq!(hanging(retry.layer(connecting())).await, 0);
        let hedge = HedgeLayer::new(HedgePolicy::after(CONNECT / 5).unwrap());
        assert_eq!(hanging(hedge.clone_body().layer(connecting())).await, 0);
        let coalesce = CoalesceLayer::new(CoalescePolicy::default(), path);
        assert_eq!(hanging(coalesce.layer(connecting())).await, 0);
    }
}
