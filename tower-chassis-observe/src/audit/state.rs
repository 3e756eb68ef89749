//! What the calls of a layer share, and what is kept of one of them.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::SystemTime,
};

use arc_swap::ArcSwap;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Live, Verdict,
    invocation::MatchedRoute,
    live::Invalid,
    trace::{SpanId, TraceId},
};

use super::{AuditConfig, AuditPolicy, AuditRecord, AuditSink, record::shown};
use crate::{
    access_log::{cut, redact::Redact},
    route::{Foreign, Route},
    tally::Tally,
};

const RECORDED: usize = 0;
const LOST: usize = 1;
const SKIPPED: usize = 2;
const REFUSED: usize = 3;

/// Finds out who a call comes from.
pub(super) type Principal = Arc<dyn Fn(&HeaderMap, &Extensions) -> Option<Arc<str>> + Send + Sync>;

/// What is said before a layer is used.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) sink: Arc<dyn AuditSink>,
    pub(super) principal: Option<Principal>,
    pub(super) redact: Redact,
    pub(super) clock: fn() -> SystemTime,
}

impl Setup {
    pub(super) fn new(sink: Arc<dyn AuditSink>) -> Self {
        Self {
            sink,
            principal: None,
            redact: Redact::new(),
            clock: SystemTime::now,
        }
    }
}

pub(super) struct State {
    pub(super) live: Live<AuditPolicy>,
    /// What `live` says, for calls.
    now: ArcSwap<AuditPolicy>,
    tally: Tally<4>,
    pub(super) setup: Setup,
}

impl State {
    pub(super) fn new(live: Live<AuditPolicy>, setup: Setup) -> Arc<Self> {
        let state = Arc::new(Self {
            now: ArcSwap::new(live.load()),
            live: live.clone(),
            tally: Tally::default(),
            setup,
        });
        live.bind(&state, |state, policy| {
            state.now.store(Arc::new(policy.clone()))
        });
        state
    }

    pub(super) fn policy(&self) -> Arc<AuditPolicy> {
        self.now.load_full()
    }

    /// The same settings, with counts of its own.
    pub(super) fn with(&self, change: impl FnOnce(&mut Setup)) -> Arc<Self> {
        let mut setup = self.setup.clone();
        change(&mut setup);
        Self::new(self.live.clone(), setup)
    }

    pub(super) fn told(&self, put: bool) {
        self.tally.count(if put { RECORDED } else { LOST });
    }

    pub(super) fn skipped(&self) {
        self.tally.count(SKIPPED);
    }

    pub(super) fn refused(&self) {
        self.tally.count(REFUSED);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("policy", &self.live)
            .finish_non_exhaustive()
    }
}

/// What is kept of a call until it is over. In a box: few calls are audited, and all of them are moved.
pub(super) struct Kept {
    state: Arc<State>,
    policy: Arc<AuditPolicy>,
    start: Instant,
    sent: u64,
    /// What the request said of its body.
    announced: u64,
    route: Route,
    principal: Option<Arc<str>>,
    client: Option<std::net::IpAddr>,
    method: Method,
    path: Option<String>,
    request_id: Option<Arc<str>>,
    trace: Option<(TraceId, SpanId)>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Kept {
    /// None for a call that no rule can want.
    pub(super) fn of<B>(
        state: &Arc<State>,
        request: &mut Request<B>,
        now: Instant,
    ) -> Option<Box<Self>> {
        let policy = state.policy();
        if !policy.may(request.method()) {
            return None;
        }
        let principal = state.setup.principal.as_ref();
        let principal = principal.and_then(|find| {
            let find = || find(request.headers(), request.extensions());
            catch_unwind(AssertUnwindSafe(find)).unwrap_or_default()
        });
        let foreign = Foreign::of(request.extensions());
        let invocation = request.invocation_mut();
        let route = Route::new(invocation.route_slot(), foreign);
        let client = invocation.client();
        let request_id = invocation.request_id().cloned();
        let trace = invocation
            .trace()
            .map(|trace| (trace.trace_id(), trace.span_id()));
        let mut headers = Vec::new();
        for name in policy.headers() {
            let values = request.headers().get_all(name).iter();
            headers.extend(
                values.map(|value| (name.clone(), shown(&state.setup.redact, name, value))),
            );
        }
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok());
        Some(Box::new(Self {
            state: Arc::clone(state),
            start: now,
            sent: 0,
            announced: announced.unwrap_or_default(),
            route,
            principal,
            client: client.map(|client| client.ip()),
            method: request.method().clone(),
            path: policy.config().paths.then(|| {
                let path = cut(request.uri().path());
                state.setup.redact.path(path).into_owned()
            }),
            request_id,
            trace,
            headers,
            policy,
        }))
    }

    pub(super) const fn data(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Gives the record to `put`, if there is to be one.
    pub(super) fn done(
        self,
        verdict: Verdict,
        now: Instant,
        put: impl FnOnce(AuditRecord) -> bool,
    ) {
        let template = self.route.template();
        if !self.policy.wants(&self.method, template, verdict.class()) {
            self.state.skipped();
            return;
        }
        let slot = self.route.slot();
        let received = match slot.received_bytes() {
            0 => self.announced,
            received => received,
        };
        let state = Arc::clone(&self.state);
        // What was found further in was proved there.
        let principal = slot.principal().cloned().or(self.principal);
        let record = AuditRecord {
            time: (state.setup.clock)(),
            duration: now.saturating_duration_since(self.start),
            principal,
            client: self.client,
            method: self.method,
            route: match slot.get() {
                Some(route) => MatchedRoute::shared_template(route),
                None => self.route.foreign().map(Arc::from),
            },
            path: self.path,
            verdict,
            received,
            sent: self.sent,
            request_id: self.request_id,
            trace: self.trace,
            headers: self.headers,
        };
        let put = catch_unwind(AssertUnwindSafe(|| put(record)));
        state.told(put.unwrap_or_default());
    }
}

/// A view of an [`AuditLayer`](super::AuditLayer) or a [`LosslessAuditLayer`](super::LosslessAuditLayer) and all of its
/// services. Clones are views of the same one.
#[derive(Clone, Debug)]
pub struct AuditHandle(pub(super) Arc<State>);

impl AuditHandle {
    /// How many records were taken.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        self.0.tally.sum(RECORDED)
    }

    /// How many records were not: there was no room for them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.tally.sum(LOST)
    }

    /// How many calls had no record, because the rules say so when they are over. Those that no rule wants from the
    /// beginning, by their method, are not counted.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.0.tally.sum(SKIPPED)
    }

    /// How many calls were refused because there was no place for their record; 0 where records may be lost.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.tally.sum(REFUSED)
    }

    /// Which calls are recorded, shared with every layer that was made from the same [`Live`]. A change reaches calls
    /// that begin after it.
    #[must_use]
    pub fn config(&self) -> &Live<AuditPolicy> {
        &self.0.live
    }

    /// Changes settings: `handle.update(|config| config.paths = true)`.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut AuditConfig)) -> Result<(), Invalid> {
        let mut fault = None;
        self.config()
            .update(|policy| match policy.clone().with(change) {
                Ok(changed) => *policy = changed,
                Err(invalid) => fault = Some(invalid),
            })?;
        fault.map_or(Ok(()), Err)
    }
}
