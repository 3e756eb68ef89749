//! The one extension of a call.
//!
//! Everything of ours that travels with a request is in one [`Invocation`]: the first extension of a request
//! costs three allocations, so no layer inserts its own. It is go-chassis's protocol-independent call; a
//! protocol of your own carries it by [`Carrier`].

mod carrier;
mod route;
mod subset;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use tokio::time::Instant;

use crate::{Deadline, clock, trace::TraceContext};

pub use self::{
    carrier::{Carrier, Idempotent},
    route::{MatchedRoute, RouteTable},
    subset::{OnEmpty, Subset},
};

/// How many attempts of a call remember their endpoint.
const REMEMBERED: usize = 4;

/// What is known of a call while it runs. A clone (a retry's copy) shares the route and the tried endpoints.
#[derive(Clone)]
pub struct Invocation {
    start: Instant,
    deadline: Option<Deadline>,
    service: Option<Arc<str>>,
    subset: Option<Arc<Subset>>,
    client: Option<SocketAddr>,
    request_id: Option<Arc<str>>,
    trace: Option<TraceContext>,
    trace_state: Option<Arc<str>>,
    baggage: Option<Arc<str>>,
    attempt: u32,
    caller_attempt: u32,
    shared: Arc<Shared>,
}

struct Shared {
    /// When the call began.
    start: Instant,
    route: OnceLock<MatchedRoute>,
    /// The key of the endpoint of each attempt, 0 before it was chosen.
    tried: [AtomicU64; REMEMBERED],
    /// The client's body is waited for.
    uploading: AtomicBool,
    /// How many frames it gave.
    received: AtomicU32,
    /// How many bytes these had.
    received_bytes: AtomicU64,
    /// Who the call was found to come from.
    principal: OnceLock<Arc<str>>,
    /// The response gave a frame since the body of the request was last looked at.
    #[cfg(feature = "server")]
    answered: AtomicBool,
}

impl Shared {
    fn new(start: Instant) -> Self {
        Self {
            start,
            route: OnceLock::new(),
            tried: Default::default(),
            uploading: AtomicBool::new(false),
            received: AtomicU32::new(0),
            received_bytes: AtomicU64::new(0),
            principal: OnceLock::new(),
            #[cfg(feature = "server")]
            answered: AtomicBool::new(false),
        }
    }
}

// Without what baggage holds: it is in no log.
impl fmt::Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation")
            .field("start", &self.start)
            .field("deadline", &self.deadline)
            .field("service", &self.service)
            .field("subset", &self.subset)
            .field("client", &self.client)
            .field("request_id", &self.request_id)
            .field("trace", &self.trace)
            .field("trace_state", &self.trace_state)
            .field("has_baggage", &self.baggage.is_some())
            .field("attempt", &self.attempt)
            .field("caller_attempt", &self.caller_attempt)
            .field("shared", &self.shared)
            .finish()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("route", &self.route.get().map(MatchedRoute::template))
            .finish()
    }
}

impl Invocation {
    /// A call that begins at `start`.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self::of(start, Arc::new(Shared::new(start)))
    }

    /// What a further attempt of a call gets that came without an invocation: the beginning, the route and the endpoints
    /// that were tried, and nothing else.
    #[must_use]
    pub fn again(slot: &RouteSlot) -> Self {
        Self::of(slot.0.start, Arc::clone(&slot.0))
    }

    const fn of(start: Instant, shared: Arc<Shared>) -> Self {
        Self {
            start,
            deadline: None,
            service: None,
            subset: None,
            client: None,
            request_id: None,
            trace: None,
            trace_state: None,
            baggage: None,
            attempt: 1,
            caller_attempt: 1,
            shared,
        }
    }

    /// A call that is made to serve this one: it begins now, and has this one's deadline, trace, baggage and request id, and
    /// knows which attempt it serves. Nothing else: its route, service, endpoints, attempts and client are its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            deadline: self.deadline,
            request_id: self.request_id.clone(),
            trace: self.trace,
            trace_state: self.trace_state.clone(),
            baggage: self.baggage.clone(),
            caller_attempt: self.serves(),
            ..Self::new(clock::entered(|now| now))
        }
    }

    /// Makes `request` a call that is made to serve this one. Nothing does it behind your back: a request
    /// that a handler makes has no deadline of its caller unless it is carried over.
    ///
    /// What the request says already stays: its trace, its baggage, its request id, and the nearer one of the two deadlines, and the
    /// later one of the two attempts that it serves.
    ///
    /// # Example
    /// ```
    /// use http::Request;
    /// use tower_chassis_core::{Carrier, Invocation};
    ///
    /// // In a handler. Under axum, `Extension<Invocation>` is the invocation of its request.
    /// fn price_of(incoming: &Invocation, item: u64) -> Request<String> {
    ///     let mut request = Request::new(item.to_string());
    ///     incoming.carry(&mut request);
    ///     request
    /// }
    /// # let mut incoming = Invocation::new(tokio::time::Instant::now());
    /// # incoming.set_request_id("r-1".into());
    /// # let request = price_of(&incoming, 7);
    /// # assert_eq!(request.invocation().unwrap().request_id(), incoming.request_id());
    /// ```
    pub fn carry<Req: Carrier + ?Sized>(&self, request: &mut Req) {
        let Some(own) = request.extensions_mut().get_mut::<Self>() else {
            request.extensions_mut().insert(self.child());
            return;
        };
        if let Some(deadline) = self.deadline {
            own.limit_deadline(deadline);
        }
        own.caller_attempt = own.caller_attempt.max(self.serves());
        if own.request_id.is_none() {
            own.request_id.clone_from(&self.request_id);
        }
        if own.trace.is_none() {
            own.trace = self.trace;
            own.trace_state.clone_from(&self.trace_state);
        }
        if own.baggage.is_none() {
            own.baggage.clone_from(&self.baggage);
        }
    }

    /// When it began here.
    #[must_use]
    pub const fn start(&self) -> Instant {
        self.start
    }

    /// When it must be over.
    #[must_use]
    pub const fn deadline(&self) -> Option<Deadline> {
        self.deadline
    }

    /// Brings the deadline forward; a later one changes nothing.
    pub fn limit_deadline(&mut self, deadline: Deadline) {
        self.deadline = Some(self.deadline.map_or(deadline, |old| old.min(deadline)));
    }

    /// The service that is called.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// Names the service that is called.
    pub fn set_service(&mut self, service: Arc<str>) {
        self.service = Some(service);
    }

    /// The part of the service that traffic rules chose.
    #[must_use]
    pub fn subset(&self) -> Option<&Subset> {
        self.subset.as_deref()
    }

    /// Chooses a part of the service.
    pub fn set_subset(&mut self, subset: Option<Arc<Subset>>) {
        self.subset = subset;
    }

    /// The peer of the connection, or what a layer that trusts its proxies put there.
    #[must_use]
    pub const fn client(&self) -> Option<SocketAddr> {
        self.client
    }

    /// Names the client.
    pub fn set_client(&mut self, client: SocketAddr) {
        self.client = Some(client);
    }

    /// The id of the request.
    #[must_use]
    pub fn request_id(&self) -> Option<&Arc<str>> {
        self.request_id.as_ref()
    }

    /// Names the request.
    pub fn set_request_id(&mut self, id: Arc<str>) {
        self.request_id = Some(id);
    }

    /// The trace and the span that the call runs in.
    #[must_use]
    pub const fn trace(&self) -> Option<TraceContext> {
        self.trace
    }

    /// What other systems wrote into the trace (`tracestate`), to be passed on.
    #[must_use]
    pub fn trace_state(&self) -> Option<&Arc<str>> {
        self.trace_state.as_ref()
    }

    /// Says which trace and span the call runs in, and what is passed on with them.
    pub fn set_trace(&mut self, trace: TraceContext, state: Option<Arc<str>>) {
        self.trace = Some(trace);
        self.trace_state = state;
    }

    /// What the callers gave this call on its way (W3C `baggage`), as the text of the header. Any of them may have
    /// written it.
    #[must_use]
    pub fn baggage(&self) -> Option<&Arc<str>> {
        self.baggage.as_ref()
    }

    /// Says what is passed on with the call, in the format of the `baggage` header.
    pub fn set_baggage(&mut self, baggage: Option<Arc<str>>) {
        self.baggage = baggage;
    }

    /// Who the call comes from, as an authentication found.
    #[must_use]
    pub fn principal(&self) -> Option<&Arc<str>> {
        self.shared.principal.get()
    }

    /// Says who the call comes from. For what has authenticated it; the first word stays, and layers outside hear of it
    /// by their [slot](Self::route_slot). Calls that are made to serve this one do not inherit it.
    pub fn set_principal(&self, principal: Arc<str>) {
        let _ = self.shared.principal.set(principal);
    }

    /// The number of this attempt, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Counts this attempt.
    pub fn set_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
    }

    /// The number of the attempt of our caller that this call serves, from 1. Above 1 the caller tries again already,
    /// and a retry here would multiply with its own.
    #[must_use]
    pub const fn caller_attempt(&self) -> u32 {
        self.caller_attempt
    }

    /// Says which attempt of our caller this call serves. For who trusts the caller: it told in its metadata.
    pub fn set_caller_attempt(&mut self, attempt: u32) {
        self.caller_attempt = attempt;
    }

    /// The attempt that a call serves which is made to serve this one.
    const fn serves(&self) -> u32 {
        if self.attempt > self.caller_attempt {
            self.attempt
        } else {
            self.caller_attempt
        }
    }

    /// Notes the [key](crate::Endpoint::key) of the endpoint that this attempt goes to.
    pub fn note_endpoint(&self, key: u64) {
        let slot = self.attempt.saturating_sub(1) as usize;
        if let Some(slot) = self.shared.tried.get(slot) {
            slot.store(key, Ordering::Relaxed);
        }
    }

    /// Whether another attempt of this call went to the endpoint. Always false on the first.
    #[must_use]
    pub fn has_tried(&self, key: u64) -> bool {
        self.attempt > 1
            && self
                .shared
                .tried
                .iter()
                .any(|tried| tried.load(Ordering::Relaxed) == key)
    }

    /// The route that matched, for layers inside the router.
    #[must_use]
    pub fn route(&self) -> Option<&MatchedRoute> {
        self.shared.route.get()
    }

    /// Says which route matched. The first word stays.
    pub fn set_route(&self, route: MatchedRoute) {
        // A mount inside a mount may speak twice; the outermost table has the whole template.
        let _ = self.shared.route.set(route);
    }

    /// Whether the body of the request is waited for: what a server tells, and a timeout of an attempt asks.
    #[must_use]
    pub fn upload(&self) -> Upload {
        Upload(Arc::clone(&self.shared))
    }

    /// A view of the route for layers outside the router, which outlives the request.
    #[must_use]
    pub fn route_slot(&self) -> RouteSlot {
        RouteSlot(Arc::clone(&self.shared))
    }
}

/// Whether a call waits for its own client: the body of the request was asked for, and is not there.
#[derive(Clone, Debug)]
pub struct Upload(Arc<Shared>);

impl Upload {
    /// The body was asked for and is not there (or is there again).
    pub fn set_waiting(&self, waiting: bool) {
        if self.0.uploading.load(Ordering::Relaxed) != waiting {
            self.0.uploading.store(waiting, Ordering::Relaxed);
        }
    }

    /// The body goes on: what a server tells, and a timeout of the response's body asks.
    pub fn set_received(&self) {
        // One body has one reader, so none is lost that would matter.
        let received = self.received().wrapping_add(1);
        self.0.received.store(received, Ordering::Relaxed);
    }

    /// The same, and how many bytes it gave.
    pub fn add_received(&self, bytes: u64) {
        self.set_received();
        let before = self.0.received_bytes.load(Ordering::Relaxed);
        let bytes = before.saturating_add(bytes);
        self.0.received_bytes.store(bytes, Ordering::Relaxed);
    }

    /// A number that is another one after the body went on. It is for whoever asks, of whom there may be several.
    #[must_use]
    pub fn received(&self) -> u32 {
        self.0.received.load(Ordering::Relaxed)
    }

    /// The response goes on.
    #[cfg(feature = "server")]
    pub(crate) fn answered(&self) {
        if !self.0.answered.load(Ordering::Relaxed) {
            self.0.answered.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it did since this was last asked.
    #[cfg(feature = "server")]
    pub(crate) fn take_answered(&self) -> bool {
        self.0.answered.load(Ordering::Relaxed) && self.0.answered.swap(false, Ordering::Relaxed)
    }

    /// Whether the call waits for its client.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.0.uploading.load(Ordering::Relaxed)
    }
}

/// Tells which route a call matched and what else was found out about it further in, also after it was cancelled or
/// panicked.
#[derive(Clone, Debug)]
pub struct RouteSlot(Arc<Shared>);

impl RouteSlot {
    /// The route, once the router has matched.
    #[must_use]
    pub fn get(&self) -> Option<&MatchedRoute> {
        self.0.route.get()
    }

    /// Who the call comes from, once it was [authenticated](Invocation::set_principal).
    #[must_use]
    pub fn principal(&self) -> Option<&Arc<str>> {
        self.0.principal.get()
    }

    /// How many bytes of the request's body a server of ours has received by now; 0 under others.
    #[must_use]
    pub fn received_bytes(&self) -> u64 {
        self.0.received_bytes.load(Ordering::Relaxed)
    }
}
