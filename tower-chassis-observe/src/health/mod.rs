//! Whether the service lives, has started and is ready: for Kubernetes, load balancers and gRPC clients.
//!
//! # Example
//! ```
//! use std::time::Duration;
//! use http::Request;
//! use tower::ServiceExt;
//! use tower_chassis_observe::health::{Check, Health};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! # async fn ping_the_database() -> Result<(), String> { Ok(()) }
//! # async fn ping_the_cache() -> Result<(), String> { Err("refused".into()) }
//! let health = Health::new()
//!     .ready("database", Check::new(ping_the_database).timeout(Duration::from_millis(500)))
//!     .ready("cache", Check::new(ping_the_cache).optional())
//!     .ready("upstreams", Check::upstream(|| 3));
//!
//! let response = health.service().oneshot(Request::get("/readyz").body(()).unwrap()).await.unwrap();
//! assert_eq!(response.status(), 200); // degraded: cache
//! let response = health.service().oneshot(Request::get("/livez").body(()).unwrap()).await.unwrap();
//! assert_eq!(response.status(), 200);
//! # }
//! ```
//!
//! # What is asked
//! | path | asks | 503 says |
//! |---|---|---|
//! | `/livez` | the checks of [`live`](Health::live). Without any: the process answers, so it lives. Give it none that asks others: a restart cures nothing there | `not live: name` |
//! | `/startupz` | the checks of [`startup`](Health::startup), until all have been well once | `not started: name` |
//! | `/readyz` | first that it has started and that no drain was announced, then the checks of [`ready`](Health::ready) | `not ready: name`, `not ready: draining` |
//!
//! `GET` and `HEAD`, else 405; other paths 404. Well is 200 `ok`, without something optional 200 `degraded: name`. With
//! `?verbose`, or `Accept: application/json`, each check is listed as JSON; what an error says, which may be a secret,
//! only with [`details`](Health::details). Nothing may be cached on the way (`no-store`).
//!
//! # Checks
//! | setting | default | |
//! |---|---|---|
//! | [`timeout`](Check::timeout) | 1 s | 1 ms to 60 s; what takes longer is down |
//! | [`cache`](Check::cache) | 1 s | how long a result holds |
//! | [`optional`](Check::optional) | no | without it the service is degraded, not down |
//!
//! Those of one question run at the same time, each as a task of its own and once for all who ask meanwhile: a hundred
//! probes are one query of the database. A check that panics is down. One that blocks its thread is down after its timeout, and
//! is not run again until that is over: it takes one thread of the runtime, and no more.
//!
//! # gRPC
//! [`Health::grpc`] is the service `grpc.health.v1.Health` with `Check` and `Watch`. See [`GrpcHealth`].
//!
//! # Heartbeat
//! [`HeartbeatLayer`] answers one path with a dot, in front of everything: for a load balancer that only wants to know
//! that the process answers.
//!
//! # Order
//! On a listener of its own, or a route that no limit, authentication or breaker stands before: an overloaded service
//! is alive. Routers of axum and of this project take it as a service.
//!
//! # Events and metrics
//! With [`events`](Health::events) the last result of each check is the gauge `chassis_health` (labels `name` and `kind`:
//! `live`, `ready`, `startup`), which [`events::sample`](crate::events::sample) reads: 1 up, 0.5 degraded, 0 down. It is
//! as old as the last question.
//!
//! # Cancellation
//! Who leaves stops no check: the others, and the next, get its result.
//!
//! # Cost
//! A box per request, a task or two per run of a check.

mod check;
mod grpc;
mod heartbeat;
mod report;
mod service;
mod status;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

#[cfg(feature = "server")]
use tower_chassis_core::server::Drain;
use tower_chassis_core::{Events, boxed::BoxFuture};

use self::check::{Asked, Probe};
pub(crate) use self::service::{not_allowed, text};
pub use self::{
    check::Check,
    grpc::GrpcHealth,
    heartbeat::{Heartbeat, HeartbeatLayer},
    report::{CheckReport, Report},
    service::HealthService,
    status::Status,
};
use crate::metrics::names::HEALTH;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Whether the process is of any use, or should be restarted.
    Live,
    /// Whether it should get requests.
    Ready,
    /// Whether it has started.
    Startup,
}

impl Kind {
    /// `live`, `ready` or `startup`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ready => "ready",
            Self::Startup => "startup",
        }
    }

    const fn refusal(self) -> &'static str {
        match self {
            Self::Live => "not live",
            Self::Ready => "not ready",
            Self::Startup => "not started",
        }
    }
}

/// The checks of a service. Clones, and the services made of it, share what is known. See the [module](self).
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Health {
    live: Vec<Arc<Probe>>,
    ready: Vec<Arc<Probe>>,
    startup: Vec<Arc<Probe>>,
    /// All checks of `startup` have been well once.
    started: Arc<AtomicBool>,
    /// Names of gRPC services, and the checks of readiness that each needs.
    services: Vec<(Arc<str>, Vec<Arc<str>>)>,
    paths: Paths,
    details: bool,
    events: Events,
    #[cfg(feature = "server")]
    drain: Option<Drain>,
}

#[derive(Clone, Debug)]
struct Paths([(Kind, Arc<str>); 3]);

impl Default for Paths {
    fn default() -> Self {
        Self([
            (Kind::Live, "/livez".into()),
            (Kind::Ready, "/readyz".into()),
            (Kind::Startup, "/startupz".into()),
        ])
    }
}

impl Health {
    /// Without checks: it lives, has started and is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without this the process should be restarted.
    pub fn live(self, name: impl Into<Arc<str>>, check: Check) -> Self {
        self.with(Kind::Live, name.into(), check)
    }

    /// Without this it should get no requests.
    pub fn ready(self, name: impl Into<Arc<str>>, check: Check) -> Self {
        self.with(Kind::Ready, name.into(), check)
    }

    /// Until this has been well once it has not started, and is not ready.
    pub fn startup(self, name: impl Into<Arc<str>>, check: Check) -> Self {
        self.with(Kind::Startup, name.into(), check)
    }

    /// Not ready from the start of this drain.
    #[cfg(feature = "server")]
    #[cfg_attr(docsrs, doc(cfg(feature = "server")))]
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.drain = Some(drain.clone());
        self
    }

    /// Answers this at another path. Defaults: `/livez`, `/readyz`, `/startupz`.
    pub fn path(mut self, kind: Kind, path: impl Into<Arc<str>>) -> Self {
        let path = path.into();
        for (of, at) in &mut self.paths.0 {
            if *of == kind {
                *at = Arc::clone(&path);
            }
        }
        self
    }

    /// Tells who asks for JSON what the checks say. Default: no, an error may name hosts and users.
    pub fn details(mut self, details: bool) -> Self {
        self.details = details;
        self
    }

    /// Offers the results as gauges.
    pub fn events(mut self, events: Events) -> Self {
        self.events = events;
        for kind in [Kind::Live, Kind::Ready, Kind::Startup] {
            for probe in self.probes(kind) {
                self.offer(kind, probe);
            }
        }
        self
    }

    /// A gRPC service by its full name, which needs these checks of readiness; with none of them it is ready when all
    /// are. A name that no check has makes it never ready.
    pub fn grpc_service<'a>(
        mut self,
        service: impl Into<Arc<str>>,
        checks: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let checks = checks.into_iter().map(Arc::from).collect();
        self.services.push((service.into(), checks));
        self
    }

    /// The service that answers HTTP.
    #[must_use]
    pub fn service(&self) -> HealthService {
        HealthService::new(self.clone())
    }

    /// The service that answers gRPC.
    #[must_use]
    pub fn grpc(&self) -> GrpcHealth {
        GrpcHealth::new(self.clone())
    }

    /// Asks. Within a runtime of tokio: outside of one, what is not known is down.
    pub async fn ask(&self, kind: Kind) -> Report {
        match kind {
            Kind::Live => self.run(kind, &self.live).await,
            Kind::Startup => self.started().await,
            Kind::Ready => {
                if self.is_draining() {
                    return self.draining();
                }
                let started = self.started().await;
                if started.status.is_down() {
                    return Report {
                        kind,
                        status: Status::down("startup"),
                        checks: started.checks,
                    };
                }
                let report = self.run(kind, &self.ready).await;
                // It may have begun meanwhile.
                if self.is_draining() {
                    return self.draining();
                }
                report
            }
        }
    }

    /// Whether a gRPC service serves; none if there is no such.
    async fn serves(&self, service: &str) -> Option<bool> {
        if service.is_empty() {
            return Some(!self.ask(Kind::Ready).await.status.is_down());
        }
        let (_, needs) = self.services.iter().find(|(name, _)| **name == *service)?;
        if needs.is_empty() {
            return Some(!self.ask(Kind::Ready).await.status.is_down());
        }
        if self.is_draining() || self.started().await.status.is_down() {
            return Some(false);
        }
        let named = |need: &Arc<str>| self.ready.iter().find(|probe| probe.name == *need).cloned();
        let Some(probes) = needs.iter().map(named).collect::<Option<Vec<_>>>() else {
            return Some(false);
        };
        let report = self.run(Kind::Ready, &probes).await;
        Some(!report.status.is_down() && !self.is_draining())
    }

    async fn started(&self) -> Report {
        if self.started.load(Relaxed) {
            let known = |probe: &Arc<Probe>| {
                let outcome = probe.last()?;
                Some(Self::tell(probe, outcome))
            };
            let mut report = Report::of(
                Kind::Startup,
                self.startup.iter().filter_map(known).collect(),
            );
            if report.status.is_down() {
                report.status = Status::Up;
            }
            return report;
        }
        let report = self.run(Kind::Startup, &self.startup).await;
        if !report.status.is_down() {
            self.started.store(true, Relaxed);
        }
        report
    }

    async fn run(&self, kind: Kind, probes: &[Arc<Probe>]) -> Report {
        // All begin before the first is waited for.
        let asked: Vec<Asked> = probes.iter().map(Probe::ask).collect();
        let mut checks = Vec::with_capacity(asked.len());
        for (probe, asked) in probes.iter().zip(asked) {
            checks.push(Self::tell(probe, asked.outcome().await));
        }
        Report::of(kind, checks)
    }

    fn tell(probe: &Probe, outcome: check::Outcome) -> CheckReport {
        CheckReport {
            name: Arc::clone(&probe.name),
            status: outcome.status,
            optional: probe.is_optional(),
            age: outcome.at.elapsed(),
            took: outcome.took,
        }
    }

    fn with(mut self, kind: Kind, name: Arc<str>, check: Check) -> Self {
        let probe = Probe::new(name, check);
        self.offer(kind, &probe);
        match kind {
            Kind::Live => self.live.push(probe),
            Kind::Ready => self.ready.push(probe),
            Kind::Startup => self.startup.push(probe),
        }
        self
    }

    fn probes(&self, kind: Kind) -> &[Arc<Probe>] {
        match kind {
            Kind::Live => &self.live,
            Kind::Ready => &self.ready,
            Kind::Startup => &self.startup,
        }
    }

    fn offer(&self, kind: Kind, probe: &Arc<Probe>) {
        // Nothing is known before it was asked, and no comparison holds for that.
        let value = |probe: &Probe| probe.last().map_or(f64::NAN, |last| last.status.value());
        let (name, label) = (Arc::clone(&probe.name), ("kind", kind.as_str()));
        self.events.gauge_in(HEALTH, name, label, probe, value);
    }

    fn draining(&self) -> Report {
        Report {
            kind: Kind::Ready,
            status: Status::down("draining"),
            checks: Vec::new(),
        }
    }

    fn is_draining(&self) -> bool {
        #[cfg(feature = "server")]
        return self.drain.as_ref().is_some_and(Drain::is_draining);
        #[cfg(not(feature = "server"))]
        false
    }

    /// Until a drain is announced, for `at_most`.
    async fn drain_announced(&self, at_most: Duration) {
        #[cfg(feature = "server")]
        let announced: BoxFuture<'_, ()> = match &self.drain {
            Some(drain) => Box::pin(drain.announced()),
            None => Box::pin(std::future::pending()),
        };
        #[cfg(not(feature = "server"))]
        let announced: BoxFuture<'_, ()> = Box::pin(std::future::pending());
        let _ = tokio::time::timeout(at_most, announced).await;
    }
}
