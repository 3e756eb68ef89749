//! What is given to an application.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Release},
        },
    },
    time::Duration,
};

use http::{Request, Response};
use metrics::Counter;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tower_chassis_core::{
    Body, BoxError,
    boxed::{BoxFuture, BoxService},
    client::{Client, ClientConfig, ClientPolicy},
    live::Invalid,
    trace::TraceContext,
};
use tower_service::Service;

use super::{
    config::{OtlpConfig, OtlpPolicy, Protocol, Target},
    deliver::{Counts, Exporter},
    envelope::{Envelope, Line, Wire},
    message::{Item, Points, Spans},
    processor,
    queue::Queue,
    resource::resource,
    worker::{self, AFTER, Command, Worker},
};
use crate::{
    events::{Signal, lost},
    metrics::RecorderHandle,
    registry::Snapshot,
    trace::{FinishedSpan, SpanSink},
};

/// How long who waits as long as can be said waits.
const FOREVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

type Source = Box<dyn FnMut() -> Snapshot + Send>;

/// What is shared with the worker.
pub(super) struct Shared {
    pub(super) policy: OtlpPolicy,
    /// Where spans wait, if they are sent.
    pub(super) queue: Option<Arc<Queue>>,
    /// Of metrics.
    pub(super) points: Arc<Counts>,
    pub(super) sources: Mutex<Vec<Source>>,
    pub(super) abort: Notify,
    reports: Mutex<Vec<Arc<Report>>>,
    stopped: AtomicBool,
    /// The worker has ended before it was done.
    cut: AtomicBool,
}

/// The ways to the worker: when the last of those who could send something is gone, it ends.
pub(super) type Commands = Arc<Vec<mpsc::Sender<Command>>>;

/// What is shared by those who send.
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: Commands,
    pub(super) provider: OnceLock<SdkTracerProvider>,
    /// What `check` asks the collector with.
    pub(super) senders: Mutex<Senders>,
    pub(super) probe: Arc<processor::Probe>,
}

/// A sender of each signal that is sent.
#[derive(Clone)]
pub(super) struct Senders {
    pub(super) spans: Option<(Spans, Target)>,
    pub(super) points: Option<(Points, Target)>,
}

impl Shared {
    /// The worker ends with something left to do.
    pub(super) fn cut(&self) {
        self.cut.store(true, Release);
    }

    pub(super) fn lost(&self) -> u64 {
        let spans = self.queue.as_ref().map_or(0, |queue| queue.counts.lost());
        spans + self.points.lost()
    }

    /// Nobody sends any more.
    pub(super) fn close(&self) {
        self.stopped.store(true, Release);
        self.points.close();
        if let Some(queue) = &self.queue {
            queue.counts.close();
        }
        self.report();
    }

    /// Tells the recorders what was lost.
    pub(super) fn report(&self) {
        // The recorder is the user's: it is called outside of the lock.
        let reports = self
            .reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let spans = self.queue.as_ref().map_or(0, |queue| queue.counts.lost());
        for report in reports {
            report.spans.tell(spans);
            report.points.tell(self.points.lost());
        }
    }
}

/// A recorder that is told what was lost.
struct Report {
    spans: Told,
    points: Told,
}

/// A counter, to which others may add too.
struct Told {
    counter: Counter,
    told: AtomicU64,
}

impl Told {
    fn new(recorder: &RecorderHandle, signal: Signal) -> Self {
        Self {
            counter: lost(recorder, signal),
            told: AtomicU64::new(0),
        }
    }

    fn tell(&self, lost: u64) {
        let told = self.told.fetch_max(lost, AcqRel);
        self.counter.increment(lost.saturating_sub(told));
    }
}

/// How many of a signal were sent, lost, and wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Tally {
    /// What a collector has taken.
    pub sent: u64,
    /// What found no room, was refused, or was not taken in time.
    pub lost: u64,
    /// What waits to be sent; of metrics nothing ever does.
    pub waiting: usize,
}

/// Sends spans and metrics to a collector. Cheap to clone; clones are the same one.
#[derive(Clone)]
pub struct Otlp(pub(super) Arc<Handle>);

impl Otlp {
    /// Sends over clients of its own: one connection each for gRPC and for HTTP. With `https` it needs the feature
    /// `otlp-tls`.
    ///
    /// Nothing is sent before the [`Worker`] is spawned.
    pub fn new(policy: OtlpPolicy) -> (Self, Worker) {
        let line = |http2| {
            Line::new(move || {
                let mut config = ClientConfig::default();
                (config.http2, config.max_idle) = (http2, 2);
                // Only the time to connect is checked, and that is the default one.
                let policy = ClientPolicy::try_from(config).unwrap_or_default();
                BoxService::new(Client::new(&policy))
            })
        };
        let (grpc, http) = (line(true), line(false));
        Self::over(policy, |protocol| match protocol {
            Protocol::Grpc => Arc::clone(&grpc),
            Protocol::HttpProtobuf => Arc::clone(&http),
        })
    }

    /// The same, with what the environment says.
    ///
    /// # Errors
    /// The first variable with a value that it cannot have.
    pub fn from_env() -> Result<(Self, Worker), Invalid> {
        let config = OtlpConfig::default().read_env()?;
        Ok(Self::new(OtlpPolicy::try_from(config)?))
    }

    /// Sends over a client of one's own: a stack with a proxy, certificates or a breaker; for gRPC it must speak HTTP/2.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::service_fn;
    /// use tower_chassis_core::{Body, BoxError};
    /// use tower_chassis_observe::otlp::{Otlp, OtlpPolicy};
    ///
    /// let sent_nowhere =
    ///     service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::empty())));
    /// let (otlp, worker) = Otlp::with_client(OtlpPolicy::default(), sent_nowhere);
    /// # drop((otlp, worker));
    /// ```
    pub fn with_client<S>(policy: OtlpPolicy, client: S) -> (Self, Worker)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
    {
        let wire: Mutex<Wire> = Mutex::new(BoxService::new(client));
        // Its connections are its own business.
        let line = Line::new(move || {
            let wire = wire.lock().unwrap_or_else(PoisonError::into_inner);
            wire.clone()
        });
        Self::over(policy, |_| Arc::clone(&line))
    }

    fn over(policy: OtlpPolicy, line: impl Fn(Protocol) -> Arc<Line>) -> (Self, Worker) {
        let config = policy.config();
        let resource = resource(config);
        let envelope = |target: &Target| Envelope::new(line(target.protocol), target.clone());
        let senders = Senders {
            spans: policy
                .traces
                .clone()
                .map(|target| (Spans::new(envelope(&target), resource.clone()), target)),
            points: policy
                .metrics
                .clone()
                .map(|target| (Points::new(envelope(&target), resource.clone()), target)),
        };
        let (queue, items) = senders
            .spans
            .is_some()
            .then(|| Queue::new(config.queue as usize, config.batch as usize))
            .unzip();
        let mut commands = Vec::new();
        let mut told = || {
            let (send, receive) = mpsc::channel(16);
            commands.push(send);
            receive
        };
        let (of_spans, of_points) = (
            senders.spans.is_some().then(&mut told),
            senders.points.is_some().then(&mut told),
        );
        let shared = Arc::new(Shared {
            queue: queue.map(Arc::new),
            points: Arc::default(),
            sources: Mutex::default(),
            abort: Notify::new(),
            reports: Mutex::default(),
            stopped: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            policy,
        });
        let handle = Handle {
            shared: Arc::clone(&shared),
            commands: Arc::new(commands),
            provider: OnceLock::new(),
            senders: Mutex::new(senders.clone()),
            probe: Arc::default(),
        };
        let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
        let spans = senders.spans.zip(items).zip(of_spans);
        if let Some((((sender, target), items), told)) = spans
            && let Some(queue) = &shared.queue
        {
            let counts = Arc::clone(&queue.counts);
            let exporter = Exporter::new(sender, counts, target);
            let task = worker::spans(Arc::clone(&shared), items, told, exporter);
            tasks.push(Box::pin(task));
        }
        if let Some(((sender, target), told)) = senders.points.zip(of_points) {
            let exporter = Exporter::new(sender, Arc::clone(&shared.points), target);
            let task = worker::metrics(Arc::clone(&shared), told, exporter);
            tasks.push(Box::pin(task));
        }
        (Self(Arc::new(handle)), Worker::new(shared, tasks))
    }

    /// Where [`TraceLayer`](crate::trace::TraceLayer) and [`ClientTraceLayer`](crate::trace::ClientTraceLayer) put their
    /// spans.
    #[must_use]
    pub fn spans(&self) -> OtlpSpans {
        OtlpSpans(Arc::clone(&self.0))
    }

    /// Sends what `read` says, every [`metrics_every`](OtlpConfig::metrics_every) and with each flush; and what others
    /// say, given before.
    ///
    /// It runs on the worker's task, and must not block.
    pub fn metrics(&self, read: impl FnMut() -> Snapshot + Send + 'static) {
        if self.0.shared.policy.metrics.is_some() {
            let mut sources = self
                .0
                .shared
                .sources
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            sources.push(Box::new(read));
        }
    }

    /// Counts what is lost as `chassis_telemetry_lost_total`, with the label `signal`: `span`, `metric`.
    pub fn record(&self, recorder: impl Into<RecorderHandle>) {
        let recorder = recorder.into();
        let report = Report {
            spans: Told::new(&recorder, Signal::Span),
            points: Told::new(&recorder, Signal::Metric),
        };
        self.0
            .shared
            .reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::new(report));
        self.0.shared.report();
    }

    /// How many spans were sent and lost, to the one.
    #[must_use]
    pub fn span_tally(&self) -> Tally {
        let Some(queue) = &self.0.shared.queue else {
            return Tally::default();
        };
        Tally {
            sent: queue.counts.sent(),
            lost: queue.counts.lost(),
            waiting: if self.0.shared.stopped.load(Acquire) {
                0
            } else {
                queue.waiting()
            },
        }
    }

    /// How many points of metrics were sent and lost. What is lost of them is in the next ones: they count from the start on.
    #[must_use]
    pub fn metric_tally(&self) -> Tally {
        Tally {
            sent: self.0.shared.points.sent(),
            lost: self.0.shared.points.lost(),
            waiting: 0,
        }
    }

    /// Sends what is there by now, metrics too, and waits for it.
    ///
    /// Dropped early it is sent nevertheless.
    ///
    /// # Errors
    /// Something was lost meanwhile, it took longer than `within`, or the worker is gone.
    pub async fn flush(&self, within: Duration) -> Result<(), FlushError> {
        self.tell(false, within).await
    }

    /// The same for the last time: then the worker ends, and what comes later is lost. To be called after the drain of the
    /// servers, before the process exits. What is not sent in time is lost, and counted.
    ///
    /// It takes `within` and a moment at most, whatever the collector does. It may be called again, and by several at once.
    /// Dropped early it goes on by itself, as long as its worker is polled; nothing limits its time then.
    ///
    /// # Errors
    /// As [`flush`](Self::flush). Nothing more is to be done after one: what was not sent is lost.
    pub async fn shutdown(&self, within: Duration) -> Result<(), FlushError> {
        let shared = &self.0.shared;
        if shared.stopped.load(Acquire) {
            let gone = shared.cut.load(Acquire);
            let fault = FlushError {
                gone,
                ..FlushError::default()
            };
            return if gone { Err(fault) } else { Ok(()) };
        }
        self.tell(true, within).await
    }

    /// Does that when the last server that follows `drain` has ended, before its `serve` returns: nothing else needs to be
    /// said at the end of `main`. What is lost is logged.
    #[cfg(feature = "server")]
    #[cfg_attr(docsrs, doc(cfg(feature = "server")))]
    pub fn shutdown_after(&self, drain: &tower_chassis_core::server::Drain, within: Duration) {
        let this = self.clone();
        // It keeps to its time itself; the bound of the drain is for what it may not foresee.
        drain.finally(within.saturating_add(AFTER * 2), async move {
            if let Err(error) = this.shutdown(within).await {
                tracing::warn!(target: "tower_chassis::otlp", %error, "not everything was sent");
            }
        });
    }

    async fn tell(&self, stop: bool, within: Duration) -> Result<(), FlushError> {
        let now = Instant::now();
        let deadline = now.checked_add(within).unwrap_or(now + FOREVER);
        let before = self.lost();
        let mut fault = FlushError::default();
        // Who is to stop may have been told by another, and have done what there was.
        let gone = || !stop || self.0.shared.cut.load(Acquire);
        let mut answers = Vec::new();
        for commands in &*self.0.commands {
            let (done, answer) = oneshot::channel();
            match timeout_at(deadline, commands.send(Command { stop, done })).await {
                Ok(Ok(())) => answers.push(answer),
                Ok(Err(_)) => fault.gone |= gone(),
                Err(_) => fault.late = true,
            }
        }
        let mut open = Vec::new();
        for mut answer in answers {
            match timeout_at(deadline, &mut answer).await {
                Ok(answer) => fault.gone |= answer.is_err() && gone(),
                Err(_) => {
                    fault.late = true;
                    open.push(answer);
                }
            }
        }
        if stop && fault.late {
            self.0.shared.abort.notify_one();
            for answer in open {
                // Gone with the worker, if somebody polls it.
                let _ = timeout(AFTER, answer).await;
            }
        }
        fault.lost = self.lost().saturating_sub(before);
        if fault == FlushError::default() {
            Ok(())
        } else {
            Err(fault)
        }
    }

    fn lost(&self) -> u64 {
        self.0.shared.lost()
    }
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Otlp")
            .field("policy", &self.0.shared.policy)
            .field("spans", &self.span_tally())
            .field("metrics", &self.metric_tally())
            .finish_non_exhaustive()
    }
}

/// Why not everything was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlushError {
    lost: u64,
    late: bool,
    gone: bool,
}

impl FlushError {
    /// How many spans and points of metrics were lost meanwhile.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether it took too long.
    #[must_use]
    pub const fn is_late(&self) -> bool {
        self.late
    }

    /// Whether the worker was gone.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.gone
    }
}

impl fmt::Display for FlushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.gone, self.late) {
            (true, _) => "the worker that sends telemetry is gone",
            (_, true) => "telemetry was not sent in time",
            _ => "telemetry was lost",
        })?;
        match self.lost {
            0 => Ok(()),
            lost => write!(f, ", {lost} lost"),
        }
    }
}

impl Error for FlushError {}

/// Takes the spans of [`TraceLayer`](crate::trace::TraceLayer) and [`ClientTraceLayer`](crate::trace::ClientTraceLayer).
///
/// A span costs its way into a queue: it is made into a message on the task of the [`Worker`].
#[derive(Clone)]
pub struct OtlpSpans(Arc<Handle>);

impl SpanSink for OtlpSpans {
    fn ended(&self, span: FinishedSpan) {
        if let Some(queue) = &self.0.shared.queue {
            queue.put(Item::Ours(span));
        }
    }

    fn surrounds(&self) -> bool {
        // Only for an application that has spans of its own.
        self.0.provider.get().is_some()
    }

    fn within(&self, at: &TraceContext, state: Option<&Arc<str>>, poll: &mut dyn FnMut()) {
        if self.surrounds() {
            processor::within(at, state.map(|state| &**state), poll);
        } else {
            poll();
        }
    }
}

impl fmt::Debug for OtlpSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpSpans").finish_non_exhaustive()
    }
}
