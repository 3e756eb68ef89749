use std::{fmt, future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use twox_hash::XxHash64;

use super::worker::{First, Worker, first};
use crate::{
    Endpoint,
    boxed::{BoxError, BoxFuture},
};

/// How long taking an instance off a registry may take.
const LEAVE: Duration = Duration::from_secs(2);
/// The pause after the first failure; it doubles.
const RETRY: Duration = Duration::from_secs(1);
/// Nothing lives shorter in a registry.
const SHORTEST: Duration = Duration::from_millis(100);

/// One endpoint of a service, as a registry is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Instance {
    /// The service.
    pub service: Arc<str>,
    /// Where it is called; its id is the instance's.
    pub endpoint: Endpoint,
    /// How long it is believed to live without word of it.
    pub ttl: Duration,
}

impl Instance {
    /// An instance that lives 30 seconds without word of it.
    #[must_use]
    pub fn new(service: impl Into<Arc<str>>, endpoint: Endpoint) -> Self {
        Self {
            service: service.into(),
            endpoint,
            ttl: Duration::from_secs(30),
        }
    }

    /// The same with another life, of at least 100 ms.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.max(SHORTEST);
        self
    }
}

/// A registry of instances.
pub trait Register: Send + Sync + 'static {
    /// Registers the instance, or says that it still lives.
    fn renew(&self, instance: &Instance) -> BoxFuture<'static, Result<(), BoxError>>;

    /// Takes it off. One that is not there is no error.
    fn remove(&self, instance: &Instance) -> BoxFuture<'static, Result<(), BoxError>>;
}

/// An instance that is kept in a registry while this lives.
///
/// It is renewed after a third of its life, up to a tenth earlier, so that a fleet that began at once does not stay in
/// step. A failure, and an answer that takes a third of the life, is tried again after 1 s × 2, a third of the life at
/// most. Dropping takes it off, and so does the end of a renewal that was on its way then, within 2 s.
pub struct Registration {
    state: watch::Receiver<State>,
    /// Closed to leave.
    stay: watch::Sender<()>,
}

#[derive(Clone, Copy, Default)]
struct State {
    registered: bool,
    failures: u32,
    removed: bool,
}

impl Registration {
    /// Spawn the worker. It registers, renews, and removes when the registration is dropped; then it ends.
    pub fn begin(registry: Arc<dyn Register>, instance: Instance) -> (Self, Worker) {
        let (stay, stays) = watch::channel(());
        let (sender, state) = watch::channel(State::default());
        let worker = Worker::new(keep(registry, instance, stays, sender));
        (Self { state, stay }, worker)
    }

    /// Whether the registry took it and cannot have forgotten it since.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.state.borrow().registered
    }

    /// How many renewals failed since the last that did not.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.state.borrow().failures
    }

    /// Waits until the registry has taken it. `false` when the worker is gone.
    pub async fn registered(&mut self) -> bool {
        self.state.wait_for(|state| state.registered).await.is_ok()
    }

    /// Takes it off and waits for that, 2 s at most: before a server closes its listener. `false` when the registry
    /// did not confirm it; it forgets the instance after its life then.
    pub fn remove(self) -> impl Future<Output = bool> + Send {
        let Self { mut state, stay } = self;
        drop(stay);
        async move { state.wait_for(|state| state.removed).await.is_ok() }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("registered", &self.is_registered())
            .field("failures", &self.failures())
            .finish_non_exhaustive()
    }
}

async fn keep(
    registry: Arc<dyn Register>,
    instance: Instance,
    mut stays: watch::Receiver<()>,
    state: watch::Sender<State>,
) {
    let ttl = instance.ttl.max(SHORTEST);
    let third = ttl / 3;
    let mut last = None;
    for round in 0_u64.. {
        let began = Instant::now();
        let mut renewal = registry.renew(&instance);
        let error: BoxError = match first(stays.changed(), timeout(third, &mut renewal)).await {
            First::Left(_) => {
                // It may have reached the registry: the removal must come after it.
                let _ = timeout(LEAVE / 2, renewal).await;
                return leave(&*registry, &instance, leave_until(), state).await;
            }
            First::Right(Ok(Ok(()))) => {
                last = Some(began);
                state.send_replace(State {
                    registered: true,
                    ..State::default()
                });
                if rest(&mut stays, shortened(third, &instance, round)).await {
                    continue;
                }
                return leave(&*registry, &instance, leave_until(), state).await;
            }
            First::Right(Ok(Err(error))) => error,
            First::Right(Err(late)) => late.into(),
        };
        let mut failures = 0;
        state.send_modify(|state| {
            state.failures = state.failures.saturating_add(1);
            failures = state.failures;
            state.registered = last.is_some_and(|last: Instant| last.elapsed() < ttl);
        });
        let service = &instance.service;
        tracing::warn!(target: "tower_chassis::discover", %service, failures, "not registered: {error}");
        let pause = RETRY * 2_u32.pow((failures - 1).min(16));
        if !rest(&mut stays, shortened(pause.min(third), &instance, round)).await {
            return leave(&*registry, &instance, leave_until(), state).await;
        }
    }
}

fn leave_until() -> Instant {
    Instant::now() + LEAVE / 2
}

/// `false` when it is time to leave.
async fn rest(stays: &mut watch::Receiver<()>, pause: Duration) -> bool {
    matches!(
        first(stays.changed(), tokio::time::sleep(pause)).await,
        First::Right(())
    )
}

async fn leave(
    registry: &dyn Register,
    instance: &Instance,
    until: Instant,
    state: watch::Sender<State>,
) {
    match timeout_at(until, registry.remove(instance)).await {
        Ok(Ok(())) => {
            state.send_replace(State {
                removed: true,
                ..State::default()
            });
        }
        failed => {
            let why = failed.map_or_else(|late| late.to_string(), |r| format!("{:?}", r.err()));
            let service = &instance.service;
            tracing::warn!(target: "tower_chassis::discover", %service, "not taken off: {why}");
        }
    }
}

/// Up to a tenth less, by instance and round.
fn shortened(pause: Duration, instance: &Instance, round: u64) -> Duration {
    let word = XxHash64::oneshot(instance.endpoint.key(), &round.to_le_bytes());
    let share = u32::try_from(word >> 54).unwrap_or(0);
    pause - pause / 10 * share / 1024
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Registry {
        log: Mutex<Vec<(&'static str, Duration)>>,
        plan: Mutex<Vec<&'static str>>,
        begun: Option<Instant>,
    }

    impl Registry {
        fn new(plan: &[&'static str]) -> Arc<Self> {
            Arc::new(Self {
                plan: Mutex::new(plan.to_vec()),
                begun: Some(Instant::now()),
                ..Self::default()
            })
        }

        fn log(&self) -> Vec<(&'static str, Duration)> {
            self.log.lock().unwrap().clone()
        }
    }

    struct Shared(Arc<Registry>);

    impl Register for Shared {
        fn renew(&self, _: &Instance) -> BoxFuture<'static, Result<(), BoxError>> {
            let registry = Arc::clone(&self.0);
            let mut plan = registry.plan.lock().unwrap();
            let act = if plan.is_empty() {
                "ok"
            } else {
                plan.remove(0)
            };
            drop(plan);
            Box::pin(async move {
                let at = registry.begun.unwrap().elapsed();
                registry.log.lock().unwrap().push(("renew", at));
                match act {
                    "fail" => return Err("no".into()),
                    "hang" => std::future::pending().await,
                    "slow" => tokio::time::sleep(Duration::from_millis(500)).await,
                    _ => {}
                }
                let at = registry.begun.unwrap().elapsed();
                registry.log.lock().unwrap().push(("renewed", at));
                Ok(())
            })
        }

        fn remove(&self, _: &Instance) -> BoxFuture<'static, Result<(), BoxError>> {
            let at = self.0.begun.unwrap().elapsed();
            self.0.log.lock().unwrap().push(("remove", at));
            Box::pin(async { Ok(()) })
        }
    }

    fn instance() -> Instance {
        Instance::new("shop", Endpoint::new("http://127.0.0.1:1").unwrap())
    }

    fn gaps(log: &[(&str, Duration)], what: &str) -> Vec<f64> {
        let of = log.iter().filter(|(name, _)| *name == what);
        let at: Vec<_> = of.map(|(_, at)| at.as_secs_f64()).collect();
        at.windows(2).map(|w| w[1] - w[0]).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_renewed_and_taken_off() {
        let registry = Registry::new(&[]);
        let (mut registration, worker) =
            Registration::begin(Arc::new(Shared(Arc::clone(&registry))), instance());
        let worker = tokio::spawn(worker);
        assert!(registration.registered().await);
        tokio::time::sleep(Duration::from_secs(100)).await;
        let gaps = gaps(&registry.log(), "renew");
        assert!((9..=11).contains(&gaps.len()), "{gaps:?}");
        assert!(
            gaps.iter().all(|gap| (9.0..=10.01).contains(gap)),
            "{gaps:?}"
        );
        assert!(gaps[0] != gaps[1], "{gaps:?}");
        assert!(registration.is_registered());
        assert!(registration.remove().await);
        worker.await.unwrap();
        assert_eq!(registry.log().last().unwrap().0, "remove");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_and_it_is_doubted_after_its_life() {
        let mut plan = vec!["ok"];
        plan.extend(["fail"; 6]);
        plan.push("hang");
        let registry = Registry::new(&plan);
        let (mut registration, worker) =
            Registration::begin(Arc::new(Shared(Arc::clone(&registry))), instance());
        let worker = tokio::spawn(worker);
        assert!(registration.registered().await);
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(registration.is_registered() && registration.failures() > 1);
        tokio::time::sleep(Duration::from_secs(25)).await;
        assert!(!registration.is_registered());
        assert!(registration.registered().await, "it comes back");
        assert_eq!(registration.failures(), 0);
        let gaps = gaps(&registry.log(), "renew");
        for (gap, most) in gaps
            .iter()
            .zip([10.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 20.0])
        {
            assert!((0.9 * most..=most + 0.01).contains(gap), "{gaps:?}");
        }
        drop(registration);
        worker.await.unwrap();
        assert_eq!(registry.log().last().unwrap().0, "remove");
    }

    #[tokio::test(start_paused = true)]
    async fn the_removal_comes_after_a_renewal_on_its_way() {
        for (act, first) in [("slow", "renewed"), ("hang", "renew")] {
            let registry = Registry::new(&[act]);
            let (registration, worker) =
                Registration::begin(Arc::new(Shared(Arc::clone(&registry))), instance());
            let worker = tokio::spawn(worker);
            tokio::time::sleep(Duration::from_millis(10)).await;
            let began = Instant::now();
            assert!(registration.remove().await);
            assert!(began.elapsed() <= LEAVE);
            worker.await.unwrap();
            let log = registry.log();
            let names: Vec<_> = log.iter().rev().take(2).map(|(name, _)| *name).collect();
            assert_eq!(names, ["remove", first]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_worker_nothing_is_confirmed() {
        let registry = Registry::new(&[]);
        let (mut registration, worker) =
            Registration::begin(Arc::new(Shared(Arc::clone(&registry))), instance());
        drop(worker);
        assert!(!registration.registered().await);
        assert!(!registration.remove().await);
    }
}
