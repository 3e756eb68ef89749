//! A check, and how it is run: at most once at a time, for all who ask.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{runtime::Handle, sync::watch, task::AbortHandle, time::Instant};
use tower_chassis_core::boxed::BoxFuture;

use super::Status;

/// What is asked: a database, a queue, an upstream.
///
/// It is run when somebody asks, not on its own, as a task of the runtime: it must not block.
pub struct Check {
    run: Box<dyn Fn() -> BoxFuture<'static, Status> + Send + Sync>,
    timeout: Duration,
    cache: Duration,
    optional: bool,
}

impl Check {
    /// A check that waits: `Ok` is [`Up`](Status::Up), an error [`Down`](Status::Down), and so is a panic.
    pub fn new<F, Fut>(run: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<Status>> + Send + 'static,
    {
        Self {
            run: Box::new(move || {
                let run = run();
                Box::pin(async move { run.await.into() })
            }),
            timeout: Duration::from_secs(1),
            cache: Duration::from_secs(1),
            optional: false,
        }
    }

    /// A check that knows at once: a flag, the state of an upstream.
    pub fn now<F, T>(read: F) -> Self
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Into<Status> + 'static,
    {
        let check = Self::new(move || std::future::ready(read().into()));
        check.cache(Duration::ZERO)
    }

    /// A check of what this service calls: down while none of its endpoints may be called. `available` says how many may,
    /// now: a balancer's `BalanceHandle::available`, or a number of one's own.
    ///
    /// ```
    /// # use http::{Request, Response};
    /// # use tower_chassis_core::{BoxError, discover::{Discover, StaticDiscover}};
    /// # use tower_chassis_resilience::balance::{Balance, Picker};
    /// use tower_chassis_observe::health::{Check, Health};
    ///
    /// # let discover = StaticDiscover::new();
    /// # let endpoint = tower::service_fn(async |_: Request<()>| Ok::<_, BoxError>(Response::new(())));
    /// let (balance, worker) = Balance::new(discover.watch("shop"), move |_| endpoint.clone(), Picker::default());
    /// let shop = balance.handle();
    /// let health = Health::new().ready("shop", Check::upstream(move || shop.available()));
    /// # drop((worker, health));
    /// ```
    /// Where a service can answer some of its calls without: [`optional`](Self::optional). A readiness that all replicas
    /// lose at once, because they call the same service, takes all of them out of the load balancer.
    pub fn upstream(available: impl Fn() -> usize + Send + Sync + 'static) -> Self {
        Self::now(move || match available() {
            0 => Status::down("no endpoint may be called"),
            _ => Status::Up,
        })
    }

    /// How long it may take, 1 ms to 60 s; after that it is dropped and down. Default: 1 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.clamp(Duration::from_millis(1), Duration::from_secs(60));
        self
    }

    /// How long its result holds; 0: until the next question. Default: 1 s.
    #[must_use]
    pub const fn cache(mut self, cache: Duration) -> Self {
        self.cache = cache;
        self
    }

    /// The service works without it: down is [`Degraded`](Status::Degraded).
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("timeout", &self.timeout)
            .field("cache", &self.cache)
            .field("optional", &self.optional)
            .finish_non_exhaustive()
    }
}

/// How a check came out, and when.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) status: Status,
    pub(super) at: Instant,
    pub(super) took: Duration,
}

/// A check that has a name, with what is known of it.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) name: Arc<str>,
    check: Check,
    state: Mutex<State>,
}

#[derive(Default, Debug)]
struct State {
    last: Option<Outcome>,
    /// It is being run.
    flight: Option<watch::Receiver<Option<Outcome>>>,
    /// What ran last.
    task: Option<AbortHandle>,
}

/// What [`Probe::ask`] gives: an outcome, or the run that will have one.
pub(super) enum Asked {
    Known(Outcome),
    Running(watch::Receiver<Option<Outcome>>),
}

impl Asked {
    /// Waits for the outcome. Who leaves stops nothing.
    pub(super) async fn outcome(self) -> Outcome {
        match self {
            Self::Known(outcome) => outcome,
            Self::Running(mut flight) => match flight.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                Err(_) => None,
            }
            .unwrap_or_else(|| Outcome {
                status: Status::down("stopped"),
                at: Instant::now(),
                took: Duration::ZERO,
            }),
        }
    }
}

impl Probe {
    pub(super) fn new(name: Arc<str>, check: Check) -> Arc<Self> {
        Arc::new(Self {
            name,
            check,
            state: Mutex::default(),
        })
    }

    pub(super) const fn is_optional(&self) -> bool {
        self.check.optional
    }

    /// What is known, whatever its age.
    pub(super) fn last(&self) -> Option<Outcome> {
        self.lock().last.clone()
    }

    /// What is known and holds, else what is being found out: by this call, if nobody else does.
    pub(super) fn ask(self: &Arc<Self>) -> Asked {
        let mut state = self.lock();
        if let Some(flight) = &state.flight {
            return Asked::Running(flight.clone());
        }
        if let Some(last) = &state.last
            && last.at.elapsed() < self.check.cache
        {
            return Asked::Known(last.clone());
        }
        // One that blocks cannot be stopped. Another run would block another thread of the runtime, until none is left.
        let blocks = |task: &AbortHandle| !task.is_finished();
        if state.task.as_ref().is_some_and(blocks)
            && let Some(last) = &state.last
        {
            return Asked::Known(last.clone());
        }
        let (outcome, flight) = watch::channel(None);
        state.flight = Some(flight.clone());
        drop(state);
        let run = Run {
            probe: Arc::clone(self),
            outcome,
            started: Instant::now(),
            status: Status::down("stopped"),
        };
        // Without a runtime the run is over as it begins, and says so.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(run.run());
        }
        Asked::Running(flight)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run of a check. Dropped, finished or not, it says what came out.
struct Run {
    probe: Arc<Probe>,
    outcome: watch::Sender<Option<Outcome>>,
    started: Instant,
    status: Status,
}

impl Run {
    async fn run(mut self) {
        let probe = Arc::clone(&self.probe);
        // A task of its own: what panics there, panics there.
        let task = tokio::spawn(async move { (probe.check.run)().await });
        let stop = task.abort_handle();
        self.probe.lock().task = Some(stop.clone());
        let status = match tokio::time::timeout(self.probe.check.timeout, task).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) if error.is_panic() => Status::down("panicked"),
            Ok(Err(_)) => Status::down("stopped"),
            Err(_) => {
                stop.abort();
                Status::down("timed out")
            }
        };
        self.status = match status {
            Status::Down(why) if self.probe.check.optional => Status::Degraded(why),
            status => status,
        };
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let now = Instant::now();
        let outcome = Outcome {
            status: self.status.clone(),
            at: now,
            took: now.duration_since(self.started),
        };
        let mut state = self.probe.lock();
        state.flight = None;
        state.last = Some(outcome.clone());
        drop(state);
        self.outcome.send_replace(Some(outcome));
    }
}
