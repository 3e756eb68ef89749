//! What is measured, and the bars.

use std::{convert::Infallible, num::NonZeroU32};

use failsafe::StateMachine;
use governor::{Quota, RateLimiter};
use tower::{
    Layer,
    limit::{ConcurrencyLimit, RateLimit, rate::Rate},
    retry::Retry,
    timeout::Timeout,
    util::MapRequest,
};
use tower_chassis::{
    breaker::{BreakerConfig, BreakerLayer, BreakerPolicy},
    bulkhead::{BulkheadLayer, BulkheadPolicy},
};
use tower_chassis_peers::bench::Case;
use tower_resilience_retry as retry;

use crate::{
    call::{After, Ask, Call, Get, PerRequest, Reply, clients, get, noop, with_invocation},
    others::{self, others},
    stacks::{
        MANY, NEVER, OnError, TR, our_breaker, our_bulkhead, our_rate, our_retry, our_six,
        our_timeout, ours, t_breaker, t_bulkhead, t_rate, t_timeout, their_six, theirs,
        towers_buffered, towers_five, towers_four, towers_six,
    },
};

fn one_by_one() -> Vec<Case> {
    let plain = Ask::default;
    let in_a_row = BreakerConfig {
        failure_rate: 0.0,
        ..BreakerConfig::default()
    };
    let in_a_row = BreakerLayer::new(BreakerPolicy::try_from(in_a_row).unwrap());
    let failsafe: StateMachine<_, ()> = failsafe::Config::new().build();
    let failsafe = move |_: &Ask| {
        if failsafe.is_call_permitted() {
            failsafe.on_success();
        }
    };
    let quota = Quota::per_second(NonZeroU32::new(100_000_000).unwrap());
    let (direct, keyed) = (RateLimiter::direct(quota), RateLimiter::keyed(quota));
    let t_retry = retry::RetryLayer::<Ask, Reply, Infallible>::builder().build();
    let small = BulkheadLayer::new(BulkheadPolicy::new(4).unwrap());
    let by_client = our_rate().keyed(|ask: &Ask| Some(ask.client));
    vec![
        Case::new("no-op", "", noop::<Ask>(), plain),
        Case::new(
            "tower: timeout",
            "",
            Timeout::new(noop::<Ask>(), NEVER),
            plain,
        ),
        Case::new(TR[0], "", t_timeout().layer(noop::<Ask>()), plain),
        Case::new("timeout", TR[0], our_timeout().layer(noop::<Ask>()), plain),
        Case::new(
            "tower: retry",
            "",
            Retry::new(OnError, noop::<Ask>()),
            plain,
        ),
        Case::new(TR[1], "", t_retry.layer(noop::<Ask>()), plain),
        Case::new(
            "retry",
            TR[1],
            our_retry().untracked().layer(noop::<Ask>()),
            plain,
        ),
        Case::new("failsafe: breaker", "", After(failsafe), plain),
        Case::new(TR[2], "", t_breaker().layer(noop::<Ask>()), plain),
        Case::new("breaker", TR[2], our_breaker().layer(noop::<Ask>()), plain),
        Case::new(
            "breaker, row alone",
            TR[2],
            in_a_row.layer(noop::<Ask>()),
            plain,
        ),
        Case::new(
            "tower: concurrency limit",
            "",
            ConcurrencyLimit::new(noop::<Ask>(), MANY),
            plain,
        ),
        Case::new(TR[3], "", t_bulkhead().layer(noop::<Ask>()), plain),
        Case::new(
            "bulkhead",
            TR[3],
            our_bulkhead().layer(noop::<Ask>()),
            plain,
        ),
        Case::new("bulkhead of 4", TR[3], small.layer(noop::<Ask>()), plain),
        Case::new(
            "tower: rate limit",
            "",
            RateLimit::new(noop::<Ask>(), Rate::new(u64::MAX, NEVER)),
            plain,
        ),
        Case::new(
            "governor: direct",
            "",
            After(move |_: &Ask| assert!(direct.check().is_ok())),
            plain,
        ),
        Case::new(TR[4], "", t_rate().layer(noop::<Ask>()), plain),
        Case::new("rate limit", TR[4], our_rate().layer(noop::<Ask>()), plain),
        Case::new(
            "governor: 1,000 keys",
            "",
            After(move |ask: &Ask| assert!(keyed.check_key(&ask.client).is_ok())),
            clients(),
        ),
        Case::new(
            "rate limit, 1,000 keys",
            "governor: 1,000 keys",
            by_client.layer(noop::<Ask>()),
            clients(),
        ),
    ]
}

/// The five and the six as one stack, for a request that comes without an invocation.
fn together<C: Call>(make: impl Fn() -> C + Copy + 'static) -> Vec<Case> {
    let invoked = MapRequest::new(noop::<C>(), |mut request: C| {
        request.invocation_mut();
        request
    });
    let untracked = || our_retry().untracked();
    vec![
        Case::new("no-op", "", noop::<C>(), make),
        Case::new(
            "no-op, cloned",
            "",
            MapRequest::new(noop::<C>(), |request: C| request.clone()),
            make,
        ),
        Case::new("no-op, invocation made", "", invoked, make),
        Case::new("tower: shed and three", TR[5], towers_four::<C>(), make),
        Case::new("tower: shed and four", TR[5], towers_five::<C>(), make),
        Case::new(
            "tower: shed and four, buffered",
            TR[5],
            towers_buffered::<C>(),
            make,
        ),
        Case::new("tower: shed and five", TR[6], towers_six::<C>(), make),
        Case::new(TR[5], "", theirs::<C>(), make),
        Case::new("five layers", TR[5], ours::<C>(untracked()), make),
        Case::new(TR[6], "", their_six::<C>(), make),
        Case::new("six layers", TR[6], our_six::<C>(untracked()), make),
        Case::new(
            "five layers, invocation made",
            TR[5],
            ours::<C>(our_retry()),
            make,
        ),
        Case::new(
            "tower: the same, a clone per call",
            "",
            PerRequest(towers_buffered::<C>()),
            make,
        ),
        Case::new(
            "tower-resilience: five layers, a clone per call",
            "",
            PerRequest(theirs::<C>()),
            make,
        ),
        Case::new(
            "five layers, a clone per call",
            "tower-resilience: five layers, a clone per call",
            PerRequest(ours::<C>(untracked())),
            make,
        ),
    ]
}

/// The five and the six as one stack, for a request that has its invocation.
fn invoked<C: Call>(make: impl Fn() -> C + Copy + 'static) -> Vec<Case> {
    vec![
        Case::new("no-op", "", noop::<C>(), with_invocation(make)),
        Case::new(
            "no-op, cloned",
            "",
            MapRequest::new(noop::<C>(), |request: C| request.clone()),
            with_invocation(make),
        ),
        Case::new(
            "tower: shed and four",
            TR[5],
            towers_five::<C>(),
            with_invocation(make),
        ),
        Case::new(TR[5], "", theirs::<C>(), with_invocation(make)),
        Case::new(
            "five layers",
            TR[5],
            ours::<C>(our_retry()),
            with_invocation(make),
        ),
        Case::new(TR[6], "", their_six::<C>(), with_invocation(make)),
        Case::new(
            "six layers",
            TR[6],
            our_six::<C>(our_retry()),
            with_invocation(make),
        ),
    ]
}

/// HTTP alone.
fn timeouts() -> Vec<Case> {
    let status = http::StatusCode::GATEWAY_TIMEOUT;
    let towers = tower_http::timeout::TimeoutLayer::with_status_code(status, NEVER);
    vec![
        Case::new("no-op", "", noop::<Get>(), get),
        Case::new("tower-http: timeout", "", towers.layer(noop::<Get>()), get),
        Case::new(
            "timeout",
            "tower-http: timeout",
            our_timeout().layer(noop::<Get>()),
            get,
        ),
    ]
}

pub(crate) type Group = (&'static str, fn() -> Vec<Case>);

pub(crate) const GROUPS: [Group; 7] = [
    ("one by one, own protocol", one_by_one),
    ("as one, own protocol", || together(Ask::default)),
    ("as one, own protocol, with an invocation", || {
        invoked(Ask::default)
    }),
    ("as one, HTTP", || together(get)),
    ("as one, HTTP, with an invocation", || invoked(get)),
    ("by itself, HTTP", timeouts),
    ("the others, own protocol", others),
];

/// Bar, group, case, what it is compared with, at most.
pub(crate) const BARS: [(&str, usize, &str, &str, f64); 23] = [
    ("L1", 1, "six layers", TR[6], 0.10),
    ("L1, HTTP", 3, "six layers", TR[6], 0.10),
    ("L1, HTTP, invocation", 4, "six layers", TR[6], 0.10),
    ("L2", 1, "six layers", "tower: shed and five", 1.5),
    ("L2, HTTP", 3, "six layers", "tower: shed and five", 1.5),
    ("five", 1, "five layers", TR[5], 0.10),
    ("five", 1, "five layers", "tower: shed and four", 1.5),
    ("L4", 0, "breaker", TR[2], 0.20),
    ("L4", 0, "breaker", "failsafe: breaker", 0.65),
    ("L5", 0, "bulkhead", "tower: concurrency limit", 1.0),
    ("L5", 0, "bulkhead", TR[3], 0.10),
    ("L6", 0, "rate limit", "governor: direct", 1.1),
    (
        "L6, keyed",
        0,
        "rate limit, 1,000 keys",
        "governor: 1,000 keys",
        1.1,
    ),
    ("L7", 0, "timeout", "tower: timeout", 1.0),
    ("L7", 0, "timeout", TR[0], 1.0),
    ("L7, HTTP", 5, "timeout", "tower-http: timeout", 0.15),
    ("L8", 0, "retry", TR[1], 0.1),
    ("L8", 6, "hedge", others::TR[0], 0.3),
    ("L8", 6, "fallback", others::TR[1], 0.1),
    ("L8", 6, "coalesce", others::TR[2], 0.5),
    ("L8", 6, "cache, hit", others::TR[3], 0.6),
    ("L8", 6, "adaptive, gradient", others::TR[4], 0.35),
    ("-", 0, "rate limit", TR[4], 1.0),
];
