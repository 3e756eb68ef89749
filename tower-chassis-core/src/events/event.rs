//! What can happen.

use std::{sync::Arc, time::Duration};

use crate::{Class, Kind};

/// Something that a policy did.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A breaker changed its state.
    #[non_exhaustive]
    Breaker {
        /// The breaker's name: its endpoint, or what its user called it.
        name: Arc<str>,
        /// `closed`, `open`, `half-open`, `recovering` or `disabled`.
        to: &'static str,
        /// Why: `consecutive-failures`, `failure-rate`, `probe-failed`, ….
        reason: &'static str,
        /// How long it stays open.
        open_for: Option<Duration>,
    },
    /// An endpoint left the balancer's choice: a breaker opened and shut its gate. Once each time that it
    /// opens; it comes back with the first probe.
    #[non_exhaustive]
    Ejected {
        /// The breaker's name: its endpoint, or what its user called it.
        name: Arc<str>,
        /// Why, as in [`Breaker`](Self::Breaker).
        reason: &'static str,
        /// How long the gate stays shut.
        shut_for: Duration,
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
        /// What its user called it, if that is known.
        name: Option<Arc<str>>,
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
    /// A breaker that only observes would have opened.
    #[non_exhaustive]
    BreakerWouldOpen {
        /// The breaker's name.
        name: Arc<str>,
        /// Why, as in [`Breaker`](Self::Breaker).
        reason: &'static str,
        /// How long it would have been open. It says no more until that is over.
        open_for: Option<Duration>,
    },
    /// Somebody said over a breaker's rules what it does, or that came to its end.
    #[non_exhaustive]
    BreakerForced {
        /// The breaker's name.
        name: Arc<str>,
        /// `forced-open`, `forced-closed`, `disabled`, `observe-only`, or `auto` where it decides by itself again.
        mode: &'static str,
        /// For how long, if it was said.
        lasts: Option<Duration>,
    },
    /// An adaptive limit changed.
    #[non_exhaustive]
    Limit {
        /// Its name: its endpoint, or what its user called it.
        name: Arc<str>,
        /// How many calls may be in flight from now on.
        limit: u32,
        /// Why: `grew`, `latency`, `overloaded`, ….
        reason: &'static str,
    },
    /// A call that failed was answered by a fallback.
    #[non_exhaustive]
    Fallback {
        /// The fallback's name.
        name: Arc<str>,
        /// What the call came to.
        failed: Class,
    },
    /// A call joined another of the same key that was in flight.
    #[non_exhaustive]
    Coalesced {
        /// The layer's name.
        name: Arc<str>,
    },
    /// A call came to a cache.
    #[non_exhaustive]
    Cache {
        /// The cache's name.
        name: Arc<str>,
        /// `hit`, `miss`, `bypass`, or, after a miss that failed, `stale`.
        result: &'static str,
    },
    /// A fault was injected into a call.
    #[non_exhaustive]
    FaultInjected {
        /// The rule that said so.
        rule: Arc<str>,
        /// `delay`, `abort`, `throttle` or `truncate`.
        fault: &'static str,
    },
    /// What became of the copy of a call that was to be mirrored.
    #[non_exhaustive]
    Mirrored {
        /// `ok`, `failed`, `timeout`, `panicked`, `aborted`, `dropped` or `skipped`.
        outcome: &'static str,
    },
    /// A hedge, a second attempt of a call that was late, is over.
    #[non_exhaustive]
    Hedged {
        /// The layer's name.
        name: Arc<str>,
        /// The number of the attempt, 2 for the first hedge.
        attempt: u32,
        /// How long after the call began it was sent.
        after: Duration,
        /// `won` (it had the answer), `lost` (another attempt had), `failed`, or `cancelled` (the caller left).
        outcome: &'static str,
    },
    /// Answers left a cache to make room for others, or because its bounds were lowered.
    #[non_exhaustive]
    CacheEvicted {
        /// The cache's name.
        name: Arc<str>,
        /// How many.
        count: usize,
    },
    /// What a balancer thinks of an endpoint changed.
    #[non_exhaustive]
    EndpointTurned {
        /// The name of the service; empty where it has none.
        service: Arc<str>,
        /// The endpoint's id.
        endpoint: Arc<str>,
        /// `ejected`, `readmitted`, or `would-eject` where the settings say that nothing is done about it.
        to: &'static str,
        /// Why: `consecutive-failures`, `success-rate`, `latency`, `time`, ….
        reason: &'static str,
        /// How long it lasts, where that is known.
        lasts: Option<Duration>,
    },
}

/// The value of a field of an [`Event`].
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Field<'a> {
    /// A name or a word.
    Text(&'a str),
    /// A number or a count.
    Number(u64),
    /// A time.
    Duration(Duration),
}

impl Event {
    /// The [names](Self::name) that events have.
    pub const NAMES: [&'static str; 19] = [
        "breaker",
        "ejected",
        "retry",
        "budget-exhausted",
        "refused",
        "config-applied",
        "config-refused",
        "endpoints",
        "breaker-would-open",
        "breaker-forced",
        "limit",
        "fallback",
        "coalesced",
        "cache",
        "fault-injected",
        "mirrored",
        "hedged",
        "cache-evicted",
        "endpoint-turned",
    ];

    /// What happened, in a word: `breaker`, `budget-exhausted`, ….
    #[must_use]
    pub const fn name(&self) -> &'static str {
        Self::NAMES[match self {
            Self::Breaker { .. } => 0,
            Self::Ejected { .. } => 1,
            Self::Retry { .. } => 2,
            Self::BudgetExhausted => 3,
            Self::Refused { .. } => 4,
            Self::ConfigApplied { .. } => 5,
            Self::ConfigRefused { .. } => 6,
            Self::Endpoints { .. } => 7,
            Self::BreakerWouldOpen { .. } => 8,
            Self::BreakerForced { .. } => 9,
            Self::Limit { .. } => 10,
            Self::Fallback { .. } => 11,
            Self::Coalesced { .. } => 12,
            Self::Cache { .. } => 13,
            Self::FaultInjected { .. } => 14,
            Self::Mirrored { .. } => 15,
            Self::Hedged { .. } => 16,
            Self::CacheEvicted { .. } => 17,
            Self::EndpointTurned { .. } => 18,
        }]
    }

    /// Its fields, named and in the order in which they are documented. One that it does not have now is left out.
    pub fn fields(&self, each: &mut dyn FnMut(&'static str, Field<'_>)) {
        use Field::{Number, Text};
        let time = |each: &mut dyn FnMut(&'static str, Field<'_>), name, time| {
            if let Some(time) = time {
                each(name, Field::Duration(time));
            }
        };
        match self {
            Self::Breaker {
                name,
                to,
                reason,
                open_for,
            } => {
                each("name", Text(name));
                each("to", Text(to));
                each("reason", Text(reason));
                time(each, "open_for", *open_for);
            }
            Self::Ejected {
                name,
                reason,
                shut_for,
            } => {
                each("name", Text(name));
                each("reason", Text(reason));
                time(each, "shut_for", Some(*shut_for));
            }
            Self::Retry { attempt, backoff } => {
                each("attempt", Number(u64::from(*attempt)));
                time(each, "backoff", Some(*backoff));
            }
            Self::BudgetExhausted => {}
            Self::Refused { layer, name, kind } => {
                each("layer", Text(layer));
                if let Some(name) = name {
                    each("name", Text(name));
                }
                each("kind", Text(kind.as_str()));
            }
            Self::ConfigApplied { version } => each("version", Number(*version)),
            Self::ConfigRefused { faults } => each("faults", Number(*faults as u64)),
            Self::Endpoints { service, count } => {
                each("service", Text(service));
                each("count", Number(*count as u64));
            }
            Self::BreakerWouldOpen {
                name,
                reason,
                open_for,
            } => {
                each("name", Text(name));
                each("reason", Text(reason));
                time(each, "open_for", *open_for);
            }
            Self::BreakerForced { name, mode, lasts } => {
                each("name", Text(name));
                each("mode", Text(mode));
                time(each, "lasts", *lasts);
            }
            Self::Limit {
                name,
                limit,
                reason,
            } => {
                each("name", Text(name));
                each("limit", Number(u64::from(*limit)));
                each("reason", Text(reason));
            }
            Self::Fallback { name, failed } => {
                each("name", Text(name));
                each("failed", Text(class(*failed)));
            }
            Self::Coalesced { name } => each("name", Text(name)),
            Self::Cache { name, result } => {
                each("name", Text(name));
                each("result", Text(result));
            }
            Self::FaultInjected { rule, fault } => {
                each("rule", Text(rule));
                each("fault", Text(fault));
            }
            Self::Mirrored { outcome } => each("outcome", Text(outcome)),
            Self::Hedged {
                name,
                attempt,
                after,
                outcome,
            } => {
                each("name", Text(name));
                each("attempt", Number(u64::from(*attempt)));
                time(each, "after", Some(*after));
                each("outcome", Text(outcome));
            }
            Self::CacheEvicted { name, count } => {
                each("name", Text(name));
                each("count", Number(*count as u64));
            }
            Self::EndpointTurned {
                service,
                endpoint,
                to,
                reason,
                lasts,
            } => {
                each("service", Text(service));
                each("endpoint", Text(endpoint));
                each("to", Text(to));
                each("reason", Text(reason));
                time(each, "lasts", *lasts);
            }
        }
    }

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

    /// An ejection.
    pub fn ejected(name: impl Into<Arc<str>>, reason: &'static str, shut_for: Duration) -> Self {
        Self::Ejected {
            name: name.into(),
            reason,
            shut_for,
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
        Self::Refused {
            layer,
            name: None,
            kind,
        }
    }

    /// A refusal by a layer that has a name.
    pub fn refused_by(layer: &'static str, name: impl Into<Arc<str>>, kind: Kind) -> Self {
        Self::Refused {
            layer,
            name: Some(name.into()),
            kind,
        }
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

    /// What a breaker that only observes would have done.
    pub fn breaker_would_open(
        name: impl Into<Arc<str>>,
        reason: &'static str,
        open_for: Option<Duration>,
    ) -> Self {
        Self::BreakerWouldOpen {
            name: name.into(),
            reason,
            open_for,
        }
    }

    /// What was said over a breaker's rules.
    pub fn breaker_forced(
        name: impl Into<Arc<str>>,
        mode: &'static str,
        lasts: Option<Duration>,
    ) -> Self {
        Self::BreakerForced {
            name: name.into(),
            mode,
            lasts,
        }
    }

    /// A change of an adaptive limit.
    pub fn limit(name: impl Into<Arc<str>>, limit: u32, reason: &'static str) -> Self {
        Self::Limit {
            name: name.into(),
            limit,
            reason,
        }
    }

    /// An answer in place of a call that failed.
    pub fn fallback(name: impl Into<Arc<str>>, failed: Class) -> Self {
        Self::Fallback {
            name: name.into(),
            failed,
        }
    }

    /// A call that joined another.
    pub fn coalesced(name: impl Into<Arc<str>>) -> Self {
        Self::Coalesced { name: name.into() }
    }

    /// A call that came to a cache.
    pub fn cache(name: impl Into<Arc<str>>, result: &'static str) -> Self {
        Self::Cache {
            name: name.into(),
            result,
        }
    }

    /// Answers that left a cache to make room.
    pub fn cache_evicted(name: impl Into<Arc<str>>, count: usize) -> Self {
        Self::CacheEvicted {
            name: name.into(),
            count,
        }
    }

    /// A fault.
    pub fn fault_injected(rule: impl Into<Arc<str>>, fault: &'static str) -> Self {
        Self::FaultInjected {
            rule: rule.into(),
            fault,
        }
    }

    /// What became of a copy.
    #[must_use]
    pub const fn mirrored(outcome: &'static str) -> Self {
        Self::Mirrored { outcome }
    }

    /// A hedge that is over.
    pub fn hedged(
        name: impl Into<Arc<str>>,
        attempt: u32,
        after: Duration,
        outcome: &'static str,
    ) -> Self {
        Self::Hedged {
            name: name.into(),
            attempt,
            after,
            outcome,
        }
    }

    /// A change of what a balancer thinks of an endpoint.
    pub fn endpoint_turned(
        service: impl Into<Arc<str>>,
        endpoint: impl Into<Arc<str>>,
        to: &'static str,
        reason: &'static str,
        lasts: Option<Duration>,
    ) -> Self {
        Self::EndpointTurned {
            service: service.into(),
            endpoint: endpoint.into(),
            to,
            reason,
            lasts,
        }
    }
}

/// As access logs and metrics write it.
const fn class(class: Class) -> &'static str {
    match class {
        Class::Success => "success",
        Class::ClientFault => "client-fault",
        Class::Failure => "failure",
        Class::Timeout => "timeout",
        Class::Unreachable => "unreachable",
        Class::RateLimited => "rate-limited",
        Class::Cancelled => "cancelled",
        Class::Refused => "refused",
    }
}
