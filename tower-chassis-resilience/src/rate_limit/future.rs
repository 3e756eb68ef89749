use std::{
    fmt,
    future::Future,
    hash::Hash,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_chassis_core::{Rejection, clock};
use tower_service::Service;

use super::{
    answer::{Answer, Tells},
    service::call,
    shared::{Held, Shared},
};
use crate::keyed::KeyOf;

pin_project! {
    /// The future of a [`RateLimit`](super::RateLimit).
    #[must_use = "futures do nothing unless polled"]
    pub struct RateLimitFuture<S, Req, F, K, J>
    where
        S: Service<Req>,
        J: Tells,
    {
        #[pin]
        state: State<S::Future, Waiting<S, Req, F, K>, J::Note>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, W, N> {
        Called { #[pin] inner: F, note: N },
        // Boxed: most calls do not wait, and a future is moved.
        Waiting { waiting: Pin<Box<W>>, note: N },
        Refused { rejection: Option<Box<Rejection>>, grpc: bool },
    }
}

impl<S: Service<Req>, Req, F, K, J: Tells> RateLimitFuture<S, Req, F, K, J> {
    #[inline]
    pub(super) const fn called(inner: S::Future, note: J::Note) -> Self {
        Self {
            state: State::Called { inner, note },
        }
    }

    pub(super) fn waiting(waiting: Waiting<S, Req, F, K>, note: J::Note) -> Self {
        Self {
            state: State::Waiting {
                waiting: Box::pin(waiting),
                note,
            },
        }
    }

    pub(super) const fn refused(rejection: Box<Rejection>, grpc: bool) -> Self {
        Self {
            state: State::Refused {
                rejection: Some(rejection),
                grpc,
            },
        }
    }
}

impl<S, Req, F, K, J> Future for RateLimitFuture<S, Req, F, K, J>
where
    S: Service<Req>,
    J: Answer<Req, S::Response, S::Error>,
{
    type Output = Result<J::Response, J::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Called { inner, note } => {
                    return Poll::Ready(match ready!(inner.poll(cx)) {
                        Ok(response) => Ok(J::response(response, mem::take(note))),
                        Err(error) => Err(J::error(error)),
                    });
                }
                StateProj::Waiting { waiting, note } => {
                    match ready!(waiting.as_mut().poll_call(cx)) {
                        Ok(Some(inner)) => State::Called {
                            inner,
                            note: mem::take(note),
                        },
                        Ok(None) => return Poll::Pending,
                        Err(error) => return Poll::Ready(Err(J::error(error))),
                    }
                }
                StateProj::Refused { rejection, grpc } => {
                    return match rejection.take() {
                        Some(rejection) => Poll::Ready(J::refused(*rejection, *grpc)),
                        None => Poll::Pending,
                    };
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Req>, Req, F, K, J: Tells> fmt::Debug for RateLimitFuture<S, Req, F, K, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } => "called",
            State::Waiting { .. } => "waiting",
            State::Refused { .. } => "refused",
        };
        f.debug_tuple("RateLimitFuture").field(&state).finish()
    }
}

pin_project! {
    /// A call that is made later. Dropped before, it gives its place up.
    pub(super) struct Waiting<S, Req, F, K> {
        #[pin]
        sleep: Sleep,
        awake: bool,
        call: Option<(S, Req)>,
        shared: Arc<Shared<F, K>>,
        held: Held,
        give_up: fn(&Shared<F, K>, &Req, Held),
    }

    impl<S, Req, F, K> PinnedDrop for Waiting<S, Req, F, K> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some((_, request)) = this.call {
                (this.give_up)(this.shared, request, *this.held);
            }
        }
    }
}

impl<S, Req, F, K> Waiting<S, Req, F, K> {
    pub(super) fn new(
        inner: S,
        request: Req,
        shared: Arc<Shared<F, K>>,
        held: Held,
        since: Instant,
        wait: u64,
    ) -> Self
    where
        F: KeyOf<Req, K>,
        K: Hash + Eq,
    {
        Self {
            sleep: sleep_until(since + Duration::from_nanos(wait)),
            awake: false,
            call: Some((inner, request)),
            shared,
            held,
            give_up: Shared::give_up,
        }
    }

    /// Makes the call when its time has come and the inner service is ready for it.
    fn poll_call(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<S::Future>, S::Error>>
    where
        S: Service<Req>,
    {
        let this = self.project();
        if !*this.awake {
            ready!(this.sleep.poll(cx));
            *this.awake = true;
        }
        if let Some((inner, _)) = this.call
            && let Err(error) = ready!(inner.poll_ready(cx))
        {
            *this.call = None;
            return Poll::Ready(Err(error));
        }
        let made = this.call.take();
        let made = made.map(|(mut inner, request)| call(&mut inner, request, Some(clock::now())));
        Poll::Ready(Ok(made))
    }
}
