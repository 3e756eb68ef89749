mod accept;
mod hops;
mod propagate;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{Extensions, Request};
use tokio::time::Instant;
use tower_chassis_core::{
    BoxError, Carrier, Class, Kind, Rejection, Verdict, settle::Observe, wire::Start,
};

use super::{DeadlineConfig, DeadlineLayer, DeadlinePolicy};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A second by default, ten at most.
fn policy() -> DeadlinePolicy {
    DeadlinePolicy::new(ms(1_000), ms(10_000)).unwrap()
}

fn request(headers: &[(&'static str, &str)]) -> Request<()> {
    let mut request = Request::new(());
    for (name, value) in headers {
        assert!(request.set_meta(name, (*value).into()));
    }
    request
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// What a request has left.
fn left<Req: Carrier>(request: &Req) -> Option<Duration> {
    request.invocation()?.deadline()?.remaining(Instant::now())
}

fn kind(error: &BoxError) -> Kind {
    let rejection = Rejection::find(&**error).unwrap();
    assert_eq!(rejection.layer(), "deadline");
    rejection.kind()
}

/// A guard below, as a breaker has it: how many calls it holds, and how they ended.
#[derive(Clone, Default)]
struct Below {
    flying: Arc<AtomicUsize>,
    ended: Arc<Mutex<Vec<Class>>>,
}

impl Below {
    fn flying(&self) -> usize {
        self.flying.load(Ordering::Relaxed)
    }

    fn ended(&self) -> Vec<Class> {
        std::mem::take(&mut self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<Req> Start<Req> for Below {
    type Ticket = Self;
    fn start(&self, _: &mut Req, _: Instant) -> Self {
        self.flying.fetch_add(1, Ordering::Relaxed);
        self.clone()
    }
}

impl Observe for Below {
    fn done(self, verdict: Verdict, _: Instant) {
        self.flying.fetch_sub(1, Ordering::Relaxed);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.push(verdict.class());
    }
}

/// A protocol of one's own.
#[derive(Clone, Default)]
struct Frame {
    meta: HashMap<&'static str, String>,
    extensions: Extensions,
}

impl Carrier for Frame {
    fn extensions(&self) -> &Extensions {
        &self.extensions
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
    fn meta(&self, name: &str) -> Option<&str> {
        self.meta.get(name).map(String::as_str)
    }
    fn set_meta(&mut self, name: &'static str, value: Cow<'_, str>) -> bool {
        self.meta.insert(name, value.into_owned());
        true
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let config = |default, max| DeadlineConfig {
        default: ms(default),
        max: ms(max),
    };
    for (config, error) in [
        (config(0, 1), "default must be above 0"),
        (config(1, 0), "max must be above 0"),
        (config(2, 1), "default must be at most `max`"),
    ] {
        let error_of = DeadlinePolicy::try_from(config).unwrap_err();
        assert_eq!(error_of.to_string(), error);
    }
    assert!(DeadlinePolicy::new(ms(1), Duration::MAX).is_ok());
    assert_eq!(
        DeadlineConfig::from(DeadlinePolicy::default()),
        config(15_000, 60_000)
    );
}

#[test]
fn what_may_be_sent_and_shared() {
    fn sent<T: Send + Sync + Clone>(_: &T) {}
    fn future<T: Send>(_: &T) {}
    let layer = DeadlineLayer::propagate(policy());
    sent(&layer);
    sent(&layer.handle());
    sent(&layer.fresh().respond());
    let inner = tower::service_fn(async |_: Request<()>| Ok::<_, BoxError>(()));
    let mut service = tower::Layer::layer(&layer, inner);
    sent(&service);
    future(&tower::Service::call(&mut service, Request::new(())));
}
