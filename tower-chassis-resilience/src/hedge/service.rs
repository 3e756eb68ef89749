use std::{
    fmt,
    hash::Hash,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower_chassis_core::{
    Carrier, Deadline, Invocation, clock,
    striped::Striped,
    verdict::{Auto, Classify},
};
use tower_service::Service;

use super::{
    HedgeFuture,
    copies::Copies,
    future::Call,
    latency::NEVER,
    layer::{Keys, Shared},
    race::Race,
    timed::Timed,
};
use crate::{
    keyed::{KeyOf, One},
    retry::{Buffered, Replay, attempt},
};

/// The service of [`HedgeLayer`](super::HedgeLayer).
pub struct Hedge<S, R = Buffered, C = Auto, F = One, K = ()> {
    pub(super) inner: S,
    pub(super) shared: Striped<Shared<S>>,
    pub(super) keys: Arc<Keys<F, K>>,
    pub(super) replay: R,
    pub(super) classify: C,
}

impl<S: Clone, R: Clone, C: Clone, F, K> Clone for Hedge<S, R, C, F, K> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
            keys: Arc::clone(&self.keys),
            replay: self.replay.clone(),
            classify: self.classify.clone(),
        }
    }
}

impl<S: fmt::Debug, R, C, F, K> fmt::Debug for Hedge<S, R, C, F, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, R, C, F, K, Req> Service<Req> for Hedge<S, R, C, F, K>
where
    Req: Carrier,
    R: Replay<Req>,
    S: Service<R::Request> + Clone,
    S::Error: 'static,
    C: Classify<S::Response, S::Error>,
    F: KeyOf<Req, K>,
    K: Hash + Eq,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = HedgeFuture<S, R, C, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Req) -> Self::Future {
        let state = &*self.shared.state;
        let hedges = state.hedges();
        if hedges == 0 || !request.is_idempotent() {
            attempt::tell_served(&mut request);
            let future = self.inner.call(self.replay.once(request));
            return HedgeFuture::new(future, None, self.classify.clone());
        }
        // A guard and no closure, so that the future is made where the caller wants it.
        let entered = clock::enter();
        let now = entered.now();
        let invocation = request.invocation();
        let deadline = invocation.and_then(Invocation::deadline);
        let first = invocation.map_or(1, Invocation::attempt);
        let serves = invocation.map_or(1, Invocation::caller_attempt);
        attempt::tell(&mut request, serves);
        let fixed = state.fixed();
        let record = match fixed {
            Some(_) => None,
            None => self.keys.record(&request, now),
        };
        let delay =
            fixed.unwrap_or_else(|| state.measured(record.as_deref().unwrap_or(&state.one), now));
        let in_time = |deadline: Deadline| {
            let left = deadline.remaining(now);
            left.is_some_and(|left| left > Duration::from_nanos(delay))
        };
        let hedged = delay != NEVER && state.is_on() && deadline.is_none_or(in_time);
        if !hedged && fixed.is_some() {
            let future = self.inner.call(self.replay.once(request));
            return HedgeFuture::new(future, None, self.classify.clone());
        }
        let delay = if hedged { delay } else { NEVER };
        let timed = Timed::new(self.shared.hold(), record, now, delay, fixed.is_none());
        let race = Race::new(if hedged { hedges } else { 0 }, state.on_failure());
        let copies = Copies::new(self.replay.clone(), first, serves);
        let mut call = Call::new(timed, copies, race, deadline);
        // The attempts of a retry around it are no calls of their own.
        let funded = call.pay(first == 1 && !state.setup().draws_only, now);
        let request = if hedged {
            call.split(request, funded, now)
        } else {
            self.replay.once(request)
        };
        HedgeFuture::new(self.inner.call(request), Some(call), self.classify.clone())
    }
}
