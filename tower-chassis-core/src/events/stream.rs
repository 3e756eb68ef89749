//! Events as a stream.

use std::{
    error::Error,
    fmt,
    future::poll_fn,
    task::{Context, Poll},
};

use super::{
    Event,
    hub::Subscription,
    queue::{Nothing, Taken},
};

/// What a stream yields, in the order in which it happened.
#[derive(Clone, PartialEq, Debug)]
#[must_use]
pub enum Received {
    /// Something happened.
    Event(Event),
    /// So many events happened here, and the stream was full.
    Missed(u64),
}

impl From<Taken<Event>> for Received {
    fn from(taken: Taken<Event>) -> Self {
        match taken {
            Taken::Item(event) => Self::Event(event),
            Taken::Missed(count) => Self::Missed(count),
        }
    }
}

/// The events since [`Events::subscribe`](super::Events::subscribe). Dropping it unsubscribes.
///
/// What was received and what was missed add up to what was emitted.
#[derive(Debug)]
pub struct EventStream(Subscription<Event>);

impl EventStream {
    pub(super) const fn new(subscription: Subscription<Event>) -> Self {
        Self(subscription)
    }

    /// The next one. `None` when every [`Events`](super::Events) is gone and all that they emitted was
    /// received.
    ///
    /// Cancel safe: a wait that is dropped has taken nothing.
    pub async fn recv(&mut self) -> Option<Received> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The next one, if it is there.
    ///
    /// # Errors
    /// There is none yet, or will be none any more.
    pub fn try_recv(&mut self) -> Result<Received, TryRecvError> {
        match self.0.take() {
            Ok(taken) => Ok(taken.into()),
            Err(Nothing::Yet) => Err(TryRecvError::Empty),
            Err(Nothing::Evermore) => Err(TryRecvError::Closed),
        }
    }

    /// What [`recv`](Self::recv) waits for. Wakes the task that polled last.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Received>> {
        self.0.poll(cx).map(|taken| taken.map(Received::from))
    }
}

impl fmt::Debug for Subscription<Event> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("waiting", &self.len())
            .finish_non_exhaustive()
    }
}

/// Why [`EventStream::try_recv`] has nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TryRecvError {
    /// Nothing has happened since.
    Empty,
    /// Nothing can happen: every [`Events`](super::Events) is gone.
    Closed,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no event yet",
            Self::Closed => "no more events",
        })
    }
}

impl Error for TryRecvError {}
