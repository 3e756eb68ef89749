//! The gateway as a program: listeners, the admin port, the watched file, signals.

mod reload;
mod signals;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use tower_chassis_core::{
    Live, RescueLayer,
    config::{DEBOUNCE, Faults, Format, LoadError, Loader, Source, watch_file},
    server::{Address, Drain, Drained, Server, ServerConfig, ServerPolicy},
};
#[cfg(feature = "profile")]
use tower_chassis_observe::profile::Guard;
use tower_chassis_router::{BuildErrors, RouteService, Router};
use tower_layer::Layer;

use self::{
    reload::{Reload, reload},
    signals::{Signals, drain_on},
};
#[cfg(feature = "profile")]
use super::plan::ProfilerPlan;
use super::{
    Gateway, demo,
    model::Model,
    observe::{ReadAllocator, Telemetry},
    plan::Plan,
};
use crate::admin::Admin;

/// What the command line says.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The file; without one the demo is served.
    pub config: Option<PathBuf>,
    /// Overrides `gateway.listen`.
    pub listen: Option<String>,
    /// Overrides `admin.listen`.
    pub admin: Option<String>,
    /// Sets up the log of the process as the file says. Off, `tracing` is the caller's business; the default.
    pub log: bool,
    /// Reads what the allocator of the process counts, for its metrics.
    pub allocator: Option<ReadAllocator>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("listen", &self.listen)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
#[non_exhaustive]
pub enum Ended {
    /// Everything in flight was answered.
    Clean,
    /// Requests were cut.
    CutShort,
}

/// Why a run could not begin.
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The configuration: it cannot be read, or has faults.
    Config(LoadError),
    /// A listener, or the recorder.
    Io(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RunError {}

impl From<LoadError> for RunError {
    fn from(error: LoadError) -> Self {
        Self::Config(error)
    }
}

impl From<io::Error> for RunError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Options {
    /// File (or `demo`'s text), then environment, then flags.
    fn loader(&self, demo: Option<&str>) -> Loader {
        let mut loader = Loader::new();
        if let Some(text) = demo {
            loader = loader.text("demo", Format::Yaml, text);
        }
        if let Some(path) = &self.config {
            loader = loader.file(path);
        }
        loader = loader.std_env("CHASSIS");
        if let Some(listen) = &self.listen {
            loader = loader.set("gateway.listen", listen, Source::flag("--listen"));
        }
        if let Some(admin) = &self.admin {
            loader = loader.set("admin.listen", admin, Source::flag("--admin"));
        }
        loader
    }
}

/// Checks a file as [`run`] would read it.
///
/// # Errors
/// The file cannot be read, or all of its faults.
pub fn check(options: &Options) -> Result<Model, RunError> {
    let tree = options.loader(None).load()?;
    Ok(Plan::of(&tree).map_err(LoadError::Faults)?.model)
}

/// The routes of what [`run`] would read, as a router that serves nothing: for its list, and to
/// [explain](RouteService::explain) which of them a request would take. Each is named after itself and its service.
///
/// # Errors
/// The file cannot be read, or all of its faults.
pub fn routes(options: &Options) -> Result<RouteService<()>, RunError> {
    let tree = options.loader(None).load()?;
    let plan = Plan::of(&tree).map_err(LoadError::Faults)?;
    let router = plan.routes.iter().fold(Router::new(), |router, route| {
        let name = format!("{} -> {}", route.name, route.service);
        router.route(&route.path, route.methods(|| async {}).name(&name))
    });
    // The plan was checked, so this names a fault of the program.
    let fault = |errors: BuildErrors| tree.fault_at("routes", errors.to_string());
    let built = router
        .build()
        .map_err(|errors| Faults::from_iter([fault(errors)]));
    Ok(built.map_err(LoadError::Faults)?)
}

/// Runs the gateway until a signal ends it. `say` is told, line by line, what is where.
///
/// `SIGTERM` drains: readiness says 503 first, the listeners close after `server.drain_delay`, requests in
/// flight have `server.drain_limit`. `SIGINT` skips the delay. A second signal cuts what is left.
///
/// # Errors
/// The configuration has faults, or an address cannot be bound.
pub async fn run(options: Options, say: impl Fn(&str)) -> Result<Ended, RunError> {
    // Before anything says that it is there: a signal from then on drains.
    let signals = Signals::new()?;
    let demo_drain = Drain::new();
    let demo = match &options.config {
        Some(_) => None,
        None => Some(demo::start(&demo_drain).await?),
    };
    let loader = options.loader(demo.as_deref());
    // Watched before it is read, so that no change falls between.
    let watch = options
        .config
        .as_ref()
        .map(|path| watch_file(path, DEBOUNCE));
    let tree = loader.load()?;

    let drain = Drain::new();
    let plan = Plan::of(&tree).map_err(LoadError::Faults)?;
    let telemetry = Arc::new(Telemetry::start(
        &plan.observe,
        plan.model.log.access.query,
        options.log,
        options.allocator,
        &drain,
    )?);
    let events = telemetry.events();
    let (trace, metrics) = telemetry.client();
    let gateway = Gateway::with_observers(events.clone(), trace, metrics);
    let model = gateway.apply(&tree).map_err(LoadError::Faults)?;

    let listen =
        |server: Server, addresses: &[String]| addresses.iter().fold(server, Server::listen);
    let public = Server::new(gateway.server_policy()).events("gateway", events.clone());
    let public = listen(public, &model.gateway.listen).bind().await?;
    let private = Server::new(admin_policy()).events("admin", events.clone());
    let private = listen(private, &model.admin.listen).bind().await?;
    for address in public.addresses() {
        say(&format!("gateway listening on {address}"));
    }
    for address in private.addresses() {
        say(&format!("admin listening on {address}"));
    }
    if demo.is_some() {
        let at = |addresses: Vec<Address>| {
            addresses
                .first()
                .map(ToString::to_string)
                .unwrap_or_default()
        };
        let (gateway, admin) = (at(public.addresses()), at(private.addresses()));
        say("try:");
        say(&format!(
            "  curl {gateway}/                        # v1 nine times of ten, else v2"
        ));
        say(&format!(
            "  curl -H 'x-canary: always' {gateway}/  # v2; /slow times out, /fail is tried again"
        ));
        say(&format!(
            "  curl {admin}/endpoints                 # weights, breakers, latencies"
        ));
        say(&format!(
            "  open {admin}/                          # the same and what happens, live"
        ));
    }

    let service = telemetry
        .server()
        .layer(RescueLayer::new().layer(gateway.service()));
    let admin_drain = Drain::new();
    let sampler = telemetry.sampler();
    let admin = Admin::new(
        gateway.clone(),
        telemetry.prometheus().clone(),
        drain.clone(),
    )
    .events(events, &admin_drain)
    .before_metrics(move || sampler.take());
    #[cfg(feature = "profile")]
    let admin = match &plan.observe.profiler {
        Some(ProfilerPlan::Loopback) => admin.profiler(Guard::loopback()),
        Some(ProfilerPlan::Token(token)) => admin.profiler(Guard::token(token.expose())),
        None => admin,
    };
    let admin = admin.service().map_err(io::Error::other)?;
    let admin = tokio::spawn(private.serve(admin, admin_drain.clone()));

    let reload = match watch {
        Some(Ok(watch)) => Some(tokio::spawn(reload(Reload {
            watch,
            loader,
            gateway: gateway.clone(),
            telemetry: Arc::clone(&telemetry),
            model,
        }))),
        Some(Err(error)) => {
            tracing::error!(%error, "the configuration cannot be watched: changes need a restart");
            None
        }
        None => None,
    };
    let signals = tokio::spawn(drain_on(signals, drain.clone()));

    let ended = match public.serve(service, drain).await {
        Drained::Clean => Ended::Clean,
        _ => Ended::CutShort,
    };
    tracing::debug!(?ended, "gateway drained");
    admin_drain.start();
    admin_drain.hurry();
    let _ = tokio::time::timeout(Duration::from_secs(1), admin).await;
    tracing::debug!("admin drained");
    for task in [Some(signals), reload].into_iter().flatten() {
        task.abort();
    }
    demo_drain.force();
    telemetry.end().await;
    Ok(ended)
}

/// Runs one instance of the demo service until a signal ends it.
///
/// # Errors
/// The address cannot be bound.
pub async fn upstream(
    upstream: super::DemoUpstream,
    listen: &str,
    say: impl Fn(&Address),
) -> io::Result<Ended> {
    let mut signals = Signals::new()?;
    let drain = Drain::new();
    let (address, serving) = demo::serve(upstream, listen, drain.clone()).await?;
    say(&address);
    let signals = tokio::spawn(async move {
        signals.next().await;
        drain.start();
        drain.hurry();
        signals.next().await;
        drain.force();
    });
    let ended = match serving.await {
        Ok(Drained::Clean) => Ended::Clean,
        _ => Ended::CutShort,
    };
    signals.abort();
    Ok(ended)
}

fn admin_policy() -> Live<ServerPolicy> {
    let mut config = ServerConfig::default();
    config.max_connections = 256;
    config.drain_delay = Duration::ZERO;
    config.drain_limit = Duration::from_millis(500);
    Live::from(ServerPolicy::try_from(config).unwrap_or_default())
}
