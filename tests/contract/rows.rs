//! The table: layer, name of the test, case.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use http::{Request, Response};
use tokio::sync::mpsc;
use tower::ServiceBuilder;
use tower_chassis::{
    Body, BoxError, Endpoint, JudgeLayer, ObserveLayer, RescueLayer, Verdict,
    access_log::{AccessLogLayer, Excerpt, ExcerptLayer, Format},
    adaptive::{AdaptiveLayer, AdaptivePolicy},
    balance::{Balance, Picker},
    breaker::{BreakerLayer, BreakerPolicy, Mode, WindowType},
    bulkhead::{BulkheadConfig, BulkheadLayer, BulkheadPolicy, QueueOrder},
    cache::{CacheLayer, CachePolicy},
    client::{Client, OriginLayer},
    coalesce::{CoalesceLayer, CoalescePolicy},
    deadline::{DeadlineLayer, DeadlinePolicy},
    discover::{Discover, StaticDiscover},
    fallback::FallbackLayer,
    fault::{Arming, Delay, FaultLayer, FaultPolicy, FaultRule},
    hedge::{HedgeHandle, HedgeLayer, HedgePolicy},
    metrics::{CallMetricsLayer, ClientMetricsLayer, ServerMetricsLayer},
    mirror::{MirrorLayer, MirrorPolicy},
    observe::{
        audit::{AuditLayer, AuditPolicy, AuditRecord, AuditRule, LosslessAuditLayer},
        health::HeartbeatLayer,
        vcr::{self, Cassette, VcrLayer},
    },
    rate_limit::{
        RateLimitLayer, RateLimitPolicy,
        remote::{Grant, Limit, Store},
    },
    retry::{
        Buffered, CallerAttemptLayer, PeekLayer, RetryConfig, RetryLayer, RetryPolicy, Rewrapped,
    },
    router::rules::{Destination, Rule, TrafficLayer, TrafficPolicy},
    share::HttpKeys,
    shed::{Priority, ShedLayer, ShedPolicy},
    timeout::{IdleLayer, TimeoutLayer, TimeoutPolicy},
    trace::{ClientTraceLayer, TraceLayer},
};
use tower_chassis_core::testing::{Case, ControlledService, Law, Step, contract, contract_service};

macro_rules! rows {
    ($($layer:ident: $name:ident = $case:expr;)+) => {
        pub(crate) const ROWS: &[&str] = &[$(stringify!($layer)),+, "Balance", "Client"];
        $(
            #[test]
            fn $name() {
                let report = contract($case);
                println!("{report}");
                report.assert();
            }
        )+
    };
}

rows! {
    // core
    RescueLayer: rescue = || Case::new(RescueLayer::new()).answers().calls_once();
    OriginLayer: origin = || Case::new(OriginLayer::new(&endpoint(1))).calls_once();
    JudgeLayer: judge = || Case::new(JudgeLayer::by_fn(judged)).calls_once();

    // resilience
    TimeoutLayer: timeout_per_try = || Case::new(TimeoutLayer::per_try(second())).calls_once();
    TimeoutLayer: timeout_total = || Case::new(TimeoutLayer::total(second())).calls_once();
    TimeoutLayer: timeout_not_while_uploading =
        || Case::new(TimeoutLayer::per_try(second()).not_while_uploading()).calls_once();
    TimeoutLayer: timeout_responding =
        || Case::new(TimeoutLayer::per_try(second()).respond()).calls_once();
    TimeoutLayer: timeout_until_end =
        || Case::new(TimeoutLayer::total(second()).until_end()).calls_once();
    IdleLayer: timeout_idle = || Case::new(IdleLayer::default()).calls_once();
    DeadlineLayer: deadline_accept =
        || Case::new(DeadlineLayer::accept(DeadlinePolicy::default())).calls_once();
    DeadlineLayer: deadline_propagate =
        || Case::new(DeadlineLayer::propagate(DeadlinePolicy::default())).calls_once();
    DeadlineLayer: deadline_responding =
        || Case::new(DeadlineLayer::accept(DeadlinePolicy::default()).respond()).calls_once();
    RetryLayer: retry = || {
        let retry = RetryLayer::new(RetryPolicy::default()).seed(7);
        let handle = retry.handle();
        let held = retry.handle();
        Case::new(retry)
            .reads(move || (handle.retries(), handle.exhausted(), handle.budget()))
            .held(move || (held.budget().calls, held.budget().retries))
    };
    RetryLayer: retry_rewrapped =
        || Case::new(RetryLayer::new(RetryPolicy::default()).seed(7).rewrap::<Body>());
    RetryLayer: retry_switched_off = || Case::new(RetryLayer::new(one_attempt())).calls_once();
    PeekLayer: retry_peek = || Case::new(PeekLayer::new().every()).calls_once();
    CallerAttemptLayer: retry_caller_attempt =
        || Case::new(CallerAttemptLayer::trusting(|_: &Request<Body>| true)).calls_once();
    HedgeLayer: hedge = || {
        let hedge = HedgeLayer::new(HedgePolicy::default()).rewrap::<Body>();
        let handle = hedge.handle();
        Case::new(hedge).held(under_way(&handle)).reads(move || (handle.sent(), handle.won()))
    };
    HedgeLayer: hedge_at_once = || {
        let hedge = HedgeLayer::new(HedgePolicy::after(Duration::ZERO).unwrap());
        let handle = hedge.handle();
        Case::new(hedge).held(under_way(&handle))
    };
    HedgeLayer: hedge_keyed = || {
        let hedge = HedgeLayer::new(HedgePolicy::default());
        let hedge = hedge.keyed(|request: &Request<Body>| Some(request.uri().clone()));
        let handle = hedge.handle();
        Case::new(hedge).held(under_way(&handle)).reads(move || handle.keys())
    };
    HedgeLayer: hedge_switched_off = || {
        let policy = HedgePolicy::default().with(|config| config.hedges = 0);
        Case::new(HedgeLayer::new(policy.unwrap())).calls_once()
    };
    BreakerLayer: breaker = || {
        let breaker = BreakerLayer::new(BreakerPolicy::default()).seed(7);
        let handle = breaker.handle();
        Case::new(breaker).reads(move || handle.snapshot()).calls_once()
    };
    BreakerLayer: breaker_until_end = || {
        let breaker = BreakerLayer::new(BreakerPolicy::default()).seed(7).until_end();
        let handle = breaker.handle();
        Case::new(breaker).reads(move || handle.snapshot()).calls_once()
    };
    BreakerLayer: breaker_responding =
        || Case::new(BreakerLayer::new(BreakerPolicy::default()).respond()).calls_once();
    BreakerLayer: breaker_half_open = || {
        let breaker = BreakerLayer::new(two_probes());
        let handle = breaker.handle();
        half_open(Case::new(breaker).held(move || handle.probes()))
    };
    BreakerLayer: breaker_half_open_until_end = || {
        let breaker = BreakerLayer::new(two_probes()).until_end();
        let handle = breaker.handle();
        half_open(Case::new(breaker).held(move || handle.probes()))
    };
    BreakerLayer: breaker_by_calls = || {
        let policy = BreakerPolicy::default().with(|config| {
            config.window_type = WindowType::Count;
            config.slow_call = Duration::from_secs(1);
        });
        let breaker = BreakerLayer::new(policy.unwrap()).seed(7);
        let handle = breaker.handle();
        Case::new(breaker).reads(move || handle.snapshot()).calls_once()
    };
    BreakerLayer: breaker_recovering = || {
        let policy = two_probes().with(|config| {
            config.recovery = Duration::from_secs(3_600);
            config.recovery_from = 1.0;
        });
        let breaker = BreakerLayer::new(policy.unwrap()).seed(7);
        let handle = breaker.handle();
        let case = Case::new(breaker).reads(move || handle.snapshot()).calls_once();
        case.before(down().chain([Step::Succeed; 2]))
    };
    BreakerLayer: breaker_observing = || {
        let breaker = BreakerLayer::new(BreakerPolicy::default()).seed(7);
        let handle = breaker.handle();
        handle.force(Mode::ObserveOnly, None);
        Case::new(breaker).reads(move || handle.snapshot()).calls_once()
    };
    KeyedBreakerLayer: breaker_keyed = || {
        let breaker = BreakerLayer::new(BreakerPolicy::default());
        let breaker = breaker.keyed(|request: &Request<Body>| Some(request.uri().clone()));
        let handle = breaker.handle();
        Case::new(breaker).reads(move || handle.keys()).calls_once()
    };
    CacheLayer: cache = || {
        let cache = CacheLayer::http(CachePolicy::default(), HttpKeys::new());
        let handle = cache.handle();
        Case::new(cache).reads(move || (handle.hits(), handle.misses(), handle.len()))
    };
    CacheLayer: cache_nothing = || {
        let cache = CacheLayer::new(CachePolicy::default(), |_: &Request<Body>| None::<u32>);
        Case::new(cache.buffered(1_000)).calls_once()
    };
    CoalesceLayer: coalesce = || {
        let coalesce = CoalesceLayer::http(CoalescePolicy::default(), HttpKeys::new());
        let handle = coalesce.handle();
        // All are the same here, and one call.
        read_first(Case::new(coalesce).held(move || handle.in_flight()))
            .skip(Law::CallsGoOn, "they wait for the one that is in flight")
            .skip(Law::AllWaitersWake, "the one that is held goes on for those who wait when its caller is dropped")
    };
    CoalesceLayer: coalesce_of_keys = || {
        let coalesce = CoalesceLayer::http(CoalescePolicy::default(), HttpKeys::new());
        let handle = coalesce.handle();
        let number = AtomicU32::new(0);
        let request = move || {
            let uri = format!("http://contract.test/{}", number.fetch_add(1, Ordering::Relaxed));
            Request::get(uri).body(Body::empty()).unwrap()
        };
        let case = Case::with(coalesce, ControlledService::new(), request);
        read_first(case.held(move || handle.in_flight()).calls_once())
    };
    CoalesceLayer: coalesce_nothing = || {
        let coalesce = CoalesceLayer::new(CoalescePolicy::default(), |_: &Request<Body>| None::<u32>);
        let handle = coalesce.handle();
        Case::new(coalesce.buffered(1_000)).held(move || handle.in_flight()).calls_once()
    };
    FallbackLayer: fallback = || {
        let fallback = FallbackLayer::with(|_| Response::new(Body::full("instead")));
        let handle = fallback.handle();
        Case::new(fallback).reads(move || (handle.fallbacks(), handle.failed())).answers().calls_once()
    };
    FallbackLayer: fallback_switched_off = || {
        let fallback = FallbackLayer::with(|_| Response::new(Body::full("instead")));
        fallback.handle().update(|config| config.enabled = false).unwrap();
        Case::new(fallback).calls_once()
    };
    FallbackLayer: fallback_to_a_service = || {
        let broken = tower::service_fn(async |_: Request<Body>| Err::<Response<Body>, _>(BoxError::from("down")));
        let replay = Rewrapped::<Body>::new(Buffered::default());
        Case::new(FallbackLayer::service(broken).replay(replay)).calls_once()
    };
    RateLimitLayer: rate_limit = || Case::new(RateLimitLayer::new(twenty())).calls_once();
    RateLimitLayer: rate_limit_responding =
        || Case::new(RateLimitLayer::new(twenty()).respond()).calls_once();
    RateLimitLayer: rate_limit_keyed = || {
        let limit = RateLimitLayer::new(twenty());
        let limit = limit.keyed(|request: &Request<Body>| Some(request.uri().clone()));
        let handle = limit.handle();
        Case::new(limit).reads(move || handle.keys()).calls_once()
    };
    RateLimitLayer: rate_limit_exact =
        || Case::new(RateLimitLayer::new(twenty()).exact()).calls_once();
    RateLimitLayer: rate_limit_with_headers =
        || Case::new(RateLimitLayer::new(twenty()).headers().legacy_headers()).calls_once();
    RateLimitLayer: rate_limit_with_headers_responding =
        || Case::new(RateLimitLayer::new(twenty()).headers().respond()).calls_once();
    RateLimitLayer: rate_limit_by_cost =
        || Case::new(RateLimitLayer::new(twenty()).cost(|_: &Request<Body>| 1)).calls_once();
    RateLimitLayer: rate_limit_sliding = || {
        let policy = RateLimitPolicy::sliding_window(20, Duration::from_secs(1)).unwrap();
        Case::new(RateLimitLayer::new(policy)).calls_once()
    };
    RateLimitLayer: rate_limit_waiting = || {
        let policy = twenty().with(|config| config.max_wait = Duration::from_secs(10));
        Case::new(RateLimitLayer::new(policy.unwrap())).calls_once()
    };
    RemoteRateLimitLayer: rate_limit_remote =
        || Case::new(RateLimitLayer::new(twenty()).remote(Open)).calls_once();
    RemoteRateLimitLayer: rate_limit_remote_keyed = || {
        let limit = RateLimitLayer::new(twenty());
        let limit = limit.keyed(|request: &Request<Body>| Some(request.uri().to_string()));
        Case::new(limit.remote(Open).respond()).calls_once()
    };
    BulkheadLayer: bulkhead_without_a_queue = || {
        let bulkhead = BulkheadLayer::new(BulkheadPolicy::new(2).unwrap());
        let handle = bulkhead.handle();
        Case::new(bulkhead).limit(2).held(move || handle.in_flight()).calls_once()
    };
    BulkheadLayer: bulkhead_with_a_queue = || {
        let bulkhead = BulkheadLayer::new(queue());
        let handle = bulkhead.handle();
        Case::new(bulkhead).limit(2).held(move || (handle.in_flight(), handle.queued())).calls_once()
    };
    BulkheadLayer: bulkhead_until_end = || {
        let bulkhead = BulkheadLayer::new(queue()).until_end();
        let handle = bulkhead.handle();
        Case::new(bulkhead).limit(2).held(move || (handle.in_flight(), handle.queued())).calls_once()
    };
    BulkheadLayer: bulkhead_responding = || {
        let bulkhead = BulkheadLayer::new(queue()).respond();
        let handle = bulkhead.handle();
        Case::new(bulkhead).limit(2).held(move || (handle.in_flight(), handle.queued())).calls_once()
    };
    BulkheadLayer: bulkhead_under_overload = || {
        let bulkhead = BulkheadLayer::new(overload()).deadlines();
        let handle = bulkhead.handle();
        Case::new(bulkhead).limit(2).held(move || (handle.in_flight(), handle.queued())).calls_once()
    };
    KeyedBulkheadLayer: bulkhead_keyed = || {
        let bulkhead = BulkheadLayer::new(queue());
        let bulkhead = bulkhead.keyed(|request: &Request<Body>| Some(request.uri().clone()));
        let handle = bulkhead.handle();
        let held = move || {
            let mut held = (0, 0);
            handle.for_each(|_, in_flight, queued| {
                held.0 += in_flight;
                held.1 += queued;
            });
            held
        };
        Case::new(bulkhead).limit(2).held(held).calls_once()
    };
    FaultLayer: fault = || {
        let faults = FaultLayer::new(FaultPolicy::default());
        let handle = faults.handle();
        Case::new(faults).held(move || handle.active()).calls_once()
    };
    FaultLayer: fault_http = || {
        let faults = FaultLayer::new(FaultPolicy::default()).http();
        let handle = faults.handle();
        Case::new(faults).held(move || handle.active()).calls_once()
    };
    FaultLayer: fault_that_delays = || {
        let wait = Delay::Fixed(Duration::from_millis(10));
        let faults = faults(|rule| rule.delay(1_000_000, wait));
        let handle = faults.handle();
        Case::new(faults)
            .held(move || handle.active())
            .skip(Law::CallsGoOn, "each call is made later, and none is made while the clock stands")
            .calls_once()
    };
    FaultLayer: fault_that_slows_bodies = || {
        let faults = faults(|rule| rule.throttle(1_000_000, 1_000_000));
        let handle = faults.handle();
        Case::new(faults.http())
            .held(move || handle.active())
            .skip(Law::CallsGoOn, "each body comes later, and none while the clock stands")
            .skip(Law::BodyPasses, "a frame of a slow body comes when it is through")
            .calls_once()
    };

    AdaptiveLayer: adaptive_without_a_queue = || {
        let adaptive = AdaptiveLayer::new(two_at_once(0.0));
        let handle = adaptive.handle();
        Case::new(adaptive).limit(2).held(move || handle.in_flight()).calls_once()
    };
    AdaptiveLayer: adaptive_with_a_queue = || {
        let adaptive = AdaptiveLayer::new(two_at_once(4.0));
        let handle = adaptive.handle();
        Case::new(adaptive).limit(2).held(move || (handle.in_flight(), handle.queued())).calls_once()
    };
    AdaptiveLayer: adaptive_until_end = || {
        let adaptive = AdaptiveLayer::new(two_at_once(4.0)).until_end();
        let handle = adaptive.handle();
        Case::new(adaptive).limit(2).held(move || (handle.in_flight(), handle.queued())).calls_once()
    };
    AdaptiveLayer: adaptive_responding = || {
        let adaptive = AdaptiveLayer::new(two_at_once(4.0)).respond();
        let handle = adaptive.handle();
        Case::new(adaptive).limit(2).held(move || (handle.in_flight(), handle.queued())).calls_once()
    };
    KeyedAdaptiveLayer: adaptive_keyed = || {
        let adaptive = AdaptiveLayer::new(two_at_once(4.0));
        let adaptive = adaptive.keyed(|request: &Request<Body>| Some(request.uri().clone()));
        let handle = adaptive.handle();
        let held = move || {
            let mut held = (0, 0);
            handle.for_each(|_, limit| {
                held.0 += limit.in_flight();
                held.1 += limit.queued();
            });
            held
        };
        Case::new(adaptive).limit(2).held(held).calls_once()
    };
    ShedLayer: shed = || Case::new(ShedLayer::new(ShedPolicy::default())).calls_once();
    ShedLayer: shed_responding =
        || Case::new(ShedLayer::new(ShedPolicy::default()).respond()).calls_once();
    ShedLayer: shed_waiting = || Case::new(ShedLayer::new(patient(600))).calls_once();
    ShedLayer: shed_waiting_in_vain = || Case::new(ShedLayer::new(patient(1))).calls_once();
    ShedLayer: shed_by_priority = || {
        let shed = ShedLayer::new(patient(600)).seed(7);
        let shed = shed.priority(|request: &Request<Body>| match request.uri().path() {
            "/" => Priority::NORMAL.user("contract"),
            _ => Priority::LOW,
        });
        let handle = shed.handle();
        Case::new(shed).reads(move || handle.threshold()).calls_once()
    };
    ShedLayer: shed_by_trusted_callers = || {
        let shed = ShedLayer::new(ShedPolicy::default()).watch(|| 0.5).seed(7);
        Case::new(shed.trusted(|_: &Request<Body>| true).respond()).calls_once()
    };
    MirrorLayer: mirror = || {
        let mirror = MirrorLayer::new(MirrorPolicy::new(1_000_000).unwrap(), shadow());
        let handle = mirror.handle();
        Case::new(mirror).reads(move || handle.is_paused()).calls_once()
    };
    MirrorLayer: mirror_together = || {
        let policy = MirrorPolicy::new(1_000_000).unwrap();
        let policy = policy.with(|config| config.cancel_with_primary = true);
        let mirror = MirrorLayer::new(policy.unwrap(), shadow());
        Case::new(mirror).calls_once()
    };
    MirrorLayer: mirror_switched_off =
        || Case::new(MirrorLayer::new(MirrorPolicy::default(), shadow())).calls_once();

    // observe
    ServerMetricsLayer: server_metrics = || {
        let metrics = ServerMetricsLayer::new();
        let handle = metrics.handle();
        Case::new(metrics).held(move || handle.in_flight()).calls_once()
    };
    ClientMetricsLayer: client_metrics = || {
        let metrics = ClientMetricsLayer::new();
        let handle = metrics.handle();
        Case::new(metrics).held(move || handle.in_flight()).calls_once()
    };
    CallMetricsLayer: call_metrics = || {
        let metrics = CallMetricsLayer::new();
        let handle = metrics.handle();
        Case::new(metrics).held(move || handle.in_flight()).calls_once()
    };
    TraceLayer: trace = || {
        let trace = TraceLayer::new();
        let handle = trace.handle();
        Case::new(trace).held(move || handle.in_flight()).calls_once()
    };
    ClientTraceLayer: client_trace = || {
        let trace = ClientTraceLayer::new();
        let handle = trace.handle();
        Case::new(trace).held(move || handle.in_flight()).calls_once()
    };
    AccessLogLayer: access_log = || {
        let log = AccessLogLayer::new(Format::Text, |_: &str| {});
        let handle = log.handle();
        Case::new(log).held(move || handle.in_flight()).calls_once()
    };
    ObserveLayer: observe = || {
        let (trace, metrics) = (TraceLayer::new(), ServerMetricsLayer::new());
        let (spans, calls) = (trace.handle(), metrics.handle());
        let log = AccessLogLayer::new(Format::Json, |_: &str| {});
        Case::new(ObserveLayer::new((trace, metrics, log)))
            .held(move || (spans.in_flight(), calls.in_flight()))
            .calls_once()
    };
    ObserveLayer: observe_until_head = || {
        let metrics = ServerMetricsLayer::new();
        let handle = metrics.handle();
        Case::new(ObserveLayer::new((TraceLayer::new(), metrics)).until_head())
            .held(move || handle.in_flight())
            .calls_once()
    };
    ExcerptLayer: excerpt = || Case::new(ExcerptLayer::new()).calls_once();
    AccessLogLayer: access_log_with_excerpts = || {
        let log = AccessLogLayer::new(Format::Json, |_: &str| {});
        let handle = log.handle();
        handle.update(|config| config.excerpts = Excerpt::All).unwrap();
        let layers = ServiceBuilder::new().layer(log).layer(ExcerptLayer::new()).into_inner();
        Case::new(layers).held(move || handle.in_flight()).calls_once()
    };
    AuditLayer: audit = || {
        let audit = AuditLayer::new(AuditPolicy::default(), |_: AuditRecord| true);
        let handle = audit.handle();
        Case::new(audit).reads(move || handle.recorded()).calls_once()
    };
    LosslessAuditLayer: audit_lossless = || {
        let (layer, held, records) = no_record();
        Case::new(layer).limit(2).held(held).calls_once().keep(records)
    };
    LosslessAuditLayer: audit_lossless_responding = || {
        let (layer, held, records) = no_record();
        Case::new(layer.respond()).limit(2).held(held).calls_once().keep(records)
    };
    HeartbeatLayer: heartbeat = || Case::new(HeartbeatLayer::new("/ping")).calls_once();
    VcrLayer: vcr = || {
        let cassette = Cassette::open("never-written.json", vcr::Mode::Pass).unwrap();
        Case::new(VcrLayer::new(cassette)).calls_once()
    };

    // router
    TrafficLayer: traffic = || {
        let parts = [("1", 9), ("2", 1)].map(|(version, weight)| Destination::new([("version", version)], weight));
        let policy = TrafficPolicy::new(vec![Rule::new("canary", parts)], 7).unwrap();
        Case::new(TrafficLayer::new(policy)).calls_once()
    };
}

#[test]
fn balance() {
    let report = contract_service(|inner| balanced(inner, Case::service));
    println!("{report}");
    report.assert();
}

#[test]
fn balance_until_end() {
    let report =
        contract_service(|inner| balanced(inner, |balance| Case::service(balance.until_end())));
    println!("{report}");
    report.assert();
}

#[test]
fn client() {
    let report = contract_service(|inner| Case::service(Client::with_pool(inner)).calls_once());
    println!("{report}");
    report.assert();
}

fn balanced(
    inner: ControlledService,
    case: impl FnOnce(Balance<ControlledService>) -> Case,
) -> Case {
    let discover = StaticDiscover::new();
    discover.set("shop", [endpoint(1), endpoint(2)]);
    let (balance, worker) = Balance::new(
        discover.watch("shop"),
        move |_| inner.clone(),
        Picker::default(),
    );
    worker.spawn();
    let handle = balance.handle();
    let pending = move || {
        let endpoints = handle.endpoints();
        endpoints
            .iter()
            .map(|status| status.pending)
            .collect::<Vec<_>>()
    };
    case(balance).held(pending).calls_once().keep(discover)
}

fn endpoint(number: u16) -> Endpoint {
    Endpoint::new(&format!("http://10.0.0.{number}:80")).unwrap()
}

fn judged(result: Result<&Response<Body>, &BoxError>) -> Verdict {
    match result {
        Ok(_) => Verdict::SUCCESS,
        Err(error) => Verdict::of_error(error),
    }
}

fn second() -> TimeoutPolicy {
    TimeoutPolicy::new(Duration::from_secs(1)).unwrap()
}

/// Calls and hedges, as the budget counts them.
fn under_way(handle: &HedgeHandle) -> impl Fn() -> (u64, u64) + Send + Sync + use<> {
    let handle = handle.clone();
    move || {
        let budget = handle.budget();
        (budget.calls, budget.retries)
    }
}

fn one_attempt() -> RetryPolicy {
    let config = RetryConfig {
        attempts: 1,
        ..Default::default()
    };
    config.try_into().unwrap()
}

/// A limit that stays at two: it is at the least that it may be, and the most.
fn two_at_once(queue: f64) -> AdaptivePolicy {
    let policy = AdaptivePolicy::default().with(|config| {
        (config.start, config.min, config.max) = (2, 2, 2);
        config.queue = queue;
        config.max_wait = Duration::from_secs(60);
        config.target = Duration::from_secs(60);
    });
    policy.unwrap()
}

fn two_probes() -> BreakerPolicy {
    let policy = BreakerPolicy::default();
    policy.with(|config| config.half_open_probes = 2).unwrap()
}

/// Five failures and the longest open time.
fn down() -> impl Iterator<Item = Step> {
    let failures = [Step::Fail; 5].into_iter();
    failures.chain([Step::Wait(Duration::from_secs(60))])
}

/// The probes under way are what is held.
fn half_open(case: Case) -> Case {
    case.before(down()).limit(2).calls_once()
}

/// Grants whatever is wanted.
struct Open;

impl Store for Open {
    async fn acquire(&self, _: &str, _: u32, want: u32, _: Limit) -> Result<Grant, BoxError> {
        Ok(Grant::Calls(want))
    }
}

/// What is given to several is read to its end before.
fn read_first(case: Case) -> Case {
    case.skip(Law::BodyPasses, "no head as long as the body is not there")
}

fn faults(rule: impl FnOnce(FaultRule) -> FaultRule) -> FaultLayer {
    let policy = FaultPolicy::new([rule(FaultRule::new("contract"))]).unwrap();
    FaultLayer::new(policy).arming(Arming::new(true, Some("test")))
}

/// Waits so many seconds for the inner service.
fn patient(seconds: u64) -> ShedPolicy {
    let policy = ShedPolicy::default();
    let policy = policy.with(|config| config.max_unready = Duration::from_secs(seconds));
    policy.unwrap()
}

/// A second service that never answers.
fn shadow() -> Shadow {
    tower::service_fn(|_| std::future::pending())
}

type Shadow = tower::util::ServiceFn<
    fn(Request<Body>) -> std::future::Pending<Result<Response<Body>, BoxError>>,
>;

fn twenty() -> RateLimitPolicy {
    RateLimitPolicy::new(10.0, 20).unwrap()
}

/// As `queue`, for as long a standing one.
fn overload() -> BulkheadPolicy {
    let change = |config: &mut BulkheadConfig| {
        config.queue_order = QueueOrder::AdaptiveLifo;
        config.codel = true;
        config.target = Duration::from_secs(60);
    };
    queue().with(change).unwrap()
}

fn queue() -> BulkheadPolicy {
    BulkheadPolicy::throttle(2, 20, Duration::from_secs(60)).unwrap()
}

/// Places for two calls, of which none is recorded.
fn no_record() -> (
    LosslessAuditLayer,
    impl Fn() -> usize + Send + Sync + 'static,
    mpsc::Receiver<AuditRecord>,
) {
    let (places, records) = mpsc::channel(2);
    let rule = AuditRule {
        classes: vec!["rate-limited".into()],
        ..AuditRule::default()
    };
    let policy = AuditPolicy::default().with(|config| config.rules = vec![rule]);
    let layer = LosslessAuditLayer::new(policy.unwrap(), places.clone());
    (
        layer,
        move || places.max_capacity() - places.capacity(),
        records,
    )
}
