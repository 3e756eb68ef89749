//! Which outcomes are answered, against a table.

use std::convert::Infallible;

use proptest::prelude::*;
use tower::{Service, service_fn};
use tower_chassis_core::{Class, Verdict, testing::poll_once, verdict::Outcome};
use tower_layer::Layer;

use super::super::{FallbackConfig, FallbackLayer, FallbackPolicy};

#[derive(Clone, Debug)]
struct Reply(Verdict, bool);

impl Outcome for Reply {
    fn verdict(&self) -> Verdict {
        self.0
    }
}

/// The rule in prose, once more.
fn wanted(config: &FallbackConfig, verdict: Verdict) -> bool {
    if !config.enabled {
        return false;
    }
    let status = verdict.http_status().unwrap_or(500);
    match verdict.class() {
        Class::Failure => config.failures,
        Class::Timeout => config.timeouts,
        Class::Unreachable => config.unreachable,
        Class::RateLimited => config.rate_limited,
        Class::Refused if status == 429 => config.rate_limited,
        Class::Refused if (400..500).contains(&status) => false,
        Class::Refused => config.refusals,
        _ => false,
    }
}

prop_compose! {
    fn config()(bits in any::<[bool; 6]>()) -> FallbackConfig {
        let [enabled, failures, timeouts, unreachable, refusals, rate_limited] = bits;
        FallbackConfig { enabled, failures, timeouts, unreachable, refusals, rate_limited }
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let classes = [
        Class::Success,
        Class::ClientFault,
        Class::Failure,
        Class::Timeout,
        Class::Unreachable,
        Class::RateLimited,
        Class::Cancelled,
        Class::Refused,
    ];
    let status = prop_oneof![Just(None), (200_u16..600).prop_map(Some)];
    (prop::sample::select(classes.to_vec()), status).prop_map(|(class, status)| match status {
        Some(status) => {
            let status = http::StatusCode::from_u16(status).unwrap();
            Verdict::http(status).with_class(class)
        }
        None => Verdict::new(class),
    })
}

proptest! {
    #[test]
    fn an_outcome_is_answered_as_the_table_says(
        steps in prop::collection::vec((prop::option::of(config()), verdict()), 1..20),
    ) {
        let mut config = FallbackConfig::default();
        let layer = FallbackLayer::with(|failure| Reply(failure.verdict(), true))
            .policy(FallbackPolicy::from(config.clone()));
        let handle = layer.handle();
        let mut service = layer.layer(service_fn(|verdict: Verdict| {
            std::future::ready(Ok::<_, Infallible>(Reply(verdict, false)))
        }));
        let mut count = 0;
        for (change, verdict) in steps {
            if let Some(change) = change {
                config = change.clone();
                handle.config().set(change.into()).unwrap();
            }
            let wanted = wanted(&config, verdict);
            count += u64::from(wanted);
            let mut call = Box::pin(service.call(verdict));
            let std::task::Poll::Ready(Ok(reply)) = poll_once(&mut call) else { panic!() };
            prop_assert_eq!((reply.0, reply.1), (verdict, wanted));
            prop_assert_eq!(handle.fallbacks(), count);
        }
    }
}
