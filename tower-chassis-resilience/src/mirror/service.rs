use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{BoxError, Carrier};
use tower_service::Service;

use super::{
    is_shadow,
    shared::{Leash, Owner},
    tap::{Discard, Start, Tap, Tee},
    task::Errand,
};
use crate::dice;

/// The service of [`MirrorLayer`](super::MirrorLayer).
pub struct Mirror<S, M, T = Tee> {
    inner: S,
    shadow: Arc<M>,
    tap: T,
    owner: Arc<Owner>,
}

impl<S, M, T> Mirror<S, M, T> {
    pub(super) const fn new(inner: S, shadow: Arc<M>, tap: T, owner: Arc<Owner>) -> Self {
        Self {
            inner,
            shadow,
            tap,
            owner,
        }
    }
}

impl<S: Clone, M, T: Clone> Clone for Mirror<S, M, T> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shadow: Arc::clone(&self.shadow),
            tap: self.tap.clone(),
            owner: Arc::clone(&self.owner),
        }
    }
}

impl<S: fmt::Debug, M, T> fmt::Debug for Mirror<S, M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror")
            .field("name", &self.owner.core.setup.name)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, M, T, Req> Service<Req> for Mirror<S, M, T>
where
    Req: Carrier,
    S: Service<T::Request>,
    T: Tap<Req> + Discard<M::Response>,
    M: Service<T::Copy> + Clone + Send + Sync + 'static,
    M::Future: Send,
    M::Response: Send,
    M::Error: Into<BoxError> + Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = MirrorFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let core = &self.owner.core;
        let share = core.share();
        // Of a copy no copy is made.
        if share == 0 || is_shadow(&request) {
            return MirrorFuture::alone(self.inner.call(self.tap.plain(request)));
        }
        let roll = match dice::id_of(&request) {
            Some(id) => core.die().roll(id.as_bytes()),
            None => core.die().roll(&core.turn().to_le_bytes()),
        };
        let Some(permit) = roll.hits(share).then(|| core.enter()).flatten() else {
            return MirrorFuture::alone(self.inner.call(self.tap.plain(request)));
        };
        let policy = core.live.load();
        let config = policy.config();
        let (limit, leashed) = (config.body_limit, config.cancel_with_primary);
        let leash = leashed.then(Arc::<Leash>::default);
        let errand = Errand {
            shadow: Arc::clone(&self.shadow),
            policy,
            permit,
            leash: leash.clone(),
        };
        let start = Start::new(move |copy| errand.run::<T, Req>(copy));
        let request = self.tap.tap(request, limit, start);
        MirrorFuture {
            inner: self.inner.call(request),
            leash,
        }
    }
}

pin_project! {
    /// The future of [`Mirror`]: that of the service itself, and a word.
    #[must_use = "futures do nothing unless polled"]
    pub struct MirrorFuture<F> {
        #[pin]
        inner: F,
        // None once the call is over, or where its end says nothing to the copy.
        leash: Option<Arc<Leash>>,
    }

    impl<F> PinnedDrop for MirrorFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(leash) = this.project().leash.take() {
                leash.cut();
            }
        }
    }
}

impl<F> MirrorFuture<F> {
    const fn alone(inner: F) -> Self {
        Self { inner, leash: None }
    }
}

impl<F: Future> Future for MirrorFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let output = ready!(this.inner.poll(cx));
        *this.leash = None;
        Poll::Ready(output)
    }
}

impl<F: fmt::Debug> fmt::Debug for MirrorFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MirrorFuture").field(&self.inner).finish()
    }
}
