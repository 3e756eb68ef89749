//! One service of the gateway: its stack, and the handles by which the file changes it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{Request, Response};
use tokio::sync::watch;
use tower_chassis_core::{
    Body, Endpoint, Events, Live,
    boxed::BoxService,
    client::{Client, OriginLayer},
    discover,
    invocation::Carrier as _,
    live::Invalid,
};
use tower_chassis_observe::{ObserveLayer, metrics::ClientMetricsLayer, trace::ClientTraceLayer};
use tower_chassis_resilience::{
    balance::{Balance, BalanceHandle, BalancePolicy, MakeEndpoint, Picker},
    breaker::{BreakerHandle, BreakerLayer, BreakerPolicy},
    keyed::{By, ip_key},
    rate_limit::{RateLimitLayer, RateLimitPolicy},
    retry::{RetryLayer, RetryPolicy},
    timeout::{TimeoutLayer, TimeoutPolicy},
};
use tower_chassis_router::rules::{TrafficLayer, TrafficPolicy};
use tower_layer::Layer;

use super::{forward::ForwardLayer, map_body::MapBody, plan::ServicePlan};

/// What watches each attempt: a span of its own, and the client metrics.
pub(super) type ClientObserver = ObserveLayer<(ClientTraceLayer, ClientMetricsLayer)>;

/// The stack of a service, erased: one allocation for the clone, one for the future of a call.
pub(super) type Stack = BoxService<Request<Body>, Response<Body>>;

type Breakers = Arc<Mutex<HashMap<Arc<str>, BreakerHandle>>>;

/// A service that runs.
#[derive(Debug)]
pub(super) struct Upstream {
    /// What cannot change without new connections.
    fixed: Fixed,
    endpoints: watch::Sender<discover::Snapshot>,
    balance: Live<BalancePolicy>,
    breaker: Live<BreakerPolicy>,
    retry: Live<RetryPolicy>,
    per_try: Live<TimeoutPolicy>,
    total: Live<TimeoutPolicy>,
    traffic: Live<TrafficPolicy>,
    stack: Stack,
    status: UpstreamStatus,
}

#[derive(Clone, PartialEq, Debug)]
struct Fixed {
    connect_timeout: std::time::Duration,
    rewrite_host: bool,
}

/// What the admin page reads of a service.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamStatus {
    pub(crate) balance: BalanceHandle,
    breakers: Breakers,
    connections: Connections,
}

type Connections = Arc<Mutex<HashMap<Arc<str>, Arc<std::sync::atomic::AtomicUsize>>>>;

impl UpstreamStatus {
    /// The breaker of an endpoint.
    pub(crate) fn breaker(&self, id: &str) -> Option<BreakerHandle> {
        self.breakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    fn forget_all_but(&self, known: impl Fn(&Arc<str>) -> bool) {
        let lock = PoisonError::into_inner;
        self.breakers
            .lock()
            .unwrap_or_else(lock)
            .retain(|id, _| known(id));
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|id, _| known(id));
    }

    /// The open connections to an endpoint.
    pub(crate) fn connections(&self, id: &str) -> usize {
        let connections = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connections
            .get(id)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

impl Upstream {
    /// Builds the stack of a service and starts its worker.
    pub(super) fn start(
        name: &Arc<str>,
        plan: ServicePlan,
        events: &Events,
        observe: &ClientObserver,
    ) -> Self {
        let fixed = Fixed::of(&plan);
        let endpoints = watch::Sender::new(plan.endpoints.into());
        let balance = Live::from(plan.balance);
        let breaker = Live::from(plan.breaker);
        let retry = Live::from(plan.retry);
        let per_try = Live::from(plan.per_try);
        let total = Live::from(plan.total);
        let traffic = Live::from(plan.traffic);

        let breakers = Breakers::default();
        let connections = Connections::default();
        let make = {
            let (breaker, events, observe) = (breaker.clone(), events.clone(), observe.clone());
            let (policy, rewrite_host) = (plan.client, plan.rewrite_host);
            let (breakers, connections) = (Arc::clone(&breakers), Arc::clone(&connections));
            let service = Arc::clone(name);
            move |made: &MakeEndpoint<'_>| {
                let id = made.endpoint().id();
                let client = Client::new(&policy).events(Arc::clone(&service), &events);
                let origin = OriginLayer::new(made.endpoint()).rewrite_host(rewrite_host);
                let layer = BreakerLayer::new(breaker.clone())
                    .until_end()
                    .named(Arc::clone(id))
                    .gate(made.gate().clone())
                    .events(events.clone());
                let lock = PoisonError::into_inner;
                breakers
                    .lock()
                    .unwrap_or_else(lock)
                    .insert(Arc::clone(id), layer.handle());
                connections
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(Arc::clone(id), client.connection_count());
                layer.layer(origin.layer(observe.layer(client)))
            }
        };
        let (balancer, worker) =
            Balance::new(endpoints.subscribe(), make, Picker::new(balance.clone()));
        let balancer = balancer
            .named(Arc::clone(name))
            .events(events.clone())
            .until_end();
        let status = UpstreamStatus {
            balance: balancer.handle(),
            breakers,
            connections,
        };
        drop(worker.spawn());

        // DESIGN 5: an attempt is timed, then the rules choose a part of the service, then an endpoint.
        let attempt = TimeoutLayer::per_try(per_try.clone())
            .not_while_uploading()
            .events(events.clone())
            .layer(TrafficLayer::new(traffic.clone()).layer(balancer));
        let call = RetryLayer::new(retry.clone())
            .events(events.clone())
            .layer(attempt);
        let call = TimeoutLayer::total(total.clone())
            .events(events.clone())
            .layer(call);

        let micros = Arc::new(AtomicU64::new(0));
        total.bind(&micros, |micros, policy: &TimeoutPolicy| {
            let after = u64::try_from(policy.after().as_micros()).unwrap_or(u64::MAX);
            micros.store(after, Ordering::Relaxed);
        });
        let stack = ForwardLayer::new(Arc::clone(name), micros).layer(MapBody::new(call));
        let stack = BoxService::new(stack);
        Self {
            fixed,
            endpoints,
            balance,
            breaker,
            retry,
            per_try,
            total,
            traffic,
            stack,
            status,
        }
    }

    /// Whether a plan can go live without building the stack anew.
    pub(super) fn fits(&self, plan: &ServicePlan) -> bool {
        self.fixed == Fixed::of(plan)
    }

    /// Pushes a plan into the running stack. Windows, counters and connections survive.
    pub(super) fn update(&self, plan: ServicePlan) -> Result<(), Invalid> {
        self.balance.set(plan.balance)?;
        self.breaker.set(plan.breaker)?;
        self.retry.set(plan.retry)?;
        self.per_try.set(plan.per_try)?;
        self.total.set(plan.total)?;
        // A rule must not name tags that no endpoint has: new endpoints before the rules, old ones until after.
        let endpoints: discover::Snapshot = plan.endpoints.into();
        let old = self.endpoints.borrow().clone();
        let has = |set: &[Endpoint], id: &Arc<str>| set.iter().any(|endpoint| endpoint.id() == id);
        if endpoints.iter().any(|endpoint| !has(&old, endpoint.id())) {
            let gone = old
                .iter()
                .filter(|endpoint| !has(&endpoints, endpoint.id()));
            self.publish(endpoints.iter().chain(gone).cloned().collect());
            self.await_balancer(&endpoints);
        }
        self.traffic.set(plan.traffic)?;
        self.publish(endpoints.clone());
        let applied = self.status.balance.endpoints();
        self.status.forget_all_but(|id| {
            has(&endpoints, id) || applied.iter().any(|status| status.endpoint.id() == id)
        });
        Ok(())
    }

    fn publish(&self, endpoints: discover::Snapshot) {
        self.endpoints.send_if_modified(|current| {
            let changed = *current != endpoints;
            if changed {
                *current = endpoints;
            }
            changed
        });
    }

    /// Waits until the balancer's worker has taken the endpoints in. It is a matter of microseconds, with hundreds of
    /// endpoints on a busy machine of more; the bound is for a runtime that does not run meanwhile.
    fn await_balancer(&self, endpoints: &[Endpoint]) {
        for _ in 0..10_000 {
            let known = self.status.balance.endpoints();
            if endpoints
                .iter()
                .all(|new| known.iter().any(|status| status.endpoint.id() == new.id()))
            {
                return;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
        tracing::warn!(
            "the balancer has not taken its endpoints in; the rules that name them go live without it"
        );
    }

    pub(super) fn stack(&self) -> Stack {
        self.stack.clone()
    }

    pub(super) fn status(&self) -> UpstreamStatus {
        self.status.clone()
    }
}

impl Fixed {
    fn of(plan: &ServicePlan) -> Self {
        Self {
            connect_timeout: plan.client.config().connect_timeout,
            rewrite_host: plan.rewrite_host,
        }
    }
}

/// A rate limit for each client.
pub(super) type PerClient = RateLimitLayer<By<ClientKey, IpAddr>, IpAddr>;

/// The key of a rate limit: the peer's address, which a client cannot choose.
type ClientKey = fn(&Request<Body>) -> Option<IpAddr>;

pub(super) fn per_client(policy: Live<RateLimitPolicy>) -> PerClient {
    RateLimitLayer::new(policy).keyed(client_key as ClientKey)
}

fn client_key(request: &Request<Body>) -> Option<IpAddr> {
    Some(ip_key(request.invocation()?.client()?.ip()))
}
