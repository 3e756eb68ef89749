//! What layers report: typed, and built only if somebody listens.
//!
//! A layer takes an [`Events`] and [emits](Events::emit) into it. Who wants to know what happens either gives
//! it a closure ([`Events::listen`]: counters, logs) or reads a stream ([`Events::subscribe`]: a control loop, a
//! page for operators, a test).
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use tower_chassis_core::events::{self, Event, Events, Received};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let events = Events::new();
//! events::log(&events); // lines of `tracing`
//! let mut stream = events.subscribe(2);
//! // … the layers have clones of `events`, and say:
//! for attempt in 2..6 {
//!     events.emit(|| Event::retry(attempt, Duration::from_millis(50)));
//! }
//! drop(events);
//!
//! // Four happened, there was room for two: the newest.
//! assert_eq!(stream.recv().await, Some(Received::Missed(2)));
//! let Some(Received::Event(Event::Retry { attempt, .. })) = stream.recv().await else { unreachable!() };
//! assert_eq!(attempt, 4);
//! assert!(stream.recv().await.is_some());
//! assert_eq!(stream.recv().await, None);
//! # }
//! ```
//!
//! # A full stream
//! Nobody waits for a subscriber. A stream that is full drops its *oldest* event and says at that place how many
//! are gone: what is in force now, an open breaker, a configuration, is what happened last, and a subscriber
//! that kept the oldest would act on it until something else happens.
//!
//! # A listener that panics
//! does not hurt the call that reported: the panic ends there, the other listeners are called, and it is called
//! again the next time. Its first panic is logged as an error.
//!
//! # What is read
//! How many calls are in flight or wait changes with every call: nobody reports that. A layer offers it as a
//! [gauge](Events::gauge), and who wants to know it [reads](Events::read) all of them now and then.
//!
//! # Cost
//! One load where nobody listens. Else the event is built once; a listener is a call, a stream a short lock and a
//! copy of the event, which allocates nothing beyond the room that the stream has.

mod event;
mod gauges;
mod hub;
mod log;
mod queue;
mod stream;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

pub use self::{
    event::{Event, Field},
    log::log,
    stream::{EventStream, Received, TryRecvError},
};
use self::{
    gauges::Gauges,
    hub::{Hub, Wanted},
};

/// Where layers report. Clones share the listeners; the default has none and costs one load.
#[derive(Clone, Default)]
pub struct Events(Option<Arc<Inner>>);

#[derive(Default)]
struct Inner {
    hub: Arc<Hub<Event>>,
    gauges: Gauges,
}

impl Events {
    /// Nobody will ever listen.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Listeners may come.
    #[must_use]
    pub fn new() -> Self {
        Self(Some(Arc::default()))
    }

    /// Calls `listener` on every event, on the task that reports it: it must be short and not block.
    ///
    /// It is never removed. A listener that holds a clone of these `Events` keeps them, and their streams,
    /// alive for ever.
    pub fn listen(&self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        if let Some(inner) = &self.0 {
            inner.hub.listen(Box::new(listener));
        }
    }

    /// A stream of what happens from now on, which holds up to `capacity` events (at least one) until they are
    /// received. Of [`none`](Self::none) it has ended.
    #[must_use]
    pub fn subscribe(&self, capacity: usize) -> EventStream {
        self.stream(capacity, None)
    }

    /// The same of what `wanted` says yes to: the rest takes no room in the stream, and is not missed. It is asked on
    /// the task that reports, as a [listener](Self::listen) is; a panic of it is a no.
    ///
    /// ```
    /// use tower_chassis_core::events::{Event, Events, Received};
    ///
    /// let events = Events::new();
    /// let mut stream = events.subscribe_to(1, |event| matches!(event, Event::ConfigApplied { .. }));
    /// events.emit(|| Event::config_applied(1));
    /// events.emit(|| Event::BudgetExhausted);
    /// assert_eq!(stream.try_recv(), Ok(Received::Event(Event::config_applied(1))));
    /// assert!(stream.try_recv().is_err());
    /// ```
    #[must_use]
    pub fn subscribe_to(
        &self,
        capacity: usize,
        wanted: impl Fn(&Event) -> bool + Send + Sync + 'static,
    ) -> EventStream {
        self.stream(capacity, Some(Box::new(wanted)))
    }

    fn stream(&self, capacity: usize, wanted: Option<Wanted<Event>>) -> EventStream {
        EventStream::new(match &self.0 {
            Some(inner) => Hub::subscribe(&inner.hub, capacity, wanted),
            None => Hub::subscribe(&Arc::default(), capacity, wanted),
        })
    }

    /// Offers a value of `owner` for [reading](Self::read), for as long as that lives: what is in flight, how many
    /// wait. It costs nothing until it is read; `read` must be short and not block.
    ///
    /// `metric` is the name of a gauge, `chassis_bulkhead_in_flight`; `name` says whose it is.
    pub fn gauge<T: Send + Sync + 'static>(
        &self,
        metric: &'static str,
        name: impl Into<Arc<str>>,
        owner: &Arc<T>,
        read: impl Fn(&T) -> f64 + Send + Sync + 'static,
    ) {
        if let Some(inner) = &self.0 {
            inner.gauges.add(metric, name.into(), None, owner, read);
        }
    }

    /// Offers a value as [`gauge`](Self::gauge) does, with one more label and its value: `("state", "open")`.
    pub fn gauge_in<T: Send + Sync + 'static>(
        &self,
        metric: &'static str,
        name: impl Into<Arc<str>>,
        label: (&'static str, &'static str),
        owner: &Arc<T>,
        read: impl Fn(&T) -> f64 + Send + Sync + 'static,
    ) {
        if let Some(inner) = &self.0 {
            inner
                .gauges
                .add(metric, name.into(), Some(label), owner, read);
        }
    }

    /// Reads what was [offered](Self::gauge) without a further label: metric, name, value. Those of one metric and
    /// name are one value, their sum; what was read before and is gone is 0 once.
    pub fn read(&self, mut each: impl FnMut(&'static str, &Arc<str>, f64)) {
        if let Some(inner) = &self.0 {
            let each = |metric, name: &Arc<str>, _, value| each(metric, name, value);
            inner.gauges.read(false, each);
        }
    }

    /// Reads what was [offered with one more label](Self::gauge_in): metric, name, that label and its value, value. Else
    /// as [`read`](Self::read), which does not tell of these.
    pub fn read_labelled(
        &self,
        mut each: impl FnMut(&'static str, &Arc<str>, (&'static str, &'static str), f64),
    ) {
        if let Some(inner) = &self.0 {
            inner
                .gauges
                .read(true, |metric, name: &Arc<str>, label, value| {
                    if let Some(label) = label {
                        each(metric, name, label, value);
                    }
                });
        }
    }

    /// Whether somebody listens now. One load.
    #[inline]
    #[must_use]
    pub fn is_heard(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.hub.is_heard())
    }

    /// Reports what `event` makes, if somebody listens. Waits for nobody, and does not panic if they do.
    pub fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(inner) = &self.0
            && inner.hub.send(event)
        {
            // The log may be what panics.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                tracing::error!("a listener of events has panicked; this is said once");
            }));
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listeners = self.0.as_ref().map_or(0, |inner| inner.hub.len());
        f.debug_struct("Events")
            .field("listeners", &listeners)
            .finish()
    }
}
