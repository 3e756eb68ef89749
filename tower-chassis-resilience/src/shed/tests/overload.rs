//! Three times what a service can do, in five classes, through the layers themselves, in virtual time.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tower::service_fn;
use tower_chassis_core::{
    BoxError, Verdict,
    testing::{Hand, Polled},
};
use tower_layer::Layer;
use tower_service::Service;

use super::{super::*, MS, SECOND, policy, send};
use crate::{
    adaptive::{AdaptiveLayer, AdaptivePolicy},
    bulkhead::{BulkheadLayer, BulkheadPolicy, QueueOrder},
};

/// Three, and with `CHASSIS_LONG=1` twelve.
fn seeds() -> std::ops::RangeInclusive<u64> {
    let long = std::env::var_os("CHASSIS_LONG").is_some();
    1..=if long { 12 } else { 3 }
}

/// Calls that the service works on at once, and how long one takes in the mean.
const SERVERS: u32 = 50;
const WORK: Duration = Duration::from_millis(100);
/// What it can do in a second.
const CAPACITY: f64 = 500.0;

/// A call: its class, and how long it takes.
type Call = (PriorityClass, Duration);

/// By class, the lowest first.
#[derive(Default)]
struct Outcome {
    came: [u32; 5],
    served: [u32; 5],
    latest: Duration,
}

impl Outcome {
    fn success(&self) -> [f64; 5] {
        std::array::from_fn(|class| f64::from(self.served[class]) / f64::from(self.came[class]))
    }

    fn goodput(&self, time: Duration) -> f64 {
        f64::from(self.served.iter().sum::<u32>()) / time.as_secs_f64() / CAPACITY
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let success = self
            .success()
            .map(|share| format!("{:.2} %", share * 100.0));
        write!(f, "success {success:?}, the latest {:?}", self.latest)
    }
}

fn exponential(rng: &mut fastrand::Rng, mean: f64) -> Duration {
    Duration::from_secs_f64(-mean * (1.0 - rng.f64()).ln())
}

/// A service that can do so much at once, and does it in the order in which it comes.
fn service() -> impl Service<Call, Response = (), Error = Infallible, Future: Send> + Clone + Send {
    let servers = Arc::new(Semaphore::new(SERVERS as usize));
    service_fn(move |(_, work): Call| {
        let servers = Arc::clone(&servers);
        async move {
            let _server = servers.acquire().await;
            sleep(work).await;
            Ok(())
        }
    })
}

/// Calls of all classes alike come by chance, so many times what the service can do.
async fn run<S>(service: S, load: f64, time: Duration, seed: u64) -> Outcome
where
    S: Service<Call, Response = (), Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut calls = JoinSet::new();
    let mut outcome = Outcome::default();
    let begun = Instant::now();
    let mut next = begun;
    while next < begun + time {
        sleep_until(next).await;
        let class = PriorityClass::ALL[rng.usize(..5)];
        let work = exponential(&mut rng, WORK.as_secs_f64());
        outcome.came[class as usize] += 1;
        let call = send(&service, (class, work));
        calls.spawn(async move {
            let begun = Instant::now();
            let served = call.await.is_ok();
            (class, served, begun.elapsed().saturating_sub(work))
        });
        next += exponential(&mut rng, 1.0 / (load * CAPACITY));
    }
    while let Some(call) = calls.join_next().await {
        let (class, served, waited) = call.unwrap();
        outcome.served[class as usize] += u32::from(served);
        if served {
            outcome.latest = outcome.latest.max(waited);
        }
    }
    outcome
}

fn prioritized(layer: ShedLayer) -> ShedLayer<ByFn<fn(&Call) -> Priority>> {
    let class: fn(&Call) -> Priority = |call| Priority::new(call.0);
    layer.priority(class)
}

/// Of the highest class at least `highest` passes.
fn assert_order(success: [f64; 5], highest: f64) {
    // Before there is a threshold, for some ten milliseconds, all classes pass alike: three in a thousand, more or less.
    let in_order = success.windows(2).all(|two| two[0] <= two[1] + 0.002);
    assert!(in_order, "{success:?}");
    assert!(success[4] >= highest, "{success:?}");
    // Three times what it can do, in five equal classes: there is room for the highest and two thirds of the next.
    assert!(success[3] >= 0.4, "{success:?}");
    assert!(success[0] <= 0.01 && success[1] <= 0.02, "{success:?}");
}

#[tokio::test(start_paused = true)]
async fn in_front_of_a_bulkhead_what_matters_most_passes() {
    for seed in seeds() {
        let bulkhead = BulkheadPolicy::throttle(SERVERS, 2 * SERVERS, SECOND).unwrap();
        let bulkhead = BulkheadLayer::new(bulkhead);
        let shed = ShedLayer::new(policy(|_| {}))
            .seed(seed)
            .watch(bulkhead.handle());
        let shed = prioritized(shed);
        let stack = shed.layer(bulkhead.layer(service()));
        let time = 20 * SECOND;
        let outcome = run(stack, 3.0, time, seed).await;
        let goodput = outcome.goodput(time);
        println!("bulkhead, seed {seed}: {outcome}, goodput {goodput:.3}");
        assert_order(outcome.success(), 0.999);
        assert!(goodput >= 0.95, "{goodput}");
        assert!(outcome.latest <= 350 * MS, "{:?}", outcome.latest);
    }
}

/// Without priorities the same bulkhead refuses all classes alike: what the test above sees is what this layer does.
#[tokio::test(start_paused = true)]
async fn a_bulkhead_alone_refuses_blindly() {
    let bulkhead = BulkheadPolicy::throttle(SERVERS, 2 * SERVERS, SECOND).unwrap();
    let stack = BulkheadLayer::new(bulkhead).layer(service());
    let outcome = run(stack, 3.0, 20 * SECOND, 1).await;
    println!("alone: {outcome}");
    assert!(
        outcome
            .success()
            .iter()
            .all(|share| (0.2..0.45).contains(share))
    );
}

/// The limit is found while it runs, and falls by a third at times, with as many calls in flight: what comes then waits,
/// and only what matters most may. It needs three fifths of what the service can do.
#[tokio::test(start_paused = true)]
async fn in_front_of_an_adaptive_limit_what_matters_most_passes() {
    let mut all = Vec::new();
    for seed in seeds() {
        let adaptive = AdaptivePolicy::default().with(|config| {
            config.start = SERVERS;
            // In its search it goes down to half of what the service can do, which is less than the highest class needs.
            config.min = SERVERS * 4 / 5;
            config.queue_order = QueueOrder::Fifo;
            config.target = WORK;
            config.interval = SECOND;
            config.max_wait = SECOND;
        });
        let adaptive = AdaptiveLayer::new(adaptive.unwrap()).seed(seed);
        let adaptive = adaptive.classify_fn(|result: Result<&(), &Infallible>| match result {
            Ok(()) => Verdict::SUCCESS,
            Err(_) => Verdict::FAILURE,
        });
        let shed = ShedLayer::new(policy(|config| config.full = 1.2)).seed(seed);
        let shed = prioritized(shed.watch(adaptive.handle()));
        let stack = shed.layer(adaptive.layer(service()));
        let time = 20 * SECOND;
        let outcome = run(stack, 3.0, time, seed).await;
        let goodput = outcome.goodput(time);
        println!(
            "adaptive, seed {seed}: {outcome}, goodput {goodput:.3}, limit {}",
            adaptive.handle().limit()
        );
        all.push((outcome.success(), goodput));
    }
    for (success, goodput) in all {
        assert_order(success, 0.999);
        assert!(goodput >= 0.9, "{goodput}");
    }
}

/// A thousand calls at the same moment, before anything could have been read: what is left of the queue at `full` is for
/// those that matter most.
#[tokio::test(start_paused = true)]
async fn in_a_burst_the_rest_of_the_queue_is_for_what_matters_most() {
    for (full, others) in [(2.0, 2 * SERVERS), (1.0, SERVERS + 1), (3.0, 3 * SERVERS)] {
        let policy = policy(|config| config.full = full);
        let shed = || ShedLayer::new(policy.clone()).seed(1);
        let bulkhead = BulkheadPolicy::throttle(SERVERS, 2 * SERVERS, SECOND).unwrap();
        let bulkhead = BulkheadLayer::new(bulkhead);
        let watching = prioritized(shed().watch(bulkhead.handle()));
        let stack = watching.layer(bulkhead.layer(service()));
        burst(&stack, &watching.handle(), full, others);

        let adaptive = AdaptivePolicy::default().with(|config| {
            (config.start, config.min, config.max) = (SERVERS, SERVERS, SERVERS);
            config.max_wait = SECOND;
        });
        let adaptive = AdaptiveLayer::new(adaptive.unwrap());
        let watching = prioritized(shed().watch(adaptive.handle()));
        let adaptive = adaptive.classify_fn(|_: Result<&(), &Infallible>| Verdict::SUCCESS);
        let stack = watching.layer(adaptive.layer(service()));
        burst(&stack, &watching.handle(), full, others);
    }
}

fn burst<S>(stack: &S, handle: &ShedHandle, full: f64, others: u32)
where
    S: Service<Call, Response = (), Error = BoxError, Future: Send> + Clone + Send + 'static,
{
    let mut calls = Vec::new();
    let mut served = |class, count| {
        let before = calls.len();
        for _ in 0..count {
            let mut call = Hand::new(send(stack, (class, WORK)));
            match call.poll() {
                Polled::Ready(answer) => assert!(answer.is_err()),
                _ => calls.push(call),
            }
        }
        (calls.len() - before) as u32
    };
    assert_eq!(served(PriorityClass::High, 950), others, "{full}");
    // Whoever comes last of them finds what was left.
    let left = 3 * SERVERS - others;
    assert_eq!(served(PriorityClass::VeryHigh, 150), left, "{full}");
    assert_eq!(handle.refused(PriorityClass::VeryHigh), 0);
    let refused = u64::from(950 - others);
    assert_eq!(handle.refused(PriorityClass::High), refused, "{full}");
}

/// What a service can do is not shed.
#[tokio::test(start_paused = true)]
async fn without_overload_nothing_is_refused() {
    let bulkhead = BulkheadPolicy::throttle(SERVERS, 2 * SERVERS, SECOND).unwrap();
    let bulkhead = BulkheadLayer::new(bulkhead);
    let shed = ShedLayer::new(policy(|_| {}))
        .seed(1)
        .watch(bulkhead.handle());
    let stack = prioritized(shed).layer(bulkhead.layer(service()));
    let outcome = run(stack, 0.5, 20 * SECOND, 1).await;
    println!("half: {outcome}");
    assert_eq!(outcome.came, outcome.served);
}

/// When it is over, it is over: within a second everything passes again.
#[tokio::test(start_paused = true)]
async fn it_recovers() {
    let bulkhead = BulkheadPolicy::throttle(SERVERS, 2 * SERVERS, SECOND).unwrap();
    let bulkhead = BulkheadLayer::new(bulkhead);
    let shed = ShedLayer::new(policy(|_| {}))
        .seed(1)
        .watch(bulkhead.handle());
    let shed = prioritized(shed);
    let stack = shed.layer(bulkhead.layer(service()));
    run(stack.clone(), 5.0, 5 * SECOND, 1).await;
    assert!(shed.handle().refused(PriorityClass::Low) > 100);
    run(stack.clone(), 0.3, SECOND, 1).await;
    let outcome = run(stack, 0.5, 5 * SECOND, 2).await;
    assert_eq!(outcome.came, outcome.served);
    assert_eq!(shed.handle().threshold(), 0.0);
}
