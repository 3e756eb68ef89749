//! The request of each attempt.

use std::time::Duration;

use tokio::time::Instant;
use tower_chassis_core::{Carrier, Invocation, invocation::RouteSlot};

use super::state::State;
use crate::{
    deadline::dialect,
    retry::{Replay, attempt},
};

/// Makes the requests of the attempts after the first.
pub(super) struct Copies<R: Replay<Req>, Req> {
    replay: R,
    /// What they are made of; `None` if there are none.
    source: Option<R::Source>,
    /// What attempts share of the invocation that was made here.
    made: Option<RouteSlot>,
    /// The number that the first attempt came with: above 1 under a retry.
    first: u32,
    /// The attempt of the caller that it serves.
    serves: u32,
}

impl<R: Replay<Req>, Req: Carrier> Copies<R, Req> {
    pub(super) const fn new(replay: R, first: u32, serves: u32) -> Self {
        Self {
            replay,
            source: None,
            made: None,
            first,
            serves,
        }
    }

    /// The request of a first attempt that is the only one.
    pub(super) fn once(&self, request: Req) -> R::Request {
        self.replay.once(request)
    }

    /// The request of the first attempt. An invocation is made after the copy, which need not copy it.
    pub(super) fn split(&mut self, request: Req, now: Instant, state: &State) -> R::Request {
        let (mut request, source) = self.replay.split(request, state.body_limit(), true);
        if source.is_some() && !state.setup().untracked && request.invocation().is_none() {
            let invocation = Invocation::new(now);
            self.made = Some(invocation.route_slot());
            request.extensions_mut().insert(invocation);
        }
        self.source = source;
        request
    }
}

impl<R: Replay<Req>, Req> Copies<R, Req> {
    /// Whether there can be any.
    pub(super) const fn is_possible(&self) -> bool {
        self.source.is_some()
    }

    /// The request of one more attempt after `before` of them; `None` if its body is not all there (yet).
    ///
    /// So much is `left` until the deadline.
    pub(super) fn again(
        &mut self,
        before: u32,
        last: bool,
        left: Option<Duration>,
    ) -> Option<R::Request> {
        let mut request = self.replay.again(self.source.as_mut()?, last)?;
        if let Some(slot) = &self.made {
            let invocation = Invocation::again(slot);
            request.extensions_mut().insert(invocation);
        }
        if let Some(left) = left {
            dialect::shorten(&mut request, left);
        }
        let number = self.first.saturating_add(before);
        if let Some(invocation) = request.extensions_mut().get_mut::<Invocation>() {
            invocation.set_attempt(number);
        }
        // So that the service below does not multiply attempts by its own.
        attempt::tell(&mut request, number.max(self.serves));
        // gRPC A6.
        if request.is_grpc() {
            request.set_meta("grpc-previous-rpc-attempts", before.to_string().into());
        }
        Some(request)
    }
}
