//! Rules at work.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use arc_swap::ArcSwapOption;
use http::Request;
use tower_chassis_core::{Carrier, Live, invocation::Subset};
use tower_layer::Layer;
use tower_service::Service;

use super::policy::TrafficPolicy;

/// Chooses the part of a service that gets a request. See the [module](super).
///
/// Layering or cloning twice shares the turns.
#[derive(Clone, Debug)]
pub struct TrafficLayer {
    policy: Live<TrafficPolicy>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    current: ArcSwapOption<Bound>,
}

/// A policy and the turns of its rules.
#[derive(Debug)]
struct Bound {
    policy: TrafficPolicy,
    turns: Vec<Arc<Turn>>,
}

/// How many requests a rule has matched. By itself on a cache line, since all threads write it.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Turn(AtomicU64);

impl TrafficLayer {
    /// Chooses by `policy`: a plain one is fixed, a [`Live`] one can be set from outside.
    #[must_use]
    pub fn new(policy: impl Into<Live<TrafficPolicy>>) -> Self {
        let policy = policy.into();
        let shared = Arc::default();
        policy.bind(&shared, Shared::apply);
        Self { policy, shared }
    }

    /// The policy, to read or to change.
    #[must_use]
    pub fn policy(&self) -> &Live<TrafficPolicy> {
        &self.policy
    }
}

impl Shared {
    /// Runs under the writer's lock of the policy, so that no turn is lost between two changes.
    fn apply(&self, policy: &TrafficPolicy) {
        let old = self.current.load();
        let turn = |name: &str| {
            let old = old.as_ref()?;
            let index =
                (0..old.policy.len()).find(|index| old.policy.name(*index) == Some(name))?;
            old.turns.get(index).cloned()
        };
        let turns = (0..policy.len())
            .map(|index| policy.name(index).and_then(turn).unwrap_or_default())
            .collect();
        self.current.store(Some(Arc::new(Bound {
            policy: policy.clone(),
            turns,
        })));
    }
}

impl Bound {
    fn choose<B>(&self, req: &Request<B>) -> Option<Arc<Subset>> {
        let rule = self
            .policy
            .matching(req.method(), req.uri().path(), req.headers())?;
        let turn = self.turns.get(rule)?.0.fetch_add(1, Ordering::Relaxed);
        self.policy.choose(rule, turn).cloned()
    }
}

impl<S> Layer<S> for TrafficLayer {
    type Service = Traffic<S>;

    fn layer(&self, inner: S) -> Traffic<S> {
        Traffic {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

/// The service of [`TrafficLayer`]. Ready when the inner service is; keeps its errors and its future.
#[derive(Clone)]
pub struct Traffic<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Traffic<S> {
    /// The inner service.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: fmt::Debug> fmt::Debug for Traffic<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

impl<S, B> Service<Request<B>> for Traffic<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> S::Future {
        let subset = self
            .shared
            .current
            .load()
            .as_ref()
            .and_then(|bound| bound.choose(&req));
        if subset.is_some() {
            req.invocation_mut().set_subset(subset);
        }
        self.inner.call(req)
    }
}
