//! What a layer, its services, their calls and its handles share.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tokio::time::Instant;
use tower_chassis_core::{
    Class, Events, Kind, Live, Rejection, Verdict, cause, clock,
    events::Event,
    settle::Observe,
    striped::{self, here},
};

use super::{
    AdaptivePolicy,
    limit::{Change, Controller, Meter, Nanos},
};
use crate::bulkhead::{
    permits::{Comer, Entry, Permits},
    queue::Place,
};

/// One limit.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) permits: Permits,
    pub(super) meter: Meter,
    made: Instant,
    /// Whether it is one of many under the same name.
    keyed: bool,
    pub(super) common: Arc<Common>,
}

/// What the limits of all keys have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) live: Live<AdaptivePolicy>,
    pub(super) setup: Setup,
}

/// What is settled before the first call.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: Arc<str>,
    pub(super) events: Events,
    pub(super) seed: Option<u64>,
}

/// How a call begins.
pub(super) enum Turn {
    Now(Ticket),
    Wait(Waiter),
    Refused(Rejection),
}

/// How an end counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Weight {
    Answered,
    Overloaded,
    GivenUp,
    Nothing,
}

impl Weight {
    /// Of the answers only those count that took the service its usual work; a refusal inside is none of it.
    fn of(verdict: Verdict) -> Self {
        match verdict.class() {
            Class::Success => Self::Answered,
            Class::Timeout | Class::RateLimited => Self::Overloaded,
            Class::Failure
                if verdict.http_status().is_some_and(|status| status == 503)
                    || verdict.grpc_code() == Some(14) =>
            {
                Self::Overloaded
            }
            Class::Cancelled => Self::GivenUp,
            _ => Self::Nothing,
        }
    }
}

impl Shared {
    pub(super) fn new(live: Live<AdaptivePolicy>, setup: Setup) -> Arc<Self> {
        let common = Arc::new(Common { live, setup });
        let shared = Self::with(&common, striped::stripes(), false);
        let live = &shared.common.live;
        live.bind(&shared, Self::apply);
        let Setup { name, events, .. } = &shared.common.setup;
        let limit = |shared: &Self| f64::from(shared.permits.limit());
        events.gauge(
            "chassis_concurrency_limit",
            Arc::clone(name),
            &shared,
            limit,
        );
        shared
    }

    /// A limit for one key more. Whoever keeps it [applies](Self::apply) what changes from now on.
    pub(super) fn for_key(&self) -> Arc<Self> {
        Self::with(&self.common, 1, true)
    }

    fn with(common: &Arc<Common>, stripes: usize, keyed: bool) -> Arc<Self> {
        let policy = common.live.load();
        let config = policy.config();
        let seed = common.setup.seed.unwrap_or_else(|| fastrand::u64(..));
        let meter = Meter::new(Controller::new(config.settings(), seed));
        let limit = meter.limit();
        Arc::new(Self {
            permits: Permits::new(limit, config.places(limit), stripes),
            meter,
            made: clock::now(),
            keyed,
            common: Arc::clone(common),
        })
    }

    /// The same settings with a limit of its own.
    pub(super) fn fresh(&self) -> Arc<Self> {
        self.fresh_with(|_| {})
    }

    /// As [`fresh`](Self::fresh), with a change.
    pub(super) fn fresh_with(&self, change: impl FnOnce(&mut Setup)) -> Arc<Self> {
        let mut setup = self.common.setup.clone();
        change(&mut setup);
        Self::new(self.common.live.clone(), setup)
    }

    /// Puts other settings in force.
    pub(super) fn apply(&self, policy: &AdaptivePolicy) {
        let settings = policy.config().settings();
        let change = self.meter.with(|control| control.apply(settings));
        self.push();
        self.report(change);
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.common.setup.name
    }

    pub(super) fn nanos(&self, at: Instant) -> Nanos {
        at.saturating_duration_since(self.made).as_nanos() as Nanos
    }

    /// Takes a permit, or a place in the queue. `measured` is the time, of a call that is measured.
    #[inline]
    pub(super) fn enter(self: Arc<Self>, measured: Option<Instant>) -> Turn {
        let now = || measured.unwrap_or_else(clock::now);
        let comer = || Comer {
            now: now(),
            deadline: None,
            discipline: self.common.live.load().config().discipline(),
        };
        match self.permits.enter(here(), comer) {
            Entry::Permit => Turn::Now(match measured {
                Some(now) => Ticket::new(self, now),
                None => Ticket::unmeasured(self),
            }),
            Entry::Queued(place, until) => {
                self.full(now());
                Turn::Wait(Waiter {
                    shared: self,
                    place: Some(place),
                    until,
                })
            }
            Entry::Full | Entry::Late => {
                self.full(now());
                Turn::Refused(self.refuse())
            }
        }
    }

    /// Whether a call would begin at once.
    pub(super) fn is_free(&self) -> bool {
        self.permits.any(here())
    }

    /// Whether no call is in flight and none waits.
    pub(super) fn is_unused(&self) -> bool {
        self.permits.in_use() == 0 && self.permits.queued() == 0
    }

    /// Whether somebody forced the limit, which is in force still.
    pub(super) fn is_forced(&self, now: Nanos) -> bool {
        let forced = self.meter.with(|control| control.forced());
        forced.is_some_and(|(_, until)| now < until)
    }

    /// Somebody found no permit.
    #[cold]
    fn full(&self, now: Instant) {
        self.meter.used(self.permits.limit());
        self.meter.measure_all();
        let now = self.nanos(now);
        // A call that never ends must not keep a forced limit in force.
        if self.meter.is_due(now) {
            self.turn(now);
        }
    }

    #[cold]
    fn turn(&self, now: Nanos) {
        self.meter.turn(now, |change| {
            self.push();
            self.report(Some(change));
        });
    }

    /// Puts the limit in force that is to be. Whoever is the last to do so looks again: of two at once, the older
    /// does not stay.
    pub(super) fn push(&self) {
        loop {
            let limit = self.meter.limit();
            let places = self.common.live.load().config().places(limit);
            self.permits.apply(limit, places, here(), clock::now);
            if self.meter.limit() == limit {
                return;
            }
        }
    }

    pub(super) fn report(&self, change: Option<Change>) {
        // The limits of many keys have no common value.
        if let Some(Change { limit, reason }) = change
            && !self.keyed
        {
            let Setup { name, events, .. } = &self.common.setup;
            events.emit(|| Event::limit(Arc::clone(name), limit, reason.as_str()));
        }
    }

    #[cold]
    fn refuse(&self) -> Rejection {
        let Setup { name, events, .. } = &self.common.setup;
        events.emit(|| Event::refused_by("adaptive", Arc::clone(name), Kind::Overloaded));
        Rejection::new(Kind::Overloaded, "adaptive")
    }

    fn ended(&self, weight: Weight, began: Nanos, now: Nanos) {
        let in_flight = || self.permits.busy();
        let due = match weight {
            Weight::Answered => self.meter.answered(began, now, in_flight),
            Weight::GivenUp => self.meter.given_up(began, now, in_flight),
            Weight::Overloaded => {
                self.meter.overloaded(began);
                true
            }
            Weight::Nothing => false,
        };
        if due {
            self.turn(now);
        }
    }
}

/// Set once the head was seen, and once the end was told.
const HEADED: Nanos = 1 << 63;
const TOLD: Nanos = 1 << 62;

/// A permit of a call. Gives it back when it is dropped.
#[derive(Debug)]
pub struct Ticket {
    shared: Arc<Shared>,
    /// When it was let in, and the two bits above.
    began: Nanos,
}

impl Ticket {
    fn new(shared: Arc<Shared>, now: Instant) -> Self {
        let began = shared.nanos(now);
        Self { shared, began }
    }

    /// Of a call that is not measured: nothing is told of it.
    const fn unmeasured(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            began: TOLD,
        }
    }

    const fn is(&self, bit: Nanos) -> bool {
        self.began & bit != 0
    }

    fn end(&mut self, verdict: Verdict, now: Instant) {
        let weight = Weight::of(verdict);
        if !self.is(HEADED) {
            let now = self.shared.nanos(now);
            self.shared.ended(weight, self.began, now);
        } else if weight == Weight::Overloaded {
            // A stream says it in its trailers.
            let now = self.shared.nanos(clock::now());
            self.shared.ended(weight, self.began & !HEADED, now);
        }
        self.began |= TOLD;
    }
}

impl Observe for Ticket {
    fn head(&mut self, verdict: Verdict, now: Instant) {
        if !self.is(TOLD) && Weight::of(verdict) == Weight::Answered {
            let now = self.shared.nanos(now);
            self.shared.ended(Weight::Answered, self.began, now);
            self.began |= HEADED;
        }
    }

    fn now(&self) -> Instant {
        if self.is(HEADED | TOLD) {
            self.shared.made
        } else {
            clock::now()
        }
    }

    fn done(mut self, verdict: Verdict, now: Instant) {
        if !self.is(TOLD) {
            self.end(verdict, now);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is(TOLD) {
            self.end(cause::of_drop(), self.now());
        }
        self.shared.permits.release(here(), clock::now);
    }
}

/// A place in the queue. Dropped, it is given up, with the permit if one was granted to it.
#[derive(Debug)]
pub(super) struct Waiter {
    shared: Arc<Shared>,
    /// None once it has been given up.
    place: Option<Place>,
    pub(super) until: Instant,
}

impl Waiter {
    /// Waits for a permit.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        match &self.place {
            Some(place) if !self.shared.permits.poll(place, cx.waker()) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// Gives the place up. The permit if one was granted, else a refusal.
    pub(super) fn leave(mut self) -> Result<Ticket, Rejection> {
        if self.give_up() {
            return Ok(Ticket::new(Arc::clone(&self.shared), clock::now()));
        }
        Err(self.shared.refuse())
    }

    fn give_up(&mut self) -> bool {
        let permits = &self.shared.permits;
        self.place
            .take()
            .is_some_and(|place| permits.leave(place, here()))
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        if self.give_up() {
            self.shared.permits.release(here(), clock::now);
        }
    }
}
