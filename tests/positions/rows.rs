//! Each layer with what is asked of it and what is to come of that.

use std::{
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::Response;
use tokio::sync::mpsc;
use tower::{Layer, Service, layer::util::Stack};
use tower_chassis::{
    BoxError, Class, Endpoint, JudgeLayer, ObserveLayer, RescueLayer, Verdict,
    access_log::{AccessLogLayer, Excerpt, ExcerptLayer, Format},
    adaptive::{AdaptiveLayer, AdaptivePolicy},
    balance::{Balance, BalanceHandle, RoundRobin},
    breaker::{BreakerLayer, BreakerPolicy, State},
    bulkhead::{BulkheadLayer, BulkheadPolicy},
    cache::{CacheLayer, CachePolicy},
    coalesce::{CoalesceLayer, CoalescePolicy},
    deadline::{Accept, DeadlineLayer, DeadlinePolicy, Propagate},
    discover::{Discover, StaticDiscover},
    fallback::{ByFn as Answers, Failure, FallbackLayer, Marked},
    fault::{Abort, Arming, Delay, FaultLayer, FaultPolicy, FaultRule},
    hedge::{HedgeLayer, HedgePolicy},
    metrics::{CallMetricsLayer, ClientMetricsLayer, ServerMetricsLayer},
    mirror::{MirrorLayer, MirrorPolicy},
    observe::{
        audit::{AuditLayer, AuditPolicy, AuditRecord, LosslessAuditLayer},
        health::HeartbeatLayer,
        vcr::{Cassette, Mode, Recorded, VcrLayer},
    },
    prometheus::Prometheus,
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{CallerAttemptLayer, RetryLayer, RetryPolicy},
    share::{Http, HttpKey, HttpKeys},
    shed::{self, Priority, PriorityClass, ShedLayer, ShedPolicy},
    timeout::{IdleLayer, TimeoutLayer, TimeoutPolicy},
    trace::{ClientTraceLayer, TraceLayer},
    verdict::{Auto, ByFn},
};

use crate::backend::{
    Answer::{self, Broken, Late, Ok as Fine, TooMany, Unavailable},
    Ask, Backend,
};

/// A layer, and what shows that it works.
pub(crate) struct Row<L> {
    pub(crate) layer: L,
    pub(crate) play: Play,
}

/// What is asked, one after the other, and what is to come of it.
pub(crate) struct Play {
    script: &'static [(Ask, Answer)],
    /// Then all of five at once, twice.
    crowd: bool,
    /// True at last, when all is over.
    holds: Box<dyn Fn(&Backend) -> bool>,
}

impl Play {
    pub(crate) async fn act(self, backend: &Backend, ask: impl AsyncFn(Ask) -> Answer) {
        for (step, &(question, answer)) in self.script.iter().enumerate() {
            let came = if question == Ask::Slow && answer == Late {
                // Sockets do not wait for a clock: only a timer is left to go on, and the clock goes there.
                tokio::time::pause();
                let came = tokio::time::timeout(Duration::from_secs(86_400), ask(question)).await;
                tokio::time::resume();
                came.expect("an answer within a day")
            } else {
                ask(question).await
            };
            assert_eq!(came, answer, "step {step}: {question:?}");
        }
        if self.crowd {
            backend.crowd(true);
            let five = async || {
                let [one, two, slow, broken, flaky] = Ask::ALL;
                let all = tokio::join!(ask(one), ask(two), ask(slow), ask(broken), ask(flaky));
                assert_eq!(all, (Fine, Fine, Fine, Fine, Fine));
            };
            tokio::join!(five(), five());
            backend.crowd(false);
        }
        // A server may end a body after its client has read it.
        for _ in 0..1_000 {
            if (self.holds)(backend) {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("what was to come of it did not: {backend:?}");
    }
}

impl<L> Row<L> {
    fn new(
        layer: L,
        script: &'static [(Ask, Answer)],
        holds: impl Fn(&Backend) -> bool + 'static,
    ) -> Self {
        let play = Play {
            script,
            crowd: false,
            holds: Box::new(holds),
        };
        Self { layer, play }
    }

    /// The same row with a change of its layer.
    pub(crate) fn with<M>(self, change: impl FnOnce(L) -> M) -> Row<M> {
        Row {
            layer: change(self.layer),
            play: self.play,
        }
    }

    /// What the layer refuses is answered outside of it.
    pub(crate) fn rescued(self) -> Row<Stack<L, RescueLayer>> {
        self.with(|layer| Stack::new(layer, RescueLayer::new()))
    }
}

pub(crate) fn timeout() -> Row<TimeoutLayer> {
    let policy = TimeoutPolicy::new(Duration::from_secs(60)).unwrap();
    Row::new(
        TimeoutLayer::per_try(policy),
        &[
            (Ask::One, Fine),
            (Ask::Slow, Late),
            (Ask::Two, Fine),
            (Ask::Broken, Broken),
        ],
        |backend| backend.calls() == 4,
    )
}

pub(crate) fn idle() -> Row<IdleLayer> {
    let policy = TimeoutPolicy::new(Duration::from_secs(60)).unwrap();
    Row::new(
        IdleLayer::new(policy),
        &[(Ask::One, Fine), (Ask::Two, Fine), (Ask::Broken, Broken)],
        |backend| backend.calls() == 3,
    )
}

pub(crate) fn retry() -> Row<RetryLayer> {
    let layer = RetryLayer::new(RetryPolicy::default());
    let handle = layer.handle();
    Row::new(
        layer,
        &[(Ask::One, Fine), (Ask::Flaky, Fine), (Ask::Flaky, Fine)],
        move |backend| backend.calls() == 5 && handle.retries() == 2,
    )
}

pub(crate) fn caller_attempt<Req: 'static>()
-> Row<CallerAttemptLayer<impl Fn(&Req) -> bool + Send + Sync + 'static>> {
    Row::new(
        CallerAttemptLayer::trusting(|_: &Req| true),
        &[(Ask::One, Fine), (Ask::Two, Fine), (Ask::Broken, Broken)],
        |backend| backend.calls() == 3,
    )
}

/// A failure sends the next attempt at once.
pub(crate) fn hedge() -> Row<HedgeLayer> {
    let layer = HedgeLayer::new(HedgePolicy::after(Duration::from_secs(1)).unwrap());
    let handle = layer.handle();
    handle.update(|config| config.on_failure = true).unwrap();
    Row::new(
        layer,
        &[(Ask::One, Fine), (Ask::Flaky, Fine), (Ask::Flaky, Fine)],
        move |backend| backend.calls() == 5 && (handle.sent(), handle.won()) == (2, 2),
    )
}

fn circuit() -> BreakerLayer {
    let policy = BreakerPolicy::default().with(|config| {
        config.consecutive_failures = 2;
        config.open_max = Duration::from_secs(3600);
        config.open_base = config.open_max;
    });
    BreakerLayer::new(policy.unwrap())
}

pub(crate) fn breaker() -> Row<BreakerLayer> {
    let layer = circuit();
    let handle = layer.handle();
    Row::new(
        layer,
        &[
            (Ask::One, Fine),
            (Ask::Broken, Broken),
            (Ask::Broken, Broken),
            (Ask::One, Unavailable),
            (Ask::Two, Unavailable),
            (Ask::Slow, Unavailable),
            (Ask::Flaky, Unavailable),
        ],
        move |backend| backend.calls() == 3 && handle.state() == State::Open,
    )
}

pub(crate) fn rate_limit() -> Row<RateLimitLayer> {
    let policy = RateLimitPolicy::new(1.0, 3).unwrap();
    let policy = policy.with(|config| config.per = Duration::from_secs(3600));
    Row::new(
        RateLimitLayer::new(policy.unwrap()),
        &[
            (Ask::One, Fine),
            (Ask::Two, Fine),
            (Ask::Broken, Broken),
            (Ask::One, TooMany),
            (Ask::Slow, TooMany),
        ],
        |backend| backend.calls() == 3,
    )
}

/// The most of calls in flight is two, of ten that come at once on five routes.
pub(crate) fn bulkhead() -> Row<BulkheadLayer> {
    let policy = BulkheadPolicy::new(2).unwrap();
    let policy = policy.with(|config| {
        config.queue = 8;
        config.max_wait = Duration::from_secs(3600);
    });
    let layer = BulkheadLayer::new(policy.unwrap());
    let handle = layer.handle();
    let mut row = Row::new(
        layer,
        &[(Ask::One, Fine), (Ask::Broken, Broken)],
        move |backend| backend.calls() == 12 && backend.most() == 2 && handle.in_flight() == 0,
    );
    row.play.crowd = true;
    row
}

/// The most of calls in flight is two, of ten that come at once on five routes.
pub(crate) fn adaptive() -> Row<AdaptiveLayer> {
    let policy = AdaptivePolicy::default().with(|config| {
        (config.start, config.min, config.max) = (2, 2, 2);
        config.queue = 4.0;
        config.max_wait = Duration::from_secs(3600);
        config.target = Duration::from_secs(3600);
    });
    let layer = AdaptiveLayer::new(policy.unwrap());
    let handle = layer.handle();
    let mut row = Row::new(
        layer,
        &[(Ask::One, Fine), (Ask::Broken, Broken)],
        move |backend| backend.calls() == 12 && backend.most() == 2 && handle.in_flight() == 0,
    );
    row.play.crowd = true;
    row
}

/// The first three calls matter most, and what is below is refused.
pub(crate) fn shed<Req: 'static>()
-> Row<ShedLayer<shed::ByFn<impl Fn(&Req) -> Priority + Send + Sync + 'static>>> {
    let calls = AtomicU32::new(0);
    let layer = ShedLayer::new(ShedPolicy::default()).priority(move |_: &Req| {
        match calls.fetch_add(1, Ordering::Relaxed) {
            0..3 => Priority::HIGH,
            _ => Priority::NORMAL,
        }
    });
    let handle = layer.handle();
    handle.force(PriorityClass::High);
    Row::new(
        layer,
        &[
            (Ask::One, Fine),
            (Ask::Two, Fine),
            (Ask::Broken, Broken),
            (Ask::One, Unavailable),
            (Ask::Slow, Unavailable),
        ],
        move |backend| backend.calls() == 3 && handle.refused(PriorityClass::Normal) == 2,
    )
}

/// Every call is late by nothing and fails as the rule says, without being made.
pub(crate) fn fault() -> Row<FaultLayer> {
    let rule = FaultRule::new("down")
        .delay(1_000_000, Delay::Fixed(Duration::ZERO))
        .abort(1_000_000, Abort::Status(500));
    let layer = FaultLayer::new(FaultPolicy::new([rule]).unwrap());
    let layer = layer.arming(Arming::new(true, Some("test")));
    let handle = layer.handle();
    Row::new(
        layer,
        &[
            (Ask::One, Broken),
            (Ask::Slow, Broken),
            (Ask::Flaky, Broken),
        ],
        move |backend| {
            backend.calls() == 0 && handle.active() == 0 && handle.rules()[0].injected == 3
        },
    )
}

/// Every call has a copy.
pub(crate) fn mirror<M>(shadow: M) -> Row<MirrorLayer<M>> {
    let layer = MirrorLayer::new(MirrorPolicy::new(1_000_000).unwrap(), shadow);
    let handle = layer.handle();
    Row::new(layer, OBSERVED, move |backend| {
        let ok = handle.outcomes().contains(&("ok", 3));
        backend.calls() == 3 && ok && handle.in_flight() == 0
    })
}

const BOUNDED: &[(Ask, Answer)] = &[(Ask::One, Fine), (Ask::Slow, Late), (Ask::Two, Fine)];

pub(crate) fn accept() -> Row<DeadlineLayer<Accept>> {
    let layer = DeadlineLayer::accept(DeadlinePolicy::default());
    Row::new(layer, BOUNDED, |backend| {
        backend.calls() == 3 && backend.bounded() == 3
    })
}

pub(crate) fn propagate() -> Row<DeadlineLayer<Propagate>> {
    let layer = DeadlineLayer::propagate(DeadlinePolicy::default());
    Row::new(layer, BOUNDED, |backend| {
        backend.calls() == 3 && backend.told() == 3
    })
}

/// [`Balance`] as a layer: endpoints that are all the service inside.
#[derive(Clone, Debug)]
pub(crate) struct BalanceLayer {
    endpoints: &'static [&'static str],
    handle: Arc<OnceLock<BalanceHandle>>,
}

impl BalanceLayer {
    pub(crate) fn new(endpoints: &'static [&'static str]) -> Self {
        let handle = Arc::default();
        Self { endpoints, handle }
    }
}

impl<S: Clone + Send + Sync + 'static> Layer<S> for BalanceLayer {
    type Service = Balance<S, RoundRobin>;

    fn layer(&self, inner: S) -> Self::Service {
        let discover = StaticDiscover::new();
        let endpoints = self.endpoints.iter().map(|at| Endpoint::new(at).unwrap());
        discover.set("shop", endpoints);
        let watch = discover.watch("shop");
        let (balance, worker) = Balance::new(watch, move |_| inner.clone(), RoundRobin::default());
        worker.spawn();
        self.handle.get_or_init(|| balance.handle());
        balance
    }
}

pub(crate) fn balance() -> Row<BalanceLayer> {
    let layer = BalanceLayer::new(&["http://10.0.0.1:80", "http://10.0.0.2:80"]);
    let handle = Arc::clone(&layer.handle);
    Row::new(
        layer,
        &[
            (Ask::One, Fine),
            (Ask::Broken, Broken),
            (Ask::Two, Fine),
            (Ask::One, Fine),
        ],
        move |backend| {
            let endpoints = handle.get().map(BalanceHandle::endpoints);
            let attempts = endpoints.into_iter().flatten().map(|one| one.attempts);
            backend.calls() == 4 && attempts.eq([2, 2])
        },
    )
}

const OBSERVED: &[(Ask, Answer)] = &[(Ask::One, Fine), (Ask::Broken, Broken), (Ask::Two, Fine)];

/// How many calls were recorded, as of HTTP or of gRPC, and how many of them failed.
fn recorded(prometheus: &Prometheus, side: &str) -> (u64, u64) {
    let text = prometheus.render();
    let names = [
        format!("http_{side}_request_duration_seconds_count"),
        format!("rpc_{side}_call_duration_seconds_count"),
    ];
    let is_one = |line: &&str| names.iter().any(|name| line.starts_with(name));
    let lines = text.lines().filter(is_one);
    lines.fold((0, 0), |(all, failed), line| {
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        let fails = line.contains("error_type=");
        (all + count, failed + if fails { count } else { 0 })
    })
}

pub(crate) fn metrics() -> Row<ServerMetricsLayer> {
    let prometheus = Prometheus::new();
    let layer = ServerMetricsLayer::new().recorder(prometheus.recorder());
    Row::new(layer, OBSERVED, move |_| {
        recorded(&prometheus, "server") == (3, 1)
    })
}

pub(crate) fn client_metrics() -> Row<ClientMetricsLayer> {
    let prometheus = Prometheus::new();
    let layer = ClientMetricsLayer::new().recorder(prometheus.recorder());
    Row::new(layer, OBSERVED, move |_| {
        recorded(&prometheus, "client") == (3, 1)
    })
}

pub(crate) fn call_metrics() -> Row<CallMetricsLayer> {
    let prometheus = Prometheus::new();
    let layer = CallMetricsLayer::new()
        .service("backend")
        .recorder(prometheus.recorder());
    let handle = layer.handle();
    Row::new(layer, OBSERVED, move |_| {
        let text = prometheus.render();
        let count = |outcome: &str| {
            let lines = text.lines();
            let line = |line: &&str| {
                line.starts_with("chassis_call_duration_seconds_count")
                    && line.contains(&format!("outcome=\"{outcome}\""))
            };
            let counts = lines.filter(line).map(|line| line.rsplit(' ').next());
            counts
                .map(|count| count.unwrap().parse::<u64>().unwrap())
                .sum::<u64>()
        };
        (count("success"), count("failure")) == (2, 1)
            && (handle.calls(), handle.in_flight()) == (3, 0)
    })
}

pub(crate) fn trace() -> Row<TraceLayer> {
    Row::new(TraceLayer::new(), OBSERVED, |backend| backend.traced() == 3)
}

pub(crate) fn client_trace() -> Row<ClientTraceLayer> {
    let layer = ClientTraceLayer::new();
    Row::new(layer, OBSERVED, |backend| backend.traced() == 3)
}

/// A log that keeps its lines.
fn lines() -> (AccessLogLayer, Arc<Mutex<Vec<String>>>) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let sink = move |line: &str| sink.lock().unwrap().push(line.to_owned());
    (AccessLogLayer::new(Format::Text, sink), lines)
}

pub(crate) fn access_log() -> Row<AccessLogLayer> {
    let (layer, lines) = lines();
    Row::new(layer, OBSERVED, move |_| {
        let lines = lines.lock().unwrap();
        let failed = |line: &&String| line.contains("class=failure");
        lines.len() == 3 && lines.iter().filter(failed).count() == 1
    })
}

/// Pieces of bodies are in the lines of the log outside.
pub(crate) fn excerpts() -> Row<Stack<ExcerptLayer, AccessLogLayer>> {
    let (log, lines) = lines();
    let update = log.handle().update(|config| config.excerpts = Excerpt::All);
    update.unwrap();
    Row::new(Stack::new(ExcerptLayer::new(), log), OBSERVED, move |_| {
        let lines = lines.lock().unwrap();
        let shown = |line: &&String| line.contains("response_body=\"[body of ");
        let served: Vec<_> = lines
            .iter()
            .filter(|line| line.contains("class=success"))
            .collect();
        (lines.len(), served.len()) == (3, 2) && served.into_iter().all(|line| shown(&line))
    })
}

/// The three that come first, as one layer: each has seen each call, and the log has the id of the span.
pub(crate) fn observe() -> Row<ObserveLayer<(TraceLayer, AccessLogLayer, ServerMetricsLayer)>> {
    let prometheus = Prometheus::new();
    let (log, lines) = lines();
    let metrics = ServerMetricsLayer::new().recorder(prometheus.recorder());
    let layer = ObserveLayer::new((TraceLayer::new(), log, metrics));
    Row::new(layer, OBSERVED, move |backend| {
        let lines = lines.lock().unwrap();
        let traced = lines.iter().filter(|line| line.contains("trace_id="));
        (lines.len(), traced.count(), backend.traced()) == (3, 3, 3)
            && recorded(&prometheus, "server") == (3, 1)
    })
}

/// How many records there are, and how many of them of failures.
fn audited(records: impl Iterator<Item = AuditRecord>) -> (usize, usize) {
    let failed = |record: &AuditRecord| record.verdict.class() == Class::Failure;
    records.fold((0, 0), |(all, failures), record| {
        (all + 1, failures + usize::from(failed(&record)))
    })
}

pub(crate) fn audit() -> Row<AuditLayer> {
    let (places, records) = mpsc::channel(8);
    let layer = AuditLayer::new(AuditPolicy::default(), places);
    let handle = layer.handle();
    let records = Mutex::new(records);
    Row::new(layer, OBSERVED, move |_| {
        let mut records = records.lock().unwrap();
        let records = std::iter::from_fn(|| records.try_recv().ok());
        audited(records) == (3, 1) && (handle.recorded(), handle.lost()) == (3, 0)
    })
}

/// Two places, and nobody takes a record out: the third call waits and is refused, without being made.
pub(crate) fn lossless_audit() -> Row<LosslessAuditLayer> {
    let (places, records) = mpsc::channel(2);
    let policy = AuditPolicy::default().with(|config| {
        config.max_wait = Duration::from_millis(1);
    });
    let layer = LosslessAuditLayer::new(policy.unwrap(), places);
    let handle = layer.handle();
    let records = Mutex::new(records);
    Row::new(
        layer,
        &[
            (Ask::One, Fine),
            (Ask::Broken, Broken),
            (Ask::Two, Unavailable),
        ],
        move |backend| {
            let mut records = records.lock().unwrap();
            let records = std::iter::from_fn(|| records.try_recv().ok());
            audited(records) == (2, 1) && (backend.calls(), handle.refused()) == (2, 1)
        },
    )
}

/// A path of its own is answered without a call, all else is called.
pub(crate) fn heartbeat() -> Row<HeartbeatLayer> {
    Row::new(HeartbeatLayer::new(Ask::One.path()), OBSERVED, |backend| {
        backend.calls() == 2
    })
}

/// What it would answer is asked with another method.
pub(crate) fn heartbeat_beside_grpc() -> Row<HeartbeatLayer> {
    let layer = HeartbeatLayer::new("/grpc.health.v1.Health/Check");
    Row::new(layer, OBSERVED, |backend| backend.calls() == 3)
}

/// A file for a cassette, which is not there yet.
fn cassette(name: &str) -> PathBuf {
    let name = format!("chassis-positions-{name}-{}.json", std::process::id());
    let path = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&path);
    path
}

/// What is heard is kept.
pub(crate) fn vcr_recording() -> Row<VcrLayer> {
    let path = cassette("recording");
    let cassette = Cassette::open(&path, Mode::Record).unwrap();
    let layer = VcrLayer::new(cassette.clone());
    Row::new(layer, OBSERVED, move |backend| {
        cassette.save().unwrap();
        let kept = Cassette::open(&path, Mode::Replay).unwrap().unused();
        std::fs::remove_file(&path).unwrap();
        let urls: Vec<_> = kept.iter().map(Recorded::url).collect();
        backend.calls() == 3 && urls == [Ask::One, Ask::Broken, Ask::Two].map(Ask::path)
    })
}

/// What was kept is answered, and nobody is called.
pub(crate) fn vcr_replaying() -> Row<VcrLayer> {
    let path = cassette("replaying");
    let episodes = [(Ask::Two, 200), (Ask::Broken, 500), (Ask::One, 200)].map(|(ask, status)| {
        let request = serde_json::json!({ "method": "GET", "url": ask.path() });
        serde_json::json!({ "request": request, "response": { "status": status } })
    });
    let kept = serde_json::json!({ "version": 1, "episodes": episodes });
    std::fs::write(&path, kept.to_string()).unwrap();
    let cassette = Cassette::open(&path, Mode::Replay).unwrap();
    std::fs::remove_file(&path).unwrap();
    let layer = VcrLayer::new(cassette.clone());
    Row::new(layer, OBSERVED, move |backend| {
        backend.calls() == 0 && cassette.unused().is_empty()
    })
}

/// What a rescue is for: every third call fails with an error that nobody knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct ThirdFailsLayer(Arc<AtomicU32>);

/// The service of [`ThirdFailsLayer`].
#[derive(Clone, Debug)]
pub(crate) struct ThirdFails<S> {
    inner: S,
    calls: Arc<AtomicU32>,
}

impl<S> Layer<S> for ThirdFailsLayer {
    type Service = ThirdFails<S>;
    fn layer(&self, inner: S) -> ThirdFails<S> {
        let calls = Arc::clone(&self.0);
        ThirdFails { inner, calls }
    }
}

impl<S, Req> Service<Req> for ThirdFails<S>
where
    S: Service<Req, Error: Into<BoxError>, Future: Send + 'static>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }
    fn call(&mut self, request: Req) -> Self::Future {
        if self.calls.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
            return Box::pin(async { Err("a wire broke".into()) });
        }
        let future = self.inner.call(request);
        Box::pin(async { future.await.map_err(Into::into) })
    }
}

pub(crate) fn rescue() -> Row<Stack<ThirdFailsLayer, RescueLayer>> {
    let script = &[
        (Ask::One, Fine),
        (Ask::Two, Fine),
        (Ask::One, Broken),
        (Ask::Two, Fine),
    ];
    let row = Row::new(ThirdFailsLayer::default(), script, |backend| {
        backend.calls() == 3
    });
    row.rescued()
}

/// The judge calls everything a success, and a breaker of two failures outside of it stays closed.
pub(crate) fn judge<B, E>() -> Row<Stack<JudgeLayer<ByFn<Judge<B, E>>>, BreakerLayer>> {
    let say = |_: Result<&Response<B>, &E>| Verdict::SUCCESS;
    let breaker = circuit();
    let handle = breaker.handle();
    Row::new(
        Stack::new(JudgeLayer::by_fn(say as Judge<B, E>), breaker),
        &[
            (Ask::Broken, Broken),
            (Ask::Broken, Broken),
            (Ask::Broken, Broken),
            (Ask::One, Fine),
        ],
        move |backend| backend.calls() == 4 && handle.state() == State::Closed,
    )
}

/// A judge of responses with the body `B`.
pub(crate) type Judge<B, E> = fn(Result<&Response<B>, &E>) -> Verdict;

/// What failed is answered by `Fine`, and is seen as one that failed.
pub(crate) fn fallback<Res, F>(answer: F) -> Row<FallbackLayer<Answers<F>>>
where
    F: Fn(Failure) -> Res,
{
    let layer = FallbackLayer::with(answer);
    let handle = layer.handle();
    Row::new(
        layer,
        &[
            (Ask::One, Fine),
            (Ask::Broken, Fine),
            (Ask::Flaky, Fine),
            (Ask::Flaky, Fine),
        ],
        move |backend| backend.calls() == 4 && handle.fallbacks() == 2,
    )
}

/// The same, marked.
pub(crate) fn marked_fallback<B, F>(answer: F) -> Row<FallbackLayer<Answers<F>, Auto, Marked>>
where
    F: Fn(Failure) -> Response<B>,
{
    fallback(answer).with(FallbackLayer::mark)
}

/// Each route is called once, unless it fails.
pub(crate) fn cache() -> Row<CacheLayer<HttpKeys, HttpKey, Http>> {
    let layer = CacheLayer::http(CachePolicy::default(), HttpKeys::new());
    let handle = layer.handle();
    Row::new(
        layer,
        &[
            (Ask::One, Fine),
            (Ask::One, Fine),
            (Ask::Two, Fine),
            (Ask::Broken, Broken),
            (Ask::Broken, Broken),
            (Ask::One, Fine),
            (Ask::Two, Fine),
        ],
        move |backend| backend.calls() == 4 && (handle.hits(), handle.len()) == (3, 2),
    )
}

/// One after the other nobody joins anybody.
pub(crate) fn coalesce() -> Row<CoalesceLayer<HttpKeys, HttpKey, Http>> {
    let layer = CoalesceLayer::http(CoalescePolicy::default(), HttpKeys::new());
    let handle = layer.handle();
    Row::new(
        layer,
        &[(Ask::One, Fine), (Ask::Broken, Broken), (Ask::One, Fine)],
        move |backend| backend.calls() == 3 && (handle.led(), handle.in_flight()) == (3, 0),
    )
}
