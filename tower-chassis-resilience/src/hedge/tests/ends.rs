//! Calls that are dropped at every poll, and panics: what they held is free again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

/// Polls up to so many times.
struct Polls<F> {
    inner: Option<Pin<Box<F>>>,
    left: usize,
}

impl<F: Future> Future for Polls<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            self.inner = None;
            return Poll::Ready(None);
        }
        self.left -= 1;
        match &mut self.inner {
            Some(inner) => inner.as_mut().poll(cx).map(Some),
            None => Poll::Pending,
        }
    }
}

fn is_free(layer: &Layered) {
    let budget = layer.handle().budget();
    assert_eq!((budget.calls, budget.retries), (0, 0), "{budget:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_may_be_dropped_at_every_poll() {
    let policy = after_20().with(|config| {
        config.hedges = 3;
        config.on_failure = true;
    });
    let layer = layer(policy.unwrap());
    for plans in [
        vec![good(1_000), good(900), good(800), good(5)],
        vec![bad(5), bad(0), good(900), good(5)],
        vec![
            says(25, Verdict::grpc(14).with_retry_after(ms(30))),
            good(1_000),
            good(10),
        ],
    ] {
        for readies in [None, Some((ms(3), false))] {
            for left in 0.. {
                let mut upstream = Upstream::plans(plans.clone());
                upstream.readies = readies;
                let sent = layer.handle().sent();
                let inner = Some(Box::pin(send(&layer, &upstream, Ask::default())));
                let over = Polls { inner, left }.await;
                is_free(&layer);
                assert!(upstream.fates().iter().all(|fate| *fate != Fate::Running));
                let attempts = upstream.seen().len() as u64;
                assert_eq!(layer.handle().sent() - sent, attempts.saturating_sub(1));
                if over.is_some() {
                    assert!(left > 3, "{left}");
                    break;
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_drops_a_call_is_heard_by_all_attempts() {
    let (layer, upstream) = (layer(after_20()), Upstream::plans([good(1_000)]));
    let mut call = Box::pin(send(&layer, &upstream, Ask::default()));
    assert!(tokio::time::timeout(ms(30), &mut call).await.is_err());
    cause::drop_with(Verdict::TIMEOUT, || drop(call));
    assert_eq!(upstream.fates(), [Fate::Dropped(Some(Class::Timeout)); 2]);
    is_free(&layer);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_an_attempt_frees_all() {
    let panics = |after| Plan {
        after,
        says: Says::Panic,
    };
    for plans in [
        [panics(5), good(1)],
        [panics(30), good(50)],
        [good(50), panics(0)],
        [good(50), panics(5)],
    ] {
        let (layer, upstream) = (layer(after_20()), Upstream::plans(plans));
        let call = tokio::spawn({
            let (layer, upstream) = (layer.clone(), upstream.clone());
            async move { send(&layer, &upstream, Ask::default()).await }
        });
        assert!(call.await.unwrap_err().is_panic(), "{plans:?}");
        is_free(&layer);
        assert!(
            upstream.fates().iter().all(|fate| *fate != Fate::Running),
            "{plans:?}"
        );
    }
}

/// The `call` of the inner service panics: that of the first attempt, and that of a hedge.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_call_frees_all() {
    for panics_at in [0, 1] {
        let layer = layer(after_20());
        let upstream = Upstream::new(move |n| {
            assert!(n != panics_at, "planted");
            good(1_000)
        });
        let call = tokio::spawn({
            let (layer, upstream) = (layer.clone(), upstream.clone());
            async move { send(&layer, &upstream, Ask::default()).await }
        });
        assert!(call.await.unwrap_err().is_panic());
        is_free(&layer);
    }
}

/// A clone that panics does not end hedging for all others.
#[tokio::test(start_paused = true)]
async fn a_panic_of_a_clone_is_of_one_call() {
    struct Panics(Upstream, Arc<std::sync::atomic::AtomicUsize>);
    impl Clone for Panics {
        fn clone(&self) -> Self {
            let left = self.1.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
            assert!(left != 1, "planted");
            Self(self.0.clone(), Arc::clone(&self.1))
        }
    }
    impl Service<Ask> for Panics {
        type Response = Said;
        type Error = BoxError;
        type Future = <Upstream as Service<Ask>>::Future;
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            self.0.poll_ready(cx)
        }
        fn call(&mut self, ask: Ask) -> Self::Future {
            self.0.call(ask)
        }
    }
    let layer = layer(after_20());
    let upstream = Upstream::plans([good(1_000), good(5)]);
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(100));
    let mut service = layer.layer(Panics(upstream.clone(), Arc::clone(&left)));
    left.store(1, std::sync::atomic::Ordering::Relaxed);
    let mut call = async || {
        std::future::poll_fn(|cx| service.poll_ready(cx))
            .await
            .unwrap();
        let mut call = Box::pin(service.call(Ask::default()));
        std::future::poll_fn(
            |cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(result)) => Poll::Ready(Some(result.unwrap().attempt)),
                Err(_) => Poll::Ready(None),
            },
        )
        .await
    };
    assert_eq!(call().await, None);
    upstream.seen.lock().unwrap().clear();
    left.store(100, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(call().await, Some(1));
    is_free(&layer);
}
