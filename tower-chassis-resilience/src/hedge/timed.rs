//! How long an attempt takes, and where that is kept.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tower_chassis_core::{Class, Verdict, cause, clock, events::Event, striped::Hold};

use super::{
    layer::Shared,
    state::{Record, nanos},
};
use crate::retry::Withdrawal;

/// An attempt that is under way.
///
/// Its time is recorded if it answered well or was late. That of a quick failure would pull the percentile down; of one
/// that was cut short only a lower bound is known, which tells something if the delay had passed.
pub(super) struct Timed<S> {
    pub(super) shared: Hold<Shared<S>>,
    /// That of a key.
    record: Option<Arc<Record>>,
    pub(super) begun: Instant,
    /// In nanoseconds.
    delay: u64,
    measured: bool,
    /// It goes on, and its time is taken.
    open: bool,
}

impl<S> Timed<S> {
    pub(super) fn new(
        shared: Hold<Shared<S>>,
        record: Option<Arc<Record>>,
        begun: Instant,
        delay: u64,
        measured: bool,
    ) -> Self {
        Self {
            shared,
            record,
            begun,
            delay,
            measured,
            open: measured,
        }
    }

    /// One more attempt of the same call.
    pub(super) fn again(&self, begun: Instant) -> Self {
        let record = self.record.clone();
        let shared = self.shared.clone();
        Self::new(shared, record, begun, self.delay, self.measured)
    }

    pub(super) const fn delay(&self) -> Duration {
        Duration::from_nanos(self.delay)
    }

    /// Whether its time is taken.
    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// It ended.
    pub(super) fn end(&mut self, verdict: Verdict, now: Instant) {
        if self.open {
            self.open = false;
            if verdict.is_success() || verdict.class() == Class::Timeout {
                self.write(now);
            }
        }
    }

    fn write(&self, now: Instant) {
        let took = now.saturating_duration_since(self.begun);
        let record = self.record.as_deref();
        record.unwrap_or(&self.shared.state.one).record(took, now);
    }
}

impl<S> Drop for Timed<S> {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let now = clock::now();
        let late = nanos(now.saturating_duration_since(self.begun)) >= self.delay;
        let timeout = cause::current().is_some_and(|cause| cause.class() == Class::Timeout);
        if late || timeout {
            self.write(now);
        }
    }
}

/// A hedge that was sent: reported when it is over.
pub(super) struct Sent<S> {
    pub(super) timed: Timed<S>,
    attempt: u32,
    after: Duration,
    pub(super) outcome: &'static str,
    /// Its place in the budget.
    _place: Withdrawal,
}

impl<S> Sent<S> {
    pub(super) const fn new(
        timed: Timed<S>,
        attempt: u32,
        after: Duration,
        place: Withdrawal,
    ) -> Self {
        Self {
            _place: place,
            timed,
            attempt,
            after,
            outcome: "cancelled",
        }
    }
}

impl<S> Drop for Sent<S> {
    fn drop(&mut self) {
        let setup = self.timed.shared.state.setup();
        let hedged = || {
            let name = Arc::clone(&setup.name);
            Event::hedged(name, self.attempt, self.after, self.outcome)
        };
        setup.events.emit(hedged);
    }
}
