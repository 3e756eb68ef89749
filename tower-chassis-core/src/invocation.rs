//! The one extension of a call.
//!
//! Everything of ours that travels with a request is in one [`Invocation`]: the first extension of a request
//! costs three allocations, so no layer inserts its own. It is go-chassis's protocol-independent call; a
//! protocol of your own carries it by [`Carrier`].

use std::{
    borrow::Cow,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use http::{Extensions, HeaderName, Request};
use tokio::time::Instant;

use crate::{Deadline, clock, trace::TraceContext, verdict};

/// How many attempts of a call remember their endpoint.
const REMEMBERED: usize = 4;

/// What is known of a call while it runs. A clone (a retry's copy) shares the route and the tried endpoints.
#[derive(Clone, Debug)]
pub struct Invocation {
    start: Instant,
    deadline: Option<Deadline>,
    service: Option<Arc<str>>,
    subset: Option<Arc<Subset>>,
    client: Option<SocketAddr>,
    request_id: Option<Arc<str>>,
    trace: Option<TraceContext>,
    trace_state: Option<Arc<str>>,
    attempt: u32,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    route: OnceLock<MatchedRoute>,
    /// The key of the endpoint of each attempt, 0 before it was chosen.
    tried: [AtomicU64; REMEMBERED],
    /// The client's body is waited for.
    uploading: AtomicBool,
    /// The response gave a frame since the body of the request was last looked at.
    #[cfg(feature = "server")]
    answered: AtomicBool,
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
        Self {
            start,
            deadline: None,
            service: None,
            subset: None,
            client: None,
            request_id: None,
            trace: None,
            trace_state: None,
            attempt: 1,
            shared: Arc::default(),
        }
    }

    /// A call that is made to serve this one: it begins now, and has this one's deadline, trace and request id.
    /// Nothing else: its route, service, endpoints, attempts and client are its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            deadline: self.deadline,
            request_id: self.request_id.clone(),
            trace: self.trace,
            trace_state: self.trace_state.clone(),
            ..Self::new(clock::entered(|now| now))
        }
    }

    /// Makes `request` a call that is made to serve this one. Nothing does it behind your back: a request
    /// that a handler makes has no deadline of its caller unless it is carried over.
    ///
    /// What the request says already stays: its trace, its request id, and the nearer one of the two deadlines.
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
        if own.request_id.is_none() {
            own.request_id.clone_from(&self.request_id);
        }
        if own.trace.is_none() {
            own.trace = self.trace;
            own.trace_state.clone_from(&self.trace_state);
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

    /// The number of this attempt, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Counts this attempt.
    pub fn set_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
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

/// Tells which route a call matched, also after it was cancelled or panicked.
#[derive(Clone, Debug)]
pub struct RouteSlot(Arc<Shared>);

impl RouteSlot {
    /// The route, once the router has matched.
    #[must_use]
    pub fn get(&self) -> Option<&MatchedRoute> {
        self.0.route.get()
    }
}

/// The templates of a router, by the index of their routes.
#[derive(Debug)]
pub struct RouteTable {
    templates: Box<[Arc<str>]>,
}

impl RouteTable {
    /// A table of templates (`/users/{id}`).
    #[must_use]
    pub fn new(templates: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            templates: templates.into_iter().collect(),
        }
    }

    /// How many routes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.templates.len()
    }

    /// Whether it has no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.templates.is_empty()
    }

    /// The template of a route; empty for an index that is not in the table.
    #[must_use]
    pub fn template(&self, index: u32) -> &str {
        self.templates
            .get(index as usize)
            .map_or("", |template| template)
    }
}

/// A route: a table and the index in it.
#[derive(Clone, Debug)]
pub struct MatchedRoute {
    table: Arc<RouteTable>,
    index: u32,
}

impl MatchedRoute {
    /// The route `index` of `table`.
    #[must_use]
    pub const fn new(table: Arc<RouteTable>, index: u32) -> Self {
        Self { table, index }
    }

    /// The table of the whole router.
    #[must_use]
    pub const fn table(&self) -> &Arc<RouteTable> {
        &self.table
    }

    /// The index in the table.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The template (`/users/{id}`).
    #[must_use]
    pub fn template(&self) -> &str {
        self.table.template(self.index)
    }
}

/// A part of a service: the endpoints that have all of these tags.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Subset {
    tags: Vec<(Arc<str>, Arc<str>)>,
    on_empty: OnEmpty,
}

/// What happens when a subset has no usable endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum OnEmpty {
    /// The whole service serves the call.
    #[default]
    Any,
    /// The call is refused.
    Refuse,
}

impl Subset {
    /// The endpoints that have all of `tags`.
    pub fn new<K: Into<Arc<str>>, V: Into<Arc<str>>>(
        tags: impl IntoIterator<Item = (K, V)>,
        on_empty: OnEmpty,
    ) -> Self {
        Self {
            tags: tags
                .into_iter()
                .map(|(k, v)| (k.into(), v.into()))
                .collect(),
            on_empty,
        }
    }

    /// Whether an endpoint belongs to it.
    #[must_use]
    pub fn contains(&self, endpoint: &crate::Endpoint) -> bool {
        self.tags
            .iter()
            .all(|(name, value)| endpoint.tag(name) == Some(value))
    }

    /// The tags.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.tags.iter().map(|(k, v)| (&**k, &**v))
    }

    /// What happens when it has no usable endpoint.
    #[must_use]
    pub const fn on_empty(&self) -> OnEmpty {
        self.on_empty
    }
}

/// A request that carries an [`Invocation`]. `http::Request` does; a protocol of your own holds an
/// `http::Extensions` and returns it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry an `Invocation`",
    label = "the requests of this service carry nothing",
    note = "hold an `http::Extensions` and `impl Carrier for {Self}`: two methods return it, the rest is optional"
)]
pub trait Carrier {
    /// Where the invocation is kept.
    fn extensions(&self) -> &Extensions;
    /// Where the invocation is kept.
    fn extensions_mut(&mut self) -> &mut Extensions;

    /// Metadata that came over the wire: the first value under a name, if it is UTF-8.
    fn meta(&self, name: &str) -> Option<&str> {
        let _ = name;
        None
    }
    /// Sets metadata that goes over the wire. False if the protocol cannot carry it.
    fn set_meta(&mut self, name: &'static str, value: Cow<'_, str>) -> bool {
        let _ = (name, value);
        false
    }
    /// Whether the call is one of gRPC, whose metadata has words of its own (`grpc-timeout`). By default, what the
    /// metadatum `content-type` says.
    fn is_grpc(&self) -> bool {
        self.meta("content-type")
            .is_some_and(|kind| kind.starts_with("application/grpc"))
    }
    /// What is asked for, in the terms of the protocol (`GET`, `/package.Service/Method`).
    fn operation(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    /// Whether the call may be made twice although it may have been served. A retry asks; false unless the
    /// protocol says otherwise.
    fn is_idempotent(&self) -> bool {
        false
    }

    /// The invocation, if a layer made one.
    fn invocation(&self) -> Option<&Invocation> {
        self.extensions().get()
    }
    /// The invocation, made now if there is none.
    fn invocation_mut(&mut self) -> &mut Invocation {
        self.extensions_mut()
            .get_or_insert_with(|| Invocation::new(Instant::now()))
    }
}

impl<B> Carrier for Request<B> {
    fn extensions(&self) -> &Extensions {
        self.extensions()
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
    fn meta(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }
    fn set_meta(&mut self, name: &'static str, value: Cow<'_, str>) -> bool {
        let Ok(value) = http::HeaderValue::from_str(&value) else {
            return false;
        };
        self.headers_mut().insert(name, value);
        true
    }
    fn is_grpc(&self) -> bool {
        verdict::is_grpc(self.headers())
    }
    fn operation(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.method().as_str())
    }
    fn is_idempotent(&self) -> bool {
        self.method().is_idempotent()
            || self.headers().contains_key(&IDEMPOTENCY_KEY)
            || self.extensions().get::<Idempotent>().is_some()
    }
}

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Put into a request's extensions, it says that the request may be repeated although its method does not say
/// so: for a route, or a gRPC method, that you know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Idempotent;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_retry_sees_what_was_tried() {
        let first = Invocation::new(Instant::now());
        first.note_endpoint(7);
        assert!(!first.has_tried(7));
        let mut second = first.clone();
        second.set_attempt(2);
        assert!(second.has_tried(7) && !second.has_tried(8));
        assert!(
            !first.has_tried(7),
            "the copy is the retry, not the original"
        );
    }

    #[test]
    fn the_route_outlives_the_request_and_its_first_word_stays() {
        let mut request = Request::new(());
        let slot = request.invocation_mut().route_slot();
        let table = Arc::new(RouteTable::new(["/a".into(), "/b/{id}".into()]));
        request
            .invocation_mut()
            .set_route(MatchedRoute::new(Arc::clone(&table), 1));
        request
            .invocation_mut()
            .set_route(MatchedRoute::new(table, 0));
        drop(request);
        assert_eq!(slot.get().map(MatchedRoute::template), Some("/b/{id}"));
    }

    #[test]
    fn methods_say_whether_a_request_may_be_repeated() {
        let request = |method: &str| Request::builder().method(method).body(()).unwrap();
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(request(method).is_idempotent(), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "PURGE"] {
            let mut request = request(method);
            assert!(!request.is_idempotent(), "{method}");
            request.extensions_mut().insert(Idempotent);
            assert!(request.is_idempotent(), "{method}");
        }
        let keyed = Request::post("/").header("Idempotency-Key", "7").body(());
        assert!(keyed.unwrap().is_idempotent());
    }

    #[test]
    fn a_deadline_only_comes_forward() {
        let now = Instant::now();
        let mut invocation = Invocation::new(now);
        let near = Deadline::after(now, Duration::from_secs(1));
        invocation.limit_deadline(near);
        invocation.limit_deadline(Deadline::after(now, Duration::from_secs(9)));
        assert_eq!(invocation.deadline(), Some(near));
    }

    fn incoming() -> Invocation {
        let mut incoming = Invocation::new(Instant::now());
        incoming.limit_deadline(Deadline::after(incoming.start(), Duration::from_secs(5)));
        incoming.set_trace(
            TraceContext::new([1; 16], [2; 8], true).unwrap(),
            Some("a=b".into()),
        );
        incoming.set_request_id("r-1".into());
        incoming.set_service("shop".into());
        incoming.set_client("10.0.0.1:1".parse().unwrap());
        incoming.set_subset(Some(Arc::default()));
        incoming.set_attempt(2);
        incoming.note_endpoint(7);
        incoming.set_route(MatchedRoute::new(
            Arc::new(RouteTable::new(["/a".into()])),
            0,
        ));
        incoming.upload().set_waiting(true);
        incoming
    }

    #[tokio::test(start_paused = true)]
    async fn a_child_has_the_deadline_the_trace_and_the_request_id_and_nothing_else() {
        let incoming = incoming();
        tokio::time::advance(Duration::from_secs(1)).await;
        let mut request = Request::new(());
        incoming.carry(&mut request);
        let child = request.invocation().unwrap();
        assert_eq!(child.deadline(), incoming.deadline());
        assert_eq!(child.trace(), incoming.trace());
        assert_eq!(child.trace_state(), incoming.trace_state());
        assert_eq!(child.request_id(), incoming.request_id());
        assert_eq!(child.start(), Instant::now());
        assert!(child.service().is_none() && child.client().is_none() && child.subset().is_none());
        assert!(child.route().is_none() && child.attempt() == 1);
        assert!(!child.upload().is_waiting());
        let mut second = child.clone();
        second.set_attempt(2);
        assert!(!second.has_tried(7), "the tried endpoints are the caller's");
    }

    #[test]
    fn what_a_request_says_already_stays() {
        let incoming = incoming();
        let mut request = Request::new(());
        let trace = TraceContext::new([3; 16], [4; 8], false).unwrap();
        let own = request.invocation_mut();
        own.set_trace(trace, None);
        own.set_request_id("mine".into());
        own.set_service("prices".into());
        own.limit_deadline(Deadline::after(incoming.start(), Duration::from_secs(9)));
        incoming.carry(&mut request);
        let own = request.invocation().unwrap();
        assert_eq!(own.deadline(), incoming.deadline(), "the nearer one");
        assert_eq!((own.trace(), own.trace_state()), (Some(trace), None));
        assert_eq!(own.request_id().map(|id| &**id), Some("mine"));
        assert_eq!(own.service(), Some("prices"));

        let near = Deadline::after(incoming.start(), Duration::from_secs(1));
        request.invocation_mut().limit_deadline(near);
        incoming.carry(&mut request);
        assert_eq!(request.invocation().unwrap().deadline(), Some(near));
    }

    #[test]
    fn the_content_type_says_what_is_grpc() {
        struct Own(Extensions, Option<&'static str>);
        impl Carrier for Own {
            fn extensions(&self) -> &Extensions {
                &self.0
            }
            fn extensions_mut(&mut self) -> &mut Extensions {
                &mut self.0
            }
            fn meta(&self, name: &str) -> Option<&str> {
                self.1.filter(|_| name == "content-type")
            }
        }
        for (kind, grpc) in [
            (Some("application/grpc"), true),
            (Some("application/grpc+proto"), true),
            (Some("application/json"), false),
            (None, false),
        ] {
            assert_eq!(Own(Extensions::new(), kind).is_grpc(), grpc);
            let mut request = Request::new(());
            if let Some(kind) = kind {
                assert!(request.set_meta("content-type", kind.into()));
            }
            assert_eq!(request.is_grpc(), grpc);
        }
    }
}
