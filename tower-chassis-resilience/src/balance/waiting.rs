use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    sync::futures::OwnedNotified,
    time::{Instant, Sleep, sleep},
};
use tower_chassis_core::{Carrier, Rejection};
use tower_service::Service;

use super::{
    future::Attempt,
    pick::{Pick, Rng},
    service::Shared,
    snapshot::Plan,
};

/// How many endpoints a call waits for at most.
const TOGETHER: usize = 3;

/// A call whose endpoint was not ready. It waits for up to three, and for a change of the set.
pub(super) struct Waiting<S, P: Pick> {
    /// The one chosen first is in front.
    awaited: Vec<Attempt<S>>,
    /// Nothing once every balancer is gone: then the set does not change any more.
    set: Option<(Arc<Shared<S, P>>, Pin<Box<OwnedNotified>>)>,
    /// Ends when a gate opens, if too few endpoints are awaited because theirs are shut.
    opening: Option<Pin<Box<Sleep>>>,
    /// Not polled yet.
    fresh: bool,
}

/// How waiting ended.
pub(super) enum Turn<S, E> {
    Ready(Attempt<S>, Result<(), E>),
    Refused(Rejection),
}

impl<S, P> Waiting<S, P>
where
    S: Clone + Send + Sync + 'static,
    P: Pick,
{
    /// A call whose first choice was just polled, and pending.
    pub(super) fn new(first: Attempt<S>) -> Self {
        let set = first
            .ticket
            .state
            .set
            .upgrade()
            .and_then(|set| set.downcast::<Shared<S, P>>().ok());
        // Listening begins here, before the set is read: a change in between is heard.
        let set = set.map(|set| {
            let changed = Box::pin(Arc::clone(&set.changed).notified_owned());
            (set, changed)
        });
        Self {
            awaited: vec![first],
            set,
            opening: None,
            fresh: true,
        }
    }

    pub(super) fn poll<Req>(
        &mut self,
        cx: &mut Context<'_>,
        request: Option<&Req>,
    ) -> Poll<Turn<S, S::Error>>
    where
        Req: Carrier,
        S: Service<Req>,
    {
        let call = request.and_then(Carrier::invocation);
        // The first choice has its waker already.
        let polled = usize::from(std::mem::take(&mut self.fresh));
        let mut look = self.news(cx) || polled > 0;
        if look {
            self.retire();
        }
        for index in polled.min(self.awaited.len())..self.awaited.len() {
            if let Poll::Ready(outcome) = self.awaited[index].service.poll_ready(cx) {
                return Poll::Ready(self.end(index, outcome));
            }
        }
        while look {
            let Some((set, _)) = &self.set else { break };
            let (snapshot, now) = (set.load(), Instant::now());
            let picker = &set.picker.0;
            let hash = request.and_then(|request| picker.hash(request));
            // After news also where three are awaited: what came may be better than what is stuck.
            for _ in 0..TOGETHER.saturating_sub(self.awaited.len()).max(1) {
                let keys: Vec<u64> = self
                    .awaited
                    .iter()
                    .map(|attempt| attempt.ticket.state.key)
                    .collect();
                let with = (picker, &snapshot.table);
                let index = snapshot
                    .plan
                    .choose(with, hash, call, &keys, now, &mut Rng::new());
                let Some(attempt) =
                    index.and_then(|index| Attempt::new(&snapshot, index, call, now))
                else {
                    break;
                };
                self.awaited.push(attempt);
                let last = self.awaited.len() - 1;
                if let Poll::Ready(outcome) = self.awaited[last].service.poll_ready(cx) {
                    return Poll::Ready(self.end(last, outcome));
                }
            }
            if self.awaited.len() > TOGETHER {
                self.awaited.remove(0);
            }
            if self.awaited.is_empty() {
                return Poll::Ready(Turn::Refused(
                    set.about.refused(snapshot.plan.refusal(call, now)),
                ));
            }
            look = self.await_gate(&snapshot.plan, now, cx);
        }
        Poll::Pending
    }

    /// Whether the set changed or a gate opened. Listens on for the next change.
    fn news(&mut self, cx: &mut Context<'_>) -> bool {
        let mut news = false;
        if let Some((set, changed)) = &mut self.set {
            while changed.as_mut().poll(cx).is_ready() {
                changed.set(Arc::clone(&set.changed).notified_owned());
                news = true;
            }
        }
        if self
            .opening
            .as_mut()
            .is_some_and(|opening| opening.as_mut().poll(cx).is_ready())
        {
            self.opening = None;
            news = true;
        }
        news
    }

    /// Waits no longer for endpoints that went away or moved.
    fn retire(&mut self) {
        if let Some((set, _)) = &self.set {
            let snapshot = set.load();
            self.awaited
                .retain(|a| snapshot.plan.find(&a.ticket.state, a.build).is_some());
        }
    }

    /// Sets the alarm for the next gate that opens. Whether that is now.
    fn await_gate(&mut self, plan: &Plan, now: Instant, cx: &mut Context<'_>) -> bool {
        self.opening = None;
        if self.awaited.len() < TOGETHER {
            self.opening = plan.opens_in(None, now).map(|wait| Box::pin(sleep(wait)));
        }
        self.opening
            .as_mut()
            .is_some_and(|opening| opening.as_mut().poll(cx).is_ready())
    }

    /// One is ready: the others let go of what they reserved, and nothing is held against them.
    fn end<E>(&mut self, index: usize, outcome: Result<(), E>) -> Turn<S, E> {
        let winner = self.awaited.swap_remove(index);
        self.awaited.clear();
        Turn::Ready(winner, outcome)
    }
}

impl<S, P: Pick> Drop for Waiting<S, P> {
    fn drop(&mut self) {
        if !self.awaited.is_empty() {
            let now = Instant::now();
            for attempt in self.awaited.drain(..) {
                attempt.ticket.give_up(now);
            }
        }
    }
}
