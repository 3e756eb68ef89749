use std::{
    fmt,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tower_chassis_core::{Events, Live, Respond, live::Invalid, refusal::Fail, striped::Striped};
use tower_layer::Layer;

use super::{Accept, DeadlineConfig, DeadlinePolicy, Deadlined, Propagate};

/// Gives calls a deadline that is carried over hops. See the [module](super) page.
///
/// `D` is the end of the hop it is at, `A` says whether a refusal is an error or [an answer](Self::respond).
#[must_use]
pub struct DeadlineLayer<D = Accept, A = Fail> {
    shared: Striped<Shared>,
    side: D,
    answer: PhantomData<fn() -> A>,
}

/// What a layer, its services and its handles share.
pub(super) struct Shared {
    live: Live<DeadlinePolicy>,
    // Nanoseconds. Each is bounded by the other, so a call that reads one old and one new does no harm.
    default: AtomicU64,
    max: AtomicU64,
    pub(super) events: Events,
}

impl Shared {
    fn new(live: Live<DeadlinePolicy>, events: Events) -> Striped<Self> {
        let shared = Arc::new(Self {
            live,
            default: AtomicU64::new(0),
            max: AtomicU64::new(0),
            events,
        });
        shared.live.bind(&shared, |shared, policy| {
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let DeadlineConfig { default, max } = policy.config();
            shared.default.store(nanos(*default), Ordering::Relaxed);
            shared.max.store(nanos(*max), Ordering::Relaxed);
        });
        Striped::of_arc(shared)
    }

    pub(super) fn bounds(&self) -> DeadlineConfig {
        DeadlineConfig {
            default: Duration::from_nanos(self.default.load(Ordering::Relaxed)),
            max: Duration::from_nanos(self.max.load(Ordering::Relaxed)),
        }
    }
}

impl DeadlineLayer {
    /// For a server: reads the deadline that arrives, bounds it by `policy`, and keeps it in the
    /// [`Invocation`](tower_chassis_core::Invocation). A [`Live`] policy can be changed from outside.
    pub fn accept(policy: impl Into<Live<DeadlinePolicy>>) -> Self {
        Self::build(policy.into(), Accept::default())
    }

    /// For a client: tells the next hop what is left of the deadline in the
    /// [`Invocation`](tower_chassis_core::Invocation). A [`Live`] policy can be changed from outside.
    pub fn propagate(policy: impl Into<Live<DeadlinePolicy>>) -> DeadlineLayer<Propagate> {
        DeadlineLayer::build(policy.into(), Propagate::default())
    }
}

impl<D> DeadlineLayer<D> {
    fn build(live: Live<DeadlinePolicy>, side: D) -> Self {
        Self {
            shared: Shared::new(live, Events::none()),
            side,
            answer: PhantomData,
        }
    }

    /// Answers its own refusals by the table at [`Kind`](tower_chassis_core::Kind) instead of failing with them, and
    /// passes errors from inside on: the error type is that of the inner service. To be said last; for HTTP and gRPC.
    pub fn respond(self) -> DeadlineLayer<D, Respond> {
        DeadlineLayer {
            shared: self.shared,
            side: self.side,
            answer: PhantomData,
        }
    }
}

impl<A> DeadlineLayer<Accept, A> {
    /// Reads `x-envoy-expected-rq-timeout-ms` too, where every peer is an Envoy of yours that writes it. Default:
    /// it is not looked at. Zero is no deadline there, as Envoy has it.
    pub fn trust_envoy(self) -> Self {
        Self {
            side: Accept { trust_envoy: true },
            ..self
        }
    }
}

impl<A> DeadlineLayer<Propagate, A> {
    /// Tells what is left, refuses where nothing is, and does not end the call: the inner one of two, whose outer one
    /// ends it. An endpoint's breaker outside of it would hold the caller's lack of time against the endpoint.
    pub fn tell_only(self) -> Self {
        Self {
            side: Propagate { tells_only: true },
            ..self
        }
    }
}

impl<D, A> DeadlineLayer<D, A> {
    /// Reports the calls that it refuses and ends. Default: to nobody. For the set-up: services that were layered
    /// before report as they did.
    pub fn events(self, events: Events) -> Self {
        Self {
            shared: Shared::new(self.shared.live.clone(), events),
            ..self
        }
    }

    /// The same settings with a state of its own.
    pub fn fresh(&self) -> Self
    where
        D: Clone,
    {
        let Shared { live, events, .. } = &*self.shared;
        Self {
            shared: Shared::new(live.clone(), events.clone()),
            side: self.side.clone(),
            answer: PhantomData,
        }
    }

    /// Reads and changes the settings while it runs.
    #[must_use]
    pub fn handle(&self) -> DeadlineHandle {
        DeadlineHandle {
            shared: Arc::clone(self.shared.arc()),
        }
    }
}

impl<D: Clone, A> Clone for DeadlineLayer<D, A> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.keep(),
            side: self.side.clone(),
            answer: PhantomData,
        }
    }
}

impl<D: fmt::Debug, A> fmt::Debug for DeadlineLayer<D, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineLayer")
            .field("side", &self.side)
            .field("policy", &self.shared.live)
            .finish_non_exhaustive()
    }
}

impl<S, D: Clone, A> Layer<S> for DeadlineLayer<D, A> {
    type Service = Deadlined<S, D, A>;

    fn layer(&self, inner: S) -> Self::Service {
        Deadlined::new(inner, self.shared.keep(), self.side.clone())
    }
}

/// Reads and changes a [`DeadlineLayer`] that is in use. Clones act on the same one.
#[derive(Clone)]
pub struct DeadlineHandle {
    shared: Arc<Shared>,
}

impl DeadlineHandle {
    /// The settings, shared with every layer that was made from the same [`Live`]. A change reaches calls that
    /// begin after it.
    #[must_use]
    pub fn config(&self) -> &Live<DeadlinePolicy> {
        &self.shared.live
    }

    /// Changes settings: `handle.update(|config| config.max = Duration::from_secs(5))`.
    ///
    /// # Errors
    /// The first field that the change put out of its range; the old settings stay.
    pub fn update(&self, change: impl FnOnce(&mut DeadlineConfig)) -> Result<(), Invalid> {
        self.shared
            .live
            .update(|policy| change(policy.config_mut()))
    }
}

impl fmt::Debug for DeadlineHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineHandle")
            .field("policy", &self.shared.live)
            .finish()
    }
}
