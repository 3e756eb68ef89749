//! What the program says of itself: its logs, its metrics, what is sent to a collector.

use std::{fmt, io, sync::Arc, time::Duration};

use tokio::runtime::Handle;
use tower_chassis_core::{Events, Live, server::Drain};
use tower_chassis_observe::{
    ObserveLayer,
    access_log::{AccessLogHandle, AccessLogLayer},
    events::{Signal, lost},
    log::{Log, LogHandle, LogPolicy},
    metrics::{ClientMetricsLayer, RecorderHandle, ServerMetricsLayer},
    otlp::Otlp,
    output::{Bound, Output, OutputHandle},
    process,
    prometheus::Prometheus,
    runtime::{self, AllocatorStats},
    trace::{ClientTraceLayer, TraceLayer, TracePolicy},
};

use super::{
    model::{Model, QueryModel},
    plan::{ObservePlan, Target},
};

/// So long the end of the program waits for lines and spans.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What watches the calls of the gateway's listeners.
pub(super) type ServerObserver = ObserveLayer<(TraceLayer, AccessLogLayer, ServerMetricsLayer)>;

/// Reads what the allocator counts.
pub type ReadAllocator = fn() -> AllocatorStats;

/// What is set up at the start, and what of it the file changes.
pub(super) struct Telemetry {
    events: Events,
    prometheus: Prometheus,
    level: Live<LogPolicy>,
    log: Option<LogHandle>,
    access: AccessLogLayer,
    lines: OutputHandle,
    trace: Live<TracePolicy>,
    otlp: Option<Otlp>,
    sample: Sampler,
}

impl Telemetry {
    /// Opens the logs and begins to send. What `drain` ends is sent before it is over.
    pub(super) fn start(
        plan: &ObservePlan,
        query: QueryModel,
        own_log: bool,
        allocator: Option<ReadAllocator>,
        drain: &Drain,
    ) -> io::Result<Self> {
        let (log_plan, access_plan) = (&plan.log, &plan.access);
        let level = Live::new(log_plan.level.clone());
        let mut output = None;
        let log = if own_log {
            let opened = open(&log_plan.target, "log.file.path")?;
            output = Some(opened.clone());
            let log = Log::new(log_plan.config.clone())
                .policy(level.clone())
                .output(opened);
            Some(log.init().map_err(io::Error::other)?)
        } else {
            None
        };
        // One terminal has one writer, or their lines would run into one another.
        let shared = output.filter(|_| {
            log_plan.target == access_plan.target && !matches!(log_plan.target, Target::File(_))
        });
        let is_shared = shared.is_some();
        let output = match shared {
            Some(output) => output,
            None => open(&access_plan.target, "log.access.file.path")?,
        };
        let access = AccessLogLayer::new(access_plan.format, output.sink())
            .template(access_plan.template.clone())
            .policy(access_plan.policy.clone())
            .query(query.into());

        let (events, prometheus) = (Events::new(), Prometheus::new());
        let recorder = prometheus.recorder();
        tower_chassis_core::events::log(&events);
        tower_chassis_observe::events::record(&events, Arc::clone(&recorder));
        let lines = output.handle();
        let sample = Sampler {
            events: events.clone(),
            recorder: Arc::clone(&recorder).into(),
            runtime: Handle::current(),
            allocator,
            log: log.as_ref().map(|log| log.output().clone()),
            access: access.handle(),
            lines: lines.clone(),
            is_shared,
        };
        let otlp = plan.otlp.clone().map(|policy| {
            let (otlp, worker) = Otlp::new(policy);
            tokio::spawn(worker);
            otlp.record(Arc::clone(&recorder));
            let sample = sample.clone();
            otlp.metrics(move || {
                sample.take();
                recorder.snapshot()
            });
            otlp.shutdown_after(drain, LAST_WAIT);
            // It says itself, as a warning, what does not fit: a collector that is not there, or speaks otherwise.
            let ask = otlp.clone();
            tokio::spawn(async move { drop(ask.check().await) });
            otlp
        });
        Ok(Self {
            events,
            prometheus,
            level,
            log,
            access,
            lines,
            trace: Live::new(plan.trace.clone()),
            otlp,
            sample,
        })
    }

    pub(super) const fn events(&self) -> &Events {
        &self.events
    }

    pub(super) const fn prometheus(&self) -> &Prometheus {
        &self.prometheus
    }

    /// Reads what nobody reports; to be called before what was recorded is shown.
    pub(super) fn sampler(&self) -> Sampler {
        self.sample.clone()
    }

    /// Around the whole gateway.
    pub(super) fn server(&self) -> ServerObserver {
        let mut trace = TraceLayer::new().policy(self.trace.clone());
        if let Some(otlp) = &self.otlp {
            trace = trace.sink(otlp.spans()).expects_export();
        }
        let metrics = ServerMetricsLayer::new().recorder(self.prometheus.recorder());
        ObserveLayer::new((trace, self.access.clone(), metrics))
    }

    /// Around each attempt.
    pub(super) fn client(&self) -> (ClientTraceLayer, ClientMetricsLayer) {
        let mut trace = ClientTraceLayer::new().policy(self.trace.clone());
        if let Some(otlp) = &self.otlp {
            trace = trace.sink(otlp.spans()).expects_export();
        }
        let metrics = ClientMetricsLayer::new().recorder(self.prometheus.recorder());
        (trace, metrics)
    }

    /// What of a file can change while it runs. All of it was checked.
    pub(super) fn apply(&self, plan: &ObservePlan) {
        let access = self.access.handle();
        let _ = self.level.set(plan.log.level.clone());
        let _ = access.template().set(plan.access.template.clone());
        let _ = access.config().set(plan.access.policy.clone());
        let _ = access.format().set(plan.access.format);
        let _ = self.trace.set(plan.trace.clone());
    }

    /// Waits for the last lines.
    pub(super) async fn end(&self) {
        self.lines.flush(LAST_WAIT).await;
        if let Some(log) = &self.log {
            log.flush(LAST_WAIT).await;
        }
    }
}

/// What is read at the start only, and has changed.
pub(super) fn needs_restart(old: &Model, new: &Model) -> Vec<&'static str> {
    let (log, was) = (&new.log, &old.log);
    let changed = [
        ("gateway.listen", new.gateway.listen != old.gateway.listen),
        ("admin.listen", new.admin.listen != old.admin.listen),
        ("admin.profiler", new.admin.profiler != old.admin.profiler),
        (
            "log.format, output, file, color, spans",
            (log.format, log.output, &log.file, log.color, log.spans)
                != (was.format, was.output, &was.file, was.color, was.spans),
        ),
        (
            "log.access.query, output, file",
            (log.access.query, log.access.output, &log.access.file)
                != (was.access.query, was.access.output, &was.access.file),
        ),
        ("otlp", new.otlp != old.otlp),
    ];
    changed
        .into_iter()
        .filter_map(|(what, changed)| changed.then_some(what))
        .collect()
}

fn open(target: &Target, place: &str) -> io::Result<Output> {
    match target {
        Target::Stderr => Ok(Output::stderr()),
        Target::Stdout => Ok(Output::stdout()),
        Target::File(policy) => Output::file(policy.clone(), Bound::default()).map_err(|error| {
            let path = policy.config().path.display();
            io::Error::new(error.kind(), format!("{place}: {path}: {error}"))
        }),
    }
}

/// Reads what nobody reports: the runtime, the process, the allocator, connections, what was lost.
#[derive(Clone)]
pub(super) struct Sampler {
    events: Events,
    recorder: RecorderHandle,
    runtime: Handle,
    allocator: Option<ReadAllocator>,
    log: Option<OutputHandle>,
    access: AccessLogHandle,
    lines: OutputHandle,
    is_shared: bool,
}

impl Sampler {
    pub(super) fn take(&self) {
        let missing = |lines: &OutputHandle| lines.lost() + lines.failed();
        let lost = |signal, count| lost(&self.recorder, signal).absolute(count);
        // Of an output that both have, it is not known whose lines could not be written.
        let (of_access, elsewhere) = if self.is_shared {
            let dropped = self.access.dropped();
            (dropped, dropped)
        } else {
            (missing(&self.lines), 0)
        };
        lost(Signal::AccessLog, of_access);
        if let Some(log) = &self.log {
            lost(Signal::Log, missing(log).saturating_sub(elsewhere));
        }
        tower_chassis_observe::events::sample(&self.events, self.recorder.clone());
        runtime::sample(&self.runtime, self.recorder.clone());
        process::sample(self.recorder.clone());
        if let Some(read) = self.allocator {
            runtime::allocator(read(), self.recorder.clone());
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("log", &self.log)
            .field("access", &self.access)
            .field("otlp", &self.otlp)
            .finish_non_exhaustive()
    }
}
