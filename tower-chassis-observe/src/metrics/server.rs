//! The metrics of a server.

use std::{
    array, fmt,
    sync::{Arc, OnceLock},
};

use http::{Method, Request, Version, uri::Scheme};
use metrics::{Gauge, Histogram, Label};
use tokio::time::Instant;
use tower_chassis_core::{
    Live, Verdict, clock,
    settle::{Observe, UntilEnd},
    verdict::{Auto, is_grpc},
    wire::Start,
};

use super::{
    MetricsHandle, MetricsPolicy, OTHER, RecorderHandle,
    known::Known,
    names,
    policy::{Control, Measured},
    progress::Progress,
    recorder::told,
    routes::Routes,
    rpc::{Rpc, Rpcs},
    series::{DURATION, Lazy, REQUEST, RESPONSE, Series, Values},
};
use crate::{fault::Outcome, method::KnownMethod, route::Route};

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

/// Templates of other routers that have series of their own.
const TEMPLATES: usize = 1_000;
const METRICS: [&str; 3] = [
    names::SERVER_DURATION,
    names::SERVER_REQUEST_SIZE,
    names::SERVER_RESPONSE_SIZE,
];

/// The series of a route: by method, by scheme and version, by outcome.
type Methods = Lazy<Lazy<Series, LINES>, { KnownMethod::COUNT }>;

struct State {
    recorder: RecorderHandle,
    control: Arc<Control>,
    scheme: u8,
    active: [[OnceLock<Gauge>; SCHEMES.len()]; KnownMethod::COUNT],
    routes: Routes<Methods>,
    /// Of other routers.
    templates: Known<Template>,
    rpcs: Rpcs,
}

/// A route of another router, with its series.
struct Template {
    name: Box<str>,
    methods: Methods,
}

impl Template {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            methods: Methods::default(),
        }
    }
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
            templates: Known::new(Template::new(OTHER)),
            rpcs: Rpcs::default(),
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
        let mut progress = Progress::new(now);
        if measured.sizes() {
            progress.announce(request, true);
        }
        let rpc = rpc_of(&self.0.rpcs, measured, request);
        Some(ServerTicket {
            state: Arc::clone(&self.0),
            route: Route::of(request),
            rpc,
            measured,
            progress,
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
            let gauge = || self.recorder.gauge(names::SERVER_ACTIVE, line.labels());
            told(|| change(slot.get_or_init(gauge)));
        }
    }

    #[cold]
    fn histogram(
        &self,
        metric: usize,
        line: Line,
        template: Option<&str>,
        outcome: Outcome,
    ) -> Histogram {
        let mut labels = line.labels();
        let version = VERSIONS.get(usize::from(line.version)).copied();
        labels.push(Label::from_static_parts(
            "network_protocol_version",
            version.unwrap_or_default(),
        ));
        labels.push(match template {
            Some(template) => Label::new("http_route", template.to_owned()),
            None => Label::from_static_parts("http_route", "unmatched"),
        });
        push_outcome(&mut labels, outcome);
        self.recorder.histogram(METRICS[metric], labels)
    }

    fn record(&self, route: &Route, line: Line, outcome: Outcome, values: Values) {
        let record = |methods: &Methods, template: Option<&str>| {
            let Some(series) = methods
                .get(line.method.index())
                .and_then(|lines| lines.get(line.index()))
            else {
                return;
            };
            series.record(outcome, values, |metric| {
                self.histogram(metric, line, template, outcome)
            });
        };
        if let Some(template) = route.foreign() {
            let template = self.templates.get(
                TEMPLATES,
                |there| (*there.name).cmp(template),
                || Template::new(template),
            );
            return record(&template.methods, Some(&template.name));
        }
        self.routes.with(route.slot().get(), record);
    }
}

/// The method that a request calls, if it is gRPC and that is apart.
pub(super) fn rpc_of<B>(rpcs: &Rpcs, measured: Measured, request: &Request<B>) -> Option<Arc<Rpc>> {
    let apart = measured.rpc() && *request.method() == Method::POST && is_grpc(request.headers());
    apart.then(|| rpcs.of(measured.names(), request.uri().path()))
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
    route: Route,
    rpc: Option<Arc<Rpc>>,
    measured: Measured,
    progress: Progress,
    line: Line,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

impl Observe for ServerTicket {
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
        // Its body is yet to come, or there is none because there is no response.
        self.over(verdict, now, None);
    }
}

impl ServerTicket {
    fn over(self, verdict: Verdict, now: Instant, answered: Option<u64>) {
        let Self {
            state,
            route,
            rpc,
            measured,
            progress,
            line,
        } = self;
        let outcome = Outcome::server(verdict);
        let mut values = Values::default();
        if let Some(rpc) = rpc {
            let seconds = progress.until(now).as_secs_f64();
            let histogram = |rpc: &Rpc| {
                let labels = rpc.labels(verdict, outcome);
                state.recorder.histogram(names::RPC_SERVER_DURATION, labels)
            };
            let names = measured.names();
            told(|| {
                state
                    .rpcs
                    .record(names, rpc, verdict, outcome, seconds, histogram)
            });
        } else if measured.durations() {
            values[DURATION] = Some(progress.until_head(now).as_secs_f64());
        }
        if measured.sizes() {
            let received = route.slot().received_bytes();
            values[REQUEST] = progress.request(received).map(|bytes| bytes as f64);
            values[RESPONSE] = answered.map(|bytes| bytes as f64);
        }
        if values.iter().any(Option::is_some) {
            told(|| state.record(&route, line, outcome, values));
        }
        if measured.active() {
            state.active(line, |gauge| gauge.decrement(1.0));
        }
        state.control.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ticket_is_small() {
        let axum = if cfg!(feature = "axum") { 16 } else { 0 };
        assert_eq!(size_of::<Option<ServerTicket>>(), 80 + axum);
    }
}
