//! What a layer, its services, their calls and its handles share.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{
    Events, Kind, Live, Verdict, clock,
    events::Event,
    settle::Observe,
    striped::{self, Hold, here},
};

use super::{
    BulkheadConfig, BulkheadPolicy, QueueOrder,
    codel::Discipline,
    lent::{Core, Lent},
    permits::{Comer, Entry, Permits},
    queue::Place,
};

/// A limit: its permits, its queue, its settings.
#[derive(Debug)]
pub struct Shared {
    pub(super) permits: Lent,
    pub(super) common: Arc<Common>,
}

/// What the limits of all keys have in common.
#[derive(Debug)]
pub(super) struct Common {
    waits: Waits,
    pub(super) live: Live<BulkheadPolicy>,
    pub(super) setup: Setup,
}

/// The [`Discipline`] of those who join from now on. A change that is half in force is for one waiter.
#[derive(Debug, Default)]
struct Waits {
    // In nanoseconds.
    max_wait: AtomicU64,
    /// 0: none.
    target: AtomicU64,
    interval: AtomicU64,
    newest_first: AtomicBool,
}

impl Waits {
    fn apply(&self, config: &BulkheadConfig) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let target = if config.codel {
            config.target
        } else {
            Duration::ZERO
        };
        self.max_wait.store(nanos(config.max_wait), Relaxed);
        self.target.store(nanos(target), Relaxed);
        self.interval.store(nanos(config.interval), Relaxed);
        let newest_first = config.queue_order == QueueOrder::AdaptiveLifo;
        self.newest_first.store(newest_first, Relaxed);
    }

    fn discipline(&self) -> Discipline {
        let time = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Relaxed));
        let target = time(&self.target);
        Discipline {
            max_wait: time(&self.max_wait),
            target: (!target.is_zero()).then_some(target),
            interval: time(&self.interval),
            newest_first: self.newest_first.load(Relaxed),
        }
    }
}

/// What is settled before the first call.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: Arc<str>,
    pub(super) events: Events,
}

/// How a call begins.
pub(super) enum Turn<H: Held> {
    Now(Ticket<H>),
    Wait(Waiter<H>),
    Refused(Kind),
}

impl Shared {
    pub(super) fn new(live: Live<BulkheadPolicy>, setup: Setup) -> Arc<Self> {
        let policy = live.load();
        let config = policy.config();
        let shared = Arc::new(Self {
            permits: Lent::new(config.limit, config.queue, striped::stripes()),
            common: Arc::new(Common {
                waits: Waits::default(),
                live,
                setup,
            }),
        });
        shared.common.live.bind(&shared, |shared, policy| {
            shared.common.waits.apply(policy.config());
            shared.apply(policy);
        });
        type Read = fn(&Permits) -> u32;
        let gauges: [(_, Read); 3] = [
            ("chassis_bulkhead_in_flight", Permits::in_use),
            ("chassis_bulkhead_queued", Permits::queued),
            ("chassis_bulkhead_limit", Permits::limit),
        ];
        let Setup { name, events } = &shared.common.setup;
        for (gauge, read) in gauges {
            let read = move |shared: &Self| read(&shared.permits).into();
            events.gauge(gauge, Arc::clone(name), &shared, read);
        }
        shared
    }

    /// The same settings with permits and a queue of its own.
    pub(super) fn fresh(&self) -> Arc<Self> {
        self.fresh_with(|_| {})
    }

    /// As [`fresh`](Self::fresh), with a change.
    pub(super) fn fresh_with(&self, change: impl FnOnce(&mut Setup)) -> Arc<Self> {
        let mut setup = self.common.setup.clone();
        change(&mut setup);
        Self::new(self.common.live.clone(), setup)
    }

    /// Permits, in one word, and a queue for one key more. Whoever keeps it [applies](Self::apply) what changes
    /// from now on.
    pub(super) fn for_key(&self) -> Arc<Self> {
        let policy = self.common.live.load();
        let config = policy.config();
        Arc::new(Self {
            permits: Lent::new(config.limit, config.queue, 1),
            common: Arc::clone(&self.common),
        })
    }

    /// Puts other numbers of permits and places in force.
    pub(super) fn apply(&self, policy: &BulkheadPolicy) {
        let config = policy.config();
        self.permits
            .apply(config.limit, config.queue, here(), clock::now);
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.common.setup.name
    }

    /// Whether a call would begin at once.
    #[inline]
    pub(super) fn is_free(&self) -> bool {
        self.permits.any(here())
    }

    /// Whether no call is in flight and none waits.
    pub(super) fn is_unused(&self) -> bool {
        let permits = &self.permits;
        permits.in_use() == 0 && permits.queued() == 0 && !permits.is_shut()
    }

    #[cold]
    fn refuse(&self, kind: Kind) -> Kind {
        let events = &self.common.setup.events;
        events.emit(|| Event::refused("bulkhead", kind));
        kind
    }
}

/// What one who waits holds a limit by: a [`Hold`], or the `Arc` of that of a key.
pub trait Held: Deref<Target = Shared> + Clone + Send + 'static {
    /// What a call holds a permit by. One word: a future that has it is moved through the layers outside.
    type Permit: Permit;

    /// A permit that was taken. `hold` makes another hold of the limit, for those that need it.
    fn permit(shared: &Shared, hold: impl FnOnce() -> Self) -> Self::Permit;
}

/// What a permit is given back to.
pub trait Permit: fmt::Debug + Send + 'static {
    /// Any time.
    fn made(&self) -> Instant;
    /// Gives it back.
    fn give_back(&self);
}

impl Held for Hold<Shared> {
    type Permit = &'static Core;

    #[inline]
    fn permit(shared: &Shared, _: impl FnOnce() -> Self) -> &'static Core {
        shared.permits.core()
    }
}

impl Permit for &'static Core {
    #[inline]
    fn made(&self) -> Instant {
        self.made
    }
    #[inline]
    fn give_back(&self) {
        self.permits.release(here(), clock::now);
    }
}

impl Held for Arc<Shared> {
    /// Who looks for keys that nobody uses asks who holds their limits.
    type Permit = Self;

    #[inline]
    fn permit(_: &Shared, hold: impl FnOnce() -> Self) -> Self {
        hold()
    }
}

impl Permit for Arc<Shared> {
    #[inline]
    fn made(&self) -> Instant {
        self.permits.core().made
    }
    #[inline]
    fn give_back(&self) {
        self.permits.release(here(), clock::now);
    }
}

/// A call begins, or waits. `deadline` is asked if no permit is free.
#[inline]
pub(super) fn enter<H: Held>(
    shared: &Shared,
    hold: impl FnOnce() -> H,
    deadline: impl FnOnce() -> Option<Instant>,
) -> Turn<H> {
    let mut patience = None;
    let comer = || Comer {
        now: clock::entered(|now| now),
        deadline: *patience.insert(deadline()),
        discipline: shared.common.waits.discipline(),
    };
    match shared.permits.enter(here(), comer) {
        Entry::Permit => Turn::Now(Ticket(H::permit(shared, hold))),
        Entry::Queued(place, until) => Turn::Wait(Waiter {
            held: hold(),
            place: Some(place),
            until,
            deadline: patience.flatten(),
        }),
        Entry::Full => Turn::Refused(shared.refuse(Kind::Overloaded)),
        Entry::Late => Turn::Refused(shared.refuse(Kind::DeadlineExceeded)),
    }
}

/// A permit of a call. Gives it back when it is dropped.
#[derive(Debug)]
pub struct Ticket<H: Held = Hold<Shared>>(H::Permit);

impl<H: Held> Observe for Ticket<H> {
    #[inline]
    fn now(&self) -> Instant {
        self.0.made()
    }
    #[inline]
    fn done(self, _: Verdict, _: Instant) {}
    #[inline]
    fn done_at_head(self, _: Verdict, _: Instant) {}
}

impl<H: Held> Drop for Ticket<H> {
    #[inline]
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// A place in the queue. Dropped, it is given up, with the permit if one was granted to it.
#[derive(Debug)]
pub(super) struct Waiter<H: Held> {
    held: H,
    /// None once it has been given up.
    place: Option<Place>,
    until: Instant,
    deadline: Option<Instant>,
}

impl<H: Held> Waiter<H> {
    /// Waits for a permit.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        match &self.place {
            Some(place) if !self.held.permits.poll(place, cx.waker()) => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// When its time is up.
    pub(super) const fn until(&self) -> Instant {
        self.until
    }

    /// Gives the place up. The permit if one was granted, else why it is refused.
    pub(super) fn leave(&mut self) -> Result<Ticket<H>, Kind> {
        self.give_up().ok_or_else(|| {
            let late = self
                .deadline
                .is_some_and(|deadline| deadline <= clock::now());
            let kind = if late {
                Kind::DeadlineExceeded
            } else {
                Kind::Overloaded
            };
            self.held.refuse(kind)
        })
    }

    fn give_up(&mut self) -> Option<Ticket<H>> {
        let place = self.place.take()?;
        let granted = self.held.permits.leave(place, here());
        granted.then(|| Ticket(H::permit(&self.held, || self.held.clone())))
    }
}

impl<H: Held> Drop for Waiter<H> {
    fn drop(&mut self) {
        drop(self.give_up());
    }
}
