//! The metrics of a client.

use std::sync::Arc;

use http::Request;
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Invocation, Live, Verdict, clock,
    settle::{Observe, UntilEnd},
    verdict::Auto,
    wire::Start,
};

use super::{
    MetricsHandle, MetricsPolicy, RecorderHandle,
    peers::{Peer, Peers},
    policy::{Control, Measured},
    progress::Progress,
    recorder::told,
    rpc::Rpc,
    series::{DURATION, REQUEST, RESPONSE, Values},
    server::rpc_of,
};
use crate::{fault::Outcome, method::KnownMethod};

observer_layer! {
    /// Measures the requests that a client sends. See the [module](super).
    ClientMetricsLayer, ClientMetrics, MetricsPolicy, MetricsHandle,
    /// The service of [`ClientMetricsLayer`].
    ClientMetricsService
}

impl ClientMetricsLayer {
    /// Measures into the global recorder.
    pub fn new() -> Self {
        Self {
            policy: ClientMetrics::new(
                RecorderHandle::global(),
                Control::new(Live::new(MetricsPolicy::default())),
            ),
            settle: UntilEnd::new(Auto),
        }
    }
}

impl Default for ClientMetricsLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<J> ClientMetricsLayer<J> {
    /// Measures into a recorder of your own. To be said before the layer is used.
    pub fn recorder(self, recorder: impl Into<RecorderHandle>) -> Self {
        Self {
            policy: ClientMetrics::new(recorder.into(), self.policy.0.control.fresh()),
            ..self
        }
    }
}

/// The policy of [`ClientMetricsLayer`].
#[derive(Clone)]
pub struct ClientMetrics(Arc<State>);

#[derive(Debug)]
struct State {
    peers: Peers,
    control: Arc<Control>,
}

impl ClientMetrics {
    fn new(recorder: RecorderHandle, control: Arc<Control>) -> Self {
        Self(Arc::new(State {
            peers: Peers::new(recorder),
            control,
        }))
    }

    fn handle(&self) -> MetricsHandle {
        MetricsHandle(Arc::clone(&self.0.control))
    }

    fn fresh(&self) -> Self {
        Self::new(self.0.peers.recorder().clone(), self.0.control.fresh())
    }

    fn with_policy(&self, live: Live<MetricsPolicy>) -> Self {
        Self::new(self.0.peers.recorder().clone(), Control::new(live))
    }
}

impl std::fmt::Debug for ClientMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientMetrics")
            .field("recorder", self.0.peers.recorder())
            .finish_non_exhaustive()
    }
}

impl<B> Start<Request<B>> for ClientMetrics {
    type Ticket = Option<ClientTicket>;

    fn start(&self, request: &mut Request<B>, now: Instant) -> Self::Ticket {
        let State { peers, control } = &*self.0;
        let measured = control.begin()?;
        let bound = measured.names();
        let peer = match request.invocation().and_then(Invocation::service) {
            Some(service) => peers.get(bound, service, None),
            None => {
                let (address, port) = server_of(request);
                peers.get(bound, address, port)
            }
        };
        let method = request.method().into();
        if measured.active() {
            peer.active(method, |gauge| gauge.increment(1.0));
        }
        let mut progress = Progress::new(now);
        if measured.sizes() {
            progress.announce(request, false);
        }
        Some(ClientTicket {
            state: Arc::clone(&self.0),
            rpc: rpc_of(peer.rpcs(), measured, request),
            peer,
            method,
            measured,
            progress,
        })
    }
}

/// The host and port that a request goes to, by its URI.
pub(crate) fn server_of<B>(request: &Request<B>) -> (&str, Option<u16>) {
    let uri = request.uri();
    let port = uri.port_u16().or(match uri.scheme_str() {
        Some("http") => Some(80),
        Some("https") => Some(443),
        _ => None,
    });
    (uri.host().unwrap_or("unknown"), port)
}

/// What [`ClientMetrics`] holds for the length of a call.
#[derive(Debug)]
pub struct ClientTicket {
    state: Arc<State>,
    peer: Arc<Peer>,
    rpc: Option<Arc<Rpc>>,
    measured: Measured,
    progress: Progress,
    method: KnownMethod,
}

impl Observe for ClientTicket {
    fn head(&mut self, _: Verdict, now: Instant) {
        self.progress.head(now);
    }

    fn data(&mut self, bytes: usize) {
        self.progress.data(bytes);
    }

    fn now(&self) -> Instant {
        // What takes until the end of the body is a call of gRPC.
        let settled = self.progress.settled().filter(|_| self.rpc.is_none());
        settled.unwrap_or_else(clock::now)
    }

    fn done(self, verdict: Verdict, now: Instant) {
        let answered = self.progress.response();
        self.over(verdict, now, answered);
    }

    fn done_at_head(mut self, verdict: Verdict, now: Instant) {
        self.progress.head(now);
        self.over(verdict, now, None);
    }
}

impl ClientTicket {
    fn over(self, verdict: Verdict, now: Instant, answered: Option<u64>) {
        let Self {
            state,
            peer,
            rpc,
            measured,
            progress,
            method,
        } = self;
        let outcome = Outcome::client(verdict);
        let mut values = Values::default();
        if let Some(rpc) = rpc {
            let seconds = progress.until(now).as_secs_f64();
            told(|| peer.record_rpc(measured.names(), rpc, verdict, outcome, seconds));
        } else if measured.durations() {
            values[DURATION] = Some(progress.until_head(now).as_secs_f64());
        }
        if measured.sizes() {
            values[REQUEST] = progress.request(0).map(|bytes| bytes as f64);
            values[RESPONSE] = answered.map(|bytes| bytes as f64);
        }
        if values.iter().any(Option::is_some) {
            told(|| peer.record(method, outcome, values));
        }
        if measured.active() {
            peer.active(method, |gauge| gauge.decrement(1.0));
        }
        state.control.end();
    }
}
