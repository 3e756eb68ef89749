//! What layers report: typed, and built only if somebody listens.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use crate::Kind;

/// Something that a policy did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A breaker changed its state.
    #[non_exhaustive]
    Breaker {
        /// The breaker's name: its endpoint, or what its user called it.
        name: Arc<str>,
        /// `closed`, `open` or `half-open`.
        to: &'static str,
        /// Why: `consecutive-failures`, `failure-rate`, `probe-failed`, ….
        reason: &'static str,
        /// How long it stays open.
        open_for: Option<Duration>,
    },
    /// A call is tried again.
    #[non_exhaustive]
    Retry {
        /// The number of the attempt that follows, 2 for the first retry.
        attempt: u32,
        /// The wait before it.
        backoff: Duration,
    },
    /// A retry was wanted, and the budget did not allow it.
    BudgetExhausted,
    /// A layer refused a call.
    #[non_exhaustive]
    Refused {
        /// The layer, named as its module is.
        layer: &'static str,
        /// Why.
        kind: Kind,
    },
    /// A configuration went live.
    #[non_exhaustive]
    ConfigApplied {
        /// Its number, from 1.
        version: u64,
    },
    /// A configuration was refused; the old one stays.
    #[non_exhaustive]
    ConfigRefused {
        /// How many faults it had.
        faults: usize,
    },
    /// The set of endpoints of a service changed.
    #[non_exhaustive]
    Endpoints {
        /// The service.
        service: Arc<str>,
        /// How many there are now.
        count: usize,
    },
}

impl Event {
    /// A breaker's change of state.
    pub fn breaker(
        name: impl Into<Arc<str>>,
        to: &'static str,
        reason: &'static str,
        open_for: Option<Duration>,
    ) -> Self {
        Self::Breaker {
            name: name.into(),
            to,
            reason,
            open_for,
        }
    }

    /// A retry.
    #[must_use]
    pub const fn retry(attempt: u32, backoff: Duration) -> Self {
        Self::Retry { attempt, backoff }
    }

    /// A refusal.
    #[must_use]
    pub const fn refused(layer: &'static str, kind: Kind) -> Self {
        Self::Refused { layer, kind }
    }

    /// A configuration that went live.
    #[must_use]
    pub const fn config_applied(version: u64) -> Self {
        Self::ConfigApplied { version }
    }

    /// A configuration that was refused.
    #[must_use]
    pub const fn config_refused(faults: usize) -> Self {
        Self::ConfigRefused { faults }
    }

    /// A new set of endpoints.
    pub fn endpoints(service: impl Into<Arc<str>>, count: usize) -> Self {
        Self::Endpoints {
            service: service.into(),
            count,
        }
    }
}

type Listener = Arc<dyn Fn(&Event) + Send + Sync>;

/// Where layers report. Clones share the listeners; the default has none and costs one load.
#[derive(Clone, Default)]
pub struct Events(Option<Arc<ArcSwap<Vec<Listener>>>>);

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
    pub fn listen(&self, listener: impl Fn(&Event) + Send + Sync + 'static) {
        if let Some(listeners) = &self.0 {
            let listener: Listener = Arc::new(listener);
            listeners.rcu(|old| {
                let mut new = Vec::clone(old);
                new.push(Arc::clone(&listener));
                new
            });
        }
    }

    /// Reports what `event` makes, if somebody listens.
    pub fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(listeners) = &self.0 {
            let listeners = listeners.load();
            if !listeners.is_empty() {
                let event = event();
                for listener in listeners.iter() {
                    listener(&event);
                }
            }
        }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listeners = self
            .0
            .as_ref()
            .map_or(0, |listeners| listeners.load().len());
        f.debug_struct("Events")
            .field("listeners", &listeners)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn an_event_is_built_only_if_somebody_listens() {
        let events = Events::new();
        events.emit(|| unreachable!("nobody listens"));
        Events::none().emit(|| unreachable!("nobody listens"));
        let heard = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let heard = Arc::clone(&heard);
            events.listen(move |_| {
                heard.fetch_add(1, Ordering::Relaxed);
            });
        }
        events.emit(|| Event::BudgetExhausted);
        assert_eq!(heard.load(Ordering::Relaxed), 2);
    }
}
