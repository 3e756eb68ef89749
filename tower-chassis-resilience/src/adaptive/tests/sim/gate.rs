//! The gate that is under test: the permits with their queue and the meter that sets their limit.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    task::{Wake, Waker},
    time::Duration,
};

use tokio::time::Instant;

use super::{Entry, Gate, Nanos};
use crate::{
    adaptive::{
        AdaptiveConfig, Reason,
        limit::{Controller, Meter},
    },
    bulkhead::permits::{Comer, Entry as Turned, Permits},
    bulkhead::queue::Place,
};

/// Calls whose wait is over.
#[derive(Default)]
struct Woken(Mutex<Vec<u32>>);

struct Alarm(u32, Arc<Woken>);
impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.1.0.lock().unwrap().push(self.0);
    }
}

pub(in super::super) struct Limited {
    permits: Permits,
    meter: Meter,
    config: AdaptiveConfig,
    zero: Instant,
    waiting: HashMap<u32, Place>,
    woken: Arc<Woken>,
    /// How often calls that found the service overloaded lowered the limit.
    pub(in super::super) lowered: u32,
}

impl Limited {
    pub(in super::super) fn new(config: AdaptiveConfig, seed: u64) -> Self {
        Self {
            permits: Permits::new(config.start, config.places(config.start), 1),
            meter: Meter::new(Controller::new(config.settings(), seed)),
            config,
            zero: Instant::now(),
            waiting: HashMap::new(),
            woken: Arc::default(),
            lowered: 0,
        }
    }

    fn turn(&mut self, now: Nanos) {
        let (mut changed, at) = (None, self.zero + Duration::from_nanos(now));
        let lowered = &mut self.lowered;
        self.meter.turn(now, |change| {
            *lowered += u32::from(change.reason == Reason::Overloaded);
            changed = Some(change);
        });
        if let Some(change) = changed {
            let places = self.config.places(change.limit);
            self.permits.apply(change.limit, places, 0, || at);
        }
    }
}

impl Gate for Limited {
    fn arrive(&mut self, call: u32, now: Nanos) -> Entry {
        let (zero, config) = (self.zero, &self.config);
        let comer = || Comer {
            now: zero + Duration::from_nanos(now),
            deadline: None,
            discipline: config.discipline(),
        };
        match self.permits.enter(0, comer) {
            Turned::Permit => Entry::Begins,
            Turned::Queued(place, until) => {
                let waker = Waker::from(Arc::new(Alarm(call, Arc::clone(&self.woken))));
                assert!(!self.permits.poll(&place, &waker));
                self.waiting.insert(call, place);
                Entry::Waits((until - zero).as_nanos() as Nanos)
            }
            Turned::Full | Turned::Late => Entry::Refused,
        }
    }

    fn expire(&mut self, call: u32, _: Nanos) -> bool {
        let place = self.waiting.remove(&call);
        place.is_some_and(|place| self.permits.leave(place, 0))
    }

    fn answered(&mut self, began: Nanos, in_time: bool, now: Nanos) {
        let due = if in_time {
            self.meter.answered(began, now, || self.permits.busy())
        } else {
            self.meter.overloaded(began);
            true
        };
        if due {
            self.turn(now);
        }
        let at = self.zero + Duration::from_nanos(now);
        self.permits.release(0, || at);
    }

    fn next(&mut self, _: Nanos) -> Option<u32> {
        loop {
            let call = self.woken.0.lock().unwrap().pop()?;
            let place = self.waiting.remove(&call)?;
            if self.permits.leave(place, 0) {
                return Some(call);
            }
        }
    }

    fn limit(&self) -> u32 {
        self.permits.limit()
    }
}
