use std::{
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_chassis_core::{Rejection, boxed::BoxFuture, clock, refusal::Fail};
use tower_service::Service;

use super::{
    super::{answer::Answer, cost::CostOf},
    Store, StoreKey,
    account::Decision,
    layer::{Shared, State as Common},
};
use crate::keyed::KeyOf;

/// The service of a [`RemoteRateLimitLayer`](super::RemoteRateLimitLayer).
pub struct RemoteRateLimit<S, St, F, K, J = Fail> {
    inner: S,
    shared: Arc<Shared<St, F, K>>,
    answer: J,
}

impl<S, St, F, K, J> RemoteRateLimit<S, St, F, K, J> {
    pub(super) const fn new(inner: S, shared: Arc<Shared<St, F, K>>, answer: J) -> Self {
        Self {
            inner,
            shared,
            answer,
        }
    }
}

impl<S: Clone, St, F, K, J: Clone> Clone for RemoteRateLimit<S, St, F, K, J> {
    fn clone(&self) -> Self {
        Self::new(
            self.inner.clone(),
            Arc::clone(&self.shared),
            self.answer.clone(),
        )
    }
}

impl<S: fmt::Debug, St, F, K, J> fmt::Debug for RemoteRateLimit<S, St, F, K, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteRateLimit")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, St, F, K, J, Req> Service<Req> for RemoteRateLimit<S, St, F, K, J>
where
    S: Service<Req> + Clone,
    St: Store,
    F: KeyOf<Req, K> + CostOf<Req> + Send + Sync + 'static,
    K: Hash + Eq + StoreKey + Send + 'static,
    J: Answer<Req, S::Response, S::Error>,
{
    type Response = J::Response;
    type Error = J::Error;
    type Future = RemoteRateLimitFuture<S, Req, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), J::Error>> {
        self.inner.poll_ready(cx).map_err(J::error)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let grpc = J::is_grpc(&request);
        let state = clock::entered(|now| {
            let shared = &self.shared;
            let (cost, seat) = (shared.key.cost_of(&request), shared.account(&request, now));
            match shared.decide(&seat, cost, shared.state().since(now)) {
                Decision::Go => State::Called {
                    inner: self.inner.call(request),
                },
                Decision::Refuse(wait) => {
                    let rejection = Some(Box::new(shared.state().refuse(wait, cost)));
                    // Who is refused does not hold what the inner service has reserved.
                    self.inner = self.inner.clone();
                    State::Refused { rejection }
                }
                Decision::Ask => {
                    let asked = Arc::clone(shared).ask(seat, shared.name(&request), cost);
                    // Who asks does not hold what the inner service has reserved.
                    let later = self.inner.clone();
                    self.inner = self.inner.clone();
                    State::Asking {
                        asking: Some(Box::new(Asking {
                            asked: Box::pin(asked),
                            call: Some((later, request)),
                            common: Arc::clone(self.shared.state()),
                            cost,
                            go: false,
                        })),
                    }
                }
            }
        });
        RemoteRateLimitFuture {
            state,
            answer: self.answer.clone(),
            grpc,
        }
    }
}

pin_project! {
    /// The future of a [`RemoteRateLimit`].
    #[must_use = "futures do nothing unless polled"]
    pub struct RemoteRateLimitFuture<S, Req, J>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S::Future, Asking<S, Req>>,
        answer: J,
        grpc: bool,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, A> {
        Called { #[pin] inner: F },
        Asking { asking: Option<Box<A>> },
        Refused { rejection: Option<Box<Rejection>> },
    }
}

/// A call that waits for the store, and then for the inner service.
struct Asking<S, Req> {
    asked: BoxFuture<'static, Decision>,
    call: Option<(S, Req)>,
    common: Arc<Common>,
    cost: u32,
    go: bool,
}

impl<S, Req, J> Future for RemoteRateLimitFuture<S, Req, J>
where
    S: Service<Req>,
    J: Answer<Req, S::Response, S::Error>,
{
    type Output = Result<J::Response, J::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut state = this.state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Called { inner } => {
                    return Poll::Ready(match ready!(inner.poll(cx)) {
                        Ok(response) => Ok(J::response(response, Default::default())),
                        Err(error) => Err(J::error(error)),
                    });
                }
                StateProj::Asking { asking } => {
                    let Some(call) = asking else {
                        return Poll::Pending;
                    };
                    if !call.go {
                        match ready!(call.asked.as_mut().poll(cx)) {
                            Decision::Refuse(wait) => {
                                let rejection = call.common.refuse(wait, call.cost);
                                state.set(State::Refused {
                                    rejection: Some(Box::new(rejection)),
                                });
                                continue;
                            }
                            _ => call.go = true,
                        }
                    }
                    if let Some((inner, _)) = &mut call.call
                        && let Err(error) = ready!(inner.poll_ready(cx))
                    {
                        state.set(State::Refused { rejection: None });
                        return Poll::Ready(Err(J::error(error)));
                    }
                    let Some((mut inner, request)) = call.call.take() else {
                        return Poll::Pending;
                    };
                    State::Called {
                        inner: clock::entered(|_| inner.call(request)),
                    }
                }
                StateProj::Refused { rejection } => {
                    return match rejection.take() {
                        Some(rejection) => Poll::Ready(J::refused(*rejection, *this.grpc)),
                        None => Poll::Pending,
                    };
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Req>, Req, J> fmt::Debug for RemoteRateLimitFuture<S, Req, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } => "called",
            State::Asking { .. } => "asking",
            State::Refused { .. } => "refused",
        };
        f.debug_tuple("RemoteRateLimitFuture")
            .field(&state)
            .finish()
    }
}
