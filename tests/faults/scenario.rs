//! The faults as scenarios: each drives any service that has a [`Script`] at its core, and tells a figure.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Empty;
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Service, ServiceExt};
use tower_chassis::Body;

use crate::script::{Answer, Script};

/// What is sent.
pub type Req = Request<Empty<Bytes>>;
/// What is answered.
pub type Res = Response<Body>;

/// The time between two calls where calls come steadily.
pub const GAP: Duration = Duration::from_millis(100);
/// Who has not answered in this time waits for something.
const AT_ONCE: Duration = Duration::from_millis(20);
/// So many failures in a row open every breaker that ever opens.
const MANY: usize = 5_000;

/// A service under test.
pub trait Subject: Service<Req, Response = Res, Future: Send> + Clone + Send + 'static {}
impl<S: Service<Req, Response = Res, Future: Send> + Clone + Send + 'static> Subject for S {}

fn get(number: usize) -> Req {
    let path = format!("/{number}");
    Request::get(path).body(Empty::new()).unwrap()
}

/// Makes ready and calls.
pub async fn call<S: Subject>(service: &mut S) -> Result<Res, S::Error> {
    service.ready().await?.call(get(0)).await
}

/// Whether a call gets through to the script.
pub async fn passes<S: Subject>(service: &mut S, script: &Script) -> bool {
    let before = script.calls();
    let _ = call(service).await;
    script.calls() > before
}

/// Fails calls, one every [`GAP`] or at once, until one is refused: how many it took.
async fn failures<S: Subject>(service: &mut S, script: &Script, gap: Duration) -> usize {
    script.answer(Answer::Bad);
    for failures in 0..MANY {
        // Some say that they are not ready instead of refusing.
        let passed = timeout(AT_ONCE, passes(service, script)).await;
        if !passed.unwrap_or(false) {
            return failures;
        }
        if !gap.is_zero() {
            sleep(gap).await;
        }
    }
    MANY
}

/// Opens a breaker and waits for its time.
async fn half_open<S: Subject>(service: &mut S, script: &Script, open_for: Duration) {
    assert_ne!(
        failures(service, script, Duration::ZERO).await,
        MANY,
        "it never opens"
    );
    sleep(open_for).await;
}

/// 1, 2: how many failures open a breaker after so many good calls.
pub async fn failures_to_open<S: Subject>(mut service: S, script: &Script, good: usize) -> usize {
    script.answer(Answer::Good);
    for _ in 0..good {
        assert!(passes(&mut service, script).await);
        sleep(GAP).await;
    }
    failures(&mut service, script, GAP).await
}

/// 3: of so many calls in a row, all good and slower than the window, how many a half-open breaker refuses.
pub async fn refused_after_slow_probes<S: Subject>(
    mut service: S,
    script: &Script,
    open_for: Duration,
    takes: Duration,
    calls: usize,
) -> usize {
    half_open(&mut service, script, open_for).await;
    script.answer(Answer::Late(takes));
    let mut refused = 0;
    for _ in 0..calls {
        refused += usize::from(!passes(&mut service, script).await);
    }
    refused
}

/// 4: a call from before the outage ends while the only probe runs. Whether its result was taken for the probe's.
pub async fn stale_result_counts<S>(
    mut service: S,
    script: &Script,
    open_for: Duration,
    good: bool,
) -> bool
where
    S: Subject<Error: Send>,
{
    let before = script.hold(good);
    let stale = tokio::spawn(call_owned(service.clone()));
    script.reached(1).await;
    half_open(&mut service, script, open_for).await;

    let now = script.hold(true);
    let calls = script.calls();
    let probe = tokio::spawn(call_owned(service.clone()));
    script.reached(calls + 1).await;
    before.release();
    let _ = stale.await.unwrap();
    script.answer(Answer::Good);
    if good {
        // Closed by it: the next one passes beside the probe.
        let passed = passes(&mut service, script).await;
        now.release();
        let _ = probe.await.unwrap();
        passed
    } else {
        // Opened by it: the probe's success is not heard.
        now.release();
        let _ = probe.await.unwrap();
        !passes(&mut service, script).await
    }
}

async fn call_owned<S: Subject>(mut service: S) -> Result<Res, S::Error> {
    call(&mut service).await
}

/// What became of two clones of a breaker that permits one probe.
#[derive(Debug)]
pub struct TwoReady<E> {
    /// How many were ready without waiting.
    pub ready: usize,
    /// How many calls reached the service.
    pub reached: usize,
    /// What the second one got, before the first ended.
    pub second: Option<Result<Res, E>>,
}

/// 5: both clones become ready, then both call.
pub async fn two_ready<S>(mut service: S, script: &Script, open_for: Duration) -> TwoReady<S::Error>
where
    S: Subject<Error: Send>,
{
    half_open(&mut service, script, open_for).await;
    let probe = script.hold(true);
    let calls = script.calls();
    let (mut first, mut second) = (service.clone(), service);
    let mut ready = 0;
    for clone in [&mut first, &mut second] {
        ready += usize::from(matches!(timeout(AT_ONCE, clone.ready()).await, Ok(Ok(_))));
    }
    let first = tokio::spawn(first.call(get(0)));
    script.reached(calls + 1).await;
    let second = timeout(AT_ONCE, second.call(get(0))).await.ok();
    let reached = script.calls() - calls;
    probe.release();
    let _ = first.await.unwrap();
    TwoReady {
        ready,
        reached,
        second,
    }
}

/// 6: how many of so many calls reach a service that never answers, with a timeout outside the breaker.
pub async fn reached_when_cut<S: Subject>(mut service: S, script: &Script, calls: usize) -> usize {
    script.answer(Answer::Never);
    for _ in 0..calls {
        let _ = call(&mut service).await;
    }
    script.calls()
}

/// 7: once round, from closed to closed.
pub async fn cycle<S: Subject>(mut service: S, script: &Script, open_for: Duration, probes: usize) {
    half_open(&mut service, script, open_for).await;
    script.answer(Answer::Good);
    for _ in 0..=probes {
        assert!(passes(&mut service, script).await);
    }
}

/// 7: how many series of a gauge are 1 in a text of Prometheus.
pub fn series_at_one(text: &str, gauge: &str) -> usize {
    text.lines()
        .filter(|line| line.starts_with(gauge) && line.ends_with(" 1"))
        .count()
}

/// 8: whether a breaker lets calls pass after a probe that was good and much too slow.
pub async fn passes_after_a_slow_probe<S: Subject>(
    mut service: S,
    script: &Script,
    open_for: Duration,
    takes: Duration,
) -> bool {
    half_open(&mut service, script, open_for).await;
    script.answer(Answer::Late(takes));
    assert!(passes(&mut service, script).await);
    script.answer(Answer::Good);
    passes(&mut service, script).await
}

/// 17: the attempts that so many calls make, of which each needs two.
pub async fn attempts_of<S: Subject>(mut service: S, script: &Script, calls: usize) -> usize {
    script.answer(Answer::FirstBad);
    for number in 0..calls {
        if let Ok(ready) = service.ready().await {
            let _ = ready.call(get(number)).await;
        }
    }
    script.calls()
}

/// 18: how many responses are held while the next attempt is waited for.
pub async fn held_over_the_wait<S>(service: S, script: &Script) -> usize
where
    S: Subject<Error: Send>,
{
    script.answer(Answer::Bad);
    let task = tokio::spawn(call_owned(service));
    script.reached(1).await;
    sleep(Duration::from_millis(2)).await;
    assert_eq!(script.calls(), 1, "the wait is over");
    let held = script.alive();
    task.abort();
    held
}

/// Counts how often the request that carries it is copied.
#[derive(Debug, Default)]
struct Copies(Arc<AtomicUsize>);

impl Clone for Copies {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, SeqCst);
        Self(Arc::clone(&self.0))
    }
}

/// 18: attempts of a call that always fails, and the copies of its request that were made for them.
pub async fn copies_of<S: Subject>(mut service: S, script: &Script) -> (usize, usize) {
    script.answer(Answer::Bad);
    let copies = Copies::default();
    let made = Arc::clone(&copies.0);
    let mut request = get(0);
    request.extensions_mut().insert(copies);
    if let Ok(ready) = service.ready().await {
        let _ = ready.call(request).await;
    }
    (script.calls(), made.load(SeqCst))
}

/// 18: the longest wait before a second attempt, over so many calls.
pub async fn longest_wait<S: Subject>(service: S, script: &Script, calls: usize) -> Duration {
    attempts_of(service, script, calls).await;
    script.longest_wait()
}

/// 18: the attempts of one call whose connection breaks each time.
pub async fn attempts_when_broken<S: Subject>(
    mut service: S,
    script: &Script,
    method: Method,
) -> usize {
    script.answer(Answer::Reset);
    let mut request = get(0);
    *request.method_mut() = method;
    if let Ok(ready) = service.ready().await {
        let _ = ready.call(request).await;
    }
    script.calls()
}

/// 19: how long it takes to hear that there is no permit, and what is heard.
pub async fn refusal<S: Subject>(mut service: S) -> (Duration, S::Error) {
    assert!(call(&mut service).await.is_ok());
    let began = Instant::now();
    let refused = call(&mut service).await;
    let took = began.elapsed();
    match refused {
        Ok(_) => panic!("it was not refused"),
        Err(error) => (took, error),
    }
}

/// 21: a clone becomes ready and idles. How many of so many calls are served meanwhile.
pub async fn served_beside_an_idle_clone<S: Subject>(mut service: S, calls: usize) -> usize {
    let mut idle = service.clone();
    assert!(
        matches!(timeout(AT_ONCE, idle.ready()).await, Ok(Ok(_))),
        "not even one is ready"
    );
    let mut served = 0;
    for _ in 0..calls {
        let answer = timeout(Duration::from_millis(50), call(&mut service)).await;
        served += usize::from(matches!(answer, Ok(Ok(_))));
    }
    drop(idle);
    served
}

/// 22: for traffic that repeats itself every `period` calls: how far the worst of its places is from the share
/// that all calls have.
pub fn worst_place(picks: &[bool], period: usize) -> f64 {
    let share =
        |picks: &[bool]| picks.iter().filter(|picked| **picked).count() as f64 / picks.len() as f64;
    let all = share(picks);
    (0..period)
        .map(|place| {
            let at: Vec<_> = picks.iter().copied().skip(place).step_by(period).collect();
            (share(&at) - all).abs()
        })
        .fold(0.0, f64::max)
}

/// What a caller saw of a panic inside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Saw {
    /// The panic.
    Panic,
    /// An error, after this time.
    Error(Duration),
    /// An answer.
    Answer,
}

/// 23: what a caller sees of a panic of the service.
pub async fn a_panic<S>(service: S, script: &Script) -> Saw
where
    S: Subject<Error: Send>,
{
    script.answer(Answer::Panic);
    let began = Instant::now();
    match tokio::spawn(call_owned(service)).await {
        Err(_) => Saw::Panic,
        Ok(Err(_)) => Saw::Error(began.elapsed()),
        Ok(Ok(_)) => Saw::Answer,
    }
}

/// 27: whether a breaker that opened for one service refuses the calls of another, made by the same layer.
pub async fn opens_for_both<S: Subject>(mut one: S, mut other: S, script: &Script) -> bool {
    failures(&mut one, script, Duration::ZERO).await;
    !passes(&mut other, script).await
}

/// 27: how many calls pass, one after the other through each of the services.
pub async fn passed_by<S: Subject>(services: Vec<S>, script: &Script) -> usize {
    for mut service in services {
        let _ = timeout(Duration::from_secs(10), call(&mut service)).await;
    }
    script.calls()
}

/// 29: whether an open breaker lets a call pass when the paused clock was moved by its open time.
pub async fn passes_after_a_jump<S: Subject>(
    mut service: S,
    script: &Script,
    open_for: Duration,
) -> bool {
    failures(&mut service, script, Duration::ZERO).await;
    advance(open_for).await;
    script.answer(Answer::Good);
    passes(&mut service, script).await
}

/// 30: calls, all within one window, of which every second fails.
pub async fn many_calls<S: Subject>(service: &mut S, script: &Script, calls: usize) {
    script.answer(Answer::Mixed);
    for _ in 0..calls {
        if poll_fn(|cx| service.poll_ready(cx)).await.is_ok() {
            let _ = service.call(Request::new(Empty::new())).await;
        }
    }
}
