//! The metrics of a client.

use std::{sync::Arc, time::Duration};

use http::Request;
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Invocation, Live, Verdict,
    settle::{Observe, UntilEnd},
    verdict::Auto,
    wire::Start,
};

use super::{
    MetricsHandle, MetricsPolicy, RecorderHandle,
    peers::{Peer, Peers},
    policy::{Control, Measured},
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
        Some(ClientTicket {
            state: Arc::clone(&self.0),
            peer,
            method,
            measured,
            start: now,
            head: None,
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
    method: KnownMethod,
    measured: Measured,
    start: Instant,
    head: Option<Duration>,
}

impl Observe for ClientTicket {
    fn head(&mut self, _: Verdict, now: Instant) {
        self.head = Some(now.saturating_duration_since(self.start));
    }

    fn done(self, verdict: Verdict, now: Instant) {
        let time = self
            .head
            .unwrap_or_else(|| now.saturating_duration_since(self.start));
        if self.measured.durations() {
            self.peer
                .record(self.method, Outcome::client(verdict), time.as_secs_f64());
        }
        if self.measured.active() {
            self.peer.active(self.method, |gauge| gauge.decrement(1.0));
        }
        self.state.control.end();
    }
}
