//! Five layers as one stack (rate limit, retry, timeout of a try, breaker, bulkhead) beside tower-resilience's same five
//! and tower's nearest four and a load shed, and each of them by itself, on their success path: what they add to a no-op
//! in time, allocations and instructions, and how much two cores do over one.
//!
//!   cargo run --release --manifest-path tests/peers/Cargo.toml --bin five --features five
//!   … -- --rounds 31 --millis 8          more rounds of each case, longer ones
//!   … -- --instructions no               without callgrind, which needs `valgrind`
//!   … -- --only "five layers"            one case under `valgrind --tool=callgrind`, for a profile:
//!
//!   CARGO_PROFILE_RELEASE_DEBUG=1 cargo build --release --manifest-path tests/peers/Cargo.toml --bin five --features five
//!   valgrind --tool=callgrind --callgrind-out-file=five.out --collect-atstart=no --toggle-collect='*bench::Case::batch*' \
//!       target/release/five --only "five layers" --group 1 --batches 20
//!   callgrind_annotate --auto=no --inclusive=no five.out
//!
//! Cases run in turn, round after round, on one core. A time is the median over rounds less the no-op's with the same
//! request, a ratio the median over rounds. Allocations cost some ten instructions each that are the counter's. Theirs
//! are built without metrics and tracing; with `--features five-full` they have both, and nobody listens.
//!
//! Two cores must run at once to get into each other's way. Where one `Arc` is no slower on two cores than nothing, they
//! did not: on a busy machine run all of it under `chrt --fifo 1`, which takes the cores from everybody else.

use std::{
    cell::RefCell,
    convert::Infallible,
    env,
    fmt::Debug,
    future::{Future, Ready, ready},
    num::NonZeroU32,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Barrier},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use failsafe::StateMachine;
use governor::{Quota, RateLimiter};
use http::{Extensions, Request, Response};
use http_body_util::Empty;
use tower::{
    BoxError, Layer, Service, ServiceBuilder,
    buffer::{Buffer, future::ResponseFuture},
    limit::{ConcurrencyLimit, RateLimit, rate::Rate},
    load_shed::LoadShed,
    retry::{Policy, Retry},
    timeout::Timeout,
    util::{MapRequest, Oneshot},
};
use tower_chassis::{
    Carrier, Invocation,
    breaker::{BreakerConfig, BreakerLayer, BreakerPolicy},
    bulkhead::{BulkheadLayer, BulkheadPolicy},
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{Cloned, RetryLayer, RetryPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
    verdict::Outcome,
};
use tower_chassis_peers::{
    bench::{self, Case},
    counting::Counting,
    median, option,
    process::{pin_self, pin_thread},
    table,
};
use tower_resilience_bulkhead as bulkhead;
use tower_resilience_circuitbreaker as circuitbreaker;
use tower_resilience_ratelimiter as ratelimiter;
use tower_resilience_retry as retry;
use tower_resilience_timelimiter as timelimiter;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const HELP: &str =
    "five [--rounds 15] [--millis 6] [--instructions yes|no] [--only CASE --batches 4]";
const NEVER: Duration = Duration::from_secs(60);
const MANY: usize = 100_000_000;

/// A request of which a stack can make copies, and what answers it.
trait Call: Carrier + Clone + Send + 'static {
    type Reply: Outcome + Send + 'static;
    fn reply() -> Self::Reply;
}

/// A protocol of one's own, whose clone allocates nothing.
#[derive(Clone, Default, Debug)]
struct Ask {
    extensions: Extensions,
    client: u16,
}

#[derive(Debug)]
struct Reply;

impl Outcome for Reply {}

impl Carrier for Ask {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn is_idempotent(&self) -> bool {
        true
    }
}

impl Call for Ask {
    type Reply = Reply;
    fn reply() -> Reply {
        Reply
    }
}

type Get = Request<Empty<Bytes>>;

impl Call for Get {
    type Reply = Response<Empty<Bytes>>;
    fn reply() -> Self::Reply {
        Response::new(Empty::new())
    }
}

/// As a browser's, with four fields.
fn get() -> Get {
    Request::get("http://127.0.0.1/users/7")
        .header("host", "127.0.0.1")
        .header("accept", "application/json")
        .header("user-agent", "five/1")
        .header("x-tenant", "seven")
        .body(Empty::new())
        .unwrap()
}

/// Requests as our server hands them in.
fn with_invocation<C: Call>(make: impl Fn() -> C + 'static) -> impl FnMut() -> C + 'static {
    move || {
        let mut request = make();
        let invocation = Invocation::new(tokio::time::Instant::now());
        request.extensions_mut().insert(invocation);
        request
    }
}

/// Requests of a thousand clients in turn.
fn clients() -> impl FnMut() -> Ask + 'static {
    let mut client = 0;
    move || {
        client = (client + 1) % 1_000;
        Ask {
            client,
            ..Ask::default()
        }
    }
}

/// Answers at once and allocates nothing, after something that can be measured so.
#[derive(Clone, Copy, Debug)]
struct After<F>(F);

impl<C: Call, F: FnMut(&C)> Service<C> for After<F> {
    type Response = C::Reply;
    type Error = Infallible;
    type Future = Ready<Result<C::Reply, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: C) -> Self::Future {
        (self.0)(&request);
        ready(Ok(C::reply()))
    }
}

fn noop<C: Call>() -> After<fn(&C)> {
    After(|_| ())
}

/// Called as axum calls the service of a route: a clone for each request.
#[derive(Clone, Debug)]
struct PerRequest<S>(S);

impl<Req, S: Service<Req> + Clone> Service<Req> for PerRequest<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Oneshot<S, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: Req) -> Self::Future {
        Oneshot::new(self.0.clone(), request)
    }
}

/// Tries errors again.
#[derive(Clone, Copy, Debug)]
struct OnError;

impl<C: Clone, Res, E> Policy<C, Res, E> for OnError {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut C, result: &mut Result<Res, E>) -> Option<Ready<()>> {
        result.is_err().then(|| ready(()))
    }
    fn clone_request(&mut self, request: &C) -> Option<C> {
        Some(request.clone())
    }
}

/// tower's, that can be cloned.
fn towers_four<C: Call>() -> impl Service<C, Error = BoxError, Future: Send> + Clone + Send + 'static
{
    let inner = LoadShed::new(ConcurrencyLimit::new(noop::<C>(), MANY));
    Retry::new(OnError, Timeout::new(inner, NEVER))
}

fn towers_five<C: Call>() -> impl Service<C, Error = BoxError, Future: Send> + Send + 'static {
    RateLimit::new(towers_four(), Rate::new(u64::MAX, NEVER))
}

/// tower's five behind its buffer, which a rate limit needs to be cloned. Its worker is polled by who calls: that is
/// less than a task of its own costs.
fn towers_buffered<C: Call>() -> impl Service<C, Error = BoxError> + Clone + 'static {
    let (buffer, worker) = Buffer::pair(towers_five::<C>(), 1_024);
    let worker: Rc<RefCell<Pin<Box<dyn Future<Output = ()>>>>> =
        Rc::new(RefCell::new(Box::pin(worker)));
    Driven { buffer, worker }
}

struct Driven<C, F> {
    buffer: Buffer<C, F>,
    worker: Rc<RefCell<Pin<Box<dyn Future<Output = ()>>>>>,
}

impl<C: Send + 'static, F: Send + 'static> Clone for Driven<C, F> {
    fn clone(&self) -> Self {
        Self {
            buffer: self.buffer.clone(),
            worker: Rc::clone(&self.worker),
        }
    }
}

impl<C, F, Res, E> Service<C> for Driven<C, F>
where
    C: Send + 'static,
    F: Future<Output = Result<Res, E>> + Send + 'static,
    E: Into<BoxError>,
{
    type Response = Res;
    type Error = BoxError;
    type Future = ResponseFuture<F>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.buffer.poll_ready(cx)
    }
    fn call(&mut self, request: C) -> Self::Future {
        let response = self.buffer.call(request);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = self.worker.borrow_mut().as_mut().poll(&mut cx);
        response
    }
}

fn t_breaker() -> circuitbreaker::CircuitBreakerLayer {
    circuitbreaker::CircuitBreakerLayer::builder()
        .build()
        .unwrap()
}
fn t_bulkhead() -> bulkhead::BulkheadLayer {
    let builder = bulkhead::BulkheadLayer::builder().max_concurrent_calls(10_000);
    builder.reject_when_full().build().unwrap()
}
fn t_rate() -> ratelimiter::RateLimiterLayer {
    let builder = ratelimiter::RateLimiterLayer::builder().limit_for_period(1 << 40);
    builder.refresh_period(NEVER).build().unwrap()
}
fn t_timeout() -> timelimiter::TimeLimiterLayer {
    timelimiter::TimeLimiterLayer::builder()
        .timeout_duration(NEVER)
        .build()
}

/// tower-resilience's.
fn theirs<C: Call>() -> impl Service<C, Error: Debug, Future: Send> + Clone + Send + 'static {
    let inner = t_timeout().layer(t_breaker().layer(t_bulkhead().layer(noop::<C>())));
    let retry = retry::RetryLayer::<C, C::Reply, _>::builder().build();
    t_rate().layer(retry.layer(inner))
}

fn our_timeout() -> TimeoutLayer {
    TimeoutLayer::per_try(TimeoutPolicy::new(NEVER).unwrap())
}
/// Ten seconds' worth: a thread that loses its core after it read the clock is not refused.
fn our_rate() -> RateLimitLayer {
    RateLimitLayer::new(RateLimitPolicy::new(1e8, 1_000_000_000).unwrap())
}
fn our_bulkhead() -> BulkheadLayer {
    BulkheadLayer::new(BulkheadPolicy::new(10_000).unwrap())
}
fn our_breaker() -> BreakerLayer {
    BreakerLayer::new(BreakerPolicy::default())
}
fn our_retry() -> RetryLayer<Cloned> {
    RetryLayer::new(RetryPolicy::default()).clone_body()
}

/// Ours, with a retry that makes an invocation where there is none, or one that does not.
fn ours<C: Call>(
    retry: RetryLayer<Cloned>,
) -> impl Service<C, Error: Debug, Future: Send> + Clone + Send + 'static {
    ServiceBuilder::new()
        .layer(our_rate())
        .layer(retry)
        .layer(our_timeout())
        .layer(our_breaker())
        .layer(our_bulkhead())
        .service(noop::<C>())
}

/// Names of cases that others are compared with.
const TR: [&str; 6] = [
    "tower-resilience: timeout",
    "tower-resilience: retry",
    "tower-resilience: breaker",
    "tower-resilience: bulkhead",
    "tower-resilience: rate limit",
    "tower-resilience: five layers",
];

fn one_by_one() -> Vec<Case> {
    let plain = Ask::default;
    let in_a_row = BreakerConfig {
        failure_rate: 0.0,
        ..BreakerConfig::default()
    };
    let in_a_row = BreakerLayer::new(BreakerPolicy::try_from(in_a_row).unwrap());
    let failsafe: StateMachine<_, ()> = failsafe::Config::new().build();
    let failsafe = move |_: &Ask| {
        if failsafe.is_call_permitted() {
            failsafe.on_success();
        }
    };
    let quota = Quota::per_second(NonZeroU32::new(100_000_000).unwrap());
    let (direct, keyed) = (RateLimiter::direct(quota), RateLimiter::keyed(quota));
    let t_retry = retry::RetryLayer::<Ask, Reply, Infallible>::builder().build();
    let small = BulkheadLayer::new(BulkheadPolicy::new(4).unwrap());
    let by_client = our_rate().keyed(|ask: &Ask| Some(ask.client));
    vec![
        Case::new("no-op", "", noop::<Ask>(), plain),
        Case::new(
            "tower: timeout",
            "",
            Timeout::new(noop::<Ask>(), NEVER),
            plain,
        ),
        Case::new(TR[0], "", t_timeout().layer(noop::<Ask>()), plain),
        Case::new("timeout", TR[0], our_timeout().layer(noop::<Ask>()), plain),
        Case::new(
            "tower: retry",
            "",
            Retry::new(OnError, noop::<Ask>()),
            plain,
        ),
        Case::new(TR[1], "", t_retry.layer(noop::<Ask>()), plain),
        Case::new(
            "retry",
            TR[1],
            our_retry().untracked().layer(noop::<Ask>()),
            plain,
        ),
        Case::new("failsafe: breaker", "", After(failsafe), plain),
        Case::new(TR[2], "", t_breaker().layer(noop::<Ask>()), plain),
        Case::new("breaker", TR[2], our_breaker().layer(noop::<Ask>()), plain),
        Case::new(
            "breaker, row alone",
            TR[2],
            in_a_row.layer(noop::<Ask>()),
            plain,
        ),
        Case::new(
            "tower: concurrency limit",
            "",
            ConcurrencyLimit::new(noop::<Ask>(), MANY),
            plain,
        ),
        Case::new(TR[3], "", t_bulkhead().layer(noop::<Ask>()), plain),
        Case::new(
            "bulkhead",
            TR[3],
            our_bulkhead().layer(noop::<Ask>()),
            plain,
        ),
        Case::new("bulkhead of 4", TR[3], small.layer(noop::<Ask>()), plain),
        Case::new(
            "tower: rate limit",
            "",
            RateLimit::new(noop::<Ask>(), Rate::new(u64::MAX, NEVER)),
            plain,
        ),
        Case::new(
            "governor: direct",
            "",
            After(move |_: &Ask| assert!(direct.check().is_ok())),
            plain,
        ),
        Case::new(TR[4], "", t_rate().layer(noop::<Ask>()), plain),
        Case::new("rate limit", TR[4], our_rate().layer(noop::<Ask>()), plain),
        Case::new(
            "governor: 1,000 keys",
            "",
            After(move |ask: &Ask| assert!(keyed.check_key(&ask.client).is_ok())),
            clients(),
        ),
        Case::new(
            "rate limit, 1,000 keys",
            "governor: 1,000 keys",
            by_client.layer(noop::<Ask>()),
            clients(),
        ),
    ]
}

/// The five as one stack, for a request that comes without an invocation.
fn together<C: Call>(make: impl Fn() -> C + Copy + 'static) -> Vec<Case> {
    let invoked = MapRequest::new(noop::<C>(), |mut request: C| {
        request.invocation_mut();
        request
    });
    let untracked = || our_retry().untracked();
    vec![
        Case::new("no-op", "", noop::<C>(), make),
        Case::new(
            "no-op, cloned",
            "",
            MapRequest::new(noop::<C>(), |request: C| request.clone()),
            make,
        ),
        Case::new("no-op, invocation made", "", invoked, make),
        Case::new("tower: shed and three", TR[5], towers_four::<C>(), make),
        Case::new("tower: shed and four", TR[5], towers_five::<C>(), make),
        Case::new(
            "tower: shed and four, buffered",
            TR[5],
            towers_buffered::<C>(),
            make,
        ),
        Case::new(TR[5], "", theirs::<C>(), make),
        Case::new("five layers", TR[5], ours::<C>(untracked()), make),
        Case::new(
            "five layers, invocation made",
            TR[5],
            ours::<C>(our_retry()),
            make,
        ),
        Case::new(
            "tower: the same, a clone per call",
            "",
            PerRequest(towers_buffered::<C>()),
            make,
        ),
        Case::new(
            "tower-resilience: five layers, a clone per call",
            "",
            PerRequest(theirs::<C>()),
            make,
        ),
        Case::new(
            "five layers, a clone per call",
            "tower-resilience: five layers, a clone per call",
            PerRequest(ours::<C>(untracked())),
            make,
        ),
    ]
}

/// The five as one stack, for a request that has its invocation.
fn invoked<C: Call>(make: impl Fn() -> C + Copy + 'static) -> Vec<Case> {
    vec![
        Case::new("no-op", "", noop::<C>(), with_invocation(make)),
        Case::new(
            "no-op, cloned",
            "",
            MapRequest::new(noop::<C>(), |request: C| request.clone()),
            with_invocation(make),
        ),
        Case::new(
            "tower: shed and four",
            TR[5],
            towers_five::<C>(),
            with_invocation(make),
        ),
        Case::new(TR[5], "", theirs::<C>(), with_invocation(make)),
        Case::new(
            "five layers",
            TR[5],
            ours::<C>(our_retry()),
            with_invocation(make),
        ),
    ]
}

/// HTTP alone.
fn timeouts() -> Vec<Case> {
    let status = http::StatusCode::GATEWAY_TIMEOUT;
    let towers = tower_http::timeout::TimeoutLayer::with_status_code(status, NEVER);
    vec![
        Case::new("no-op", "", noop::<Get>(), get),
        Case::new("tower-http: timeout", "", towers.layer(noop::<Get>()), get),
        Case::new(
            "timeout",
            "tower-http: timeout",
            our_timeout().layer(noop::<Get>()),
            get,
        ),
    ]
}

type Group = (&'static str, fn() -> Vec<Case>);

const GROUPS: [Group; 6] = [
    ("one by one, own protocol", one_by_one),
    ("as one, own protocol", || together(Ask::default)),
    ("as one, own protocol, with an invocation", || {
        invoked(Ask::default)
    }),
    ("as one, HTTP", || together(get)),
    ("as one, HTTP, with an invocation", || invoked(get)),
    ("by itself, HTTP", timeouts),
];

/// Bar, group, case, what it is compared with, at most.
const BARS: [(&str, usize, &str, &str, f64); 16] = [
    ("L1", 1, "five layers", TR[5], 0.10),
    ("L1, HTTP", 3, "five layers", TR[5], 0.10),
    ("L1, HTTP, invocation", 4, "five layers", TR[5], 0.10),
    ("L2", 1, "five layers", "tower: shed and four", 1.5),
    ("L2, HTTP", 3, "five layers", "tower: shed and four", 1.5),
    ("L4", 0, "breaker", TR[2], 0.20),
    ("L4", 0, "breaker", "failsafe: breaker", 0.65),
    ("L5", 0, "bulkhead", "tower: concurrency limit", 1.0),
    ("L5", 0, "bulkhead", TR[3], 0.10),
    ("L6", 0, "rate limit", "governor: direct", 1.1),
    (
        "L6, keyed",
        0,
        "rate limit, 1,000 keys",
        "governor: 1,000 keys",
        1.1,
    ),
    ("L7", 0, "timeout", "tower: timeout", 1.0),
    ("L7", 0, "timeout", TR[0], 1.0),
    ("L7, HTTP", 5, "timeout", "tower-http: timeout", 0.15),
    ("L8", 0, "retry", TR[1], 0.1),
    ("-", 0, "rate limit", TR[4], 1.0),
];

/// Instructions of a call of one case, the making of its request among them.
fn instructions(group: usize, name: &str) -> f64 {
    const BATCHES: usize = 20;
    let output = std::process::Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args([
            "--collect-atstart=no",
            "--toggle-collect=*bench::Case::batch*",
        ])
        .arg(env::current_exe().unwrap())
        .args(["--only", name, "--group", &group.to_string()])
        .args(["--batches", &BATCHES.to_string()])
        .output()
        .expect("--instructions no, or valgrind");
    let text = String::from_utf8_lossy(&output.stderr);
    let count = text.split_once("Collected : ");
    let count = count.and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<f64>().ok());
    count.unwrap_or_else(|| panic!("{text}")) / (BATCHES * bench::BATCH) as f64
}

/// What a thread does: some calls each time.
type Work = Box<dyn FnMut() + Send>;

/// A name, and what makes the work of each thread.
type Shared = (&'static str, Box<dyn Fn() -> Work>);

/// Calls through a service that all threads share, each by a clone of its own.
fn shared<S>(service: S) -> impl Fn() -> Work
where
    S: Service<Ask, Error: Debug> + Clone + Send + 'static,
{
    move || {
        let mut service = service.clone();
        Box::new(move || (0..bench::BATCH).for_each(|_| bench::call(&mut service, Ask::default())))
    }
}

/// Calls per second of so many cores, by each one's median batch: one that lost its core says nothing.
fn throughput(cores: usize, work: &dyn Fn() -> Work, time: Duration) -> f64 {
    let (barrier, runtime) = (Barrier::new(cores), tokio::runtime::Handle::current());
    thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|core| {
                let (mut work, barrier, runtime) = (work(), &barrier, runtime.clone());
                scope.spawn(move || {
                    let _entered = runtime.enter();
                    let _ = pin_thread(core);
                    work();
                    barrier.wait();
                    let (start, mut batches) = (Instant::now(), Vec::new());
                    while start.elapsed() < time {
                        let start = Instant::now();
                        work();
                        batches.push(start.elapsed().as_secs_f64());
                    }
                    bench::BATCH as f64 / median(&batches)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    })
}

/// Two cores over one, a stack shared by both.
fn cores(rounds: usize) {
    let untracked = || our_retry().untracked();
    let cases: Vec<Shared> = vec![
        ("nothing", Box::new(shared(noop::<Ask>()))),
        ("one Arc, cloned", {
            let arc = Arc::new(());
            Box::new(shared(After(move |_: &Ask| {
                drop(std::hint::black_box(Arc::clone(&arc)))
            })))
        }),
        ("tower: shed and three", Box::new(shared(towers_four()))),
        (TR[5], Box::new(shared(theirs()))),
        ("five layers", Box::new(shared(ours(untracked())))),
        (
            "tower: shed and three, a clone per call",
            Box::new(shared(PerRequest(towers_four()))),
        ),
        (
            "tower-resilience: five layers, a clone per call",
            Box::new(shared(PerRequest(theirs()))),
        ),
        (
            "five layers, a clone per call",
            Box::new(shared(PerRequest(ours(untracked())))),
        ),
        (
            "timeout",
            Box::new(shared(our_timeout().layer(noop::<Ask>()))),
        ),
        ("retry", Box::new(shared(untracked().layer(noop::<Ask>())))),
        (
            "breaker",
            Box::new(shared(our_breaker().layer(noop::<Ask>()))),
        ),
        (
            "bulkhead",
            Box::new(shared(our_bulkhead().layer(noop::<Ask>()))),
        ),
        (
            "rate limit",
            Box::new(shared(our_rate().layer(noop::<Ask>()))),
        ),
    ];
    let mut ratios = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((_, work), ratios) in cases.iter().zip(&mut ratios) {
            let [one, two] = [1, 2].map(|cores| throughput(cores, work, Duration::from_millis(30)));
            ratios.push(two / one);
        }
    }
    let rows = cases.iter().zip(&mut ratios).map(|((name, _), ratios)| {
        ratios.sort_by(f64::total_cmp);
        let quarter = |of: usize| format!("{:.2}", ratios[(ratios.len() - 1) * of / 4]);
        vec![
            (*name).to_owned(),
            format!("{:.2}", median(ratios)),
            quarter(1),
            quarter(3),
        ]
    });
    table::print(
        "two cores over one",
        &["case", "median", "quarter", "three quarters"],
        &rows.collect::<Vec<_>>(),
    );
}

fn main() {
    if env::args().any(|arg| arg == "--help") {
        return println!("{HELP}");
    }
    // Timers must know a runtime; nothing is ever spawned on it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let only: String = option("--only", String::new());
    if !only.is_empty() {
        let mut cases = GROUPS[option("--group", 1)].1();
        let case = cases.iter_mut().find(|case| case.name() == only);
        let case = case.expect("--only needs the name of a case of the group");
        return (0..option("--batches", 4)).for_each(|_| case.batch());
    }
    let (rounds, time) = (
        option("--rounds", 15),
        Duration::from_millis(option("--millis", 6)),
    );
    let with_instructions = option("--instructions", "yes".to_owned()) == "yes";
    cores(rounds);
    if let Err(error) = pin_self(0) {
        println!("not pinned to a core: {error}");
    }
    let mut bars = Vec::new();
    for (group, (title, cases)) in GROUPS.iter().enumerate() {
        let mut cases = cases();
        let mut rows = bench::run(&mut cases, "no-op", rounds, time);
        let counts: Vec<f64> = cases
            .iter()
            .map(|case| {
                if with_instructions {
                    instructions(group, case.name())
                } else {
                    0.0
                }
            })
            .collect();
        let count = |name: &str| {
            cases
                .iter()
                .position(|case| case.name() == name)
                .map_or(0.0, |at| counts[at] - if at == 0 { 0.0 } else { counts[0] })
        };
        for (row, case) in rows.iter_mut().zip(&cases) {
            row.insert(3, format!("{:.0}", count(case.name())));
        }
        table::print(
            title,
            &["case", "ns", "allocations", "instructions", "ratio", "to"],
            &rows,
        );
        for (bar, _, case, base, goal) in BARS.iter().filter(|bar| bar.1 == group) {
            bars.push(vec![
                (*bar).to_owned(),
                (*case).to_owned(),
                (*base).to_owned(),
                format!("{:.2}", bench::ratio(&cases, "no-op", case, base)),
                format!("{:.2}", count(case) / count(base)),
                format!("{goal:.2}"),
            ]);
        }
    }
    table::print(
        "bars",
        &["bar", "case", "to", "time", "instructions", "at most"],
        &bars,
    );
}
