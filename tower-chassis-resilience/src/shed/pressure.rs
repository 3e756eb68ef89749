use crate::{adaptive::AdaptiveHandle, bulkhead::BulkheadHandle};

/// How loaded something is: 1 where it has all that it can work on, more where calls wait.
///
/// A closure is one, and so are the handles of a [`bulkhead`](crate::bulkhead) and of an
/// [`adaptive`](crate::adaptive) limit: calls in flight and those that wait, over the limit.
pub trait Pressure: Send + Sync + 'static {
    /// The pressure now. What is no number counts as 0.
    ///
    /// Called by a call, once in an [`interval`](super::ShedConfig::interval): it must be short and not block. No lock
    /// is held. A panic is that of the call.
    fn pressure(&self) -> f64;

    /// The pressure at this moment where calls wait, and that is known without looking for it; else 0, as by default and
    /// for closures.
    ///
    /// Asked for each call that is not of the highest class: it must be a few loads. From
    /// [`full`](super::ShedConfig::full) on the call is refused, whatever the threshold: that leaves the rest of a queue to
    /// the highest class. A panic is that of the call.
    fn now(&self) -> f64 {
        0.0
    }
}

impl<F: Fn() -> f64 + Send + Sync + 'static> Pressure for F {
    fn pressure(&self) -> f64 {
        self()
    }
}

impl Pressure for BulkheadHandle {
    fn pressure(&self) -> f64 {
        share(self.in_flight(), self.queued(), self.limit())
    }

    fn now(&self) -> f64 {
        waiting(self.queued(), self.limit())
    }
}

impl Pressure for AdaptiveHandle {
    fn pressure(&self) -> f64 {
        share(self.in_flight(), self.queued(), self.limit())
    }

    fn now(&self) -> f64 {
        waiting(self.queued(), self.limit())
    }
}

fn share(in_flight: u32, queued: u32, limit: u32) -> f64 {
    (f64::from(in_flight) + f64::from(queued)) / f64::from(limit.max(1))
}

/// Nobody waits while a permit is free.
fn waiting(queued: u32, limit: u32) -> f64 {
    if queued == 0 {
        return 0.0;
    }
    share(limit, queued, limit)
}
