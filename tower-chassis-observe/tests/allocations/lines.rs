//! A line of a log allocates nothing, nor does a call that no rule of the audit wants.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    io,
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use http::{Request, Response};
use tower::{Layer, Service, service_fn, util::ServiceFn};
use tower_chassis_core::Body;
use tower_chassis_observe::{
    audit::{AuditLayer, AuditPolicy, AuditRecord, AuditRule, LosslessAuditLayer},
    log::{Log, LogConfig, LogFormat},
    output::{Bound, Output},
};
use tracing_subscriber::layer::SubscriberExt;

use crate::ALLOCATED;

/// How many allocations 10,000 calls make on this thread, while the writer of `output` keeps up; after as many before.
fn allocations(output: &Output, mut call: impl FnMut()) -> usize {
    let handle = output.handle();
    let mut rounds = || {
        for _ in 0..100 {
            (0..100).for_each(|_| call());
            assert!(handle.flush_blocking(Duration::from_secs(30)));
        }
    };
    rounds();
    let before = ALLOCATED.get();
    rounds();
    ALLOCATED.get() - before
}

#[test]
fn a_line_of_an_output() {
    let output = Output::new(io::sink(), Bound::default());
    let line = "x".repeat(300);
    assert_eq!(allocations(&output, || assert!(output.line(&line))), 0);
}

#[test]
fn a_line_of_a_log() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let output = Output::new(io::sink(), Bound::default());
        let config = LogConfig {
            format,
            ..LogConfig::default()
        };
        let log = Log::new(config).environment(None).output(output.clone());
        let (layer, _handle) = log.layer().unwrap();
        let subscriber = tracing_subscriber::registry().with(layer);
        let path = String::from("/users/7");
        tracing::subscriber::with_default(subscriber, || {
            let say = || {
                tracing::info!(order = 7, path, share = 0.5, what = ?Some("a \"b\""), "paid {}", 3);
            };
            assert_eq!(allocations(&output, say), 0, "{format:?}");
        });
        assert_eq!(output.handle().written(), 20_000);
    }
}

#[test]
fn a_call_that_is_not_audited() {
    let output = Output::new(io::sink(), Bound::default());
    let policy = AuditPolicy::default().with(|config| {
        config.rules = vec![AuditRule {
            methods: vec!["POST".into()],
            ..AuditRule::default()
        }];
    });
    let policy = policy.unwrap();
    let layer = AuditLayer::new(policy.clone(), |_: AuditRecord| true);
    assert_eq!(of_calls(&output, layer), 0);
    let (places, _records) = tokio::sync::mpsc::channel(1);
    assert_eq!(
        of_calls(&output, LosslessAuditLayer::new(policy, places)),
        0
    );
}

/// How many allocations 10,000 calls make.
fn of_calls<L>(output: &Output, layer: L) -> usize
where
    L: Layer<Plain>,
    L::Service: Service<Request<()>>,
{
    let plain: Plain = service_fn(|_| ready(Ok(Response::new(Body::empty()))));
    let mut service = layer.layer(plain);
    let mut cx = Context::from_waker(Waker::noop());
    let call = || {
        assert!(service.poll_ready(&mut cx).is_ready());
        let future = pin!(service.call(Request::new(())));
        assert!(future.poll(&mut cx).is_ready());
    };
    allocations(output, call)
}

type Plain = ServiceFn<fn(Request<()>) -> Ready<Result<Response<Body>, Infallible>>>;
