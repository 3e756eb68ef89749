//! What all simulations share: calls, an upstream with so many workers, clients that do not wait for one another, and what
//! is written down. Time is virtual: a minute passes as fast as the calls in it are made.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use fastrand::Rng;
use http::Extensions;
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tower::{Service, ServiceExt};
use tower_chassis::{BoxError, Carrier, Verdict, shed::PRIORITY, verdict::Outcome};

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Caller {
    #[default]
    Anybody,
    /// Says that its calls matter most, and is not trusted.
    Pretender,
    /// Says the same, and is.
    Peer,
}

/// A call of a protocol of our own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    extensions: Extensions,
    pub(crate) caller: Caller,
}

impl Carrier for Call {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn meta(&self, name: &str) -> Option<&str> {
        (name == PRIORITY && self.caller != Caller::Anybody).then_some("very-high")
    }
    fn is_idempotent(&self) -> bool {
        true
    }
}

/// Whether it went well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer(pub(crate) bool);

impl Outcome for Answer {
    fn verdict(&self) -> Verdict {
        if self.0 {
            Verdict::SUCCESS
        } else {
            Verdict::FAILURE
        }
    }
}

/// What an upstream does with a call: for how long a worker is busy with it, and whether it goes well.
pub(crate) type Behaviour = fn(Duration, &mut Rng) -> (Duration, bool);

/// A service with so many workers and a queue before them that has no end.
#[derive(Clone)]
pub(crate) struct Upstream(Arc<Work>);

struct Work {
    began: Instant,
    workers: Semaphore,
    behaviour: Behaviour,
    rng: Mutex<Rng>,
    log: Mutex<Vec<Served>>,
}

/// A call as the upstream saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Served {
    pub(crate) at: Duration,
    pub(crate) good: bool,
}

impl Upstream {
    pub(crate) fn new(workers: usize, seed: u64, behaviour: Behaviour) -> Self {
        Self(Arc::new(Work {
            began: Instant::now(),
            workers: Semaphore::new(workers),
            behaviour,
            rng: Mutex::new(Rng::with_seed(seed)),
            log: Mutex::default(),
        }))
    }

    /// What came, in the order in which it came.
    pub(crate) fn served(&self) -> Vec<Served> {
        let log = self.0.log.lock();
        log.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Service<Call> for Upstream {
    type Response = Answer;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Call) -> Self::Future {
        let work = Arc::clone(&self.0);
        Box::pin(async move {
            let at = work.began.elapsed();
            let (busy, good) = {
                let mut rng = work.rng.lock().unwrap_or_else(PoisonError::into_inner);
                (work.behaviour)(at, &mut rng)
            };
            work.log
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Served { at, good });
            let _worker = work.workers.acquire().await?;
            tokio::time::sleep(busy).await;
            Ok(Answer(good))
        })
    }
}

/// A call as its client saw it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) caller: Caller,
    pub(crate) at: Duration,
    pub(crate) took: Duration,
    pub(crate) good: bool,
}

/// How clients call: they do not wait for answers before they call again, as users do not.
pub(crate) struct Load {
    /// Calls a second, at random moments.
    pub(crate) rate: f64,
    pub(crate) lasts: Duration,
    pub(crate) seed: u64,
    /// Who calls next.
    pub(crate) caller: fn(&mut Rng) -> Caller,
}

/// All are the same.
pub(crate) fn anybody(_: &mut Rng) -> Caller {
    Caller::Anybody
}

impl Load {
    /// Calls `clients` in random turn, and waits for every answer.
    pub(crate) async fn offer<S>(self, clients: &[S]) -> Vec<Sample>
    where
        S: Service<Call, Response = Answer, Error: Send, Future: Send> + Clone + Send + 'static,
    {
        let mut rng = Rng::with_seed(self.seed);
        let (began, mut at) = (Instant::now(), Duration::ZERO);
        let mut calls = JoinSet::new();
        loop {
            at += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / self.rate);
            if at > self.lasts {
                break;
            }
            tokio::time::sleep_until(began + at).await;
            let client = clients[rng.usize(..clients.len())].clone();
            let caller = (self.caller)(&mut rng);
            let call = Call {
                caller,
                ..Call::default()
            };
            calls.spawn(async move {
                let sent = Instant::now();
                let good = matches!(client.oneshot(call).await, Ok(Answer(true)));
                Sample {
                    caller,
                    at,
                    took: sent.elapsed(),
                    good,
                }
            });
        }
        calls.join_all().await
    }
}

/// Runs a simulation in virtual time. All that is drawn by chance is drawn from the seed.
pub(crate) fn run<R>(seed: u64, simulation: impl Future<Output = R>) -> R {
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(simulation),
        Err(error) => panic!("no runtime: {error}"),
    }
}

/// The value that a share of all is not above.
pub(crate) fn percentile(samples: impl Iterator<Item = Duration>, share: f64) -> Duration {
    let mut all: Vec<_> = samples.collect();
    all.sort_unstable();
    let at = (all.len() as f64 * share) as usize;
    all.get(at.min(all.len().saturating_sub(1)))
        .copied()
        .unwrap_or_default()
}

/// What came in each second, told by `of`.
pub(crate) fn of_each_second<T>(
    all: impl Iterator<Item = (Duration, T)>,
    lasts: Duration,
    of: impl Fn(&[T]) -> f64,
) -> Vec<f64> {
    let mut seconds: Vec<Vec<T>> = (0..lasts.as_secs()).map(|_| Vec::new()).collect();
    for (at, value) in all {
        if let Some(second) = seconds.get_mut(at.as_secs() as usize) {
            second.push(value);
        }
    }
    seconds.iter().map(|second| of(second)).collect()
}

/// How many in each second.
pub(crate) fn per_second(times: impl Iterator<Item = Duration>, lasts: Duration) -> Vec<f64> {
    of_each_second(times.map(|at| (at, ())), lasts, |second| {
        second.len() as f64
    })
}
