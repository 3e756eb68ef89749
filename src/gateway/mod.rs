//! The API gateway: one file, live, made of the same layers that everybody can use.
//!
//! A [`Gateway`] routes requests to services. [`Gateway::apply`] takes a configuration, checks all of it, and
//! pushes what changed into the running stacks: breakers keep their windows, limits their counts, pools
//! their connections, and requests in flight finish on the routes that they began on. A configuration with a
//! fault changes nothing.
//!
//! ```no_run
//! use tower_chassis::{
//!     config::{Format, Loader},
//!     gateway::Gateway,
//!     Events,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let gateway = Gateway::new(Events::new());
//! let tree = Loader::new().file("gateway.yaml").std_env("CHASSIS").load()?;
//! gateway.apply(&tree)?;
//! let service = gateway.service(); // a tower service for a `Server`
//! # Ok(())
//! # }
//! ```
//!
//! # What happens to a request
//! trace, access log, metrics → rescue → router → rate limit → forwarding headers → total timeout → retry →
//! per-try timeout → traffic rules → balance → breaker → span and metrics of the attempt → connection.
//!
//! # What it says of itself
//! [`run`] sets all of this up as the file says; a commented one is `examples/gateway/gateway.yaml`.
//!
//! | section | | live |
//! |---|---|---|
//! | [`log`](model::LogModel) | the gateway's own log: level by target, text or JSON, to a terminal or a file that rolls | `level` |
//! | [`log.access`](model::AccessModel) | a line per request, in eight formats or a template, where it is slow, where it is no success, some of the successes | all but `query`, `output`, `file` |
//! | [`trace`](tower_chassis_observe::trace::TraceConfig) | which traces are recorded; who began one has decided | yes |
//! | [`otlp`](tower_chassis_observe::otlp::OtlpConfig) | spans and metrics to a collector, and what waits before the process ends | no |
//! | [`services.*.ready`](model::ReadyModel) | whether the gateway is ready where no endpoint of that service can be called | yes |
//! | [`admin`](mod@crate::admin) | health, metrics, what is live, events as they happen; CPU profiles for whom the file lets in | no |
//!
//! Lines are written by a thread of their own: a disk that is full or a terminal that nobody reads costs lines and no
//! request. What is lost of lines, spans and metrics is counted as `chassis_telemetry_lost_total` (label `signal`).
//!
//! The query of a request is in no line unless the file asks for it, and then without what is secret by its name. Headers for
//! a collector and the token for profiles may stand elsewhere (`${file:/run/secrets/key}`, `${env:KEY}`), and are shown
//! nowhere.
//!
//! What does not fit is told: where the collector is not there, or speaks another protocol, a warning says so at the start
//! and what to look at.

mod demo;
mod forward;
mod map_body;
pub mod model;
mod observe;
mod plan;
mod run;
mod service;
mod status;
mod upstream;

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

pub use self::upstream::Upstream as DemoUpstream;
pub use observe::ReadAllocator;
pub use run::{Ended, Options, RunError, check, routes, run, upstream};
use tower_chassis_core::{
    Body, Events, Live, RescueLayer,
    config::{Faults, Tree},
    events::Event,
    server::ServerPolicy,
};
use tower_chassis_observe::{
    ObserveLayer,
    metrics::{ClientMetricsLayer, RecorderHandle},
    trace::ClientTraceLayer,
};
use tower_chassis_resilience::rate_limit::RateLimitPolicy;
use tower_chassis_router::{RouteService, Router, SwapRouter};
use tower_layer::Layer;

use self::{
    map_body::MapBody,
    model::ReadyModel,
    plan::{ObservePlan, Plan, RoutePlan},
    service::Upstream,
};

/// A gateway without a listener. Clones share everything.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

struct Shared {
    router: SwapRouter<Body>,
    server: Live<ServerPolicy>,
    events: Events,
    observe: service::ClientObserver,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    services: BTreeMap<Arc<str>, Upstream>,
    /// Services that the gateway's readiness looks at.
    ready: BTreeMap<Arc<str>, ReadyModel>,
    /// By the name of the route: the counts survive a change of the rate.
    limits: HashMap<String, Limit>,
    version: u64,
    tree: Option<Tree>,
    refused: Option<String>,
}

/// The rate limit of a route.
struct Limit {
    policy: Live<RateLimitPolicy>,
    layer: service::PerClient,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

impl Gateway {
    /// A gateway that knows no route yet: 404 for everything. Its client metrics go to the global recorder.
    #[must_use]
    pub fn new(events: Events) -> Self {
        Self::with_recorder(events, RecorderHandle::global())
    }

    /// The same, with client metrics that go to `recorder`.
    #[must_use]
    pub fn with_recorder(events: Events, recorder: impl Into<RecorderHandle>) -> Self {
        let metrics = ClientMetricsLayer::new().recorder(recorder);
        Self::with_observers(events, ClientTraceLayer::new(), metrics)
    }

    /// The same, with spans and metrics of each attempt as these layers have them.
    #[must_use]
    pub fn with_observers(
        events: Events,
        trace: ClientTraceLayer,
        metrics: ClientMetricsLayer,
    ) -> Self {
        Self(Arc::new(Shared {
            router: SwapRouter::new(RouteService::default()),
            server: Live::from(ServerPolicy::default()),
            events,
            observe: ObserveLayer::new((trace, metrics)),
            state: Mutex::default(),
        }))
    }

    /// Serves the routes that are live. For a [`Server`](crate::server::Server), under observers of your own.
    #[must_use]
    pub fn service(&self) -> SwapRouter<Body> {
        self.0.router.clone()
    }

    /// The limits of the listeners, as the file has them.
    #[must_use]
    pub fn server_policy(&self) -> Live<ServerPolicy> {
        self.0.server.clone()
    }

    /// Checks a configuration and makes it live. Needs a tokio runtime: new services start their workers. Where
    /// endpoints and the rules that name their tags change together it waits until the balancers know the new
    /// ones, up to ten seconds: under load call it from a thread that may block.
    ///
    /// # Errors
    /// Every fault, with its place; nothing has changed then.
    pub fn apply(&self, tree: &Tree) -> Result<model::Model, Faults> {
        self.apply_whole(tree).map(|(model, _)| model)
    }

    /// The same, and what of it is for others than the gateway.
    fn apply_whole(&self, tree: &Tree) -> Result<(model::Model, ObservePlan), Faults> {
        let plan = Plan::of(tree);
        let mut state = self.lock();
        let applied = plan.and_then(|plan| self.publish(&mut state, tree, plan));
        let event = match &applied {
            Ok(_) => {
                state.version += 1;
                state.tree = Some(tree.clone());
                state.refused = None;
                Event::config_applied(state.version)
            }
            Err(faults) => {
                state.refused = Some(faults.to_string());
                Event::config_refused(faults.len())
            }
        };
        // Who listens may ask the gateway.
        drop(state);
        self.0.events.emit(|| event);
        applied
    }

    /// Notes a configuration that could not even be read, for the admin page.
    pub fn refuse(&self, faults: &Faults) {
        self.lock().refused = Some(faults.to_string());
        self.0.events.emit(|| Event::config_refused(faults.len()));
    }

    fn publish(
        &self,
        state: &mut State,
        tree: &Tree,
        plan: Plan,
    ) -> Result<(model::Model, ObservePlan), Faults> {
        let Plan {
            model,
            server,
            observe,
            services,
            routes,
        } = plan;
        let names: Vec<Arc<str>> = services
            .keys()
            .map(|name| Arc::from(name.as_str()))
            .collect();
        for (name, (_, plan)) in names.iter().zip(services) {
            match state.services.get(name) {
                Some(running) if running.fits(&plan) => {
                    running.update(plan).map_err(|invalid| {
                        // The policies are valid by construction, so this names a fault of the program.
                        Faults::from_iter([
                            tree.fault_at(&format!("services.{name}"), invalid.to_string())
                        ])
                    })?;
                }
                running => {
                    if running.is_some() {
                        tracing::warn!(
                            service = &**name,
                            "connect_timeout or host changed: its connections and breakers begin anew"
                        );
                    }
                    let started = Upstream::start(name, plan, &self.0.events, &self.0.observe);
                    state.services.insert(Arc::clone(name), started);
                }
            }
        }
        let router = routes
            .iter()
            .filter_map(|route| Some((route, state.services.get(route.service.as_str())?.stack())))
            .fold(Router::new(), |router, (route, stack)| {
                router.route(&route.path, Self::endpoint(&mut state.limits, route, stack))
            })
            .build()
            .map_err(|errors| Faults::from_iter([tree.fault_at("routes", errors.to_string())]))?;
        self.0.router.swap(router);
        let _ = self.0.server.set(server);
        // What nothing refers to ends when its last request has.
        state.services.retain(|name, _| names.contains(name));
        state.limits.retain(|name, _| {
            routes
                .iter()
                .any(|route| route.name == *name && route.rate_limit.is_some())
        });
        state.ready = names
            .iter()
            .filter_map(|name| Some((Arc::clone(name), model.services.get(&**name)?.ready)))
            .filter(|(_, ready)| *ready != ReadyModel::Always)
            .collect();
        Ok((model, observe))
    }

    fn endpoint(
        limits: &mut HashMap<String, Limit>,
        route: &RoutePlan,
        stack: service::Stack,
    ) -> tower_chassis_router::MethodRouter<Body> {
        let rescue = RescueLayer::new();
        let Some(policy) = route.rate_limit.clone() else {
            return route.methods_service(MapBody::new(rescue.layer(stack)));
        };
        let limit = match limits.entry(route.name.clone()) {
            Entry::Occupied(entry) => {
                let limit = entry.into_mut();
                // Valid by construction.
                let _ = limit.policy.set(policy);
                limit
            }
            Entry::Vacant(entry) => {
                let policy = Live::from(policy);
                let layer = service::per_client(policy.clone());
                entry.insert(Limit { policy, layer })
            }
        };
        route.methods_service(MapBody::new(rescue.layer(limit.layer.layer(stack))))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
