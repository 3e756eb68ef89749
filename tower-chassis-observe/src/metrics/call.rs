//! The metrics of calls of any protocol.

use std::{
    array, fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::{Gauge, Histogram, Label};
use tokio::time::Instant;
use tower_chassis_core::{
    Carrier, Invocation, Live, Verdict,
    settle::{Observe, UntilHead},
    verdict::Auto,
    wire::Start,
};

use super::{
    MetricsHandle, MetricsPolicy, OTHER, RecorderHandle,
    known::{Known, LONGEST},
    names,
    policy::{Control, Measured},
    recorder::told,
};
use crate::fault::{CLASSES, class_index};

/// What a service or an operation is called that has no name.
const UNKNOWN: &str = "unknown";

judged_layer! {
    /// Measures calls of any protocol, made or served. See the [module](super#calls-that-are-not-http).
    CallMetricsLayer, CallMetrics, UntilHead, MetricsPolicy, MetricsHandle,
    /// The service of [`CallMetricsLayer`].
    CallMetricsService
}

impl CallMetricsLayer {
    /// Measures into the global recorder, and judges at the head, because the response may be anything.
    pub fn new() -> Self {
        Self {
            policy: CallMetrics::new(
                RecorderHandle::global(),
                Control::new(Live::new(MetricsPolicy::default())),
                None,
            ),
            settle: UntilHead::new(Auto),
        }
    }
}

impl Default for CallMetricsLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<J> CallMetricsLayer<J> {
    /// Measures into a recorder of your own. To be said before the layer is used.
    pub fn recorder(self, recorder: impl Into<RecorderHandle>) -> Self {
        let state = &self.policy.0;
        let policy = CallMetrics::new(recorder.into(), state.control.fresh(), state.name());
        Self { policy, ..self }
    }

    /// The label `service` of all calls. By default it is that of the call
    /// ([`Invocation::service`]). To be said before the layer is used.
    pub fn service(self, service: impl Into<Arc<str>>) -> Self {
        let state = &self.policy.0;
        let (recorder, control) = (state.recorder.clone(), state.control.fresh());
        let policy = CallMetrics::new(recorder, control, Some(service.into()));
        Self { policy, ..self }
    }
}

impl<Req: Carrier, J> Start<Req> for CallMetricsLayer<J> {
    type Ticket = Option<CallTicket>;
    fn start(&self, request: &mut Req, now: Instant) -> Self::Ticket {
        self.policy.start(request, now)
    }
}

/// The policy of [`CallMetricsLayer`].
#[derive(Clone)]
pub struct CallMetrics(Arc<State>);

struct State {
    recorder: RecorderHandle,
    control: Arc<Control>,
    /// That of all calls, if it was named.
    only: Option<Service>,
    services: Known<Service>,
}

impl State {
    fn name(&self) -> Option<Arc<str>> {
        self.only
            .as_ref()
            .map(|service| Arc::clone(&service.about.name))
    }
}

/// A service, and what was asked of it.
struct Service {
    about: Arc<About>,
    operations: Known<Operation>,
}

struct About {
    recorder: RecorderHandle,
    name: Arc<str>,
    active: OnceLock<Gauge>,
}

/// An operation of a service, with its histograms.
#[derive(Debug)]
struct Operation {
    about: Arc<About>,
    name: Box<str>,
    durations: [OnceLock<Histogram>; CLASSES.len()],
}

impl fmt::Debug for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Service {
    fn new(recorder: &RecorderHandle, name: Arc<str>) -> Self {
        let about = Arc::new(About {
            recorder: recorder.clone(),
            name,
            active: OnceLock::new(),
        });
        Self {
            operations: Known::new(Operation::new(&about, OTHER)),
            about,
        }
    }

    fn operation(&self, bound: usize, name: &str) -> Arc<Operation> {
        let name = if name.is_empty() { UNKNOWN } else { name };
        if name.len() > LONGEST {
            return self.operations.others();
        }
        self.operations.get(
            bound,
            |operation| (*operation.name).cmp(name),
            || Operation::new(&self.about, name),
        )
    }
}

impl About {
    fn label(&self) -> Label {
        Label::new("service", self.name.to_string())
    }

    fn active(&self) -> &Gauge {
        self.active
            .get_or_init(|| self.recorder.gauge(names::CALLS_ACTIVE, vec![self.label()]))
    }
}

impl Operation {
    fn new(about: &Arc<About>, name: &str) -> Self {
        Self {
            about: Arc::clone(about),
            name: name.into(),
            durations: array::from_fn(|_| OnceLock::new()),
        }
    }

    fn record(&self, verdict: Verdict, time: Duration) {
        let class = class_index(verdict.class());
        let (Some(slot), Some(outcome)) = (self.durations.get(class), CLASSES.get(class)) else {
            return;
        };
        slot.get_or_init(|| {
            let labels = vec![
                self.about.label(),
                Label::new("operation", self.name.to_string()),
                Label::from_static_parts("outcome", outcome),
            ];
            self.about.recorder.histogram(names::CALL_DURATION, labels)
        })
        .record(time.as_secs_f64());
    }
}

impl CallMetrics {
    fn new(recorder: RecorderHandle, control: Arc<Control>, only: Option<Arc<str>>) -> Self {
        Self(Arc::new(State {
            only: only.map(|name| Service::new(&recorder, name)),
            services: Known::new(Service::new(&recorder, Arc::from(OTHER))),
            control,
            recorder,
        }))
    }

    fn handle(&self) -> MetricsHandle {
        MetricsHandle(Arc::clone(&self.0.control))
    }

    fn fresh(&self) -> Self {
        Self::new(
            self.0.recorder.clone(),
            self.0.control.fresh(),
            self.0.name(),
        )
    }

    fn with_policy(&self, live: Live<MetricsPolicy>) -> Self {
        Self::new(self.0.recorder.clone(), Control::new(live), self.0.name())
    }
}

impl fmt::Debug for CallMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallMetrics")
            .field("service", &self.0.name())
            .field("recorder", &self.0.recorder)
            .finish_non_exhaustive()
    }
}

impl<Req: Carrier> Start<Req> for CallMetrics {
    type Ticket = Option<CallTicket>;

    fn start(&self, request: &mut Req, now: Instant) -> Self::Ticket {
        let State {
            recorder,
            control,
            only,
            services,
        } = &*self.0;
        let measured = control.begin_bare()?;
        let (bound, name) = (measured.names(), request.operation());
        let operation = match only {
            Some(service) => service.operation(bound, &name),
            None => {
                let service = request.invocation().and_then(Invocation::service);
                let service = service.unwrap_or(UNKNOWN);
                services
                    .get(
                        bound,
                        |there| (*there.about.name).cmp(service),
                        || Service::new(recorder, Arc::from(service)),
                    )
                    .operation(bound, &name)
            }
        };
        if measured.active() {
            told(|| operation.about.active().increment(1.0));
        }
        Some(CallTicket {
            state: Arc::clone(&self.0),
            operation,
            measured,
            start: now,
            head: None,
        })
    }
}

/// What [`CallMetrics`] holds for the length of a call.
pub struct CallTicket {
    state: Arc<State>,
    operation: Arc<Operation>,
    measured: Measured,
    start: Instant,
    head: Option<Duration>,
}

impl fmt::Debug for CallTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallTicket")
            .field("operation", &self.operation.name)
            .finish_non_exhaustive()
    }
}

impl Observe for CallTicket {
    fn head(&mut self, _: Verdict, now: Instant) {
        self.head = Some(now.saturating_duration_since(self.start));
    }

    fn done(self, verdict: Verdict, now: Instant) {
        let time = self
            .head
            .unwrap_or_else(|| now.saturating_duration_since(self.start));
        if self.measured.durations() {
            told(|| self.operation.record(verdict, time));
        }
        if self.measured.active() {
            told(|| self.operation.about.active().decrement(1.0));
        }
        self.state.control.end();
    }
}
