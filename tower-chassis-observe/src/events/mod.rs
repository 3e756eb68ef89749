//! What breakers, retries, limits, discovery and configuration report, as metrics.
//!
//! The lines of `tracing` come from the same events, by
//! [`events::log`](tower_chassis_core::events::log): take one, or both.
//!
//! # Example
//! ```
//! use tower_chassis_core::events::{self, Events};
//! use tower_chassis_observe::{events::record, metrics::RecorderHandle};
//!
//! let reports = Events::new();
//! record(&reports, RecorderHandle::global());
//! events::log(&reports);
//! // … and the layers get clones of `reports`.
//! ```
//!
//! # Telemetry
//! | metric | kind | labels |
//! |---|---|---|
//! | `chassis_breaker_transitions_total` | counter | `name`, `to`, `reason` |
//! | `chassis_breaker_state` | gauge: 1 for the state that it is in, else 0 | `name`, `state` |
//! | `chassis_breaker_would_open_total` | counter, of breakers that only observe | `name`, `reason` |
//! | `chassis_breaker_mode` | gauge: 1 for the mode that it is in, else 0 | `name`, `mode` |
//! | `chassis_ejections_total` | counter | `name`, `reason` |
//! | `chassis_retry_attempts_total` | counter | |
//! | `chassis_retry_budget_exhausted_total` | counter | |
//! | `chassis_hedges_total` | counter of those that are over | `name`, `outcome`: `won`, `lost`, `failed`, `cancelled` |
//! | `chassis_refused_total` | counter | `layer`, `kind` |
//! | `chassis_fallbacks_total` | counter | |
//! | `chassis_coalesced_total` | counter | |
//! | `chassis_cache_requests_total` | counter | `result`: `hit`, `miss`, `bypass`, `stale` |
//! | `chassis_cache_evictions_total` | counter of answers that made room | |
//! | `chassis_endpoints` | gauge | `service` |
//! | `chassis_balance_endpoints` | gauge: endpoints of a balancer by their gate | `name`, `state`: `open`, `shut` |
//! | `chassis_endpoint_changes_total` | counter of what balancers think of endpoints | `service`, `reason`, `to`: `ejected`, `readmitted`, `would-eject` |
//! | `chassis_concurrency_limit` | gauge: of the adaptive limit | `name` |
//! | `chassis_config_version` | gauge: the number of the one in force | |
//! | `chassis_config_refused_total` | counter | |
//! | `chassis_config_last_reload_timestamp_seconds` | gauge: when one was last put in force, since 1970 | |
//! | `chassis_config_last_reload_successful` | gauge: 1 if the last one was put in force, 0 if it was refused | |
//! | `chassis_bulkhead_in_flight` | gauge: calls that hold a permit | `name` |
//! | `chassis_bulkhead_queued` | gauge: calls that wait for one | `name` |
//! | `chassis_bulkhead_limit` | gauge | `name` |
//! | `chassis_shed_threshold` | gauge: the level, 0 to 500, below which calls are shed | `name` |
//! | `chassis_faults_total` | counter | `rule`, `fault` |
//! | `chassis_mirrored_total` | counter | `outcome` |
//! | `chassis_server_connections` | gauge | `name` |
//! | `chassis_client_connections` | gauge | `name` |
//! | `chassis_health` | gauge, of a check that was asked: 1 up, 0.5 degraded, 0 down | `name`, `kind`: `live`, `ready`, `startup` |
//! | `chassis_telemetry_lost_total` | counter, by [`lost`] | `signal`: `log`, `access_log`, `audit`, `span`, `metric` |
//!
//! The gauges of bulkheads, adaptive limits, shedding, balancers and connections change with every call, so nobody reports
//! them: [`sample`] reads them, and what checks of health said, before each rendering.
//!
//! After a thousand names of breakers, services and rules the transitions, ejections and faults of the next ones
//! are counted as `_OTHER`, and these have no gauge.
//!
//! # Cost
//! A retry and a refusal cost an atomic add each; the others are rare and take a lock.

mod sse;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;
use metrics::{Counter, Label};
use tower_chassis_core::{Events, Kind, events::Event};

pub use self::sse::{Sse, SseService};
use crate::metrics::{RecorderHandle, names};

/// Names that have series of their own.
const NAMES: usize = 1000;
/// What becomes of a call that comes to a cache. The last one is for what a later version may say.
const CACHE: [&str; 5] = ["hit", "miss", "bypass", "stale", "_OTHER"];
const OTHER: &str = "_OTHER";
const STATES: [&str; 5] = ["closed", "open", "half-open", "recovering", "disabled"];
const MODES: [&str; 5] = [
    "auto",
    "forced-open",
    "forced-closed",
    "disabled",
    "observe-only",
];

/// Counts what is reported to `events`, from now on.
pub fn record(events: &Events, recorder: impl Into<RecorderHandle>) {
    let listener = Listener::new(recorder.into());
    events.listen(move |event| listener.hear(event));
}

/// Reads what layers offer for [reading](Events::read) into gauges. To be called before what was recorded is rendered or
/// sent, every ten seconds for example.
///
/// After a thousand names of a metric the next ones are one, `_OTHER`; of what has a further label they are left out, because their
/// sum says nothing. What is not known, NaN, is left out as well.
pub fn sample(events: &Events, recorder: impl Into<RecorderHandle>) {
    let recorder = recorder.into();
    let mut names = HashMap::<_, usize>::new();
    let mut others = HashMap::<_, f64>::new();
    events.read(|metric, name, value| {
        let names = names.entry(metric).or_default();
        *names += 1;
        if *names <= NAMES {
            let label = Label::new("name", name.to_string());
            recorder.gauge(metric, vec![label]).set(value);
        } else {
            *others.entry(metric).or_default() += value;
        }
    });
    for (metric, value) in others {
        let label = Label::from_static_parts("name", OTHER);
        recorder.gauge(metric, vec![label]).set(value);
    }
    let mut names = HashMap::<_, HashSet<Arc<str>>>::new();
    events.read_labelled(|metric, name, (label, of), value| {
        let names = names.entry(metric).or_default();
        let fits = names.contains(name) || (names.len() < NAMES && names.insert(Arc::clone(name)));
        if fits && !value.is_nan() {
            let labels = vec![
                Label::new("name", name.to_string()),
                Label::from_static_parts(label, of),
            ];
            recorder.gauge(metric, labels).set(value);
        }
    });
}

/// What telemetry itself may lose.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Signal {
    /// Lines of the application's log.
    Log,
    /// Lines of the access log.
    AccessLog,
    /// Records of the audit.
    Audit,
    /// Spans.
    Span,
    /// Values and series of metrics.
    Metric,
}

impl Signal {
    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::AccessLog => "access_log",
            Self::Audit => "audit",
            Self::Span => "span",
            Self::Metric => "metric",
        }
    }
}

/// Where what was lost of a signal is counted: `chassis_telemetry_lost_total`. Who has a count of its own adds
/// what came since: others may add to the same.
///
/// ```
/// use tower_chassis_observe::{events::{Signal, lost}, metrics::RecorderHandle};
///
/// let lines = lost(&RecorderHandle::global(), Signal::Log);
/// lines.increment(3);
/// ```
pub fn lost(recorder: &RecorderHandle, signal: Signal) -> Counter {
    let label = Label::from_static_parts("signal", signal.as_str());
    recorder.counter(names::TELEMETRY_LOST, vec![label])
}

struct Listener {
    recorder: RecorderHandle,
    retries: Counter,
    exhausted: Counter,
    config_refused: Counter,
    fallbacks: Counter,
    coalesced: Counter,
    cache: [Counter; CACHE.len()],
    cache_evictions: Counter,
    refused: ArcSwap<Vec<(&'static str, Kind, Counter)>>,
    known: Mutex<HashSet<Arc<str>>>,
}

impl Listener {
    fn new(recorder: RecorderHandle) -> Self {
        Self {
            retries: recorder.counter(names::RETRY_ATTEMPTS, Vec::new()),
            exhausted: recorder.counter(names::RETRY_BUDGET, Vec::new()),
            config_refused: recorder.counter(names::CONFIG_REFUSED, Vec::new()),
            fallbacks: recorder.counter(names::FALLBACKS, Vec::new()),
            coalesced: recorder.counter(names::COALESCED, Vec::new()),
            cache: CACHE.map(|result| {
                let labels = vec![Label::from_static_parts("result", result)];
                recorder.counter(names::CACHE_REQUESTS, labels)
            }),
            cache_evictions: recorder.counter(names::CACHE_EVICTIONS, Vec::new()),
            refused: ArcSwap::default(),
            known: Mutex::default(),
            recorder,
        }
    }

    fn hear(&self, event: &Event) {
        match event {
            Event::Breaker {
                name, to, reason, ..
            } => self.breaker(name, to, reason),
            Event::BreakerWouldOpen { name, reason, .. } => {
                self.count(names::BREAKER_WOULD_OPEN, name, reason);
            }
            Event::BreakerForced { name, mode, .. } if self.fits(name) => {
                self.show_one(names::BREAKER_MODE, name, "mode", mode, &MODES);
            }
            Event::Ejected { name, reason, .. } => self.count(names::EJECTIONS, name, reason),
            Event::Retry { .. } => self.retries.increment(1),
            Event::Fallback { .. } => self.fallbacks.increment(1),
            Event::Coalesced { .. } => self.coalesced.increment(1),
            Event::Cache { result, .. } => {
                let at = CACHE.iter().position(|known| known == result);
                self.cache[at.unwrap_or(CACHE.len() - 1)].increment(1);
            }
            Event::CacheEvicted { count, .. } => self.cache_evictions.increment(*count as u64),
            Event::BudgetExhausted => self.exhausted.increment(1),
            Event::Refused { layer, kind, .. } => self.refused(layer, *kind),
            Event::Hedged { name, outcome, .. } => {
                let labels = vec![
                    Self::name(name, self.fits(name)),
                    Label::from_static_parts("outcome", outcome),
                ];
                self.recorder.counter(names::HEDGES, labels).increment(1);
            }
            Event::ConfigApplied { version, .. } => {
                self.recorder
                    .gauge(names::CONFIG_VERSION, Vec::new())
                    .set(*version as f64);
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                self.recorder
                    .gauge(names::CONFIG_RELOADED, Vec::new())
                    .set(now.unwrap_or_default().as_secs_f64());
                self.reloaded(true);
            }
            Event::ConfigRefused { .. } => {
                self.config_refused.increment(1);
                self.reloaded(false);
            }
            Event::FaultInjected { rule, fault, .. } => {
                let labels = vec![
                    Self::named("rule", rule, self.fits(rule)),
                    Label::from_static_parts("fault", fault),
                ];
                self.recorder.counter(names::FAULTS, labels).increment(1);
            }
            Event::Mirrored { outcome, .. } => {
                let labels = vec![Label::from_static_parts("outcome", outcome)];
                self.recorder.counter(names::MIRRORED, labels).increment(1);
            }
            // Those of many services have no common value.
            Event::Endpoints { service, count, .. } if self.fits(service) => {
                let labels = vec![Label::new("service", service.to_string())];
                self.recorder
                    .gauge(names::ENDPOINTS, labels)
                    .set(*count as f64);
            }
            Event::EndpointTurned {
                service,
                to,
                reason,
                ..
            } => {
                let labels = vec![
                    Self::named("service", service, self.fits(service)),
                    Label::from_static_parts("to", to),
                    Label::from_static_parts("reason", reason),
                ];
                let counter = self.recorder.counter(names::ENDPOINT_CHANGES, labels);
                counter.increment(1);
            }
            _ => {}
        }
    }

    fn reloaded(&self, successful: bool) {
        let gauge = self.recorder.gauge(names::CONFIG_SUCCESSFUL, Vec::new());
        gauge.set(if successful { 1.0 } else { 0.0 });
    }

    fn breaker(&self, name: &Arc<str>, to: &'static str, reason: &'static str) {
        let fits = self.fits(name);
        let labels = vec![
            Self::name(name, fits),
            Label::from_static_parts("to", to),
            Label::from_static_parts("reason", reason),
        ];
        self.recorder
            .counter(names::BREAKER_TRANSITIONS, labels)
            .increment(1);
        if fits {
            self.show_one(names::BREAKER_STATE, name, "state", to, &STATES);
        }
    }

    /// A gauge for each of `all`, 1 for the one that it is.
    fn show_one(
        &self,
        gauge: &'static str,
        name: &Arc<str>,
        label: &'static str,
        is: &str,
        all: &[&'static str],
    ) {
        for one in all {
            let labels = vec![
                Label::new("name", name.to_string()),
                Label::from_static_parts(label, one),
            ];
            let value = if *one == is { 1.0 } else { 0.0 };
            self.recorder.gauge(gauge, labels).set(value);
        }
    }

    fn count(&self, counter: &'static str, name: &Arc<str>, reason: &'static str) {
        let labels = vec![
            Self::name(name, self.fits(name)),
            Label::from_static_parts("reason", reason),
        ];
        self.recorder.counter(counter, labels).increment(1);
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

    fn name(name: &Arc<str>, fits: bool) -> Label {
        Self::named("name", name, fits)
    }

    fn named(label: &'static str, name: &Arc<str>, fits: bool) -> Label {
        if fits {
            Label::new(label, name.to_string())
        } else {
            Label::from_static_parts(label, OTHER)
        }
    }

    /// Whether a name has series of its own.
    fn fits(&self, name: &Arc<str>) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.contains(name) || (known.len() < NAMES && known.insert(Arc::clone(name)))
    }
}
