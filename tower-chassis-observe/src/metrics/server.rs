//! The metrics of a server.

use std::{
    array, fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Request, Version, uri::Scheme};
use metrics::{Gauge, Label};
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Live, Verdict,
    invocation::RouteSlot,
    settle::{Observe, UntilEnd},
    verdict::Auto,
    wire::Start,
};

use super::{
    MetricsHandle, MetricsPolicy, RecorderHandle, names,
    policy::{Control, Measured},
    routes::Routes,
    series::{Lazy, Series},
};
use crate::{fault::Outcome, method::KnownMethod};

observer_layer! {
    /// Measures the requests that a server serves. See the [module](super).
    ServerMetricsLayer, ServerMetrics, MetricsPolicy, MetricsHandle,
    /// The service of [`ServerMetricsLayer`].
    ServerMetricsService
}

impl ServerMetricsLayer {
    /// Measures into the global recorder.
    pub fn new() -> Self {
        Self {
            policy: ServerMetrics::new(
                RecorderHandle::global(),
                Control::new(Live::new(MetricsPolicy::default())),
                HTTP,
            ),
            settle: UntilEnd::new(Auto),
        }
    }
}

impl Default for ServerMetricsLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<J> ServerMetricsLayer<J> {
    /// Measures into a recorder of your own. To be said before the layer is used.
    pub fn recorder(self, recorder: impl Into<RecorderHandle>) -> Self {
        let State {
            control, scheme, ..
        } = &*self.policy.0;
        let policy = ServerMetrics::new(recorder.into(), control.fresh(), *scheme);
        Self { policy, ..self }
    }

    /// What `url_scheme` is where the request does not say it, as HTTP/1 never does: behind a listener with
    /// TLS `https`. To be said before the layer is used.
    pub fn scheme(self, scheme: &Scheme) -> Self {
        let State {
            control, recorder, ..
        } = &*self.policy.0;
        let scheme = scheme_index(scheme).unwrap_or(HTTP);
        let policy = ServerMetrics::new(recorder.clone(), control.fresh(), scheme);
        Self { policy, ..self }
    }
}

/// The policy of [`ServerMetricsLayer`].
#[derive(Clone)]
pub struct ServerMetrics(Arc<State>);

const HTTP: u8 = 0;
const HTTPS: u8 = 1;
const SCHEMES: [&str; 2] = ["http", "https"];
const VERSIONS: [&str; 5] = ["0.9", "1.0", "1.1", "2", "3"];
const LINES: usize = SCHEMES.len() * VERSIONS.len();

/// The series of a route: by method, by scheme and version, by outcome.
type Methods = Lazy<Lazy<Series, LINES>, { KnownMethod::COUNT }>;

struct State {
    recorder: RecorderHandle,
    control: Arc<Control>,
    scheme: u8,
    active: [[OnceLock<Gauge>; SCHEMES.len()]; KnownMethod::COUNT],
    routes: Routes<Methods>,
}

impl ServerMetrics {
    fn new(recorder: RecorderHandle, control: Arc<Control>, scheme: u8) -> Self {
        let active = array::from_fn(|_| array::from_fn(|_| OnceLock::new()));
        Self(Arc::new(State {
            recorder,
            control,
            scheme,
            active,
            routes: Routes::default(),
        }))
    }

    fn handle(&self) -> MetricsHandle {
        MetricsHandle(Arc::clone(&self.0.control))
    }

    fn with(&self, control: Arc<Control>) -> Self {
        Self::new(self.0.recorder.clone(), control, self.0.scheme)
    }

    fn fresh(&self) -> Self {
        self.with(self.0.control.fresh())
    }

    fn with_policy(&self, live: Live<MetricsPolicy>) -> Self {
        self.with(Control::new(live))
    }
}

impl fmt::Debug for ServerMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerMetrics")
            .field("recorder", &self.0.recorder)
            .finish_non_exhaustive()
    }
}

impl<B> Start<Request<B>> for ServerMetrics {
    type Ticket = Option<ServerTicket>;

    fn start(&self, request: &mut Request<B>, now: Instant) -> Self::Ticket {
        let measured = self.0.control.begin()?;
        let line = Line {
            method: request.method().into(),
            scheme: request
                .uri()
                .scheme()
                .and_then(scheme_index)
                .unwrap_or(self.0.scheme),
            version: version_index(request.version()),
        };
        if measured.active() {
            self.0.active(line, |gauge| gauge.increment(1.0));
        }
        let route = request.invocation_mut().route_slot();
        Some(ServerTicket {
            state: Arc::clone(&self.0),
            route,
            measured,
            start: now,
            head: None,
            line,
        })
    }
}

impl State {
    fn active(&self, line: Line, change: impl FnOnce(&Gauge)) {
        let slot = self
            .active
            .get(line.method.index())
            .and_then(|by| by.get(usize::from(line.scheme)));
        if let Some(slot) = slot {
            change(slot.get_or_init(|| self.recorder.gauge(names::SERVER_ACTIVE, line.labels())));
        }
    }

    fn record(&self, route: &RouteSlot, line: Line, outcome: Outcome, time: Duration) {
        self.routes.with(route.get(), |methods, template| {
            let Some(series) = methods
                .get(line.method.index())
                .and_then(|lines| lines.get(line.index()))
            else {
                return;
            };
            series.record(outcome, time.as_secs_f64(), || {
                let mut labels = line.labels();
                let version = VERSIONS
                    .get(usize::from(line.version))
                    .copied()
                    .unwrap_or_default();
                labels.push(Label::from_static_parts(
                    "network_protocol_version",
                    version,
                ));
                labels.push(match template {
                    Some(template) => Label::new("http_route", template.to_owned()),
                    None => Label::from_static_parts("http_route", "unmatched"),
                });
                push_outcome(&mut labels, outcome);
                self.recorder.histogram(names::SERVER_DURATION, labels)
            });
        });
    }
}

/// Adds the labels of an outcome.
pub(super) fn push_outcome(labels: &mut Vec<Label>, outcome: Outcome) {
    if let Some(status) = outcome.status {
        labels.push(Label::new("http_response_status_code", status.to_string()));
    }
    if let Some(error) = outcome.error_type() {
        labels.push(Label::new("error_type", error));
    }
}

/// What is known of a request when it begins.
#[derive(Clone, Copy, Debug)]
struct Line {
    method: KnownMethod,
    scheme: u8,
    version: u8,
}

impl Line {
    fn index(self) -> usize {
        usize::from(self.scheme) * VERSIONS.len() + usize::from(self.version)
    }

    fn labels(self) -> Vec<Label> {
        let scheme = SCHEMES
            .get(usize::from(self.scheme))
            .copied()
            .unwrap_or_default();
        vec![
            Label::from_static_parts("http_request_method", self.method.label()),
            Label::from_static_parts("url_scheme", scheme),
        ]
    }
}

fn scheme_index(scheme: &Scheme) -> Option<u8> {
    match scheme.as_str() {
        "http" => Some(HTTP),
        "https" => Some(HTTPS),
        _ => None,
    }
}

fn version_index(version: Version) -> u8 {
    match version {
        Version::HTTP_09 => 0,
        Version::HTTP_10 => 1,
        Version::HTTP_2 => 3,
        Version::HTTP_3 => 4,
        _ => 2,
    }
}

/// What [`ServerMetrics`] holds for the length of a call.
#[derive(Debug)]
pub struct ServerTicket {
    state: Arc<State>,
    route: RouteSlot,
    measured: Measured,
    start: Instant,
    head: Option<Duration>,
    line: Line,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

impl Observe for ServerTicket {
    fn head(&mut self, _: Verdict, now: Instant) {
        self.head = Some(now.saturating_duration_since(self.start));
    }

    fn done(self, verdict: Verdict, now: Instant) {
        let time = self
            .head
            .unwrap_or_else(|| now.saturating_duration_since(self.start));
        if self.measured.durations() {
            self.state
                .record(&self.route, self.line, Outcome::server(verdict), time);
        }
        if self.measured.active() {
            self.state.active(self.line, |gauge| gauge.decrement(1.0));
        }
        self.state.control.end();
    }
}
