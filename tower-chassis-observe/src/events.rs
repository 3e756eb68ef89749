//! What breakers, retries, limits and discovery report, as metrics and as `tracing` events.
//!
//! # Example
//! ```
//! use tower_chassis_core::Events;
//! use tower_chassis_observe::{events, metrics::RecorderHandle};
//!
//! let reports = Events::new();
//! events::record(&reports, RecorderHandle::global());
//! // … and the layers get clones of `reports`.
//! ```
//!
//! # Telemetry
//! | metric | kind | labels | event of target `tower_chassis::events` |
//! |---|---|---|---|
//! | `chassis_breaker_transitions_total` | counter | `name`, `to`, `reason` | info |
//! | `chassis_breaker_state` | gauge: 1 for the state that it is in, else 0 | `name`, `state` | |
//! | `chassis_retry_attempts_total` | counter | | debug |
//! | `chassis_retry_budget_exhausted_total` | counter | | debug |
//! | `chassis_refused_total` | counter | `layer`, `kind` | debug |
//! | `chassis_endpoints` | gauge | `service` | info |
//!
//! After a thousand names of breakers and services the transitions of the next ones are counted as `_OTHER`,
//! and these have no gauge.
//!
//! # Cost
//! A retry and a refusal cost an atomic add each; the others are rare and take a lock.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use metrics::{Counter, Label};
use tower_chassis_core::{Events, Kind, events::Event};

use crate::metrics::{RecorderHandle, names};

/// Names that have series of their own.
const NAMES: usize = 1000;
const OTHER: &str = "_OTHER";
const STATES: [&str; 3] = ["closed", "open", "half-open"];
const TARGET: &str = "tower_chassis::events";

/// Counts and logs what is reported to `events`, from now on.
pub fn record(events: &Events, recorder: impl Into<RecorderHandle>) {
    let listener = Listener::new(recorder.into());
    events.listen(move |event| listener.hear(event));
}

struct Listener {
    recorder: RecorderHandle,
    retries: Counter,
    exhausted: Counter,
    refused: ArcSwap<Vec<(&'static str, Kind, Counter)>>,
    known: Mutex<HashSet<Arc<str>>>,
}

impl Listener {
    fn new(recorder: RecorderHandle) -> Self {
        Self {
            retries: recorder.counter(names::RETRY_ATTEMPTS, Vec::new()),
            exhausted: recorder.counter(names::RETRY_BUDGET, Vec::new()),
            refused: ArcSwap::default(),
            known: Mutex::default(),
            recorder,
        }
    }

    fn hear(&self, event: &Event) {
        match event {
            Event::Breaker {
                name,
                to,
                reason,
                open_for,
                ..
            } => {
                tracing::info!(
                    target: TARGET, name = &**name, to, reason, open_for = ?open_for, "breaker changed its state",
                );
                self.breaker(name, to, reason);
            }
            Event::Retry {
                attempt, backoff, ..
            } => {
                tracing::debug!(target: TARGET, attempt, backoff = ?backoff, "retry");
                self.retries.increment(1);
            }
            Event::BudgetExhausted => {
                tracing::debug!(target: TARGET, "retry budget exhausted");
                self.exhausted.increment(1);
            }
            Event::Refused { layer, kind, .. } => {
                tracing::debug!(target: TARGET, layer, kind = kind.as_str(), "call refused");
                self.refused(layer, *kind);
            }
            Event::Endpoints { service, count, .. } => {
                tracing::info!(target: TARGET, service = &**service, count, "endpoints changed");
                // Those of many services have no common value.
                if self.fits(service) {
                    let labels = vec![Label::new("service", service.to_string())];
                    self.recorder
                        .gauge(names::ENDPOINTS, labels)
                        .set(*count as f64);
                }
            }
            _ => {}
        }
    }

    fn breaker(&self, name: &Arc<str>, to: &'static str, reason: &'static str) {
        let fits = self.fits(name);
        let labels = vec![
            Label::new(
                "name",
                if fits {
                    name.to_string()
                } else {
                    OTHER.to_owned()
                },
            ),
            Label::from_static_parts("to", to),
            Label::from_static_parts("reason", reason),
        ];
        self.recorder
            .counter(names::BREAKER_TRANSITIONS, labels)
            .increment(1);
        for state in STATES.into_iter().filter(|_| fits) {
            let labels = vec![
                Label::new("name", name.to_string()),
                Label::from_static_parts("state", state),
            ];
            let value = if state == to { 1.0 } else { 0.0 };
            self.recorder.gauge(names::BREAKER_STATE, labels).set(value);
        }
    }

    fn refused(&self, layer: &'static str, kind: Kind) {
        let same = |(l, k, _): &&(&'static str, Kind, Counter)| *k == kind && *l == layer;
        if let Some((_, _, counter)) = self.refused.load().iter().find(same) {
            counter.increment(1);
            return;
        }
        let labels = vec![
            Label::from_static_parts("layer", layer),
            Label::from_static_parts("kind", kind.as_str()),
        ];
        let counter = self.recorder.counter(names::REFUSED, labels);
        counter.increment(1);
        self.refused.rcu(|old| {
            let mut new = Vec::clone(old);
            if !new.iter().any(|entry| same(&entry)) {
                new.push((layer, kind, counter.clone()));
            }
            new
        });
    }

    /// Whether a name has series of its own.
    fn fits(&self, name: &Arc<str>) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(name) || (known.len() < NAMES && known.insert(Arc::clone(name)))
    }
}
