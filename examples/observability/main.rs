//! One service with everything in it, under a load of its own, for the dashboards and alerts beside this file.
//!
//! ```text
//! cargo run --example observability                            # a service that is well
//! cargo run --example observability -- 127.0.0.1:3010 storm    # one that is not
//! prometheus --config.file examples/observability/prometheus.yml
//! ```
//! The shop asks some upstreams, each behind layers of its own. In a storm they fail and are slow, the shop is asked for
//! more than it can do, its configuration is broken, its workers are blocked and, where it may open 2,000 to 10,000 files
//! (`ulimit -n 4096`), it leaves them open.
#![allow(clippy::print_stdout, reason = "an example speaks to its terminal")]

mod load;
mod shop;
mod stock;
mod trouble;
mod upstreams;

use std::{
    io::{self, Write},
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::runtime::Handle;
use tower_chassis::{
    BoxError, Events,
    config::{Format, Loader},
    events::{self, Event},
    observe::{
        audit::AuditHandle,
        events::{Signal, lost, record, sample},
        health::{Check, Health, Status},
        output::{Bound, Output, OutputHandle},
        process,
        registry::Registry,
        runtime,
    },
    prometheus::Prometheus,
    rate_limit::{RateLimitConfig, RateLimitPolicy},
    router::{Router, get_service},
    server::{Drain, Server, ServerPolicy},
};

/// How things are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Weather {
    Calm,
    Storm,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:3010".into());
    let weather = match arguments.next().as_deref() {
        Some("storm") => Weather::Storm,
        _ => Weather::Calm,
    };

    let (reports, prometheus) = (Events::new(), Prometheus::new());
    record(&reports, prometheus.recorder());
    events::log(&reports);
    let limit = configured(weather, &reports)?;
    let log = Output::new(Paper(weather), Bound::lines(64));
    let (shop, audit) = shop::service(weather, &reports, &prometheus, &log, limit)?;

    let drain = Drain::new();
    let orders = Check::now(move || match weather {
        Weather::Calm => Status::Up,
        Weather::Storm => Status::down("nobody takes orders"),
    });
    let health = Health::new()
        .ready("orders", orders)
        .drain(&drain)
        .events(reports.clone());
    let sampled = Sampled {
        reports: reports.clone(),
        recorder: prometheus.recorder(),
        log: log.handle(),
        audit,
    };
    let page = prometheus.service().before(move || sampled.read());
    let pages = Router::new()
        .route("/metrics", get_service(page))
        .route("/readyz", get_service(health.service()))
        .fallback_service(shop)
        .build()?;
    let server = Server::new(ServerPolicy::default())
        .events("shop", reports.clone())
        .listen(address)
        .bind()
        .await?;
    for address in server.addresses() {
        println!("listening on {address}, {weather:?}");
    }
    let load = server.addresses().first().cloned();
    let load = load.map(|address| tokio::spawn(load::run(address, weather, reports)));

    let leaked = match weather {
        Weather::Calm => Vec::new(),
        Weather::Storm => {
            trouble::block_the_workers();
            trouble::leak_descriptors()
        }
    };

    let on_signal = drain.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            on_signal.start();
            on_signal.hurry();
        }
    });
    let _ = server.serve(pages, drain).await;
    if let Some(load) = load {
        load.abort();
    }
    drop(leaked);
    Ok(())
}

/// What the access log is written on: in a storm more slowly than it is written.
struct Paper(Weather);

impl Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == Weather::Storm {
            thread::park_timeout(Duration::from_millis(200));
        }
        Ok(bytes.len().min(1024))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is not counted as it happens, and is read before Prometheus gets its page.
struct Sampled {
    reports: Events,
    recorder: Arc<Registry>,
    log: OutputHandle,
    audit: AuditHandle,
}

impl Sampled {
    fn read(&self) {
        sample(&self.reports, self.recorder.clone());
        runtime::sample(&Handle::current(), self.recorder.clone());
        runtime::allocator(trouble::allocated(), self.recorder.clone());
        process::sample(self.recorder.clone());
        let recorder = self.recorder.clone().into();
        let missing = self.log.lost() + self.log.failed();
        lost(&recorder, Signal::AccessLog).absolute(missing);
        lost(&recorder, Signal::Audit).absolute(self.audit.lost());
    }
}

/// The settings of the shop: read from a text, and once more, with a fault if there is a storm.
fn configured(weather: Weather, reports: &Events) -> Result<RateLimitPolicy, BoxError> {
    let read = |text: &str| -> Result<RateLimitPolicy, BoxError> {
        let (_, config) = Loader::new()
            .text("shop.yaml", Format::Yaml, text)
            .load_as::<RateLimitConfig>()?;
        Ok(RateLimitPolicy::try_from(config)?)
    };
    let policy = read("{ rate: 200, burst: 200 }")?;
    reports.emit(|| Event::config_applied(1));
    let changed = match weather {
        Weather::Calm => "{ rate: 300, burst: 300 }",
        Weather::Storm => "{ rate: -1, brust: 300 }",
    };
    match read(changed) {
        Ok(policy) => {
            reports.emit(|| Event::config_applied(2));
            Ok(policy)
        }
        Err(error) => {
            println!("refused:\n{error}");
            reports.emit(|| Event::config_refused(2));
            Ok(policy)
        }
    }
}
