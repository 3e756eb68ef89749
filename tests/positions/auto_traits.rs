//! What may be sent, shared, cloned and moved: each layer, its service, its future and its handle. A line that is
//! not true does not compile.

use std::{
    cell::Cell,
    marker::PhantomPinned,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::{Layer, Service};
use tower_chassis::{
    Body, BoxError, JudgeLayer, Live, ObserveLayer, RescueLayer, Respond,
    access_log::{AccessLogHandle, AccessLogLayer, ExcerptLayer, Format},
    adaptive::{AdaptiveHandle, AdaptiveLayer, KeyedAdaptiveHandle, KeyedAdaptiveLayer},
    balance::{Balance, BalanceHandle, RoundRobin, Worker},
    breaker::{BreakerHandle, BreakerLayer, KeyedBreakerLayer},
    bulkhead::{BulkheadHandle, BulkheadLayer, Deadlines, KeyedBulkheadHandle, KeyedBulkheadLayer},
    cache::{CacheHandle, CacheLayer},
    coalesce::{CoalesceHandle, CoalesceLayer},
    deadline::{Accept, DeadlineHandle, DeadlineLayer, Propagate},
    fallback::{ByFn as Instead, Failure, FallbackHandle, FallbackLayer, Marked},
    fault::{self, ByCarrier, FaultHandle, FaultLayer},
    hedge::{HedgeHandle, HedgeLayer},
    keyed::By,
    metrics::{CallMetricsLayer, ClientMetricsLayer, MetricsHandle, ServerMetricsLayer},
    mirror::{MirrorHandle, MirrorLayer},
    observe::{
        audit::{AuditHandle, AuditLayer, LosslessAuditLayer},
        events::{Sse, SseService},
        health::{Health, HeartbeatLayer},
        output::{Output, OutputHandle},
        vcr::{Cassette, VcrLayer},
    },
    rate_limit::{RateLimitHandle, RateLimitLayer},
    refusal::Fail,
    retry::{Buffered, CallerAttemptLayer, PeekLayer, RetryHandle, RetryLayer},
    settle::{UntilEnd, UntilHead},
    share::{Http, HttpKey, HttpKeys},
    shed::{self, Priority, ShedHandle, ShedLayer},
    timeout::{Always, IdleLayer, TimeoutHandle, TimeoutLayer, ToEnd},
    trace::{ClientTraceLayer, TraceHandle, TraceLayer},
    verdict::{Auto, ByFn, OkIsSuccess},
};

use crate::rows::{BalanceLayer, Judge};

/// A service, and its future, that are what `M` is.
#[derive(Clone, Debug)]
struct Inner<M>(M);

impl<M: Clone, B> Service<Request<B>> for Inner<M> {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Answers<M>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: Request<B>) -> Answers<M> {
        Answers(self.0.clone())
    }
}

struct Answers<M>(#[allow(dead_code, reason = "it is its type that counts")] M);

impl<M> Future for Answers<M> {
    type Output = Result<Response<Body>, BoxError>;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(Ok(Response::default()))
    }
}

/// May be moved, not be polled by two.
type Unshared = Cell<()>;
/// May not leave its thread.
type Unsent = Rc<()>;
/// May not be moved.
type Pinned = PhantomPinned;

type Of<L, M> = <L as Layer<Inner<M>>>::Service;
type Call<L, M> = <Of<L, M> as Service<Request<Body>>>::Future;

/// `Type: Trait & !Trait`, any number of them.
macro_rules! is {
    ($($type:ty: $(! $not:ident)? $($trait:ident)? $(& $(! $nots:ident)? $($traits:ident)?)*;)*) => {$(
        $(is!(@not $type, $not);)? $(is!(@yes $type, $trait);)?
        $($(is!(@not $type, $nots);)? $(is!(@yes $type, $traits);)?)*
    )*};
    (@yes $type:ty, $trait:ident) => {
        const _: fn() = || {
            fn holds<T: $trait>() {}
            holds::<$type>();
        };
    };
    (@not $type:ty, $trait:ident) => {
        const _: fn() = || {
            // With the trait there are two ways to read `_`.
            trait Unless<A> {
                fn holds() {}
            }
            struct Has;
            impl<T> Unless<()> for T {}
            impl<T: $trait> Unless<Has> for T {}
            <$type as Unless<_>>::holds();
        };
    };
}

/// A layer may go anywhere; its service and its future may go where the inner ones may.
macro_rules! as_inner {
    ($($layer:ty;)*) => {$(
        as_inner!(@common $layer);
        is! {
            Call<$layer, ()>: Unpin;
            Call<$layer, Pinned>: !Unpin;
        }
    )*};
    (with a timer: $($layer:ty;)*) => {$(
        as_inner!(@common $layer);
        is! { Call<$layer, ()>: !Unpin; }
    )*};
    (@common $layer:ty) => {
        is! {
            $layer: Send & Sync & Clone & Unpin;
            Of<$layer, ()>: Send & Sync & Clone & Unpin;
            Of<$layer, Unshared>: Send & !Sync & Clone & Unpin;
            Of<$layer, Unsent>: !Send & !Sync & Clone & Unpin;
            Call<$layer, ()>: Send & !Clone;
            Call<$layer, Unshared>: Send & !Sync;
            Call<$layer, Unsent>: !Send & !Sync;
        }
    };
}

type KeyFn = fn(&Request<Body>) -> Option<u32>;
type Key = By<KeyFn, u32>;
type Judges = JudgeLayer<ByFn<Judge<Body, BoxError>>>;

#[test]
fn layers_services_and_futures() {
    // core
    as_inner! {
        RescueLayer;
        Judges;
    }
    // resilience
    as_inner! {
        AdaptiveLayer;
        AdaptiveLayer<UntilEnd<Auto>>;
        KeyedAdaptiveLayer<KeyFn, u32>;
        BreakerLayer;
        BreakerLayer<UntilEnd<Auto>>;
        BreakerLayer<Respond<UntilHead<Auto>>>;
        KeyedBreakerLayer<Key, u32>;
        BulkheadLayer;
        BulkheadLayer<UntilEnd<OkIsSuccess>>;
        BulkheadLayer<UntilHead<OkIsSuccess>, Deadlines>;
        KeyedBulkheadLayer<Key, u32>;
        RateLimitLayer;
        RateLimitLayer<Key, u32>;
        IdleLayer;
        RetryLayer;
        PeekLayer;
        CallerAttemptLayer<fn(&Request<Body>) -> bool>;
        FallbackLayer<Instead<fn(Failure) -> Response<Body>>>;
        FallbackLayer<Instead<fn(Failure) -> Response<Body>>, Auto, Marked>;
        CacheLayer<HttpKeys, HttpKey, Http>;
        FaultLayer;
        FaultLayer<ByCarrier, fault::Http>;
        MirrorLayer<Inner<()>>;
        ShedLayer;
        ShedLayer<shed::ByFn<fn(&Request<Body>) -> Priority>>;
        ShedLayer<shed::NoPriority, Respond>;
    }
    as_inner! {
        with a timer:
        TimeoutLayer;
        TimeoutLayer<Always, Fail, ToEnd>;
        HedgeLayer;
        HedgeLayer<Buffered, Auto, Key, u32>;
        DeadlineLayer<Accept>;
        DeadlineLayer<Propagate>;
        DeadlineLayer<Accept, Respond>;
    }
    // observe
    as_inner! {
        ServerMetricsLayer;
        ClientMetricsLayer;
        TraceLayer;
        ClientTraceLayer;
        CallMetricsLayer;
        AccessLogLayer;
        ExcerptLayer;
        AuditLayer;
        HeartbeatLayer;
        ObserveLayer<(TraceLayer, ServerMetricsLayer)>;
    }
}

#[test]
fn balance_is_no_layer_and_its_endpoints_are_shared() {
    is! {
        Of<BalanceLayer, ()>: Send & Sync & Clone & Unpin;
        Call<BalanceLayer, ()>: Send & !Clone;
        // What serves an endpoint is shared by all clones: `Balance::new` asks for `Send + Sync`.
        Balance<Inner<Unshared>, RoundRobin>: !Send & !Sync & Clone & Unpin;
        Worker: Send & !Clone;
    }
}

#[test]
fn coalesced_calls_move_between_tasks() {
    type Layer = CoalesceLayer<HttpKeys, HttpKey, Http>;
    is! {
        Layer: Send & Sync & Clone & Unpin;
        // A call goes from one task to another: `Coalesce` asks for `Send`.
        Of<Layer, ()>: Send & Sync & Clone & Unpin;
        Of<Layer, Unshared>: Send & !Sync & Clone & Unpin;
        Call<Layer, ()>: Send & !Clone & Unpin;
        Call<Layer, Unshared>: Send & !Clone;
    }
}

/// A recorded call may be moved if the inner one may; a cassette needs no more than `Send` of it.
#[test]
fn calls_that_are_recorded() {
    is! {
        LosslessAuditLayer: Send & Sync & Clone & Unpin;
        Of<LosslessAuditLayer, ()>: Send & Sync & Clone & Unpin;
        Of<LosslessAuditLayer, Unshared>: Send & !Sync & Clone & Unpin;
        Of<LosslessAuditLayer, Unsent>: !Send & !Sync & Clone & Unpin;
        Call<LosslessAuditLayer, ()>: Send & !Clone & Unpin;
        Call<LosslessAuditLayer, Pinned>: !Unpin;
        Call<LosslessAuditLayer, Unsent>: !Send & !Sync;
        VcrLayer: Send & Sync & Clone & Unpin;
        Of<VcrLayer, ()>: Send & Sync & Clone & Unpin;
        Of<VcrLayer, Unshared>: Send & !Sync & Clone & Unpin;
        Call<VcrLayer, ()>: Send & !Sync & !Clone & Unpin;
    }
}

#[test]
fn handles() {
    is! {
        TimeoutHandle: Send & Sync & Clone & Unpin;
        RetryHandle: Send & Sync & Clone & Unpin;
        HedgeHandle: Send & Sync & Clone & Unpin;
        BreakerHandle: Send & Sync & Clone & Unpin;
        RateLimitHandle: Send & Sync & Clone & Unpin;
        AdaptiveHandle: Send & Sync & Clone & Unpin;
        KeyedAdaptiveHandle<KeyFn, u32>: Send & Sync & Clone & Unpin;
        BulkheadHandle: Send & Sync & Clone & Unpin;
        KeyedBulkheadHandle<Key, u32>: Send & Sync & Clone & Unpin;
        CacheHandle<HttpKey>: Send & Sync & Clone & Unpin;
        CoalesceHandle<HttpKey>: Send & Sync & Clone & Unpin;
        FallbackHandle: Send & Sync & Clone & Unpin;
        DeadlineHandle: Send & Sync & Clone & Unpin;
        FaultHandle: Send & Sync & Clone & Unpin;
        MirrorHandle: Send & Sync & Clone & Unpin;
        ShedHandle: Send & Sync & Clone & Unpin;
        BalanceHandle: Send & Sync & Clone & Unpin;
        MetricsHandle: Send & Sync & Clone & Unpin;
        TraceHandle: Send & Sync & Clone & Unpin;
        AccessLogHandle: Send & Sync & Clone & Unpin;
        AuditHandle: Send & Sync & Clone & Unpin;
        OutputHandle: Send & Sync & Clone & Unpin;
        Output: Send & Sync & Clone & Unpin;
        Cassette: Send & Sync & Clone & Unpin;
        Health: Send & Sync & Clone & Unpin;
        Sse: Send & Sync;
        SseService: Send & Sync & Clone & Unpin;
        Live<Format>: Send & Sync & Clone & Unpin;
    }
}
